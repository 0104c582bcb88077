//! The reply line of a command: its result, or its error.

use dae_common_tcp::{ErrorCode, Message, close_reply, open_reply, write_error, write_message};
use dae_plugin_api::abi::status;
use dae_plugin_api::coded::CodedError;
use serde_json::json;

use crate::connection::pending_calls::CallError;
use crate::instance::Instance;
use crate::plugin::command_table::ResolvedCommand;
use crate::plugin::completion::{Call, host_status};
use crate::threads::counters::BatchCounts;

/// The command that a reply is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplyTo<'a> {
    pub name: &'a str,
    pub tag: Option<&'a str>,
}

impl<'a> From<&Message<'a>> for ReplyTo<'a> {
    #[inline]
    fn from(message: &Message<'a>) -> Self {
        ReplyTo {
            name: message.name,
            tag: message.tag,
        }
    }
}

/// A command that ends on the spot.
#[derive(Clone, Copy)]
pub(crate) struct ImmediateCommand<'a> {
    /// The guest that has sent it.
    pub guest: u64,
    /// Its index in the command table.
    pub index: u32,
    /// Its entry in the command table.
    pub known: &'a ResolvedCommand,
}

/// The buffer for reply lines, and the counts of the commands that they end.
pub(crate) struct ReplyLines<'a> {
    pub out: &'a mut Vec<u8>,
    pub tally: &'a mut BatchCounts,
}

impl ReplyLines<'_> {
    /// Runs a quick command on the hot path, from the guest's bytes into the guest's bytes.
    #[inline(always)]
    pub(crate) fn answer_on_the_spot(
        &mut self,
        instance: &Instance,
        message: Message<'_>,
        command: ImmediateCommand<'_>,
    ) {
        let ReplyLines { out, tally } = self;
        tally.calls += 1;
        let start = match (&command.known.opening, message.tag) {
            (Some(opening), None) => opening.write(out),
            _ => open_reply(out, message.name, message.tag),
        };
        let body = out.len();
        let call = Call {
            index: command.index,
            guest: command.guest,
            arguments: message.arguments,
            parts: 0,
        };
        match instance.answer_here(call, out) {
            status::DONE => close_reply(out, start),
            status::NOTHING => {
                out.truncate(body);
                close_reply(out, start);
            }
            status => {
                let text = take_text(out, start, body);
                write_failure(out, (&message).into(), status, &text);
                tally.errors += 1;
                tally.panics += u64::from(status == status::CRASHED);
            }
        }
    }

    /// Appends the line of a command that has ended, and counts it. `bytes` is its result or its error's text.
    pub(crate) fn write_ended(&mut self, to: ReplyTo<'_>, status: u32, bytes: &[u8]) {
        let ReplyLines { out, tally } = self;
        count_ended(tally, status);
        match status {
            status::DONE | status::NOTHING => {
                let start = open_reply(out, to.name, to.tag);
                if status == status::DONE {
                    out.extend_from_slice(bytes);
                }
                close_reply(out, start);
            }
            status => write_failure(out, to, status, &String::from_utf8_lossy(bytes)),
        }
    }

    /// Appends the line of a large result, and counts it. The result starts at `before` in `bytes`. If the buffer is
    /// empty, the line reuses these bytes without a copy.
    pub(crate) fn write_large(&mut self, to: ReplyTo<'_>, mut bytes: Vec<u8>, before: usize) {
        if !self.out.is_empty() {
            return self.write_ended(to, status::DONE, &bytes[before..]);
        }
        self.tally.calls += 1;
        let mut opening = Vec::new();
        open_reply(&mut opening, to.name, to.tag);
        bytes.splice(..before, opening);
        close_reply(&mut bytes, 0);
        *self.out = bytes;
    }
}

/// Takes a reply that was opened at `start` out again. Returns its text, which starts at `body`.
#[cold]
fn take_text(out: &mut Vec<u8>, start: usize, body: usize) -> String {
    let text = String::from_utf8_lossy(&out[body..]).into_owned();
    out.truncate(start);
    text
}

/// Counts a command that has ended with that status.
#[inline]
pub(crate) fn count_ended(tally: &mut BatchCounts, status: u32) {
    tally.calls += 1;
    if !matches!(status, status::DONE | status::NOTHING) {
        tally.errors += 1;
        tally.panics += u64::from(status == status::CRASHED);
    }
}

#[cold]
fn write_failure(out: &mut Vec<u8>, to: ReplyTo<'_>, status: u32, text: &str) {
    let ReplyTo { name, tag } = to;
    match status {
        status::CODED => {
            CallError::from(CodedError::read(text.as_bytes())).write_line(out, name, tag);
        }
        host_status::UNKNOWN_DAEMON => write_control_error(out, to, "unknown-daemon", text),
        host_status::NOT_RUNNING => write_control_error(out, to, "not-running", text),
        host_status::NAME_TAKEN => write_control_error(out, to, "name-taken", text),
        host_status::QUARANTINED => write_control_error(out, to, "quarantined", text),
        status::UNKNOWN if text.is_empty() => {
            let text = format!(
                "the plugin lists {name} among its commands, and its code has none of that name; build it anew"
            );
            write_error(out, name, tag, ErrorCode::UnknownCommand, &text);
        }
        status => write_error(out, name, tag, code_of(status), text),
    }
}

/// Appends an error with a code that only the control socket has.
fn write_control_error(out: &mut Vec<u8>, to: ReplyTo<'_>, code: &str, text: &str) {
    let text = match text.trim().is_empty() {
        true => "no reason was given",
        false => text,
    };
    let error = json!([{"command": to.name, "code": code, "message": text}]);
    write_message(out, "error", to.tag, error.to_string().as_bytes());
}

/// Returns the protocol's error code for a status. A number of a later plugin is a failure of the daemon's own: a host
/// from before a status was added answers `failed` for it, with the sink's text as the message.
pub fn code_of(status: u32) -> ErrorCode {
    match status {
        status::BAD_ARGUMENTS => ErrorCode::BadArguments,
        status::CRASHED | host_status::DIED => ErrorCode::Crashed,
        status::UNKNOWN => ErrorCode::UnknownCommand,
        status::GONE => ErrorCode::Unavailable,
        host_status::TIMEOUT => ErrorCode::Timeout,
        _ => ErrorCode::Failed,
    }
}

#[cfg(test)]
mod tests {
    use dae_plugin_api::coded::is_own_code;

    use super::*;

    fn line(status: u32, sunk: &str) -> (String, BatchCounts) {
        let (mut out, mut tally) = (Vec::new(), BatchCounts::default());
        let mut lines = ReplyLines {
            out: &mut out,
            tally: &mut tally,
        };
        let to = ReplyTo {
            name: "get",
            tag: Some("7"),
        };
        lines.write_ended(to, status, sunk.as_bytes());
        (String::from_utf8(out).unwrap(), tally)
    }

    #[test]
    fn a_coded_error_is_a_line_with_its_code_and_its_data() {
        let (written, tally) = line(
            status::CODED,
            r#"{"code":"full","message":"no","data":{"n":0.10}}"#,
        );
        let expected =
            r#"error#7 [{"command":"get","code":"full","message":"no","data":{"n":0.10}}]"#;
        assert_eq!(written, format!("{expected}\n"));
        assert_eq!((tally.calls, tally.errors, tally.panics), (1, 1, 0));
    }

    /// A plugin need not be written with the crate that checks its errors.
    #[test]
    fn a_plugin_can_take_no_code_of_the_protocol() {
        for code in ErrorCode::ALL {
            assert!(!is_own_code(code.as_str()), "{code}");
            let (written, _) = line(
                status::CODED,
                &format!(r#"{{"code":"{code}","message":"no"}}"#),
            );
            assert!(
                written.contains(r#""code":"failed","message":"no"#),
                "{written}"
            );
        }
        let (written, _) = line(status::CODED, "no JSON");
        assert!(
            written.contains(r#""code":"failed","message":"no JSON""#),
            "{written}"
        );
    }

    /// A plugin built later may have further statuses; its message arrives all the same.
    #[test]
    fn an_unknown_status_is_a_failure_with_the_sinks_text() {
        let (written, tally) = line(status::CODED + 1, r#"{"code":"full","message":"no"}"#);
        let expected = r#"error#7 [{"command":"get","code":"failed","message":"{\"code\":\"full\",\"message\":\"no\"}"}]"#;
        assert_eq!(written, format!("{expected}\n"));
        assert_eq!(tally.errors, 1);
    }
}
