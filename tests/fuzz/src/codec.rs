//! The codec of Common TCP: lines do not depend on how the bytes are split, use bounded memory, and survive a round
//! trip.

use dae_common_tcp::{ErrorCode, Inbox, Line, is_name, write_error, write_message};

/// A short limit, so that the input often exceeds it.
const LINE_BYTES_MAX: usize = 200;

pub(crate) fn lines(bytes: &[u8]) {
    let whole = told(bytes, bytes.len());
    for piece_bytes in [1, 3, 64] {
        assert_eq!(
            whole,
            told(bytes, piece_bytes),
            "{piece_bytes} bytes a piece"
        );
    }
    if let Ok(text) = str::from_utf8(bytes) {
        error_is_one_line(text);
    }
}

/// Returns the debug form of all lines, read in pieces of the given size.
fn told(bytes: &[u8], piece_bytes: usize) -> Vec<String> {
    let mut inbox = Inbox::new(LINE_BYTES_MAX);
    let mut told = Vec::new();
    for piece in bytes.chunks(piece_bytes.max(1)) {
        inbox.room(piece.len()).extend_from_slice(piece);
        take(&mut inbox, &mut told);
        assert!(inbox.is_mid_line() || inbox.buffered() == 0);
    }
    inbox.end();
    take(&mut inbox, &mut told);
    assert_eq!(inbox.buffered(), 0);
    told
}

fn take(inbox: &mut Inbox, told: &mut Vec<String>) {
    while let Some(line) = inbox.next() {
        if let Line::Message(message) = &line {
            assert!(is_name(message.name), "{line:?}");
            assert!(message.tag.is_none_or(is_name), "{line:?}");
            is_read_back(message);
        }
        told.push(format!("{line:?}"));
    }
}

fn is_read_back(message: &dae_common_tcp::Message<'_>) {
    let mut out = Vec::new();
    write_message(&mut out, message.name, message.tag, b"[\n1]");
    // A fresh connection starts with extra rules, so this inbox resumes one.
    let mut inbox = Inbox::resumed(out.len());
    inbox.room(out.len()).extend_from_slice(&out);
    let Some(Line::Message(read)) = inbox.next() else {
        panic!("{out:?} is not read back");
    };
    assert_eq!(
        (read.name, read.tag, read.arguments),
        (message.name, message.tag, "[ 1]")
    );
}

fn error_is_one_line(text: &str) {
    let mut out = Vec::new();
    write_error(&mut out, text, None, ErrorCode::Failed, text);
    assert_eq!(
        out.iter().position(|byte| *byte == b'\n'),
        Some(out.len() - 1)
    );
    let json = &out["error ".len()..];
    let value: serde_json::Value = serde_json::from_slice(json).expect("an error is JSON");
    assert_eq!(value[0]["command"], text);
    let message = value[0]["message"].as_str().expect("a message");
    assert!(!message.trim().is_empty() && (message == text || text.trim().is_empty()));
}
