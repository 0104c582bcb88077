//! Finds text that a JSON string holds unchanged, a block of bytes at a time. Also defines the error by which a fast
//! reader or writer gives up.
//!
//! Most strings hold no quote, no backslash and no control character. They are read and written without a check of each
//! byte by itself. All other strings are left to serde_json. The loops over a block have no early exit, so that
//! compilers turn them into vector comparisons.

use std::fmt;

use serde::{de, ser};

/// The number of bytes that are checked together.
const BLOCK_BYTES: usize = 16;

/// Returns how many bytes at the start of `text` a JSON string holds unchanged.
#[inline]
pub fn count(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(block) = text[at..].first_chunk::<BLOCK_BYTES>() {
        if is_marked(block) {
            return at + first_mark(*block);
        }
        at += BLOCK_BYTES;
    }
    if at == text.len() {
        return at;
    }
    match text.last_chunk::<BLOCK_BYTES>() {
        // The bytes of this block that were already checked are not marked.
        Some(block) if !is_marked(block) => text.len(),
        Some(block) => text.len() - BLOCK_BYTES + first_mark(*block),
        None => count_few(text),
    }
}

/// Does the same as [`count`] for less than a block.
#[inline]
fn count_few(text: &[u8]) -> usize {
    let mut block = [b' '; BLOCK_BYTES];
    block[..text.len()].copy_from_slice(text);
    match is_marked(&block) {
        false => text.len(),
        true => first_mark(block),
    }
}

#[inline(always)]
fn is_marked(block: &[u8; BLOCK_BYTES]) -> bool {
    // Returns zero for a byte that a JSON string doesn't hold unchanged.
    let left = |byte: u8| {
        let (quote, backslash) = (byte ^ b'"', byte ^ b'\\');
        quote.min(backslash).min(byte.saturating_sub(b' ' - 1))
    };
    block
        .iter()
        .fold(false, |any, byte| any | (left(*byte) == 0))
}

/// Returns whether a JSON string holds all of `text` unchanged.
#[inline]
pub fn is_all(text: &[u8]) -> bool {
    match text.last_chunk() {
        // If the length isn't a multiple of a block, the last block overlaps the one before it.
        Some(last) => {
            let mut blocks = text.chunks_exact(BLOCK_BYTES);
            let is_marked_chunk = |chunk: &[u8]| chunk.first_chunk().is_some_and(is_marked);
            !is_marked(last) && !blocks.any(is_marked_chunk)
        }
        None => count_few(text) == text.len(),
    }
}

/// Returns the index of the first byte of a marked block that a JSON string doesn't hold unchanged.
#[inline(always)]
fn first_mark(block: [u8; BLOCK_BYTES]) -> usize {
    const ONES: u128 = u128::MAX / 255;
    let block = u128::from_le_bytes(block);
    // The first mark is correct. Marks after it may be false, because of the borrow in its subtraction.
    let below = |block: u128, limits: u128| block.wrapping_sub(limits) & !block;
    let quotes = below(block ^ (ONES * u128::from(b'"')), ONES);
    let backslashes = below(block ^ (ONES * u128::from(b'\\')), ONES);
    let controls = below(block, ONES * u128::from(b' '));
    let marks = (quotes | backslashes | controls) & (ONES * 0x80);
    (marks.trailing_zeros() / 8) as usize
}

/// The error for a value that must be left to serde_json.
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
        let stands = |byte: &&u8| **byte >= b' ' && !matches!(**byte, b'"' | b'\\');
        text.iter().take_while(stands).count()
    }

    #[test]
    fn any_byte_at_any_place_in_any_company() {
        // Bytes next to the tested one, between which the subtraction may borrow.
        let company = [
            0x00, 0x01, 0x1f, 0x20, 0x21, 0x22, 0x23, 0x5b, 0x5c, 0x5d, 0x7f, 0x80, 0xa0, 0xa2,
            0xff,
        ];
        for length in [1, 2, 3, 15, 16, 17, 31, 32, 33] {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    for other in company {
                        let mut text = vec![b'a'; length];
                        text[at] = byte;
                        if let Some(next) = text.get_mut(at + 1) {
                            *next = other;
                        }
                        assert_eq!(count(&text), one_by_one(&text), "{text:?}");
                        assert_eq!(is_all(&text), one_by_one(&text) == length, "{text:?}");
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
