//! The rounds of a host: one timer for the health of all daemons that are asked as often, however many there are.
//!
//! Ten thousand daemons that rest must not wake ten thousand tasks every few seconds. So a round looks at what runs in the
//! host's process, and calls only upon those supervisors whose daemon has something running, or had at the round before;
//! and upon all whose daemon has a process of its own, since only it can say how it is. All rounds are at multiples of
//! their period from the host's start, so that the machine wakes once for several.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::Notify;

use dae_runtime::instance::Instance;
use dae_runtime::threads::watchdog;
use dae_store::durations;
use dae_store::lock::lock;
use dae_store::report::Mode;
use dae_store::tasks;

/// See the file's head.
#[derive(Debug)]
pub struct HealthTimer {
    /// The host's start.
    since: Instant,
    /// By their period, in milliseconds.
    by_period: Mutex<HashMap<u64, TimerGroup>>,
}

/// Those who are called upon at the same moments, by the numbers of their instances.
#[derive(Debug, Default)]
struct TimerGroup {
    here: HashMap<u64, Arc<Notify>>,
    apart: HashMap<u64, Arc<Notify>>,
    /// Those of which something ran at the round before.
    before: Vec<u64>,
}

/// A supervisor's place in a round, for one instance. Dropped, it is called upon no more.
#[derive(Debug)]
pub(super) struct TimerSlot {
    health_timer: Arc<HealthTimer>,
    every_ms: u64,
    instance: u64,
    call: Arc<Notify>,
}

impl TimerSlot {
    /// Ends when it is time to look.
    pub(super) async fn called(&self) {
        self.call.notified().await;
    }
}

impl Drop for TimerSlot {
    fn drop(&mut self) {
        if let Some(round) = lock(&self.health_timer.by_period).get_mut(&self.every_ms) {
            round.here.remove(&self.instance);
            round.apart.remove(&self.instance);
        }
    }
}

impl HealthTimer {
    /// Those of a host that started then.
    #[must_use]
    pub fn of(since: Instant) -> Arc<Self> {
        Arc::new(HealthTimer {
            since,
            by_period: Mutex::default(),
        })
    }

    /// A place for that instance in the round of that period; `None` where it is never to be asked.
    pub(super) fn enter(self: &Arc<Self>, every_ms: u64, instance: &Instance) -> Option<TimerSlot> {
        if every_ms == 0 {
            return None;
        }
        let turn = TimerSlot {
            health_timer: Arc::clone(self),
            every_ms,
            instance: instance.number(),
            call: Arc::new(Notify::new()),
        };
        let mut by_period = lock(&self.by_period);
        let round = by_period.entry(every_ms).or_insert_with(|| {
            let (health_timer, since) = (Arc::downgrade(self), self.since);
            let make = move || make(Weak::clone(&health_timer), since, every_ms);
            tasks::keep_alive(&Handle::current(), "health rounds", make);
            TimerGroup::default()
        });
        // Not what was asked for: it may run elsewhere for want of room.
        let place = match instance.identity.mode {
            Mode::InProcess => &mut round.here,
            Mode::Subprocess => &mut round.apart,
        };
        place.insert(turn.instance, Arc::clone(&turn.call));
        Some(turn)
    }

    /// Calls upon those who have reason to look. False where nobody is left, and the round is over.
    fn call(&self, every_ms: u64, running: Vec<u64>) -> bool {
        let mut by_period = lock(&self.by_period);
        let Some(round) = by_period.get_mut(&every_ms) else {
            return false;
        };
        if round.here.is_empty() && round.apart.is_empty() {
            by_period.remove(&every_ms);
            return false;
        }
        let before = std::mem::replace(&mut round.before, running);
        let numbers = before.iter().chain(&round.before);
        let here = numbers.filter_map(|number| round.here.get(number));
        // One that is called twice looks once.
        here.chain(round.apart.values())
            .for_each(|call| call.notify_one());
        true
    }
}

/// Makes the rounds of that period for as long as there is anybody to call upon.
async fn make(health_timer: Weak<HealthTimer>, since: Instant, every_ms: u64) {
    loop {
        let since_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let next_ms = (since_ms / every_ms)
            .saturating_add(1)
            .saturating_mul(every_ms);
        let next = durations::after(since, durations::ms(next_ms));
        tokio::time::sleep_until(next.into()).await;
        let Some(health_timer) = health_timer.upgrade() else {
            return;
        };
        if !health_timer.call(every_ms, watchdog::running()) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_called(call: &Arc<Notify>) -> bool {
        let notified = std::pin::pin!(call.notified());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::future::Future::poll(notified, &mut context).is_ready()
    }

    #[test]
    fn only_those_are_called_upon_who_have_reason_to_look() {
        let health_timer = HealthTimer::of(Instant::now());
        let calls: Vec<Arc<Notify>> = (0..3).map(|_| Arc::default()).collect();
        let round = TimerGroup {
            here: [(1, Arc::clone(&calls[0])), (2, Arc::clone(&calls[1]))].into(),
            apart: [(3, Arc::clone(&calls[2]))].into(),
            before: Vec::new(),
        };
        lock(&health_timer.by_period).insert(5, round);
        // What ran, and who is called upon then.
        for (running, expected) in [
            (vec![], [false, false, true]),
            (vec![2, 2, 9], [false, true, true]),
            (vec![], [false, true, true]),
            (vec![], [false, false, true]),
        ] {
            assert!(health_timer.call(5, running.clone()));
            let called: Vec<bool> = calls.iter().map(is_called).collect();
            assert_eq!(called, expected, "{running:?}");
        }
        lock(&health_timer.by_period).insert(5, TimerGroup::default());
        assert!(!health_timer.call(5, Vec::new()), "nobody is left");
        assert!(lock(&health_timer.by_period).is_empty());
    }
}
