//! Reservations for the commands whose replies are made one at a time.
//!
//! A reply's size is known only once the reply is made, and several threads serve guests. So two kinds of commands hold
//! a reservation while their code runs, and others of the same kind wait for it: a command that has returned a bulk,
//! and the first run of each command of an instance. Without reservations, guests that ask for a large reply at the
//! same moment would all have it made at the same moment.
//!
//! A reservation lapses after a time, so that a handler that never returns doesn't keep other guests waiting forever.
//! Then another bulk may be made beside the first. A command whose first run takes that long needs no more
//! reservations.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::ReplyBudget;
use dae_store::lock::lock;

/// The time after which the reservation for a command's first run lapses. It is short, since other guests that call the
/// same command wait for it.
const UNTRIED_MAX: Duration = Duration::from_secs(2);
/// The time after which the reservation for a bulk lapses. A debug build on a busy machine takes about 1 s per 10 MB.
const BULK_MAX: Duration = Duration::from_secs(10);

/// A kind of reply that is made one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplyKind {
    /// A bulk, of any command.
    Bulk,
    /// The first reply of this command.
    First(u32),
}

impl ReplyKind {
    fn lapses_after(self) -> Duration {
        match self {
            ReplyKind::Bulk => BULK_MAX,
            ReplyKind::First(_) => UNTRIED_MAX,
        }
    }
}

/// The reservations of a reply budget.
#[derive(Debug, Default)]
pub(super) struct Reservations {
    held: Vec<HeldReservation>,
    /// The number of the last reservation.
    last: u64,
}

#[derive(Debug)]
struct HeldReservation {
    kind: ReplyKind,
    number: u64,
    lapses: Instant,
    /// True if a timer will wake the waiting guests when the reservation lapses.
    has_alarm: bool,
}

impl Reservations {
    /// Returns the reservation of this kind that is held at the time `now`.
    fn held_by(&mut self, kind: ReplyKind, now: Instant) -> Option<&mut HeldReservation> {
        let is_it = |held: &&mut HeldReservation| held.kind == kind && held.lapses > now;
        self.held.iter_mut().find(is_it)
    }

    /// Returns whether a reservation of this kind is held and has lapsed at the time `now`.
    fn has_lapsed(&self, kind: ReplyKind, now: Instant) -> bool {
        let is_it = |held: &HeldReservation| held.kind == kind && held.lapses <= now;
        self.held.iter().any(is_it)
    }

    /// Takes a reservation of this kind and returns its number.
    ///
    /// # Errors
    /// It is taken. The first caller gets the time when it lapses, and sets a timer.
    fn take(&mut self, kind: ReplyKind, now: Instant) -> Result<u64, Option<Instant>> {
        if let Some(held) = self.held_by(kind, now) {
            let is_first = !std::mem::replace(&mut held.has_alarm, true);
            return Err(is_first.then_some(held.lapses));
        }
        self.last += 1;
        self.held.push(HeldReservation {
            kind,
            number: self.last,
            lapses: now + kind.lapses_after(),
            has_alarm: false,
        });
        Ok(self.last)
    }

    /// Gives a reservation back. Returns whether others may wait for it.
    fn give_back(&mut self, number: u64) -> bool {
        let at = self.held.iter().position(|held| held.number == number);
        at.is_some_and(|at| self.held.swap_remove(at).has_alarm)
    }
}

/// The right to make a reply of a kind that is made one at a time. Dropping it gives it back and wakes waiting guests.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<ReplyBudget>,
    number: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let is_wanted = lock(&self.budget.waits).reservations.give_back(self.number);
        if is_wanted {
            self.budget.wake_all();
            self.budget.released.notify_one();
        }
    }
}

/// The error if another command holds the reservation.
#[derive(Debug)]
pub(crate) struct ReservationBusy;

impl ReplyBudget {
    /// Takes the reservation that `command` needs to make its reply. Returns `None` if it needs none.
    ///
    /// # Errors
    /// Another command holds it. Tasks registered with [`ReplyBudget::want`] are woken when it is given back or lapses.
    pub fn reserve(
        self: &Arc<Self>,
        command: u32,
    ) -> Result<Option<Arc<Reservation>>, ReservationBusy> {
        let mut waits = lock(&self.waits);
        let Some(kind) = self.kind(&waits, command) else {
            return Ok(None);
        };
        let now = Instant::now();
        if kind == ReplyKind::First(command) && waits.reservations.has_lapsed(kind, now) {
            self.set_unguarded(command);
            return Ok(None);
        }
        let taken = waits.reservations.take(kind, now);
        drop(waits);
        match taken {
            Ok(number) => Ok(Some(Arc::new(Reservation {
                budget: Arc::clone(self),
                number,
            }))),
            Err(lapses) => {
                if let Some(lapses) = lapses {
                    self.wake_at(lapses);
                }
                Err(ReservationBusy)
            }
        }
    }

    /// Returns whether `command` would have to wait for a reservation. If so, tasks registered with
    /// [`ReplyBudget::want`] are woken when it is given back or lapses.
    pub(crate) fn is_reserved(self: &Arc<Self>, command: u32) -> bool {
        let mut waits = lock(&self.waits);
        let Some(kind) = self.kind(&waits, command) else {
            return false;
        };
        let held = waits.reservations.held_by(kind, Instant::now());
        let Some(held) = held else {
            return false;
        };
        let lapses = (!std::mem::replace(&mut held.has_alarm, true)).then_some(held.lapses);
        drop(waits);
        if let Some(lapses) = lapses {
            self.wake_at(lapses);
        }
        true
    }

    /// Waits until a reservation that was refused before is given back or lapses. Returns at once if that happened
    /// before this call. Only one task may wait.
    pub(crate) async fn released(&self) {
        self.released.notified().await;
    }

    /// Wakes the waiting tasks when a reservation lapses, since it may never be given back.
    fn wake_at(self: &Arc<Self>, lapses: Instant) {
        let budget = Arc::downgrade(self);
        // A runtime serves the guests; without one nobody waits.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep_until(lapses.into()).await;
                if let Some(budget) = budget.upgrade() {
                    budget.wake_all();
                    budget.released.notify_one();
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BULKY: u32 = 7;

    #[test]
    fn the_first_replies_of_a_command_are_made_one_at_a_time() {
        let budget = Arc::new(ReplyBudget::default());
        assert!(budget.asks(3) && budget.asks(100_000));
        let first = budget.reserve(3).expect("nobody runs it");
        assert!(first.is_some());
        assert!(budget.reserve(3).is_err() && budget.is_reserved(3));
        let other = budget.reserve(4).expect("another command");
        drop((first, other));
        assert!(!budget.is_reserved(3));
        budget.note(3, 0, 1);
        assert!(!budget.asks(3), "it has ended once");
        assert!(budget.reserve(3).expect("nothing to reserve").is_none());
        budget.begin_anew();
        assert!(budget.asks(3), "another instance may be of other code");
    }

    #[test]
    fn bulks_are_made_one_at_a_time_whichever_command_gives_them() {
        let budget = Arc::new(ReplyBudget::default());
        for command in [BULKY, BULKY + 1] {
            budget.note(command, 0, 100 << 20);
        }
        assert!(budget.asks(BULKY));
        budget.note(1, 0, 1);
        assert!(!budget.asks(1), "it never gave a bulk");
        let bulk = budget.reserve(BULKY).expect("free");
        assert!(budget.reserve(BULKY + 1).is_err());
        drop(bulk);
        assert!(budget.reserve(BULKY + 1).is_ok());
    }

    #[test]
    fn a_first_run_that_takes_long_is_waited_for_once() {
        let budget = Arc::new(ReplyBudget::default());
        let first = budget.reserve(3).expect("nobody runs it");
        assert!(budget.reserve(3).is_err());
        for held in &mut lock(&budget.waits).reservations.held {
            held.lapses = Instant::now();
        }
        for _ in 0..2 {
            assert!(!budget.is_reserved(3));
            assert!(budget.reserve(3).expect("no wait").is_none());
        }
        assert!(!budget.asks(3));
        drop(first);
    }

    #[test]
    fn a_reservation_that_is_not_given_back_lapses() {
        let mut reservations = Reservations::default();
        let now = Instant::now();
        let first = reservations.take(ReplyKind::Bulk, now).expect("free");
        assert_eq!(
            reservations.take(ReplyKind::Bulk, now),
            Err(Some(now + BULK_MAX))
        );
        assert_eq!(
            reservations.take(ReplyKind::Bulk, now),
            Err(None),
            "reported once"
        );
        let second = reservations
            .take(ReplyKind::Bulk, now + BULK_MAX)
            .expect("lapsed");
        assert!(reservations.give_back(first));
        assert!(
            reservations
                .held_by(ReplyKind::Bulk, now + BULK_MAX)
                .is_some(),
            "the second one's"
        );
        assert!(!reservations.give_back(second), "nobody waits");
    }

    #[test]
    fn a_task_that_sees_a_reservation_held_is_woken_when_it_is_given_back() {
        use std::sync::atomic::{AtomicBool, Ordering};
        use std::task::{Context, Wake, Waker};

        #[derive(Default)]
        struct Woken(AtomicBool);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::SeqCst);
            }
        }

        let budget = Arc::new(ReplyBudget::default());
        let first = budget.reserve(3).expect("nobody runs it");
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        budget.want(&Context::from_waker(&waker));
        assert!(budget.is_reserved(3) && !woken.0.load(Ordering::SeqCst));
        drop(first);
        assert!(woken.0.load(Ordering::SeqCst));
    }
}
