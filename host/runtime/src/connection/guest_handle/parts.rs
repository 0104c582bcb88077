//! The parts of replies on their way to a guest that has asked for them.
//!
//! A part waits in the guest's queue, in front of the reply that it belongs to. The queue takes a part only while little
//! waits in it: until then the daemon's code waits for the guest to read. So parts never make a guest slow, and a stream
//! without end costs a bounded amount of memory. A guest may have many streams, each with a part that waits. They count
//! among what is queued for all guests of the daemon. Once that is too much, a guest may have one waiting part, or as many
//! as its even share holds; a further one is refused, and ends its stream.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dae_common_tcp::{Part, write_part};
use tokio::sync::Notify;

use super::{GuestHandle, PUSHED_BYTES_MAX, next_id};
use dae_store::lock::lock;

/// The bytes in a guest's queue beyond which parts wait. A few parts of usual size fit, so that the daemon's code makes
/// the next ones while these are written.
const AHEAD_BYTES_MAX: usize = 64 << 10;

/// The parts of a guest. A guest that never asks for parts has none of this.
#[derive(Debug, Default)]
pub(super) struct GuestParts {
    /// True while the guest asks for parts.
    is_wanted: AtomicBool,
    calls: Mutex<HashMap<u64, PartedCall>>,
    /// Notified when the queue may have room, and when the guest leaves.
    room: Notify,
    /// The bytes of the lines that wait for room.
    waiting: AtomicUsize,
}

/// The bytes of a line that waits for room, until it is dropped.
struct WaitingPart<'g> {
    guest: &'g GuestHandle,
    parts: &'g GuestParts,
    bytes: usize,
}

impl Drop for WaitingPart<'_> {
    fn drop(&mut self) {
        self.parts.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
        self.guest.all.change(self.bytes, 0);
    }
}

/// A running command whose caller takes parts.
#[derive(Debug)]
struct PartedCall {
    name: Box<str>,
    tag: Box<str>,
    /// The time of its last part, if there was one.
    last: Option<Instant>,
}

/// The entry of a running command whose caller takes parts. It ends with the command.
#[derive(Debug)]
pub(crate) struct PartsTicket {
    guest: Arc<GuestHandle>,
    number: u64,
}

/// An item on its way to a guest, as the daemon has sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentPart<'a> {
    /// The guest.
    pub guest: u64,
    /// The number of the call.
    pub call: u64,
    /// True for a report of progress.
    pub is_progress: bool,
    /// The item, JSON.
    pub item: &'a [u8],
}

/// The end of a part's wait for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PartWait {
    /// The queue has taken it.
    Taken,
    /// The call has ended, or the guest has left.
    Gone,
    /// Too much waits already.
    Refused,
}

/// The outcome of offering a part to a guest's queue.
pub(crate) enum PartOffer {
    /// The queue has taken it.
    Taken,
    /// The queue has no room; this is the line.
    Full(Vec<u8>),
    /// The call has ended, or the guest has left.
    Gone,
}

impl PartsTicket {
    /// Returns the number of the call.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Returns how much of `limit` is left since the last part; `None` if there was no part, or nothing is left.
    pub(crate) fn left(&self, limit: Duration) -> Option<Duration> {
        let parts = self.guest.parts.get()?;
        let last = lock(&parts.calls).get(&self.number)?.last?;
        let left = limit.checked_sub(last.elapsed())?;
        (!left.is_zero()).then_some(left)
    }
}

impl Drop for PartsTicket {
    fn drop(&mut self) {
        if let Some(parts) = self.guest.parts.get() {
            lock(&parts.calls).remove(&self.number);
            // A part that still waits for room is refused now.
            parts.room.notify_waiters();
        }
    }
}

impl GuestHandle {
    /// Notes whether the guest asks for parts.
    pub(crate) fn want_parts(&self, wants: bool) {
        if wants || self.parts.get().is_some() {
            let parts = self.parts.get_or_init(Box::default);
            parts.is_wanted.store(wants, Ordering::Relaxed);
        }
    }

    /// Enters a command with that name and tag, if the guest asks for parts.
    pub(crate) fn enter_parts(self: &Arc<Self>, name: &str, tag: &str) -> Option<PartsTicket> {
        let parts = self.parts.get()?;
        if !parts.is_wanted.load(Ordering::Relaxed) {
            return None;
        }
        let number = next_id();
        let call = PartedCall {
            name: name.into(),
            tag: tag.into(),
            last: None,
        };
        lock(&parts.calls).insert(number, call);
        let guest = Arc::clone(self);
        Some(PartsTicket { guest, number })
    }

    /// Offers a part to the guest's queue.
    pub(crate) fn offer_part(&self, part: SentPart<'_>) -> PartOffer {
        match self.part_line(part) {
            Some(line) => self.offer_line(part.call, line),
            None => PartOffer::Gone,
        }
    }

    /// Waits until the queue has taken the line of a part, or the call ends, or the guest leaves. Refuses it at once if too
    /// much waits.
    pub(crate) async fn wait_for_room(self: Arc<Self>, call: u64, mut line: Vec<u8>) -> PartWait {
        let Some(parts) = self.parts.get() else {
            return PartWait::Gone;
        };
        let waiting = self.hold_waiting(parts, line.len());
        if self.waits_too_much(&waiting) {
            return PartWait::Refused;
        }
        loop {
            let mut room = std::pin::pin!(parts.room.notified());
            // Enabled before the check, so that room in between isn't missed.
            room.as_mut().enable();
            match self.offer_line(call, line) {
                PartOffer::Taken => return PartWait::Taken,
                PartOffer::Gone => return PartWait::Gone,
                PartOffer::Full(unsent) => line = unsent,
            }
            room.await;
        }
    }

    fn hold_waiting<'g>(&'g self, parts: &'g GuestParts, bytes: usize) -> WaitingPart<'g> {
        parts.waiting.fetch_add(bytes, Ordering::Relaxed);
        self.all.change(0, bytes);
        WaitingPart {
            guest: self,
            parts,
            bytes,
        }
    }

    /// Returns whether much is queued for all guests, and more than an even share of it waits with this line.
    fn waits_too_much(&self, line: &WaitingPart<'_>) -> bool {
        let waiting = line.parts.waiting.load(Ordering::Relaxed);
        self.all.bytes.load(Ordering::Relaxed) > PUSHED_BYTES_MAX
            && waiting > line.bytes.max(self.all.share())
    }

    /// Wakes what waits for room in the queue.
    pub(super) fn notify_room(&self) {
        if let Some(parts) = self.parts.get() {
            parts.room.notify_waiters();
        }
    }

    fn offer_line(&self, call: u64, line: Vec<u8>) -> PartOffer {
        let Some(parts) = self.parts.get() else {
            return PartOffer::Gone;
        };
        let mut calls = lock(&parts.calls);
        let Some(call) = calls.get_mut(&call) else {
            return PartOffer::Gone;
        };
        if self.has_left() || self.is_slow() {
            return PartOffer::Gone;
        }
        // A part that is longer than that passes alone.
        let most = self.most(line.len()).min(AHEAD_BYTES_MAX.max(line.len()));
        if !self.pushed.offer_within(&line, most) {
            return PartOffer::Full(line);
        }
        self.all.bytes.fetch_add(line.len() + 1, Ordering::Relaxed);
        call.last = Some(Instant::now());
        PartOffer::Taken
    }

    /// Returns the line of a part, without its LF; `None` if the call has ended.
    fn part_line(&self, part: SentPart<'_>) -> Option<Vec<u8>> {
        let calls = lock(&self.parts.get()?.calls);
        let call = calls.get(&part.call)?;
        let mut line = Vec::with_capacity(part.item.len() + 64);
        let part = Part {
            command: &call.name,
            tag: &call.tag,
            is_progress: part.is_progress,
            item: part.item,
        };
        write_part(&mut line, part);
        line.pop();
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::super::Guests;
    use super::*;

    fn part(of: &PartsTicket, item: &'static [u8]) -> SentPart<'static> {
        SentPart {
            guest: of.guest.id(),
            call: of.number(),
            is_progress: false,
            item,
        }
    }

    #[test]
    fn a_guest_gets_parts_while_it_asks_for_them() {
        let guest = Guests::default().enter();
        assert!(guest.enter_parts("count", "7").is_none());
        guest.want_parts(true);
        let ticket = guest.enter_parts("count", "7").expect("it asks");
        assert!(ticket.left(Duration::MAX).is_none(), "no part yet");
        let offered = guest.offer_part(part(&ticket, b"1"));
        assert!(matches!(offered, PartOffer::Taken));
        assert!(ticket.left(Duration::MAX).is_some());
        let mut outbox = Vec::new();
        guest.take_into(&mut outbox);
        assert_eq!(outbox, b"part#7 [{\"command\":\"count\",\"item\":1}]\n");
        guest.want_parts(false);
        assert!(guest.enter_parts("count", "7").is_none());
    }

    #[test]
    fn a_part_waits_for_room_and_its_guest_is_never_slow() {
        static LONG: [u8; 40 << 10] = [b'1'; 40 << 10];
        let guests = Guests::default();
        let guest = guests.enter();
        guest.want_parts(true);
        let ticket = guest.enter_parts("count", "7").expect("it asks");
        assert!(matches!(
            guest.offer_part(part(&ticket, &LONG)),
            PartOffer::Taken
        ));
        let PartOffer::Full(line) = guest.offer_part(part(&ticket, &LONG)) else {
            panic!("the queue has no room")
        };
        let call = ticket.number();
        let mut first = Box::pin(Arc::clone(&guest).wait_for_room(call, line.clone()));
        let mut second = Box::pin(Arc::clone(&guest).wait_for_room(call, line));
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        guest.take_into(&mut Vec::new());
        assert_eq!((&mut first).now_or_never(), Some(PartWait::Taken));
        assert!((&mut second).now_or_never().is_none() && !guest.is_slow());
        drop(ticket);
        assert_eq!(
            (&mut second).now_or_never(),
            Some(PartWait::Gone),
            "its command has ended"
        );
    }

    #[test]
    fn a_part_for_a_guest_that_has_left_is_refused() {
        let guests = Guests::default();
        let guest = guests.enter();
        guest.want_parts(true);
        let ticket = guest.enter_parts("count", "7").expect("it asks");
        guests.leave(guest.id());
        assert!(matches!(
            guest.offer_part(part(&ticket, b"1")),
            PartOffer::Gone
        ));
    }

    #[test]
    fn what_waits_for_one_guest_is_bounded_and_others_are_not_refused() {
        const ITEM_BYTES: usize = 1 << 20;
        static ITEM: [u8; ITEM_BYTES] = [b'1'; ITEM_BYTES];
        let guests = Guests::default();
        let [greedy, modest] = [guests.enter(), guests.enter()];
        let waiting_of = |guest: &Arc<GuestHandle>| {
            guest.want_parts(true);
            let ticket = guest.enter_parts("count", "7").expect("it asks");
            loop {
                if let PartOffer::Full(line) = guest.offer_part(part(&ticket, &ITEM)) {
                    let call = ticket.number();
                    return (ticket, Arc::clone(guest).wait_for_room(call, line));
                }
            }
        };
        let mut waits = Vec::new();
        let refused = (0..1000).find_map(|_| {
            let (ticket, wait) = waiting_of(&greedy);
            let mut wait = Box::pin(wait);
            let ended = (&mut wait).now_or_never();
            waits.push((ticket, wait));
            ended
        });
        assert_eq!(refused, Some(PartWait::Refused));
        let held = waits.len() * ITEM_BYTES;
        assert!(held <= PUSHED_BYTES_MAX + 2 * ITEM_BYTES, "{held}");
        let (_ticket, wait) = waiting_of(&modest);
        let mut wait = Box::pin(wait);
        assert_eq!((&mut wait).now_or_never(), None, "its first one waits");
        // Their bytes count no more.
        drop(waits);
        let left = modest.all.bytes.load(Ordering::Relaxed);
        assert!(left <= 4 * ITEM_BYTES, "{left}");
    }
}
