//! Tests of an inbox, as tables of input bytes and resulting lines.

use super::*;
use crate::{ErrorCode, LINE_BYTES_MAX, Message};

fn inbox_of(bytes: &[u8], line_bytes_max: usize) -> Inbox {
    let mut inbox = Inbox::new(line_bytes_max);
    inbox.room(bytes.len()).extend_from_slice(bytes);
    inbox
}

/// Returns the name and arguments of each message, or the code of each fault, to the end of the stream.
fn told(inbox: &mut Inbox) -> Vec<String> {
    let mut told = Vec::new();
    told.extend(inbox.lines().map(line_told));
    inbox.end();
    told.extend(inbox.lines().map(line_told));
    told
}

fn line_told(line: Line<'_>) -> String {
    match line {
        Line::Message(Message {
            name, arguments, ..
        }) => format!("{name} {arguments}"),
        Line::Fault(fault) => format!("!{} {}", fault.code, fault.command),
        Line::OtherProtocol(protocol) => protocol.to_string(),
    }
}

#[test]
fn lines_are_cut_as_the_protocol_says() {
    let table: &[(&[u8], &[&str])] = &[
        (b"", &[]),
        (b"\n \r\n\t\n\r\n", &[]),
        (b"a\nb [1]\r\n", &["a ", "b [1]"]),
        (b"a [1]", &["a [1]"]),
        (b"a [1]\r", &["a [1]"]),
        (b"12345678\n", &["12345678 "]),
        (b"123456789\na\n", &["!line-too-long ", "a "]),
        (b"a 3456789", &["!line-too-long a"]),
        (b"1234567\xff\xf1\xff\xf18\n", &["12345678 "]),
        (b"a\n\xff", &["a "]),
        (b"a\n\xff\xfa\x1fb\n", &["a "]),
        (b"         \na\n", &["!line-too-long ", "a "]),
    ];
    for (bytes, expected) in table {
        assert_eq!(told(&mut inbox_of(bytes, 8)), *expected, "{bytes:?}");
    }
}

#[test]
fn a_line_too_long_is_told_at_once_and_once() {
    let mut inbox = inbox_of(b"echo 3456", 8);
    let Some(Line::Fault(fault)) = inbox.next() else {
        panic!("no fault before the LF came");
    };
    assert_eq!(
        (fault.code, fault.command),
        (ErrorCode::LineTooLong, "echo")
    );
    for _ in 0..1000 {
        inbox.room(64).extend_from_slice(&[b'x'; 64]);
        assert_eq!(inbox.next(), None);
        assert!(inbox.is_mid_line());
        assert_eq!(inbox.buffered(), 0);
    }
    inbox.room(64).extend_from_slice(b"x\nb\n");
    assert_eq!(told(&mut inbox), ["b "]);
    assert!(!inbox.is_mid_line());
    assert!(inbox.bytes.capacity() <= 8 + telnet::TAIL_BYTES_MAX + 64);
}

#[test]
fn after_http_nothing_is_a_line() {
    let mut inbox = inbox_of(b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\na\n", LINE_BYTES_MAX);
    assert_eq!(told(&mut inbox), ["HTTP"]);
    inbox.room(8).extend_from_slice(b"a\n");
    assert_eq!(inbox.next(), None);
    assert_eq!(told(&mut inbox), [""; 0]);
}

#[test]
fn http_is_the_first_line_or_none() {
    let mut inbox = inbox_of(b"a\nGET / HTTP/1.1\n", LINE_BYTES_MAX);
    assert_eq!(told(&mut inbox), ["a ", "GET / HTTP/1.1"]);
    // A long address must not hide the request line, or the body behind it would be run.
    let mut inbox = inbox_of(b"POST /xxxxxxxxxxxxxxxxxxx HTTP/1.1\r\n\r\na\n", 16);
    assert_eq!(told(&mut inbox), ["HTTP"]);
    // Nor must an endless method, or one that is not text.
    let mut inbox = inbox_of(b"XXXXXXXXXXXXXXXXXXXXX /\r\n\xc3\nHost: x\r\n\r\na\n", 16);
    assert_eq!(told(&mut inbox), ["!line-too-long ", "!not-utf8 ", "HTTP"]);
}

#[test]
fn at_the_front_faults_are_taken_and_a_message_stays() {
    let mut inbox = inbox_of(b"\n\xc3\n#\n\na [1]\n#\n", LINE_BYTES_MAX);
    for code in [ErrorCode::NotUtf8, ErrorCode::BadName] {
        assert!(matches!(inbox.front(), Front::Fault(fault) if fault.code == code));
    }
    assert_eq!(inbox.front(), Front::Message);
    assert_eq!(inbox.front(), Front::Message);
    assert_eq!(told(&mut inbox), ["a [1]", "!bad-name "]);
    assert_eq!(inbox.front(), Front::Nothing);

    let mut half = inbox_of(b"\xef\xbb\xbfGET / HT", LINE_BYTES_MAX);
    assert_eq!(half.front(), Front::Nothing);
    half.room(16).extend_from_slice(b"TP/1.1\r\na\n");
    assert_eq!(half.front(), Front::OtherProtocol(Protocol::Http));
    assert_eq!(half.front(), Front::Nothing);
}

#[test]
fn telnet_hides_no_request() {
    let table: &[&[u8]] = &[
        b"\xff\xfb\x1f\xff\xfb\x20GET / HTTP/1.1\r\n\r\na\n",
        b"GE\xff\xf1T / HTTP/1.1\r\n\r\na\n",
        b"GET /\xff\xfb HTTP/1.1\r\n\r\na\n",
        b"GET / HT\xff\xfbTP/1.1\r\n\r\na\n",
        b"GET / HT\xff\xfb\x01TP/1.1\r\n\r\na\n",
        b"GET / HTTP/1.1\xff\xfb\na\n",
        b"GET /\xff\xfa HTTP/1.1\r\n\r\n\xff\xf0\na\n",
        b"\xff\xfaGET / HTTP/1.1\r\n\r\n\xff\xf0a\n",
        b"\xff\xfa\x1fGET / HTTP/1.1\r\n\r\n\xff\xf0\na\n",
        b"\n\xff\xfa\xef\xbb\xbfGET / HTTP/1.1\n\xff\xf0\na\n",
        // Binary bytes follow it, and a blank one precedes it.
        b"\r\xff\xfaGET / HTTP/1.1\r\n\xff\xf0\x16\x03\x01",
    ];
    for bytes in table {
        assert_eq!(
            told(&mut inbox_of(bytes, LINE_BYTES_MAX)),
            ["HTTP"],
            "{bytes:?}"
        );
    }
    let smtp = b"\xff\xfaEHLO x\r\n\xff\xf0a\n";
    assert_eq!(told(&mut inbox_of(smtp, LINE_BYTES_MAX)), ["SMTP"]);
    // A window of 10 lines: its size contains the byte LF, which is not a line end.
    let window = b"\xff\xfa\x1f\0\x0a\0\x0a\xff\xf0a [\"GET / HTTP/1.1\"]\r\n\xff\xfaGET / HTTP/1.1\n\xff\xf0b\n";
    let lines = ["a [\"GET / HTTP/1.1\"]", "b "];
    assert_eq!(told(&mut inbox_of(window, LINE_BYTES_MAX)), lines);
}

#[test]
fn binary_bytes_are_refused_before_a_line_is_whole() {
    let table: &[&[u8]] = &[
        b"\x16\x03\x01\x02",
        b"\xff\xfb\x1f\x16\x03\x01",
        b"\xef\xbb\xbf\0",
        b"\r\n \x16\na\n",
    ];
    for bytes in table {
        let mut inbox = inbox_of(bytes, LINE_BYTES_MAX);
        let line = Line::OtherProtocol(Protocol::Binary);
        assert_eq!(inbox.next(), Some(line), "{bytes:?}");
        assert_eq!(inbox.next(), None);
    }
    let mut later = inbox_of(b"a\n\x16\x03\nb\n", LINE_BYTES_MAX);
    assert_eq!(told(&mut later), ["a ", "!bad-name ", "b "]);
    let mut later = inbox_of(b"\xc3\n\x16\x03\nb\n", LINE_BYTES_MAX);
    assert_eq!(told(&mut later), ["!not-utf8 ", "!bad-name ", "b "]);
}

#[test]
fn a_byte_order_mark_is_dropped_before_the_first_line_alone() {
    let table: &[(&[u8], &[&str])] = &[
        (
            b"\xef\xbb\xbfa [1]\n\xef\xbb\xbfb\n",
            &["a [1]", "\u{feff}b "],
        ),
        (b"\r\n\xef\xbb\xbf\xff\xfb\x1fa\n", &["a "]),
        (b"\xef\xbb\xbf\n\xef\xbb\xbfa", &["a "]),
        (b"\xef\xbb\xbf", &[]),
        (b"\xef\xbb", &["!not-utf8 "]),
        (b"\xef\xbb\xbf12345678\n", &["12345678 "]),
        (b"\xef\xbb\xbfGET / HTTP/1.1\na\n", &["HTTP"]),
    ];
    for (bytes, expected) in table {
        assert_eq!(told(&mut inbox_of(bytes, 8)), *expected, "{bytes:?}");
    }
}

#[test]
fn a_server_may_greet_as_it_likes() {
    let mut inbox = Inbox::connecting(LINE_BYTES_MAX);
    let greeting = b"\x1b[32mhello\nSSH-2.0-x\r\n";
    inbox.room(64).extend_from_slice(greeting);
    assert_eq!(told(&mut inbox), ["!bad-name ", "SSH-2.0-x "]);
    let mut inbox = Inbox::connecting(LINE_BYTES_MAX);
    inbox
        .room(64)
        .extend_from_slice(b"\xef\xbb\xbfContent-Length: 9\n");
    assert_eq!(told(&mut inbox), ["HTTP"]);
}

#[test]
fn a_connection_that_goes_on_is_no_http() {
    let mut inbox = Inbox::resumed(LINE_BYTES_MAX);
    inbox
        .room(64)
        .extend_from_slice(b"x: 1\nGET / HTTP/1.1\na\n");
    assert_eq!(told(&mut inbox), ["x: 1", "GET / HTTP/1.1", "a "]);
}

#[test]
fn a_quiet_connection_holds_no_memory() {
    let mut inbox = Inbox::new(LINE_BYTES_MAX);
    assert_eq!(inbox.bytes.capacity(), 0);
    inbox.room(4096).extend_from_slice(b"a\nb");
    assert!(inbox.next().is_some() && inbox.next().is_none());
    inbox.rest();
    assert_eq!((inbox.buffered(), inbox.is_mid_line()), (1, true));
    inbox.room(4096).push(b'\n');
    assert!(inbox.next().is_some() && inbox.next().is_none());
    inbox.rest();
    assert_eq!((inbox.bytes.capacity(), inbox.is_mid_line()), (0, false));
}
