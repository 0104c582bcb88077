//! Functions from lines to replies: the bare echo, and two commands as one would write them by hand.

use std::io::Write as _;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A function from whole lines to their replies, which may be in the given buffer.
pub(super) type Answer = for<'a> fn(&'a [u8], &'a mut Vec<u8>) -> &'a [u8];

/// Returns the lines unchanged.
pub(super) fn echo_all<'a>(lines: &'a [u8], _out: &'a mut Vec<u8>) -> &'a [u8] {
    lines
}

/// Answers each line in order.
pub(super) fn answer_all<'a>(lines: &'a [u8], out: &'a mut Vec<u8>) -> &'a [u8] {
    out.clear();
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', lines) {
        answer(&lines[start..end], out);
        start = end + 1;
    }
    out
}

/// Answers one line, given without its LF.
pub(super) fn answer(line: &[u8], out: &mut Vec<u8>) {
    let space = memchr::memchr(b' ', line).unwrap_or(line.len());
    let (name, arguments) = line.split_at(space);
    match name {
        b"echo" => call(name, arguments, out, |(text,): (String,)| text),
        b"add" => call(name, arguments, out, |(a, b): (i64, i64)| a + b),
        _ => fail(name, &"unknown-command", out),
    }
}

fn call<A: DeserializeOwned, R: Serialize>(
    name: &[u8],
    arguments: &[u8],
    out: &mut Vec<u8>,
    run: fn(A) -> R,
) {
    match serde_json::from_slice(arguments) {
        Ok(arguments) => {
            out.extend_from_slice(name);
            out.push(b' ');
            serde_json::to_writer(&mut *out, &(run(arguments),)).expect("a Vec takes all");
            out.push(b'\n');
        }
        Err(error) => fail(name, &error, out),
    }
}

fn fail(name: &[u8], reason: &dyn std::fmt::Display, out: &mut Vec<u8>) {
    let error = serde_json::json!({
        "command": String::from_utf8_lossy(name), "message": reason.to_string(),
    });
    writeln!(out, "error [{error}]").expect("a Vec takes all");
}
