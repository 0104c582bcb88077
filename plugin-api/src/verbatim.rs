//! Text that stands in a JSON string as it is, found eight bytes at a time; and what a reader or writer of the usual gives
//! up with.
//!
//! Most strings that come and go hold no quote, no backslash and no control character: they are taken, and written, without
//! a look at each byte by itself. Whatever holds one is serde_json's.

use std::fmt;

use serde::{de, ser};

/// A one, a quote, a backslash, a space and a highest bit in each byte of a word.
const ONES: u64 = u64::MAX / 255;
const QUOTES: u64 = ONES * b'"' as u64;
const BACKSLASHES: u64 = ONES * b'\\' as u64;
const SPACES: u64 = ONES * b' ' as u64;
const HIGH_BITS: u64 = ONES * 0x80;

/// As many bytes as are looked at together.
const WORD_BYTES: usize = size_of::<u64>();

/// How many bytes at the front of `text` stand in a JSON string as they are.
#[inline]
pub fn count(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(word) = text[at..].first_chunk() {
        let marks = marks(*word);
        if marks != 0 {
            return at + first_of(marks);
        }
        at += WORD_BYTES;
    }
    if at == text.len() {
        return at;
    }
    match text.last_chunk() {
        // Bytes that were looked at already have no marks, nor do they make any.
        Some(word) => match marks(*word) {
            0 => text.len(),
            marks => text.len() - WORD_BYTES + first_of(marks),
        },
        None => text
            .iter()
            .position(|byte| is_marked(*byte))
            .unwrap_or(text.len()),
    }
}

fn is_marked(byte: u8) -> bool {
    byte < b' ' || matches!(byte, b'"' | b'\\')
}

/// Bytes that don't stand for themselves, by their highest bits. Only the first is told for sure: what is taken from it may
/// be borrowed from the bytes behind it.
#[inline]
fn marks(word: [u8; WORD_BYTES]) -> u64 {
    let word = u64::from_le_bytes(word);
    let below = |word: u64, limits: u64| word.wrapping_sub(limits) & !word;
    let quotes = below(word ^ QUOTES, ONES);
    let backslashes = below(word ^ BACKSLASHES, ONES);
    (quotes | backslashes | below(word, SPACES)) & HIGH_BITS
}

#[inline]
fn first_of(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize
}

/// Not of the usual kind: serde_json is to do it.
#[derive(Debug)]
pub struct Unusual;

impl fmt::Display for Unusual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("for serde_json to do")
    }
}

impl std::error::Error for Unusual {}

impl de::Error for Unusual {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Unusual
    }
}

impl ser::Error for Unusual {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Unusual
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_by_one(text: &[u8]) -> usize {
        text.iter().take_while(|byte| !is_marked(**byte)).count()
    }

    #[test]
    fn any_byte_at_any_place_in_any_company() {
        // What a byte may borrow from, or lend to.
        let company = [
            0x00, 0x01, 0x1f, 0x20, 0x21, 0x22, 0x23, 0x5b, 0x5c, 0x5d, 0x7f, 0x80, 0xa0, 0xa2,
            0xff,
        ];
        for length in 1..=19 {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    for other in company {
                        let mut text = vec![b'a'; length];
                        text[at] = byte;
                        if let Some(next) = text.get_mut(at + 1) {
                            *next = other;
                        }
                        assert_eq!(count(&text), one_by_one(&text), "{text:?}");
                        text[..at].fill(0xe9);
                        assert_eq!(count(&text), one_by_one(&text), "{text:?}");
                    }
                }
            }
        }
        assert_eq!(count(b""), 0);
    }

    #[test]
    fn it_is_what_serde_json_leaves_as_it_is() {
        for byte in '\0'..='\u{ff}' {
            let written = serde_json::to_string(&byte).unwrap();
            let stands = written == format!("\"{byte}\"");
            let mut text = [0; 2];
            let text = byte.encode_utf8(&mut text).as_bytes();
            assert_eq!(count(text) == text.len(), stands, "{byte:?}");
        }
    }
}
