//! Numbers and texts at the front of a payload, as they cross between a plugin, its worker and the host.

/// Splits a number off the front of a payload. The number is 0 if there are too few bytes.
pub(crate) fn split_u64(bytes: &[u8]) -> (u64, &[u8]) {
    match bytes.split_first_chunk::<8>() {
        Some((number, rest)) => (u64::from_le_bytes(*number), rest),
        None => (0, &[]),
    }
}

/// Splits a number off the front of a payload. The number is 0 if there are too few bytes.
pub(crate) fn split_u32(bytes: &[u8]) -> (u32, &[u8]) {
    match bytes.split_first_chunk::<4>() {
        Some((number, rest)) => (u32::from_le_bytes(*number), rest),
        None => (0, &[]),
    }
}

/// Splits off as many bytes as the number at the front of a payload says. Returns `None` if there are fewer.
pub(crate) fn split_sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = split_u64(bytes);
    rest.split_at_checked(usize::try_from(length).unwrap_or(usize::MAX))
}
