//! Reports to a subprocess of what guests have read of its replies: it makes no more than the reply budget allows.
//!
//! The subprocess counts what it has sent for each guest. The host adds up what guests have read, or never will read.
//! It reports that at once while the subprocess wants it, and otherwise when the subprocess asks, or when there are reports
//! of many guests.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use super::{Link, lock};
use crate::process::ipc::FrameKind;
use crate::process::ipc::batch::Entries;

/// The number of guests from which reports are sent unasked. Guests come and go, and each of them leaves a number here and
/// in the subprocess.
const GUESTS_MAX: usize = 1024;

/// The bytes that guests have read and that were not reported.
#[derive(Debug, Default)]
pub(super) struct ReadCredit {
    by_guest: Mutex<HashMap<u64, usize>>,
    /// True while the subprocess wants reports at once.
    is_wanted: AtomicBool,
}

impl ReadCredit {
    /// Adds bytes of a guest. Returns whether a report is due.
    fn add(&self, guest: u64, bytes: usize) -> bool {
        let guests = {
            let mut by_guest = lock(&self.by_guest);
            *by_guest.entry(guest).or_default() += bytes;
            by_guest.len()
        };
        // After the addition: `want_reads` first sets the flag, and then reports what was added before.
        guests >= GUESTS_MAX || self.is_wanted.load(Ordering::SeqCst)
    }
}

impl Link {
    /// Records that a guest has read this many bytes of its replies, or that they never will be read.
    pub(super) fn has_read(&self, guest: u64, bytes: usize) {
        if bytes > 0 && guest > 0 && self.reads.add(guest, bytes) {
            self.tell_reads();
        }
    }

    /// Lets that batch or call go on despite the reply budget.
    pub(super) fn go_on(&self, id: u64) {
        lock(&self.outgoing).put(FrameKind::GoOn, id, &[]);
        self.flush();
    }

    /// Records whether the subprocess wants reports at once.
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

/// The number of bytes that one guest has taken of a subprocess's replies, and has not read. Dropping it counts them as
/// read.
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

    /// Returns whether it belongs to that subprocess.
    pub(super) fn is_of(&self, link: &Arc<Link>) -> bool {
        std::ptr::eq(self.link.as_ptr(), Arc::as_ptr(link))
    }

    /// Adds bytes that the guest has taken.
    pub fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Returns whether all is read.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Counts all bytes as read.
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

/// Returns how many bytes the replies in these entries have.
pub fn bytes_of(entries: &[u8]) -> usize {
    Entries(entries).map(|(_, bytes)| bytes.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_that_come_and_go_leave_a_bounded_number_of_reports() {
        let credit = ReadCredit::default();
        let due = (1..).find(|guest| credit.add(*guest, 1));
        assert_eq!(due, Some(GUESTS_MAX as u64));
        let few = ReadCredit::default();
        assert!(
            (0..2 * GUESTS_MAX).all(|_| !few.add(1, 1)),
            "one guest alone"
        );
        few.is_wanted.store(true, Ordering::SeqCst);
        assert!(few.add(1, 1), "a report that is wanted");
    }
}
