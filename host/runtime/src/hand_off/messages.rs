//! The terms of a hand-off, and the contents of a guest's return, as they are sent. Pure data.

use crate::plugin::payload::{split_u32, split_u64};

/// The value for the absence of a time.
const NO_PANIC: u64 = u64::MAX;

/// The length of the head of a return: a time (u64), the index of a command (u32), and three lengths (u32).
const HEAD_BYTES: usize = 24;

/// The terms of a hand-off, for the worker.
#[derive(Debug, PartialEq, Eq)]
pub struct Terms {
    pub(crate) slot: u32,
    pub guest: u64,
    /// The longest line that the guest may send (bytes).
    pub(crate) line_bytes_max: u64,
    /// The inode of the guest's socket. It identifies the socket, since a descriptor may come with another frame than
    /// its own.
    pub inode: u64,
}

/// The contents of a guest's return. The host sends `replies`, then the lines that the daemon has emitted, then `last`. It
/// owes the reply to `waiting` before those to `rest`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HandedBack {
    /// The last command, if it panicked.
    pub(crate) panicked: Option<PanickedCommand>,
    /// Replies, or the rest of one, that are not yet written.
    pub replies: Vec<u8>,
    /// The reply of a command that has emitted something, or panicked.
    pub last: Vec<u8>,
    /// The line of an async command that has begun and waits; empty if there is none. The worker goes on with it, and sends
    /// its end as that of a call which has the id of the hand-off.
    pub(crate) waiting: Vec<u8>,
    /// The bytes that the guest has sent and that are not answered.
    pub rest: Vec<u8>,
}

/// A command that has panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PanickedCommand {
    /// The index in the command table.
    pub(crate) command: u32,
    /// The time that it took before that (ns).
    pub(crate) took_ns: u64,
}

impl Terms {
    pub fn of(slot: usize, guest: u64, line_bytes_max: usize, inode: u64) -> Self {
        Terms {
            // There are only 1024 slots.
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
    /// Returns how many bytes of replies come with it.
    pub(crate) fn unread(&self) -> usize {
        self.replies.len() + self.last.len()
    }

    /// Returns the head of the payload. The parts `replies`, `last`, `waiting` and `rest` follow it.
    pub fn head(&self) -> [u8; HEAD_BYTES] {
        // All are bounded: by the worker's buffer of replies, by a reply's limit, and by the longest line.
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        let mut head = [0; HEAD_BYTES];
        let panicked = self.panicked.map(|one| (one.took_ns, one.command));
        let (took_ns, command) = panicked.unwrap_or((NO_PANIC, 0));
        head[..8].copy_from_slice(&took_ns.to_le_bytes());
        head[8..12].copy_from_slice(&command.to_le_bytes());
        head[12..16].copy_from_slice(&length(&self.replies));
        head[16..20].copy_from_slice(&length(&self.last));
        head[20..].copy_from_slice(&length(&self.waiting));
        head
    }

    /// Reads a payload. Returns `None` if its lengths do not fit.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (head, rest) = payload.split_first_chunk::<HEAD_BYTES>()?;
        let (took_ns, rest_of_head) = split_u64(head);
        let (command, lengths) = split_u32(rest_of_head);
        let (replies, last) = split_u32(lengths);
        let (last, waiting) = split_u32(last);
        let (waiting, _) = split_u32(waiting);
        let (replies, rest) = rest.split_at_checked(replies as usize)?;
        let (last, rest) = rest.split_at_checked(last as usize)?;
        let (waiting, rest) = rest.split_at_checked(waiting as usize)?;
        Some(HandedBack {
            panicked: (took_ns != NO_PANIC).then_some(PanickedCommand { command, took_ns }),
            replies: replies.to_vec(),
            last: last.to_vec(),
            waiting: waiting.to_vec(),
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
            panicked: Some(PanickedCommand {
                command: 9,
                took_ns: 5,
            }),
            replies: b"a".to_vec(),
            last: b"bc".to_vec(),
            waiting: b"gh".to_vec(),
            rest: b"def".to_vec(),
        };
        let payload = [&back.head()[..], b"abcghdef"].concat();
        assert_eq!(HandedBack::read(&payload).as_ref(), Some(&back));
        assert_eq!(HandedBack::read(&payload[..payload.len() - 4]), None);
        assert_eq!(HandedBack::read(&[]), None);
    }
}
