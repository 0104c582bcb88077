//! Finds line ends. Most lines are short, so a search in small blocks here finds their LF sooner than a search that
//! is made for long lines.
//!
//! The loop over a block has no early exit, so that compilers turn it into one comparison.

use memchr::memchr;

/// The number of bytes that are compared together.
const BLOCK_BYTES: usize = 16;
/// The number of bytes that are searched in blocks. Beyond them, `memchr` takes over.
const SHORT_BYTES_MAX: usize = 4 * BLOCK_BYTES;

/// Returns the index of the first LF.
#[inline(always)]
pub(crate) fn find(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < SHORT_BYTES_MAX
        && let Some(block) = bytes[at..].first_chunk()
    {
        if has(block) {
            return Some(at + first_of(*block));
        }
        at += BLOCK_BYTES;
    }
    memchr(b'\n', &bytes[at..]).map(|place| at + place)
}

/// Returns whether the bytes contain an LF.
#[inline(always)]
pub(crate) fn is_in(bytes: &[u8]) -> bool {
    match bytes.len() {
        BLOCK_BYTES..=SHORT_BYTES_MAX => {
            // If the blocks don't divide the bytes evenly, the last block overlaps the one before it.
            let last = bytes.last_chunk::<BLOCK_BYTES>();
            let (blocks, _) = bytes.as_chunks::<BLOCK_BYTES>();
            blocks.iter().chain(last).any(has)
        }
        8..BLOCK_BYTES => is_at_an_end::<8>(bytes),
        4..8 => is_at_an_end::<4>(bytes),
        _ => memchr(b'\n', bytes).is_some(),
    }
}

/// Returns whether the first or the last `N` bytes contain an LF. The two ranges may overlap.
#[inline(always)]
fn is_at_an_end<const N: usize>(bytes: &[u8]) -> bool {
    let ends = [bytes.first_chunk::<N>(), bytes.last_chunk()];
    ends.into_iter().flatten().any(has)
}

#[inline(always)]
fn has<const N: usize>(block: &[u8; N]) -> bool {
    let has = |before, byte: &u8| before | (*byte == b'\n');
    block.iter().fold(false, has)
}

/// Returns the index of the first LF in a block that contains one.
#[inline(always)]
fn first_of(block: [u8; BLOCK_BYTES]) -> usize {
    const ONES: u128 = u128::MAX / 255;
    let block = u128::from_le_bytes(block) ^ (ONES * b'\n' as u128);
    // The first mark is always correct. Later marks may be wrong because of the subtraction's borrow.
    let marks = block.wrapping_sub(ONES) & !block & (ONES * 0x80);
    (marks.trailing_zeros() / 8) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_first_one_wherever_it_is_and_whatever_is_around_it() {
        for length in 0..2 * SHORT_BYTES_MAX {
            for around in [0, b'\n' - 1, b'\n' + 1, b'a', 0x8a, 0xff] {
                let mut bytes = vec![around; length];
                assert_eq!((find(&bytes), is_in(&bytes)), (None, false));
                for at in 0..length {
                    bytes[at] = b'\n';
                    assert!(is_in(&bytes), "{around} {length} {at}");
                    bytes[at] = around;
                }
                // Go backwards, so that there are other LFs behind the first.
                for at in (0..length).rev() {
                    bytes[at] = b'\n';
                    assert_eq!(find(&bytes), Some(at), "{around} {length}");
                }
            }
        }
    }
}
