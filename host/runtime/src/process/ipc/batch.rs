//! The encoding of commands that are sent together, and of the replies that come back together.
//!
//! Both are sequences of entries: a number (u32; a command's index, or a reply's status), the length of what follows
//! (u32), and those bytes. The replies of a batch come in the order of its commands, in any number of frames. Nothing
//! here allocates for an entry.

/// The length of an entry's head: its number and its length.
pub(crate) const HEAD_BYTES: usize = 8;

/// Appends an entry.
pub(crate) fn put_entry(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    // As for a frame, everything that is sent was bounded before.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(&number.to_le_bytes());
    head[4..].copy_from_slice(&length.to_le_bytes());
    out.reserve(HEAD_BYTES + bytes.len());
    out.extend_from_slice(&head);
    out.extend_from_slice(bytes);
}

/// Writes the head of an entry into its first bytes, if the entry is long enough.
pub(crate) fn write_head(entry: &mut [u8], number: u32) {
    let length = entry.len().saturating_sub(HEAD_BYTES);
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    if let Some(head) = entry.first_chunk_mut::<HEAD_BYTES>() {
        head[..4].copy_from_slice(&number.to_le_bytes());
        head[4..].copy_from_slice(&length.to_le_bytes());
    }
}

/// Returns the number of entries in these bytes, or `None` if they are not whole entries.
pub fn count(bytes: &[u8]) -> Option<usize> {
    let mut entries = Entries(bytes);
    let count = entries.by_ref().count();
    entries.0.is_empty().then_some(count)
}

/// An iterator over entries. It leaves the bytes after the last whole one.
#[derive(Debug)]
pub struct Entries<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Entries<'a> {
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (head, rest) = self.0.split_first_chunk::<HEAD_BYTES>()?;
        let [a, b, c, d, e, f, g, h] = *head;
        let length = u32::from_le_bytes([e, f, g, h]) as usize;
        let (bytes, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((u32::from_le_bytes([a, b, c, d]), bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_cut_off_or_promises_too_much_is_no_run_of_entries() {
        let mut bytes = Vec::new();
        put_entry(&mut bytes, 1, b"abc");
        assert_eq!(count(&bytes), Some(1));
        assert_eq!(count(&[]), Some(0));
        for cut in 1..bytes.len() {
            assert_eq!(count(&bytes[..cut]), None);
        }
        bytes.extend_from_slice(&[0xff; HEAD_BYTES]);
        assert_eq!(count(&bytes), None);
    }

    proptest! {
        #[test]
        fn what_was_put_comes_out(
            put in proptest::collection::vec((any::<u32>(), proptest::collection::vec(any::<u8>(), 0..50)), 0..20),
        ) {
            let mut bytes = Vec::new();
            for (number, payload) in &put {
                put_entry(&mut bytes, *number, payload);
            }
            prop_assert_eq!(count(&bytes), Some(put.len()));
            let came: Vec<_> = Entries(&bytes).map(|(number, payload)| (number, payload.to_vec())).collect();
            prop_assert_eq!(came, put);
        }
    }
}
