//! The reply line of a command: its result, or its error.

use dae_common_tcp::{ErrorCode, Message, close_reply, open_reply, write_error, write_message};
use dae_plugin_api::abi::status;
use serde_json::json;

use crate::instance::Instance;
use crate::plugin::command_table::ResolvedCommand;
use crate::plugin::completion::{Call, host_status};
use crate::threads::counters::BatchCounts;

/// Runs a quick command on the hot path, from the guest's bytes into the guest's bytes. `guest` has sent it, and
/// `index` and `known` are its entry in the command table.
#[inline(always)]
pub(crate) fn answer_on_the_spot(
    instance: &Instance,
    message: Message<'_>,
    (guest, index, known): (u64, u32, &ResolvedCommand),
    (out, tally): (&mut Vec<u8>, &mut BatchCounts),
) {
    tally.calls += 1;
    let start = match (&known.opening, message.tag) {
        (Some(opening), None) => opening.write(out),
        _ => open_reply(out, message.name, message.tag),
    };
    let body = out.len();
    let call = Call {
        index,
        guest,
        arguments: message.arguments,
    };
    match instance.answer_here(call, out) {
        status::DONE => close_reply(out, start),
        status::NOTHING => {
            out.truncate(body);
            close_reply(out, start);
        }
        status => {
            let of = (message.name, message.tag);
            fail_at(out, (start, body), of, status);
            tally.errors += 1;
            tally.panics += u64::from(status == status::CRASHED);
        }
    }
}

/// Replaces a reply that was opened at `start`, with its text at `body`, by an error.
#[cold]
fn fail_at(
    out: &mut Vec<u8>,
    (start, body): (usize, usize),
    of: (&str, Option<&str>),
    status: u32,
) {
    let text = String::from_utf8_lossy(&out[body..]).into_owned();
    out.truncate(start);
    write_failure(out, of, status, &text);
}

/// Appends the line of a command that has ended, and counts it.
pub(crate) fn write_ended(
    out: &mut Vec<u8>,
    (name, tag): (&str, Option<&str>),
    (status, bytes): (u32, &[u8]),
    tally: &mut BatchCounts,
) {
    count_ended(tally, status);
    match status {
        status::DONE | status::NOTHING => {
            let start = open_reply(out, name, tag);
            if status == status::DONE {
                out.extend_from_slice(bytes);
            }
            close_reply(out, start);
        }
        status => write_failure(out, (name, tag), status, &String::from_utf8_lossy(bytes)),
    }
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

/// Appends the line of a large result, and counts it. The result starts at `before` in `bytes`. If `out` is empty, the
/// line reuses these bytes without a copy.
pub(crate) fn write_large(
    out: &mut Vec<u8>,
    (name, tag): (&str, Option<&str>),
    (mut bytes, before): (Vec<u8>, usize),
    tally: &mut BatchCounts,
) {
    if !out.is_empty() {
        return write_ended(out, (name, tag), (status::DONE, &bytes[before..]), tally);
    }
    tally.calls += 1;
    let mut opening = Vec::new();
    open_reply(&mut opening, name, tag);
    bytes.splice(..before, opening);
    close_reply(&mut bytes, 0);
    *out = bytes;
}

fn write_failure(out: &mut Vec<u8>, (name, tag): (&str, Option<&str>), status: u32, text: &str) {
    match status {
        host_status::UNKNOWN_DAEMON => {
            write_control_error(out, (name, tag), "unknown-daemon", text);
        }
        host_status::NOT_RUNNING => write_control_error(out, (name, tag), "not-running", text),
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
fn write_control_error(
    out: &mut Vec<u8>,
    (name, tag): (&str, Option<&str>),
    code: &str,
    text: &str,
) {
    let text = match text.trim().is_empty() {
        true => "no reason was given",
        false => text,
    };
    let error = json!([{"command": name, "code": code, "message": text}]);
    write_message(out, "error", tag, error.to_string().as_bytes());
}

/// Returns the protocol's error code for a status.
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
