//! Removes telnet's own bytes from what a guest sent.
//!
//! A telnet client may negotiate at any moment: IAC (0xFF), a command, and perhaps operands. None of it is part of
//! a line. It is dropped and never answered: a client that gets no answer continues as a plain line terminal, which
//! is all that Common TCP needs.
//!
//! UTF-8 text never contains 0xFF. So an escaped 0xFF (IAC IAC), or one before a byte that is no telnet command,
//! stays where it is, and its line is answered `not-utf8`. Dropping it with the byte behind it could remove a
//! line's LF.
//!
//! Invariant: a sequence that is cut by a read stays at the end of the buffer until the rest comes. At most
//! [`TAIL_BYTES_MAX`] bytes of it are kept. Only a subnegotiation, which may be of any length, needs a state, so
//! that memory stays constant. The numbers are from RFC 854 and RFC 1184.

use memchr::memchr;

use crate::opening::Hidden;

/// The most bytes of an incomplete sequence that can wait: IAC, and a command whose option has not come.
pub(crate) const TAIL_BYTES_MAX: usize = 2;

const IAC: u8 = 255;
const DONT: u8 = 254;
const WILL: u8 = 251;
const SUBNEGOTIATION: u8 = 250;
const SUBNEGOTIATION_END: u8 = 240;
/// End-of-file in linemode: the lowest command that a client sends.
const COMMAND_MIN: u8 = 236;

/// The telnet state of one connection.
#[derive(Debug, Default)]
pub(crate) struct Telnet {
    is_in_subnegotiation: bool,
}

/// The action for the next bytes.
enum Step {
    Keep(usize),
    Drop(usize),
    /// The sequence is incomplete: try again with more bytes.
    Wait,
}

impl Telnet {
    /// Returns whether the bytes may contain the beginning of a sequence.
    pub(crate) fn may_be_in(bytes: &[u8]) -> bool {
        memchr(IAC, bytes).is_some()
    }

    /// Drops all telnet from `bytes[from..]`, in place. Returns an index: the bytes before it are free of telnet,
    /// and those behind it are the beginning of an incomplete sequence. `hidden` receives what is kept and what is
    /// dropped.
    pub(crate) fn strip(
        &mut self,
        bytes: &mut Vec<u8>,
        from: usize,
        mut hidden: Option<&mut Hidden>,
    ) -> usize {
        let (mut read, mut write) = (from, from);
        while read < bytes.len() {
            match self.step(&bytes[read..]) {
                Step::Keep(count) => {
                    if let Some(hidden) = &mut hidden {
                        hidden.keep(&bytes[read..read + count], write);
                    }
                    bytes.copy_within(read..read + count, write);
                    read += count;
                    write += count;
                }
                Step::Drop(count) => {
                    if let Some(hidden) = &mut hidden {
                        hidden.drop(&bytes[read..read + count], write);
                    }
                    read += count;
                }
                Step::Wait => break,
            }
        }
        bytes.drain(write..read);
        write
    }

    /// Returns whether a subnegotiation has begun and not ended.
    pub(crate) fn is_mid_sequence(&self) -> bool {
        self.is_in_subnegotiation
    }

    fn step(&mut self, bytes: &[u8]) -> Step {
        if self.is_in_subnegotiation {
            return self.step_in_subnegotiation(bytes);
        }
        match *bytes {
            [IAC] | [IAC, WILL..=DONT] => Step::Wait,
            [IAC, WILL..=DONT, _, ..] => Step::Drop(3),
            [IAC, SUBNEGOTIATION, ..] => {
                self.is_in_subnegotiation = true;
                Step::Drop(2)
            }
            // An escaped 0xFF: both bytes stay, because the line is not UTF-8 either way.
            [IAC, IAC, ..] => Step::Keep(2),
            [IAC, COMMAND_MIN..=IAC, ..] => Step::Drop(2),
            [IAC, ..] => Step::Keep(1),
            _ => Step::Keep(memchr(IAC, bytes).unwrap_or(bytes.len())),
        }
    }

    fn step_in_subnegotiation(&mut self, bytes: &[u8]) -> Step {
        match *bytes {
            [IAC] => Step::Wait,
            [IAC, SUBNEGOTIATION_END, ..] => {
                self.is_in_subnegotiation = false;
                Step::Drop(2)
            }
            [IAC, _, ..] => Step::Drop(2),
            _ => Step::Drop(memchr(IAC, bytes).unwrap_or(bytes.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the bytes that remain of `bytes` and those that still wait, read in pieces of `piece_bytes`.
    fn stripped(bytes: &[u8], piece_bytes: usize) -> (Vec<u8>, Vec<u8>) {
        let (mut telnet, mut kept, mut clean) = (Telnet::default(), Vec::new(), 0);
        for piece in bytes.chunks(piece_bytes) {
            kept.extend_from_slice(piece);
            clean = telnet.strip(&mut kept, clean, None);
            assert!(kept.len() - clean <= TAIL_BYTES_MAX);
        }
        let tail = kept.split_off(clean);
        (kept, tail)
    }

    #[test]
    fn sequences_are_dropped_however_they_are_split() {
        let table: &[(&[u8], &[u8], &[u8])] = &[
            (b"plain\n", b"plain\n", b""),
            (b"\xff\xfb\x1f\xff\xfb\x20echo", b"echo", b""),
            (b"a\xff\xfd\nb", b"ab", b""),
            (b"a\xff\xf1\xff\xf9b", b"ab", b""),
            (b"a\xff\xfa\x1f\0P\0\x18\xff\xf0b", b"ab", b""),
            (b"a\xff\xfa\n\xff\xff\xf0\xff\xfb\xff\xf0b", b"ab", b""),
            (b"a\xff\xfano end\n", b"a", b""),
            (b"a\xff\xfano end\xff", b"a", b"\xff"),
            (b"a\xff", b"a", b"\xff"),
            (b"a\xff\xfe", b"a", b"\xff\xfe"),
            (b"a\xff\xff\xfbb", b"a\xff\xff\xfbb", b""),
            (b"a\xff\nb\xff\xeb", b"a\xff\nb\xff\xeb", b""),
        ];
        for (bytes, kept, tail) in table {
            for piece_bytes in 1..=bytes.len() {
                let expected = (kept.to_vec(), tail.to_vec());
                assert_eq!(stripped(bytes, piece_bytes), expected, "{bytes:?}");
            }
        }
    }
}
