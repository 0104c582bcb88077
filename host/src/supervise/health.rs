//! Whether a daemon is well: asked through the boundary, not through its port.
//!
//! A daemon in a process of its own is asked, and killed when it has not answered for long enough. One in the host's own
//! process can't be killed; what can be done is to see which handler holds a thread, and to say so.

use super::Supervisor;
use super::health_timer::TimerSlot;
use dae_runtime::instance::Instance;
use dae_runtime::threads::watchdog::RunningHandler;
use dae_store::daemon_state::DaemonState;
use dae_store::durations;
use dae_store::report::Mode;

/// What is known from the last time it was asked.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Its sign of life then.
    pulse: Option<u64>,
    misses: u32,
    /// What ran then.
    seen: Vec<RunningHandler>,
    /// Its place in the host's rounds, which says when to look.
    pub(super) turn: Option<TimerSlot>,
    /// Why it was killed, once it was.
    pub(super) kill_cause: Option<String>,
}

impl Health {
    /// Of an instance that was not asked yet.
    pub(super) fn of(turn: Option<TimerSlot>) -> Self {
        Health {
            turn,
            ..Health::default()
        }
    }
}

impl Supervisor {
    pub(super) fn check_health(&mut self) {
        let Some(current) = &self.current else { return };
        let instance = std::sync::Arc::clone(&current.instance);
        // Not what was asked for: it may run elsewhere for want of room.
        match instance.identity.mode {
            Mode::Subprocess => self.check_pulse(&instance),
            Mode::InProcess => self.check_handlers(&instance),
        }
    }

    fn check_pulse(&mut self, instance: &Instance) {
        let pulse = instance.pulse();
        let is_missed = self.health.pulse.is_some() && self.health.pulse == pulse;
        self.health.misses = if is_missed { self.health.misses + 1 } else { 0 };
        self.health.pulse = pulse;
        let misses = self.health.misses;
        if misses >= self.spec.settings.health_misses_max {
            let cause = format!("it did not answer {misses} health checks in a row and was killed");
            self.set(DaemonState::Degraded {
                cause: cause.clone(),
            });
            self.health.kill_cause = Some(cause);
            instance.kill();
        } else {
            instance.ping();
        }
    }

    fn check_handlers(&mut self, instance: &Instance) {
        let seen = instance.seen_running();
        let stuck = seen
            .iter()
            .find(|one| self.health.seen.contains(one))
            .copied();
        self.health.seen = seen;
        let is_degraded = matches!(&*self.now.state.borrow(), DaemonState::Degraded { .. });
        let Some(stuck) = stuck else {
            self.health.misses = 0;
            if is_degraded {
                self.set(DaemonState::Ready);
            }
            return;
        };
        self.health.misses += 1;
        if self.health.misses >= self.spec.settings.health_misses_max && !is_degraded {
            let every = durations::ms(self.spec.settings.health_ms);
            let held = every.saturating_mul(self.health.misses);
            let name = &self.spec.name;
            let cause = format!(
                "the command {} has held a host thread for over {held:?} and can't be ended in-process; \
                 `dae-host isolate {name}` runs it where it can",
                instance.command_name(stuck.command),
            );
            self.set(DaemonState::Degraded { cause });
        }
    }
}
