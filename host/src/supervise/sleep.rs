//! Sleep: the port of a daemon listens while none of its code runs, and the first command starts it.
//!
//! A daemon falls asleep like the old instance of a reload goes: the gate queues lines, the state is saved, and the
//! instance ends. Then the gate answers what the host knows, and the first command for the daemon's code wakes it. A
//! command that comes in between waits at the gate. Nothing is ended before the state is on the disk: if that fails, the
//! daemon stays awake.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::health::Health;
use super::reload::cured;
use super::{Current, OrderResult, Replacement, Supervisor};
use dae_runtime::plugin::identity::Identity;
use dae_runtime::session::accept::Listener;
use dae_runtime::session::sleeping::SleepingDaemon;
use dae_store::daemon_state::DaemonState;
use dae_store::durations;
use dae_store::event::{CauseKind, DaeEventKind};
use dae_store::report::EndKind;
use dae_store::restart::End;
use dae_store::settings::StartTime;
use dae_store::sleep_rule::SleepRule;
use dae_store::snapshots::{KeptState, SnapshotOccasion};

/// The looks at the counters in the time without a command. A daemon falls asleep at most one look too late.
const LOOKS: u32 = 4;

/// The most times that the time without a command doubles after states that could not be saved: 60 s grow to 17 hours.
const UNSAVED_DOUBLINGS_MAX: u32 = 10;

/// The time in which guests give an idle instance back. A command that runs longer keeps the daemon awake, and holds
/// the commands of others up for this time, once in `idle_s`.
const GIVE_BACK_MAX: Duration = Duration::from_millis(100);

/// The looks at a daemon that may fall asleep.
#[derive(Debug)]
pub(super) struct IdleWatch {
    every: Duration,
    /// The commands at the last look; `None` before the first one, which may follow a command at once.
    calls: Option<u64>,
    /// The looks in a row that found no new command.
    quiet: u32,
    pub(super) next: Instant,
}

impl IdleWatch {
    /// Starts to watch. All looks are at multiples of their interval from the host's start, so that the machine wakes once
    /// for many daemons.
    fn of(idle: Duration, since: Instant) -> Self {
        let every = idle / LOOKS;
        IdleWatch {
            every,
            calls: None,
            quiet: 0,
            next: next_look(since, since.elapsed(), every),
        }
    }

    /// Takes the number of commands so far. Returns whether the daemon has been idle for its time.
    fn look(&mut self, calls: u64) -> bool {
        self.quiet = match self.calls.replace(calls) == Some(calls) {
            true => self.quiet.saturating_add(1),
            false => 0,
        };
        self.quiet >= LOOKS
    }
}

fn next_look(since: Instant, elapsed: Duration, every: Duration) -> Instant {
    let (elapsed, every) = (durations::in_ms(elapsed), durations::in_ms(every));
    let next = (elapsed / every.max(1))
        .saturating_add(1)
        .saturating_mul(every);
    durations::after(since, durations::ms(next))
}

impl Supervisor {
    /// Starts the daemon, or lets it sleep until its first command, by its settings.
    pub(super) async fn make_ready(&mut self) -> Result<OrderResult, String> {
        match self.current.is_none() && self.spec.settings.start == StartTime::OnDemand {
            true => self.listen_asleep(SleepRule::OnDemand),
            false => self.start_if_needed().await,
        }
    }

    /// Replaces the running instance, if any. If none is to run, the next command starts the replacement.
    pub(super) async fn replace(
        &mut self,
        replacement: Replacement,
    ) -> Result<OrderResult, String> {
        match self.rule_of_sleeper(&replacement) {
            Some(rule) => self.replace_asleep(replacement, rule).await,
            None => self.take_over(replacement).await,
        }
    }

    pub(super) fn is_asleep(&self) -> bool {
        matches!(*self.now.state.borrow(), DaemonState::Asleep { .. })
    }

    /// Returns the rule by which the replacement of this daemon sleeps, if no instance is there and none is to start.
    fn rule_of_sleeper(&self, replacement: &Replacement) -> Option<SleepRule> {
        if self.current.is_some() {
            return None;
        }
        let settings = &replacement.spec.settings;
        match (&*self.now.state.borrow(), settings.start) {
            (DaemonState::Asleep { rule }, StartTime::OnDemand) => Some(*rule),
            (DaemonState::Asleep { rule }, StartTime::AtOnce) if settings.idle_s > 0 => Some(*rule),
            (_, StartTime::OnDemand) => Some(SleepRule::OnDemand),
            (_, StartTime::AtOnce) => None,
        }
    }

    /// Makes the next command start the replacement. Only its preflight runs now.
    async fn replace_asleep(
        &mut self,
        replacement: Replacement,
        rule: SleepRule,
    ) -> Result<OrderResult, String> {
        // First the port: without it everything stays as it is.
        let bound = self.bind(&replacement.spec)?;
        let defers = replacement.defers_sleep_event;
        let mut done = self.put_in(replacement).await?;
        done.fell_asleep = self.enter_sleep(bound, rule, defers);
        Ok(done)
    }

    /// Opens the listener and enters the state asleep. The last instance must have ended.
    fn listen_asleep(&mut self, rule: SleepRule) -> Result<OrderResult, String> {
        let bound = self.bind(&self.spec.clone());
        let bound = bound.inspect_err(|cause| self.fail(cause))?;
        self.enter_sleep(bound, rule, false);
        Ok(OrderResult::default())
    }

    /// Enters the state asleep with that port. Returns the rule if the caller defers the event of that, and there is one.
    fn enter_sleep(
        &mut self,
        (port, listening): (u16, Option<Listener>),
        rule: SleepRule,
        defers: bool,
    ) -> Option<SleepRule> {
        if let Some(listening) = listening {
            self.listen(listening);
        }
        self.spec.port = Some(port);
        self.monitor.history.clear();
        self.sleep(rule, defers)
    }

    fn fail(&self, cause: &str) {
        let name = &self.spec.name;
        self.gate.shut(format!("{name} has failed: {cause}"));
        self.set(DaemonState::Failed {
            cause: cause.to_owned(),
        });
    }

    /// Enters the state asleep. Returns the rule if the caller defers the event of that, and there is one.
    fn sleep(&self, rule: SleepRule, defers: bool) -> Option<SleepRule> {
        let sleeping = self.sleeping();
        {
            let mut running = self.now.running();
            running.spec = self.spec.clone();
            running.sleeping = Some(Arc::clone(&sleeping));
        }
        self.gate.sleep(sleeping);
        let (state, mut deferred) = (DaemonState::Asleep { rule }, None);
        match defers {
            true => self.change(state, CauseKind::Unknown, |_, _| deferred = Some(rule)),
            false => self.set(state),
        }
        deferred
    }

    fn sleeping(&self) -> Arc<SleepingDaemon> {
        let spec = &self.spec;
        let manifest = &spec.artefact.manifest;
        let identity = Identity {
            name: spec.name.clone(),
            plugin: manifest.name.clone(),
            version: manifest.version.clone(),
            is_shared: manifest.shared,
            mode: spec.mode,
            pid: std::process::id(),
            port: spec.port.unwrap_or(0),
            generation: self
                .now
                .generation
                .load(std::sync::atomic::Ordering::Relaxed),
            attempt: 0,
            since: Instant::now(),
        };
        SleepingDaemon::new(Arc::new(identity), Arc::clone(manifest))
    }

    /// Starts the sleeping daemon for a command. A start that fails is like an instance that ends at once.
    pub(super) async fn wake(&mut self, command: String) {
        if !self.is_asleep() {
            // It was stopped or started meanwhile.
            return;
        }
        let generation = self
            .now
            .generation
            .load(std::sync::atomic::Ordering::Relaxed);
        let generation = (generation > 0).then_some(generation);
        let woken = DaeEventKind::Woken { command };
        self.shared.events.send(&self.spec.name, generation, woken);
        self.set(DaemonState::Starting);
        if let Err(fault) = self.walk(&self.same_again()).await {
            let cause = cured(fault);
            self.gate.shut(format!(
                "{} can't be woken: {cause}; ask Dae for its state",
                self.spec.name
            ));
            let end = End {
                is_failure: true,
                served: Duration::ZERO,
            };
            self.monitor.restart_reason = EndKind::StartFailed;
            self.follow(end, format!("it can't be woken: {cause}"));
        }
    }

    /// Starts to watch for the time without a command. That time is longer after each state that could not be saved.
    pub(super) fn watch_idle(&mut self) {
        let idle = durations::s(self.spec.settings.idle_s);
        let doublings = self.monitor.unsaved_sleeps.min(UNSAVED_DOUBLINGS_MAX);
        let idle = idle.saturating_mul(1 << doublings);
        let since = self.shared.since;
        self.monitor.idle = (!idle.is_zero()).then(|| IdleWatch::of(idle, since));
    }

    /// Looks whether the daemon is idle, and lets it fall asleep then.
    pub(super) async fn on_idle_look(&mut self) {
        let calls = self.gate.calls_of_code();
        let since = self.shared.since;
        let Some(idle) = &mut self.monitor.idle else {
            return;
        };
        idle.next = next_look(since, since.elapsed(), idle.every);
        let is_ready = matches!(*self.now.state.borrow(), DaemonState::Ready);
        if idle.look(calls) && is_ready && !self.is_in_background() {
            self.fall_asleep(calls).await;
        }
    }

    /// Returns whether the daemon's `run` keeps it awake.
    fn is_in_background(&self) -> bool {
        let runs = self.current.as_ref().is_some_and(|current| current.has_run);
        runs && !self.spec.settings.idle_ends_run
    }

    async fn fall_asleep(&mut self, calls: u64) {
        let Some(current) = &mut self.current else {
            return;
        };
        let leased = &mut current.leased;
        if !self.gate.hold_if_unused(leased, GIVE_BACK_MAX).await {
            // A command runs. Another look after the whole time is soon enough.
            return self.watch_idle();
        }
        if self.gate.calls_of_code() != calls {
            // A command arrived between the check and the hold.
            self.reopen();
            return self.watch_idle();
        }
        if let Err(fault) = self.save_before_sleep().await {
            self.stay_awake(fault);
            return;
        }
        let idle_s = self.spec.settings.idle_s;
        if let Some(current) = self.take_away() {
            self.monitor.health = Health::default();
            self.monitor.rollback_window = None;
            self.monitor.unsaved_sleeps = 0;
            self.sleep(SleepRule::Idle { idle_s }, false);
            self.retire_aside(current);
        }
    }

    /// Stores the state of an instance that nobody uses.
    async fn save_before_sleep(&mut self) -> Result<(), (String, CauseKind)> {
        let Some(Current { instance, .. }) = self.stateful() else {
            self.now.saver.close().await;
            return Ok(());
        };
        let instance = Arc::clone(instance);
        self.now.saver.close().await;
        let generation = instance.identity.generation;
        let saved = instance.save(self.shared.config().stop_grace()).await;
        let state =
            saved.and_then(|state| KeptState::of(state, SnapshotOccasion::Stop, generation));
        let state = state.map_err(|text| (text, CauseKind::SaveFailed))?;
        let states = &self.shared.disk.states;
        let kept = states.keep_with_others(&self.spec.name, &state).await;
        kept.map_err(|error| (format!("{error:#}"), CauseKind::Disk))
    }

    /// Keeps the daemon awake because its state could not be saved. Reports only the first of several failures in a row.
    fn stay_awake(&mut self, (cause, cause_kind): (String, CauseKind)) {
        self.reopen();
        self.monitor.unsaved_sleeps = self.monitor.unsaved_sleeps.saturating_add(1);
        if self.monitor.unsaved_sleeps > 1 {
            return self.watch_idle();
        }
        let name = &self.spec.name;
        let generation = self.current.as_ref();
        let generation = generation.map(|current| current.instance.identity.generation);
        let text = format!("it stays awake, because its state could not be kept: {cause}");
        self.shared.tell(name, generation, "error", &text);
        let unsaved = DaeEventKind::StateUnsaved { cause, cause_kind };
        self.shared.events.send(name, generation, unsaved);
        self.watch_idle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_idle_after_its_whole_time_without_a_command() {
        let now = Instant::now();
        // The commands at each look, and whether the daemon is idle then.
        for looks in [
            &[(0, false), (0, false), (0, false), (0, false), (0, true)][..],
            &[
                (0, false),
                (0, false),
                (0, false),
                (0, false),
                (1, false),
                (1, false),
            ],
            &[(1, false), (1, false), (1, false), (1, false), (1, true)],
        ] {
            let mut idle = IdleWatch::of(Duration::from_secs(1), now);
            for (at, (calls, is_idle)) in looks.iter().enumerate() {
                assert_eq!(idle.look(*calls), *is_idle, "{looks:?} at {at}");
            }
        }
    }

    #[test]
    fn looks_are_at_multiples_of_their_interval() {
        let since = Instant::now();
        let every = Duration::from_millis(250);
        for (elapsed_ms, next_ms) in [(0, 250), (249, 250), (250, 500), (1_001, 1_250)] {
            let next = next_look(since, Duration::from_millis(elapsed_ms), every);
            assert_eq!(next, since + Duration::from_millis(next_ms), "{elapsed_ms}");
        }
        let most = Duration::from_secs(u64::MAX);
        assert!(next_look(since, most, most) > since);
    }
}
