//! The subjects of an ecosystem, and how the names of daemons, commands, hosts and topics stand in them.
//!
//! A subject of NATS is a list of words with dots between them; `*` and `>` have a meaning for subscribers. A name stands as
//! one word: whatever isn't a letter, a digit, `_` or `-` is written as `%` and two hexadecimal digits a byte, so a dot is
//! `%2E`. A topic keeps its dots, so that a subscriber may use `*` and `>` on its words; a dot that would leave an empty word
//! is escaped.

use std::fmt::Write as _;

/// The subjects of one ecosystem.
#[derive(Debug, Clone)]
pub(crate) struct Subjects {
    /// `dae.ECOSYSTEM`
    root: String,
}

impl Subjects {
    pub(crate) fn of(ecosystem: &str) -> Self {
        Subjects {
            root: format!("dae.{}", word(ecosystem)),
        }
    }

    /// Returns the subject of the heartbeats of a host; `*` for those of all.
    pub(crate) fn heartbeat(&self, host: &str) -> String {
        match host {
            "*" => format!("{}.host.*", self.root),
            host => format!("{}.host.{}", self.root, word(host)),
        }
    }

    /// Returns the subject of a question to all hosts, which each answers by a heartbeat.
    pub(crate) fn question(&self) -> String {
        format!("{}.ask", self.root)
    }

    /// Returns the subject on which a host answers with the list of its daemons.
    pub(crate) fn list(&self, host: &str) -> String {
        format!("{}.list.{}", self.root, word(host))
    }

    /// Returns the subject of a command of a daemon, on any host that has it.
    pub(crate) fn command(&self, daemon: &str, command: &str) -> String {
        format!("{}.cmd.{}.{}", self.root, word(daemon), word(command))
    }

    /// Returns the subject of all commands of a daemon.
    pub(crate) fn commands(&self, daemon: &str) -> String {
        format!("{}.cmd.{}.*", self.root, word(daemon))
    }

    /// Returns the subject of a command of a daemon of one host, whose fleet is the instance of that id.
    pub(crate) fn command_at(
        &self,
        host: &str,
        instance: &str,
        daemon: &str,
        command: &str,
    ) -> String {
        let (host, instance) = (word(host), word(instance));
        format!(
            "{}.at.{host}.{instance}.{}.{}",
            self.root,
            word(daemon),
            word(command)
        )
    }

    /// Returns the subject of all commands of all daemons of a host.
    pub(crate) fn commands_at(&self, host: &str, instance: &str) -> String {
        format!("{}.at.{}.{}.*.*", self.root, word(host), word(instance))
    }

    /// Returns the subject of a topic.
    pub(crate) fn topic(&self, topic: &str) -> String {
        format!("{}.topic.{}", self.root, dotted(topic))
    }

    /// Returns the subject of all topics.
    pub(crate) fn topics(&self) -> String {
        format!("{}.topic.>", self.root)
    }

    /// Returns the topic of a subject, or `None` if it is no topic's.
    pub(crate) fn topic_of(&self, subject: &str) -> Option<String> {
        let rest = subject.strip_prefix(&self.root)?.strip_prefix(".topic.")?;
        plain(rest)
    }
}

/// Returns the daemon and the command that end the subject of a command.
pub(crate) fn command_of(subject: &str) -> Option<(String, String)> {
    let mut words = subject.rsplit('.');
    let command = plain(words.next()?)?;
    let daemon = plain(words.next()?)?;
    Some((daemon, command))
}

/// Returns a name as one word of a subject.
pub(crate) fn word(name: &str) -> String {
    escaped(name.as_bytes(), |_, byte| is_plain(byte))
}

/// Returns a topic as words of a subject.
fn dotted(topic: &str) -> String {
    let bytes = topic.as_bytes();
    let is_inner = |at: usize| at > 0 && at + 1 < bytes.len() && bytes[at - 1] != b'.';
    escaped(bytes, |at, byte| {
        // The characters of a subject that mean something, and white space, which a subject can't have.
        let is_separator = byte == b'.' && is_inner(at);
        let is_literal =
            !matches!(byte, b'.' | b'*' | b'>' | b'%' | b'$') && byte.is_ascii_graphic();
        is_separator || is_literal
    })
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

fn escaped(bytes: &[u8], stays: impl Fn(usize, u8) -> bool) -> String {
    let mut out = String::with_capacity(bytes.len());
    for (at, byte) in bytes.iter().copied().enumerate() {
        match stays(at, byte) {
            true => out.push(char::from(byte)),
            // Writing into a String can't fail.
            false => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

/// Returns the text that was escaped, or `None` if it was not.
pub(crate) fn plain(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                tail
            }
            (b'%', _) => return None,
            (byte, tail) => {
                bytes.push(*byte);
                tail
            }
        };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 9] = [
        "Counter", "my.shop", "a*b", "a>b", "50%", "naïve", "$SRV", "a..b", ".a.",
    ];

    #[test]
    fn a_name_is_one_word_and_is_read_back() {
        let subjects = Subjects::of("home.net");
        for name in NAMES {
            let subject = subjects.command_at("box.2", "7f", name, "get.it");
            assert_eq!(subject.split('.').count(), 7, "{subject}");
            assert!(!subject.contains(['*', '>', ' ', '$']), "{subject}");
            let read = command_of(&subject).unwrap();
            assert_eq!(read, (name.to_owned(), "get.it".to_owned()));
        }
        assert_eq!(subjects.command("A", "b"), "dae.home%2Enet.cmd.A.b");
    }

    #[test]
    fn a_topic_keeps_its_dots_and_is_read_back() {
        let subjects = Subjects::of("home");
        assert_eq!(subjects.topic("orders.new"), "dae.home.topic.orders.new");
        for name in NAMES {
            let subject = subjects.topic(name);
            assert!(subject.split('.').all(|word| !word.is_empty()), "{subject}");
            assert!(!subject.contains(['*', '>', ' ', '$']), "{subject}");
            assert_eq!(subjects.topic_of(&subject).unwrap(), name);
        }
        assert_eq!(subjects.topic_of("dae.other.topic.a"), None);
        assert_eq!(subjects.topic_of("dae.home.topic.%"), None);
        assert_eq!(subjects.topic_of("dae.home.topic.%FF"), None);
    }
}
