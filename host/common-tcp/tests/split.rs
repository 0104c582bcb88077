//! Property tests of the inbox over any input: the split over reads makes no difference, nothing panics, and memory
//! stays bounded.
//!
//! The bytes are drawn from the pieces that matter (line ends, telnet, tags, HTTP, long runs) and from noise. The
//! line limit is small, so that the input often exceeds it.

use dae_common_tcp::{ErrorCode, Inbox, Line, is_name, nearest, write_error, write_message};
use proptest::{collection::vec, prelude::*, sample::select};

/// A small limit, so that long lines are common. It is larger than the longest name, so that good lines are common
/// too.
const LINE_BYTES_MAX: usize = 160;

/// The bytes allowed beyond the line limit and one read: an incomplete telnet sequence.
const SLACK_BYTES: usize = 2;

const PIECES: &[&[u8]] = &[
    b"\n",
    b"\n",
    b"\r\n",
    b"\r",
    b" ",
    b"\t",
    b"#",
    b"a",
    b"echo [1]",
    b"echo [1]\n",
    b"add [1,2]\r\n",
    b"add  [1] \n",
    b"nothing\n",
    b"echo#7 [\"x\"]\n",
    b"GET / HTTP/1.1\r\n",
    b"Host: x\r\n",
    b"POST /",
    b" HTTP/1.1",
    b"EHLO x\r\n",
    b"SSH-2.0-x\r\n",
    b"\xef\xbb\xbf",
    b"\xef\xbb",
    b"\x16\x03\x01",
    b"\0",
    b"\xff\xfb\n",
    b"\xff",
    b"\xff\xfb\x1f",
    b"\xff\xfa\x18\0xterm\xff\xf0",
    b"\xff\xfa",
    b"\xff\xf0",
    b"\xff\xff",
    b"\xff\xf9",
    b"\xff\xfd",
    b"\xc3",
    "é👾\u{a0}".as_bytes(),
    &[b'n'; 150],
    &[b' '; 170],
];

fn input() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => select(PIECES).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..12),
    ];
    vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Returns all lines as text, to the end of the stream. Reads in pieces of these sizes, repeated as needed. Takes
/// at most `at_once` lines together, or one by one if it is 0.
fn told_by(bytes: &[u8], piece_sizes: &[usize], at_once: usize) -> Vec<String> {
    let mut inbox = Inbox::new(LINE_BYTES_MAX);
    let mut told = Vec::new();
    let mut sizes = piece_sizes.iter().cycle();
    let mut rest = bytes;
    while !rest.is_empty() {
        let size = sizes
            .next()
            .map_or(rest.len(), |&size| size.min(rest.len()));
        let (piece, behind) = rest.split_at(size);
        rest = behind;
        inbox.room(size).extend_from_slice(piece);
        take(&mut inbox, at_once, &mut told);
        assert!(inbox.buffered() <= LINE_BYTES_MAX + SLACK_BYTES);
        assert!(inbox.is_mid_line() || inbox.buffered() == 0);
    }
    inbox.end();
    take(&mut inbox, at_once, &mut told);
    assert_eq!(inbox.buffered(), 0);
    told
}

/// Takes all complete lines.
fn take(inbox: &mut Inbox, at_once: usize, told: &mut Vec<String>) {
    if at_once == 0 {
        while let Some(line) = inbox.next() {
            check(&line);
            told.push(format!("{line:?}"));
        }
        return;
    }
    loop {
        let before = told.len();
        for line in inbox.lines().take(at_once) {
            check(&line);
            told.push(format!("{line:?}"));
        }
        if told.len() == before {
            return;
        }
    }
}

fn told(bytes: &[u8], piece_sizes: &[usize]) -> Vec<String> {
    told_by(bytes, piece_sizes, usize::MAX)
}

/// Checks the properties of each line.
fn check(line: &Line<'_>) {
    match line {
        Line::Message(message) => {
            assert!(is_name(message.name));
            assert!(
                message.tag.is_none_or(is_name),
                "a tag keeps a name's rules"
            );
            assert_eq!(
                message.arguments,
                message.arguments.trim_matches([' ', '\t'])
            );
        }
        Line::Fault(fault) => {
            assert!(fault.command.is_empty() || is_name(fault.command));
            assert!(!fault.message.contains('\n'));
        }
        Line::OtherProtocol(_) => {}
    }
}

proptest! {
    #[test]
    fn any_split_gives_the_same_lines(
        bytes in input(),
        piece_sizes in vec(1usize..50, 1..12),
    ) {
        let whole = told(&bytes, &[]);
        prop_assert_eq!(&whole, &told(&bytes, &piece_sizes));
        prop_assert_eq!(&whole, &told(&bytes, &[1]));
        // A single line is read by the full rules; many lines are read by the look ahead.
        prop_assert_eq!(&whole, &told_by(&bytes, &piece_sizes, 0));
        prop_assert_eq!(&whole, &told_by(&bytes, &piece_sizes, 2));
    }

    #[test]
    fn noise_never_panics(bytes in vec(any::<u8>(), 0..2000), piece_sizes in vec(1usize..300, 1..9)) {
        let whole = told(&bytes, &[]);
        prop_assert_eq!(&whole, &told(&bytes, &piece_sizes));
        prop_assert_eq!(&whole, &told_by(&bytes, &piece_sizes, 0));
    }

    #[test]
    fn memory_is_bounded(bytes in input(), want_bytes in 1usize..100, rests in any::<bool>()) {
        let mut inbox = Inbox::new(LINE_BYTES_MAX);
        for _ in 0..20 {
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                // Fill all the spare capacity, as a socket does, not only the requested bytes.
                let buffer = inbox.room(want_bytes);
                let spare = buffer.capacity() - buffer.len();
                prop_assert!(spare >= want_bytes);
                prop_assert!(buffer.capacity() <= LINE_BYTES_MAX + SLACK_BYTES + want_bytes);
                let (piece, behind) = rest.split_at(spare.min(rest.len()));
                buffer.extend_from_slice(piece);
                rest = behind;
                while inbox.next().is_some() {}
                if rests {
                    inbox.rest();
                }
            }
        }
    }

    #[test]
    fn what_is_written_is_read_back_as_one_line(
        message in any::<String>(),
        value in "[\\[\\]{}\", \n\t0-9a-zé]{0,40}",
    ) {
        let mut out = Vec::new();
        write_error(&mut out, &message, Some("t"), ErrorCode::Failed, &message);
        write_message(&mut out, "tick", None, format!("[{value}]").as_bytes());
        let lines = out.iter().filter(|&&byte| byte == b'\n').count();
        prop_assert_eq!((lines, out.last()), (2, Some(&b'\n')));

        let mut inbox = Inbox::new(out.len());
        inbox.room(out.len()).extend_from_slice(&out);
        for name in ["error", "tick"] {
            let line = inbox.next();
            prop_assert!(matches!(&line, Some(Line::Message(told)) if told.name == name), "{:?}", line);
        }
    }

    #[test]
    fn nearest_finds_an_exact_name(names in vec("[a-z]{1,12}", 1..9), at in any::<prop::sample::Index>()) {
        let wanted = at.get(&names);
        let found = nearest(wanted, names.iter().map(String::as_str));
        prop_assert_eq!(found, Some(wanted.as_str()));
    }
}
