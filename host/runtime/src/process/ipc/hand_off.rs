//! The terms of a hand-off, and what is handed back, as they cross. Pure data.

use super::{split_u32, split_u64};

/// Stands for a time where there is none.
const NO_PANIC: u64 = u64::MAX;

/// What stands before what is handed back: a time (u64) and two lengths (u32).
const HEAD_BYTES: usize = 16;

/// What a worker is told of a hand-off.
#[derive(Debug, PartialEq, Eq)]
pub struct Terms {
    pub(crate) slot: u32,
    pub guest: u64,
    /// The longest line that it may send.
    pub(crate) line_bytes_max: u64,
    /// The number of its socket among all of the system's, since descriptors may come with another frame than their own.
    pub inode: u64,
}

/// What it hands back: what the guest is still owed, in this order, with what its daemon has emitted between the two.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HandedBack {
    /// Whether its last command has panicked, and how long that took (ns).
    pub(crate) panicked_ns: Option<u64>,
    /// Replies, or the rest of one, that are not yet written.
    pub replies: Vec<u8>,
    /// The reply of a command that has emitted something, or panicked.
    pub last: Vec<u8>,
    /// What the guest has sent that is not answered.
    pub rest: Vec<u8>,
}

impl Terms {
    pub fn of(slot: usize, guest: u64, line_bytes_max: usize, inode: u64) -> Self {
        Terms {
            // There are a thousand.
            slot: u32::try_from(slot).unwrap_or_default(),
            guest,
            line_bytes_max: line_bytes_max as u64,
            inode,
        }
    }

    pub fn payload(&self) -> [u8; 28] {
        let mut payload = [0; 28];
        payload[..4].copy_from_slice(&self.slot.to_le_bytes());
        payload[4..12].copy_from_slice(&self.guest.to_le_bytes());
        payload[12..20].copy_from_slice(&self.line_bytes_max.to_le_bytes());
        payload[20..].copy_from_slice(&self.inode.to_le_bytes());
        payload
    }

    pub fn read(payload: &[u8]) -> Self {
        let (slot, rest) = split_u32(payload);
        let (guest, rest) = split_u64(rest);
        let (line_bytes_max, rest) = split_u64(rest);
        let (inode, _) = split_u64(rest);
        Terms {
            slot,
            guest,
            line_bytes_max,
            inode,
        }
    }
}

impl HandedBack {
    /// How many bytes of replies come with it.
    pub(crate) fn unread(&self) -> usize {
        self.replies.len() + self.last.len()
    }

    /// As parts of a payload, behind the head that is made here.
    pub fn head(&self) -> [u8; HEAD_BYTES] {
        // Both are bounded by what a worker keeps of a guest and a reply's limit.
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        let mut head = [0; HEAD_BYTES];
        let panicked_ns = self.panicked_ns.unwrap_or(NO_PANIC);
        head[..8].copy_from_slice(&panicked_ns.to_le_bytes());
        head[8..12].copy_from_slice(&length(&self.replies));
        head[12..].copy_from_slice(&length(&self.last));
        head
    }

    /// `None` where the lengths are not those of the payload.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (head, rest) = payload.split_first_chunk::<HEAD_BYTES>()?;
        let (panicked_ns, lengths) = split_u64(head);
        let (replies, last) = split_u32(lengths);
        let (last, _) = split_u32(last);
        let (replies, rest) = rest.split_at_checked(replies as usize)?;
        let (last, rest) = rest.split_at_checked(last as usize)?;
        Some(HandedBack {
            panicked_ns: (panicked_ns != NO_PANIC).then_some(panicked_ns),
            replies: replies.to_vec(),
            last: last.to_vec(),
            rest: rest.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_comes_out_and_what_is_cut_off_is_nothing() {
        let terms = Terms {
            slot: 3,
            guest: 1 << 40,
            line_bytes_max: 7,
            inode: 1 << 33,
        };
        assert_eq!(Terms::read(&terms.payload()), terms);
        let back = HandedBack {
            panicked_ns: Some(5),
            replies: b"a".to_vec(),
            last: b"bc".to_vec(),
            rest: b"def".to_vec(),
        };
        let payload = [&back.head()[..], b"abcdef"].concat();
        assert_eq!(HandedBack::read(&payload).as_ref(), Some(&back));
        assert_eq!(HandedBack::read(&payload[..payload.len() - 4]), None);
        assert_eq!(HandedBack::read(&[]), None);
    }
}
