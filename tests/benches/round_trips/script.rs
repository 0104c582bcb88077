//! The bytes that are sent to a server, and the bytes that it must reply.
//!
//! The commands repeat in a ring. Its length has no common divisor with the number of commands in flight, so that a
//! lost, repeated or reordered reply differs from the expected one. All commands have the same length.

/// The number of different commands. It is divisible by 7, but not by 2.
const RING: usize = 91;

/// The addends are below this number, so that every sum has one digit.
const ADDEND_MAX: usize = 7;

/// The operation of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Workload {
    /// Returns a text of 20 bytes.
    Echo,
    /// Returns the sum of two one-digit numbers.
    Add,
    /// As `Echo`, from a future that is ready at once.
    AsyncNow,
    /// As `Echo`, from a future that waits for a millisecond.
    AsyncWaiting,
}

impl Workload {
    /// All workloads.
    pub(super) const ALL: [Workload; 4] = [
        Workload::Echo,
        Workload::Add,
        Workload::AsyncNow,
        Workload::AsyncWaiting,
    ];

    /// Returns the name in the report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Workload::Echo => "echo",
            Workload::Add => "add",
            Workload::AsyncNow => "async-now",
            Workload::AsyncWaiting => "async-1ms",
        }
    }
}

/// The protocol of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tongue {
    /// Common TCP, to a server that returns each line unchanged.
    Mirror,
    /// Common TCP, to a server without `async` commands.
    CommonTcp,
    /// Common TCP, to a daemon.
    Daemon,
    /// Redis, with the length before each argument.
    Resp,
    /// Redis, with commands as a person would type them.
    Inline,
}

/// The commands in order, with their replies.
#[derive(Debug)]
pub(super) struct Script {
    lines: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Script {
    /// Returns `None` if the server has no command for the workload.
    pub(super) fn of(workload: Workload, tongue: Tongue) -> Option<Self> {
        let is_async = matches!(workload, Workload::AsyncNow | Workload::AsyncWaiting);
        if is_async && !matches!(tongue, Tongue::Mirror | Tongue::Daemon) {
            return None;
        }
        let text = |number| format!("text of twenty: {number:04}");
        let line = |number| match workload {
            Workload::Echo => tongue.echo(&text(number)),
            Workload::Add => tongue.add(number % ADDEND_MAX, 2),
            Workload::AsyncNow => twice(format!("ready [\"{}\"]\n", text(number))),
            Workload::AsyncWaiting => twice(format!("later [\"{}\"]\n", text(number))),
        };
        let pair = |(command, reply): (String, String)| (command.into_bytes(), reply.into_bytes());
        Some(Script {
            lines: (0..RING).map(|number| pair(line(number))).collect(),
        })
    }

    /// Returns the command with the given number.
    pub(super) fn command(&self, number: u64) -> &[u8] {
        &self.lines[(number % RING as u64) as usize].0
    }

    /// Returns the reply to the command with the given number.
    pub(super) fn reply(&self, number: u64) -> &[u8] {
        &self.lines[(number % RING as u64) as usize].1
    }
}

impl Tongue {
    fn echo(self, text: &str) -> (String, String) {
        match self {
            Tongue::Mirror | Tongue::CommonTcp | Tongue::Daemon => {
                twice(format!("echo [\"{text}\"]\n"))
            }
            Tongue::Resp => (resp(&["peer.echo", text]), bulk(text)),
            Tongue::Inline => (format!("peer.echo \"{text}\"\r\n"), bulk(text)),
        }
    }

    fn add(self, a: usize, b: usize) -> (String, String) {
        let sum = a + b;
        match self {
            Tongue::Mirror => twice(format!("add [{a},{b}]\n")),
            Tongue::CommonTcp | Tongue::Daemon => {
                (format!("add [{a},{b}]\n"), format!("add [{sum}]\n"))
            }
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
