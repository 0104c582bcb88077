//! Health checks, through the plugin boundary instead of the port.
//!
//! A subprocess is pinged, and killed if it doesn't answer for long enough. An in-process daemon can't be killed.
//! The check finds and reports the handler that blocks a thread.

use super::Supervisor;
use super::health_timer::TimerSlot;
use dae_runtime::instance::Instance;
use dae_runtime::threads::watchdog::RunningHandler;
use dae_store::daemon_state::DaemonState;
use dae_store::durations;
use dae_store::report::Mode;

/// The results of the last check.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// The sign of life at that check.
    pulse: Option<u64>,
    misses: u32,
    /// The handlers that ran at that check.
    seen: Vec<RunningHandler>,
    /// The slot in the health timer, which says when to check.
    pub(super) turn: Option<TimerSlot>,
    /// The reason for killing the process, once it was killed.
    pub(super) kill_cause: Option<String>,
}

impl Health {
    /// Creates the health of an instance that was not checked yet.
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
        // Use the actual mode, not the requested one: a daemon may run elsewhere if the host's process can load no
        // more.
        match instance.identity.mode {
            Mode::Subprocess => self.check_pulse(&instance),
            Mode::InProcess => self.check_handlers(&instance),
        }
    }

    fn check_pulse(&mut self, instance: &Instance) {
        let pulse = instance.pulse();
        let is_missed = self.monitor.health.pulse.is_some() && self.monitor.health.pulse == pulse;
        self.monitor.health.misses = if is_missed {
            self.monitor.health.misses + 1
        } else {
            0
        };
        self.monitor.health.pulse = pulse;
        let misses = self.monitor.health.misses;
        if misses >= self.spec.settings.health_misses_max {
            let cause = format!("it did not answer {misses} health checks in a row and was killed");
            self.set(DaemonState::Degraded {
                cause: cause.clone(),
            });
            self.monitor.health.kill_cause = Some(cause);
            instance.kill();
        } else {
            instance.ping();
        }
    }

    fn check_handlers(&mut self, instance: &Instance) {
        let seen = instance.seen_running();
        let stuck = seen
            .iter()
            .find(|one| self.monitor.health.seen.contains(one))
            .copied();
        self.monitor.health.seen = seen;
        let is_degraded = matches!(&*self.now.state.borrow(), DaemonState::Degraded { .. });
        let Some(stuck) = stuck else {
            self.monitor.health.misses = 0;
            if is_degraded {
                self.set(DaemonState::Ready);
            }
            return;
        };
        self.monitor.health.misses += 1;
        if self.monitor.health.misses >= self.spec.settings.health_misses_max && !is_degraded {
            let every = durations::ms(self.spec.settings.health_ms);
            let held = every.saturating_mul(self.monitor.health.misses);
            let name = &self.spec.name;
            let cause = format!(
                "the command {} has held a host thread for over {held:?} and can't be ended in-process; \
                 in a subprocess it could be ended: isolate {name}",
                instance.command_name(stuck.command),
            );
            self.set(DaemonState::Degraded { cause });
        }
    }
}
