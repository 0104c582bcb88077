//! Each daemon's use of the machine: two readings with a window between them, and their difference.
//!
//! A reading costs little for a daemon that was never called and runs in the host's process, of which there may be ten
//! thousand. Only if there are subprocesses does a reading look at the kernel's processes. Within the window the
//! threads are sampled ([`HandlerSamples`]). Nothing runs, and nothing is counted, while nobody asks.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use super::{Dae, Fault, Inner};
use crate::supervise::Daemon;
use dae_runtime::os::process_usage::{self, ProcessUsage};
use dae_runtime::session::gate::{Gate, GatePhase};
use dae_runtime::threads::counters::CounterSnapshot;
use dae_runtime::threads::handler_samples::HandlerSamples;
use dae_store::blocking;
use dae_store::durations;
use dae_store::registry::DAE_NAME;
use dae_store::report::Mode;
use dae_store::usage::{CommandRates, CpuKind, Usage, WINDOW_MS_MAX, percent, tenth};

/// The shortest window that says something about CPU time: the kernel counts it in steps of this length.
const CPU_WINDOW_MIN: Duration = Duration::from_millis(10);

/// The counts of an ecosystem at one moment.
#[derive(Debug)]
struct UsageReading {
    at: Instant,
    own: CounterSnapshot,
    daemons: Vec<DaemonReading>,
    host: Option<ProcessUsage>,
    /// The processes of the daemons by their ids.
    processes: HashMap<u32, ProcessUsage>,
}

/// The counts of one daemon at one moment.
#[derive(Debug)]
struct DaemonReading {
    daemon: Arc<Daemon>,
    counts: CounterSnapshot,
    /// The numbers under which the threads note its code.
    code: Vec<u64>,
    /// Its own process.
    process: Option<u32>,
}

/// The CPU time and the memory of one daemon.
#[derive(Debug, Default, PartialEq)]
struct MachineShare {
    cpu_percent: Option<f64>,
    cpu_kind: Option<CpuKind>,
    memory_bytes: Option<u64>,
}

impl Dae {
    /// Measures over `window` how much each daemon of this host uses, Dae first. Answers after that time.
    ///
    /// # Errors
    /// The window is longer than 10 s, or the host is ending.
    pub async fn usage(&self, window: Duration) -> Result<Vec<Usage>, Fault> {
        if window > Duration::from_millis(WINDOW_MS_MAX) {
            let text = format!("window_ms is at most {WINDOW_MS_MAX}; ask again for more");
            return Err(Fault::bad_arguments(text));
        }
        let before = self.inner.usage_reading().await?;
        let samples = sampled(window).await;
        let mut after = self.inner.usage_reading().await?;
        if window.is_zero() {
            // A window of zero measures nothing, although the two readings take some time.
            after.at = before.at;
        }
        Ok(self.inner.usage_rows(&before, &samples, after))
    }
}

/// Samples the threads of this process for that time.
async fn sampled(window: Duration) -> HandlerSamples {
    let mut samples = HandlerSamples::default();
    let end = Instant::now() + window;
    let mut looks = interval(HandlerSamples::interval(window));
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while Instant::now() < end {
        looks.tick().await;
        samples.look();
    }
    samples
}

impl Inner {
    async fn usage_reading(&self) -> Result<UsageReading, Fault> {
        let daemons = self.running.daemons();
        let daemons: Vec<_> = daemons.into_iter().map(DaemonReading::of).collect();
        let leaders: BTreeSet<u32> = daemons.iter().filter_map(|one| one.process).collect();
        let processes = move || {
            let host = process_usage::of_this_process();
            (host, process_usage::of_groups(&leaders))
        };
        let processes = blocking::run_or_here(processes).await;
        let (host, processes) = processes.map_err(Fault::failed)?;
        Ok(UsageReading {
            at: Instant::now(),
            own: self.endpoint.gate.stats.snapshot(),
            daemons,
            host,
            processes,
        })
    }

    fn usage_rows(
        &self,
        before: &UsageReading,
        samples: &HandlerSamples,
        after: UsageReading,
    ) -> Vec<Usage> {
        let window = after.at - before.at;
        let earlier = before.daemons.iter();
        let earlier: HashMap<&str, &DaemonReading> = earlier
            .map(|one| (one.daemon.gate.name.as_str(), one))
            .collect();
        let mut rows = vec![self.own_usage(before, &after)];
        for daemon in after.daemons {
            let before_it = earlier.get(daemon.daemon.gate.name.as_str());
            // Another daemon may have had the name, or the name may be new.
            let before_it = before_it.filter(|one| Arc::ptr_eq(&one.daemon, &daemon.daemon));
            let share = match daemon.process {
                Some(process) => {
                    let of = |reading: &HashMap<_, _>| reading.get(&process).copied();
                    of_process(of(&before.processes), of(&after.processes), window)
                }
                None => of_handlers(&daemon, before_it.copied(), samples),
            };
            rows.push(daemon.usage(before_it.copied(), share, window));
        }
        let lost = self.catalogue.all_lost();
        rows.extend(lost.keys().map(|name| not_running(name, "failed")));
        rows[1..].sort_by(|a, b| a.name.cmp(&b.name));
        rows
    }

    fn own_usage(&self, before: &UsageReading, after: &UsageReading) -> Usage {
        let window = after.at - before.at;
        let share = of_process(before.host, after.host, window);
        Usage {
            cpu_percent: share.cpu_percent,
            cpu_kind: share.cpu_percent.map(|_| CpuKind::Host),
            memory_bytes: share.memory_bytes,
            commands: rates(&after.own.clone().since(&before.own), window),
            guests: self.endpoint.gate.guests.count() as u64,
            generation: 1,
            uptime_ms: Some(durations::in_ms(self.shared.since.elapsed())),
            ..not_running(DAE_NAME, "ready")
        }
    }
}

impl DaemonReading {
    fn of(daemon: Arc<Daemon>) -> Self {
        let (code, process) = code_of(&daemon.gate);
        DaemonReading {
            counts: daemon.gate.stats.snapshot(),
            daemon,
            code,
            process,
        }
    }

    fn usage(self, before: Option<&Self>, share: MachineShare, window: Duration) -> Usage {
        let glance = self.daemon.glance();
        let counts = match before {
            Some(before) => self.counts.since(&before.counts),
            None => self.counts,
        };
        Usage {
            name: glance.spec.name,
            state: glance.state.word().to_owned(),
            cpu_percent: share.cpu_percent,
            cpu_kind: share.cpu_kind,
            memory_bytes: share.memory_bytes,
            commands: rates(&counts, window),
            guests: self.daemon.gate.guests.count() as u64,
            restarts: glance.restarts,
            generation: glance.generation,
            uptime_ms: glance.identity.map(|identity| identity.uptime_ms()),
        }
    }
}

/// Returns where the code of the present instance runs: the numbers of its code in this process, or its own process.
fn code_of(gate: &Gate) -> (Vec<u64>, Option<u32>) {
    match &**gate.phase() {
        GatePhase::Open(lease) => {
            let identity = &lease.instance.identity;
            let process = (identity.mode == Mode::Subprocess).then_some(identity.pid);
            (lease.instance.numbers_of_code(), process)
        }
        _ => (Vec::new(), None),
    }
}

/// Returns the share of a process between two readings. The CPU time is unknown if the process is new.
fn of_process(
    before: Option<ProcessUsage>,
    after: Option<ProcessUsage>,
    window: Duration,
) -> MachineShare {
    let used = before.zip(after);
    let used = used.and_then(|(before, after)| after.cpu.checked_sub(before.cpu));
    let used = used.filter(|_| window >= CPU_WINDOW_MIN);
    let cpu = used.and_then(|used| percent(used.as_secs_f64(), window.as_secs_f64()));
    MachineShare {
        cpu_percent: cpu,
        cpu_kind: cpu.map(|_| CpuKind::Process),
        memory_bytes: after.map(|after| after.memory_bytes),
    }
}

/// Returns the share of a daemon in this process. After a reload within the window, the code of both instances counts.
fn of_handlers(
    daemon: &DaemonReading,
    before: Option<&DaemonReading>,
    samples: &HandlerSamples,
) -> MachineShare {
    let mut code: BTreeSet<u64> = daemon.code.iter().copied().collect();
    if code.is_empty() {
        return MachineShare::default();
    }
    code.extend(before.into_iter().flat_map(|before| &before.code));
    let cpu = samples.percent(&Vec::from_iter(code));
    MachineShare {
        cpu_percent: cpu,
        cpu_kind: cpu.map(|_| CpuKind::Handlers),
        memory_bytes: None,
    }
}

fn rates(counts: &CounterSnapshot, window: Duration) -> CommandRates {
    #[allow(clippy::cast_precision_loss)]
    let per_second = |count: u64| match window.as_secs_f64() {
        seconds if seconds > 0.0 => tenth(count as f64 / seconds),
        _ => 0.0,
    };
    CommandRates {
        calls_per_s: per_second(counts.calls()),
        errors_per_s: per_second(counts.errors()),
        p50_us: counts.quantile_us(0.50),
        p99_us: counts.quantile_us(0.99),
    }
}

fn not_running(name: &str, state: &str) -> Usage {
    Usage {
        name: name.to_owned(),
        state: state.to_owned(),
        cpu_percent: None,
        cpu_kind: None,
        memory_bytes: None,
        commands: CommandRates::default(),
        guests: 0,
        restarts: 0,
        generation: 0,
        uptime_ms: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(cpu_ms: u64) -> Option<ProcessUsage> {
        Some(ProcessUsage {
            cpu: Duration::from_millis(cpu_ms),
            memory_bytes: 4096,
            resident_bytes: 8192,
        })
    }

    #[test]
    fn a_share_is_known_only_of_a_process_that_was_there_all_the_time() {
        const WINDOW: Duration = Duration::from_millis(250);
        for (before, after, window, expected) in [
            (used(100), used(150), WINDOW, Some(20.0)),
            (used(100), used(100), WINDOW, Some(0.0)),
            (None, used(100), WINDOW, None),
            (used(100), None, WINDOW, None),
            // Another process has the number now.
            (used(100), used(50), WINDOW, None),
            (used(100), used(150), Duration::ZERO, None),
        ] {
            let share = of_process(before, after, window);
            assert_eq!(share.cpu_percent, expected, "{before:?} {after:?}");
            assert_eq!(share.cpu_kind.is_some(), expected.is_some());
            assert_eq!(share.memory_bytes, after.map(|_| 4096));
        }
    }
}
