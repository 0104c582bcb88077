//! What guests have read of a child's replies, for the child to hear: it makes no more than there is room for.
//!
//! The child counts what it has sent for each guest. What a guest has read, or what nobody will, is added up here and told
//! at once while the child waits to hear it; else it is told when the child asks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use super::{Link, lock};
use crate::process::ipc::FrameKind;
use crate::process::ipc::batch::Entries;

/// What was read and the child hasn't heard of.
#[derive(Debug, Default)]
pub(super) struct ReadCredit {
    by_guest: Mutex<HashMap<u64, usize>>,
    /// Whether the child waits to hear of it.
    is_wanted: AtomicBool,
}

impl Link {
    /// That guest has read so many bytes of its replies, or nobody ever will.
    pub(super) fn has_read(&self, guest: u64, bytes: usize) {
        if bytes == 0 || guest == 0 {
            return;
        }
        *lock(&self.reads.by_guest).entry(guest).or_default() += bytes;
        // After that: who sets it looks at what is there behind it.
        if self.reads.is_wanted.load(Ordering::SeqCst) {
            self.tell_reads();
        }
    }

    /// That batch or call goes on, whatever waits.
    pub(super) fn go_on(&self, id: u64) {
        lock(&self.outgoing).put(FrameKind::GoOn, id, &[]);
        self.flush();
    }

    /// The child waits to hear what was read, or doesn't any more.
    pub(super) fn want_reads(&self, is_wanted: bool) {
        self.reads.is_wanted.store(is_wanted, Ordering::SeqCst);
        if is_wanted {
            self.tell_reads();
        }
    }

    fn tell_reads(&self) {
        let reads = std::mem::take(&mut *lock(&self.reads.by_guest));
        let mut outgoing = lock(&self.outgoing);
        for (guest, bytes) in reads {
            outgoing.put(FrameKind::Read, guest, &[&(bytes as u64).to_le_bytes()]);
        }
        drop(outgoing);
        self.flush();
    }
}

/// What one guest has taken of a child's replies, and has not read. Dropped, it counts as read.
pub struct UnreadBytes {
    link: Weak<Link>,
    guest: u64,
    bytes: usize,
}

impl UnreadBytes {
    pub(super) fn of(link: &Arc<Link>, guest: u64) -> Self {
        UnreadBytes {
            link: Arc::downgrade(link),
            guest,
            bytes: 0,
        }
    }

    /// Whether it is of that child.
    pub(super) fn is_of(&self, link: &Arc<Link>) -> bool {
        std::ptr::eq(self.link.as_ptr(), Arc::as_ptr(link))
    }

    /// So much more was taken.
    pub fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Whether all is read.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// All of it is read.
    pub fn settle(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes > 0
            && let Some(link) = self.link.upgrade()
        {
            link.has_read(self.guest, bytes);
        }
    }
}

impl Drop for UnreadBytes {
    fn drop(&mut self) {
        self.settle();
    }
}

/// How many bytes the replies of a run of entries have.
pub fn bytes_of(entries: &[u8]) -> usize {
    Entries(entries).map(|(_, bytes)| bytes.len()).sum()
}
