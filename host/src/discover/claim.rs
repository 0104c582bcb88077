//! The claim of an unknown listener: its reply to `dae`, which is not trusted.
//!
//! Anything that listens on this machine may answer, with anything. Only a name that keeps the rules for daemons'
//! names, two numbers and a version that is safe to show are kept. The rest is ignored. Pure.

use dae_common_tcp::{Inbox, Line};
use dae_plugin_api::misfit;
use serde_json::Value;

use dae_store::json5_text;
use dae_store::registry::{DAE_NAME, check_name};

/// The longest reply, in bytes. A credential has three members, and a few more from this host. A longer reply is
/// something else.
pub(super) const REPLY_BYTES_MAX: usize = 4 << 10;

/// The longest version that is shown, in bytes.
const VERSION_BYTES_MAX: usize = 32;

/// The longest quote of a reply that is shown to a person, in characters.
const QUOTED_CHARS_MAX: usize = 60;

/// A credential as an unknown listener gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) name: String,
    pub(super) pid: u32,
    pub(super) port: u16,
    pub(super) version: Option<String>,
    /// The generation. Only daemons of hosts like this one state it.
    pub(super) generation: Option<u64>,
}

/// The reply to a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ProbeReply {
    /// No line that answers `dae`: the listener is no daemon, or not yet.
    None,
    /// An answer to `dae` without a credential, and the reason for a person.
    Refused(String),
    Claim(Claim),
}

/// A reader that takes bytes until the reply is clear.
#[derive(Debug)]
pub(super) struct ClaimReader {
    inbox: Inbox,
    taken_bytes: usize,
}

impl ClaimReader {
    pub(super) fn new() -> Self {
        ClaimReader {
            inbox: Inbox::connecting(REPLY_BYTES_MAX),
            taken_bytes: 0,
        }
    }

    /// Returns how many more bytes may be read.
    pub(super) fn wanted_bytes(&self) -> usize {
        REPLY_BYTES_MAX - self.taken_bytes
    }

    /// Takes more bytes. Returns the reply once it is clear.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Option<ProbeReply> {
        self.taken_bytes += bytes.len();
        self.inbox.room(bytes.len()).extend_from_slice(bytes);
        while let Some(line) = self.inbox.next() {
            if let Some(reply) = reply_in(&line) {
                return Some(reply);
            }
        }
        (self.wanted_bytes() == 0).then_some(ProbeReply::None)
    }

    /// Ends the reading. A last line needs no LF.
    pub(super) fn finish(mut self) -> ProbeReply {
        let last = self.inbox.finish();
        last.as_ref().and_then(reply_in).unwrap_or(ProbeReply::None)
    }
}

/// Returns the reply if the line is one. Greetings, events and a `dae` question from the other side may come before
/// it.
fn reply_in(line: &Line<'_>) -> Option<ProbeReply> {
    match line {
        Line::Message(message) if message.name == "dae" && !message.arguments.is_empty() => {
            Some(match claim(message.arguments) {
                Ok(claim) => ProbeReply::Claim(claim),
                Err(reason) => ProbeReply::Refused(reason),
            })
        }
        Line::OtherProtocol(_) => Some(ProbeReply::None),
        Line::Message(_) | Line::Fault(_) => None,
    }
}

/// Reads the credential in the arguments of a `dae`.
///
/// # Errors
/// Returns the reason why it is none, for a person.
pub(super) fn claim(arguments: &str) -> Result<Claim, String> {
    let value: Value = match serde_json::from_str(arguments) {
        Ok(value) => value,
        Err(_) => json5_text::to_strict(arguments)
            .ok()
            .and_then(|strict| serde_json::from_str(&strict).ok())
            .ok_or_else(|| format!("expected a credential, got {}", quoted(arguments)))?,
    };
    // An array's elements are the arguments, any other value is the one argument.
    let credential = match &value {
        Value::Array(arguments) => arguments.first().unwrap_or(&Value::Null),
        one => one,
    };
    let name = credential["name"].as_str().ok_or_else(|| {
        let got = quoted(arguments);
        format!("expected a credential with a name, got {got}")
    })?;
    if name != DAE_NAME {
        check_name(name)
            .map_err(|_| format!("its name is {}, which can't be a daemon's", quoted(name)))?;
    }
    Ok(Claim {
        name: name.to_owned(),
        pid: number(credential, "pid", name)?,
        port: number(credential, "port", name)?,
        version: version(credential),
        generation: credential["generation"].as_u64(),
    })
}

/// Reads a whole number. Daemons in Lua or JavaScript may write it as `7.0`.
fn number<T: TryFrom<u64>>(credential: &Value, key: &str, name: &str) -> Result<T, String> {
    let value = &credential[key];
    let float = || value.as_f64().filter(|f| f.fract() == 0.0 && *f >= 0.0);
    let whole = value.as_u64().or_else(|| float().map(|f| f as u64));
    let number = whole.and_then(|whole| T::try_from(whole).ok());
    number.ok_or_else(|| {
        let got = quoted(&value.to_string());
        format!("the {key} in the credential of {name} should be a number, got {got}")
    })
}

fn version(credential: &Value) -> Option<String> {
    let version = credential["version"].as_str()?;
    let is_safe =
        version.len() <= VERSION_BYTES_MAX && version.bytes().all(|b| b.is_ascii_graphic());
    is_safe.then(|| version.to_owned())
}

/// Returns the beginning of a text, escaped so that it can't control a terminal.
fn quoted(text: &str) -> String {
    format!("{:?}", misfit::shortened(text, QUOTED_CHARS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter() -> Claim {
        Claim {
            name: "Counter".to_owned(),
            pid: 7,
            port: 4000,
            version: None,
            generation: None,
        }
    }

    fn read(bytes: &[u8]) -> ProbeReply {
        let mut reader = ClaimReader::new();
        // Three bytes at a time, so that a line never comes in one piece.
        for some in bytes.chunks(3) {
            let some = &some[..some.len().min(reader.wanted_bytes())];
            if let Some(reply) = reader.take(some) {
                return reply;
            }
        }
        reader.finish()
    }

    #[test]
    fn a_credential_is_found_however_it_is_written() {
        for text in [
            r#"dae [{"name":"Counter","pid":7,"port":4000}]"#,
            r#"dae {"name":"Counter","pid":7,"port":4000}"#,
            "dae [{name: 'Counter', pid: 7, port: 4000,}]",
            r#"dae [{"name":"Counter","pid":7.0,"port":4e3,"more":[1]}]"#,
            "hello there\r\ntick [1]\n\ndae\ndae [{name:'Counter',pid:7,port:4000}]\r",
            "dae [{\"name\":\"Counter\",\"pid\":7,\"port\":4000,\"version\":\"\u{1b}[2J\"}]",
        ] {
            assert_eq!(
                read(text.as_bytes()),
                ProbeReply::Claim(counter()),
                "{text}"
            );
            let ended = format!("{text}\n");
            assert_eq!(
                read(ended.as_bytes()),
                ProbeReply::Claim(counter()),
                "{text}"
            );
        }
        let ours = r#"dae [{"name":"Counter","pid":7,"port":4000,"version":"0.1.0"}]"#;
        assert!(
            matches!(read(ours.as_bytes()), ProbeReply::Claim(c) if c.version.as_deref() == Some("0.1.0"))
        );
    }

    #[test]
    fn what_is_no_reply_is_nothing() {
        let long = [b'x'; 1 << 20];
        let late = [&b"x\n".repeat(2048)[..], b"dae [{name:'C',pid:7,port:1}]\n"].concat();
        for bytes in [
            &b""[..],
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"\x15\x03\x01\x00\x02\x02\x50",
            b"dae\n",
            b"error [{\"command\":\"dae\",\"code\":\"x\",\"message\":\"y\"}]\n",
            &long,
            &late,
        ] {
            let shown = bytes.len().min(40);
            assert_eq!(read(bytes), ProbeReply::None, "{:?}", &bytes[..shown]);
        }
    }

    #[test]
    fn what_is_no_credential_is_refused_with_a_reason_that_is_safe_to_show() {
        let deep = format!("dae {}", "[".repeat(4000));
        for (text, part) in [
            ("dae []", "with a name"),
            ("dae [7]", "with a name"),
            ("dae hello", "expected a credential"),
            (&deep, "expected a credential"),
            ("dae [{name:5,pid:7,port:1}]", "with a name"),
            ("dae [{name:'A',port:1}]", "the pid in the credential of A"),
            ("dae [{name:'A',pid:-7,port:1}]", "the pid"),
            ("dae [{name:'A',pid:7,port:70000}]", "the port"),
            ("dae [{name:'A',pid:7.5,port:1}]", "the pid"),
            ("dae [{name:'a b',pid:7,port:1}]", "can't be a daemon's"),
            ("dae [{name:'../x',pid:7,port:1}]", "can't be a daemon's"),
            (
                "dae [{name:'\u{1b}[2J',pid:7,port:1}]",
                "can't be a daemon's",
            ),
        ] {
            let ProbeReply::Refused(reason) = read(text.as_bytes()) else {
                panic!("{text} was not refused");
            };
            assert!(reason.contains(part), "{reason}");
            assert!(!reason.contains(char::is_control), "{reason:?}");
            assert!(reason.len() < 400, "{reason}");
        }
    }
}
