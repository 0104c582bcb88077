//! What is said to a server, byte by byte, and what it must say to that.
//!
//! Commands go round in a ring whose length has no divisor in common with the number in flight, so that a reply that is
//! lost, doubled or out of its order is not the one expected. All of them have the same length.

/// How many different commands there are. 7 is a divisor, and 2 is none.
const RING: usize = 91;

/// Sums up to this stay one digit.
const ADDEND_MAX: usize = 7;

/// What a command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Workload {
    /// Returns a text of 20 bytes.
    Echo,
    /// The sum of two numbers of one digit.
    Add,
}

impl Workload {
    /// All of them.
    pub(super) const ALL: [Workload; 2] = [Workload::Echo, Workload::Add];

    /// Its name in the report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Workload::Echo => "echo",
            Workload::Add => "add",
        }
    }
}

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tongue {
    /// Common TCP, to something that returns each line as it is.
    Mirror,
    /// Common TCP; the text is returned by the command of this name.
    CommonTcp(&'static str),
    /// Redis, each argument with its length before it.
    Resp,
    /// Redis, a command as a person would type it.
    Inline,
}

/// The commands in their order, and the reply to each.
#[derive(Debug)]
pub(super) struct Script {
    lines: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Script {
    /// `None` where a server has no command for that.
    pub(super) fn of(workload: Workload, tongue: Tongue) -> Option<Self> {
        if workload == Workload::Add && matches!(tongue, Tongue::CommonTcp(name) if name != "echo")
        {
            return None;
        }
        let line = |number| match workload {
            Workload::Echo => tongue.echo(&format!("text of twenty: {number:04}")),
            Workload::Add => tongue.add(number % ADDEND_MAX, 2),
        };
        let pair = |(command, reply): (String, String)| (command.into_bytes(), reply.into_bytes());
        Some(Script {
            lines: (0..RING).map(|number| pair(line(number))).collect(),
        })
    }

    /// The command of that number.
    pub(super) fn command(&self, number: u64) -> &[u8] {
        &self.lines[(number % RING as u64) as usize].0
    }

    /// The reply to the command of that number.
    pub(super) fn reply(&self, number: u64) -> &[u8] {
        &self.lines[(number % RING as u64) as usize].1
    }
}

impl Tongue {
    fn echo(self, text: &str) -> (String, String) {
        match self {
            Tongue::Mirror => twice(format!("echo [\"{text}\"]\n")),
            Tongue::CommonTcp(name) => twice(format!("{name} [\"{text}\"]\n")),
            Tongue::Resp => (resp(&["peer.echo", text]), bulk(text)),
            Tongue::Inline => (format!("peer.echo \"{text}\"\r\n"), bulk(text)),
        }
    }

    fn add(self, a: usize, b: usize) -> (String, String) {
        let sum = a + b;
        match self {
            Tongue::Mirror => twice(format!("add [{a},{b}]\n")),
            Tongue::CommonTcp(_) => (format!("add [{a},{b}]\n"), format!("add [{sum}]\n")),
            Tongue::Resp => (
                resp(&["peer.add", &a.to_string(), &b.to_string()]),
                format!(":{sum}\r\n"),
            ),
            Tongue::Inline => (format!("peer.add {a} {b}\r\n"), format!(":{sum}\r\n")),
        }
    }
}

fn twice(line: String) -> (String, String) {
    (line.clone(), line)
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

fn resp(words: &[&str]) -> String {
    let words_in_bulk: String = words.iter().map(|word| bulk(word)).collect();
    format!("*{}\r\n{words_in_bulk}", words.len())
}
