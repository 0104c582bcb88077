//! The health timer: one task for the health checks of all daemons with the same period, however many there are.
//!
//! Ten thousand idle daemons must not wake ten thousand tasks every few seconds. So a round looks at what runs in
//! the host's process. It notifies only the supervisors whose daemon has something running, or had at the round
//! before. It also notifies the supervisors of all subprocesses, because only a subprocess itself can report its
//! health. All rounds are at multiples of their period from the host's start, so that the machine wakes once for
//! several of them.

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

/// The health timer of a host, with a group of daemons for each period.
#[derive(Debug)]
pub struct HealthTimer {
    /// The host's start.
    since: Instant,
    /// The groups by period, in milliseconds.
    by_period: Mutex<HashMap<u64, TimerGroup>>,
}

/// The supervisors that are notified at the same times, by the numbers of their instances.
#[derive(Debug, Default)]
struct TimerGroup {
    here: HashMap<u64, Arc<Notify>>,
    apart: HashMap<u64, Arc<Notify>>,
    /// The instances that had something running at the round before.
    before: Vec<u64>,
}

/// A supervisor's slot in a group, for one instance. Dropping it ends the notifications.
#[derive(Debug)]
pub(super) struct TimerSlot {
    health_timer: Arc<HealthTimer>,
    every_ms: u64,
    instance: u64,
    call: Arc<Notify>,
}

impl TimerSlot {
    /// Completes when it is time for a check.
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
    /// Creates the timer of a host that started at `since`.
    #[must_use]
    pub fn of(since: Instant) -> Arc<Self> {
        Arc::new(HealthTimer {
            since,
            by_period: Mutex::default(),
        })
    }

    /// Adds the instance to the group of that period. Returns `None` if the period is 0, which means no checks.
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
        // Use the actual mode, not the requested one: a daemon may run elsewhere if the host's process can load no
        // more.
        let place = match instance.identity.mode {
            Mode::InProcess => &mut round.here,
            Mode::Subprocess => &mut round.apart,
        };
        place.insert(turn.instance, Arc::clone(&turn.call));
        Some(turn)
    }

    /// Notifies the supervisors that have a reason to check. Returns false if the group is empty and its rounds
    /// end.
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
        // A supervisor that is notified twice checks once.
        here.chain(round.apart.values())
            .for_each(|call| call.notify_one());
        true
    }
}

/// Runs the rounds of one period for as long as its group has members.
async fn make(health_timer: Weak<HealthTimer>, since: Instant, every_ms: u64) {
    loop {
        let since_ms = durations::in_ms(since.elapsed());
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
        // The running instances, and which supervisors are then notified.
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
