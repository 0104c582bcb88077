//! Where a line ends: most lines are short, and their LF is found sooner by looking at eight bytes at a time right here than
//! by a search that is made for long ones.

use memchr::memchr;

/// As many bytes as are looked at together.
const WORD_BYTES: usize = size_of::<u64>();
/// Behind this, a search for long ones takes over.
const NEAR_BYTES: usize = 6 * WORD_BYTES;

/// A one, an LF, and a highest bit in each byte of a word.
const ONES: u64 = u64::MAX / 255;
const LINE_FEEDS: u64 = ONES * b'\n' as u64;
const HIGH_BITS: u64 = ONES * 0x80;

/// Where the first LF is.
#[inline]
pub(crate) fn find(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < NEAR_BYTES
        && let Some(word) = bytes[at..].first_chunk()
    {
        if let Some(place) = find_in(*word) {
            return Some(at + place);
        }
        at += WORD_BYTES;
    }
    match bytes.last_chunk() {
        _ if at == bytes.len() => None,
        _ if at >= NEAR_BYTES => memchr(b'\n', &bytes[at..]).map(|place| at + place),
        // The bytes of it that were looked at already have none.
        Some(word) => find_in(*word).map(|place| bytes.len() - WORD_BYTES + place),
        None => bytes.iter().position(|byte| *byte == b'\n'),
    }
}

#[inline]
fn find_in(word: [u8; WORD_BYTES]) -> Option<usize> {
    let word = u64::from_le_bytes(word) ^ LINE_FEEDS;
    // The first mark is one for sure; those behind it may be made by what is borrowed for it.
    let marks = word.wrapping_sub(ONES) & !word & HIGH_BITS;
    (marks != 0).then(|| (marks.trailing_zeros() / 8) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_first_one_wherever_it_is_and_whatever_is_around_it() {
        for length in 0..2 * NEAR_BYTES {
            for around in [0, b'\n' - 1, b'\n' + 1, b'a', 0x8a, 0xff] {
                let mut bytes = vec![around; length];
                assert_eq!(find(&bytes), None, "{around} {length}");
                // From the last place on, so that there are others behind the first.
                for at in (0..length).rev() {
                    bytes[at] = b'\n';
                    assert_eq!(find(&bytes), Some(at), "{around} {length}");
                }
            }
        }
    }
}
