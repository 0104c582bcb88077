//! The scene of a fault: a host, the misbehaving daemon, its guests, and a prober on another daemon.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use dae_tests::{Ecosystem, Guest, LIMIT, Output, process, until};
use rustix::process::Resource;
use serde_json::{Value, json};

/// The name of the misbehaving daemon.
pub(super) const NAME: &str = "Misbehave";
/// The name of the other daemon.
const WITNESS: &str = "Witness";

/// The number of calls that a prober makes before a fault, and again after it.
const CALLS_MIN: usize = 100;
/// The pause between two calls of a prober.
const CALL_PAUSE: Duration = Duration::from_millis(1);
/// The longest call that does not count as stalled: far longer than an answer takes on a loaded machine, and shorter
/// than a command's time limit, which would end the stall.
const CALL_MAX: Duration = Duration::from_secs(8);

/// The mode of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    InProcess,
    Subprocess,
}

impl Mode {
    fn flags(self) -> &'static [&'static str] {
        match self {
            Mode::InProcess => &[],
            Mode::Subprocess => &["--isolate"],
        }
    }
}

/// Both modes, for tests with the same result in each.
pub(super) const MODES: [Mode; 2] = [Mode::InProcess, Mode::Subprocess];

/// A host with the misbehaving daemon and its guests, and with a second daemon.
pub(super) struct Scene {
    pub(super) ecosystem: Ecosystem,
    /// The guest that causes the fault.
    pub(super) guest: Guest,
    /// A second guest of that daemon.
    pub(super) other: Guest,
    pub(super) port: u16,
}

impl Scene {
    /// Starts a host with both daemons. `settings` are those of the misbehaving one.
    pub(super) fn set(mode: Mode, settings: &Value) -> Self {
        Self::set_with(mode, &json!({"daemons": {NAME: settings}}))
    }

    /// Does the same as [`Scene::set`] with a whole host config. Time limits are short unless the config sets them.
    pub(super) fn set_with(mode: Mode, config: &Value) -> Self {
        let ecosystem = host(config);
        let guest = ecosystem.install(NAME, "misbehave", mode.flags());
        let _ = ecosystem.install(WITNESS, "vectors", &[]);
        Scene {
            other: ecosystem.guest(NAME),
            port: ecosystem.port_of(NAME),
            guest,
            ecosystem,
        }
    }

    /// Installs a misbehaving daemon with that config, or replaces the one of that name.
    pub(super) fn install(&self, name: &str, mode: Mode, config: &Value) -> Output {
        let file = self.ecosystem.plugin("misbehave");
        let (file, config) = (file.to_str().expect("UTF-8"), config.to_string());
        let mut line = vec!["install", name, file, "--replace", "--config", &config];
        line.extend(mode.flags());
        self.ecosystem.cli(&line)
    }

    /// Returns the id of the process that runs the daemon's code.
    #[track_caller]
    pub(super) fn pid(&mut self) -> u32 {
        let pid = self.guest.ask("pid", &json!([]));
        u32::try_from(pid.as_u64().expect("a number")).expect("a process id")
    }

    /// Starts a prober on the other daemon, and returns it once its first calls are answered.
    pub(super) fn prober(&self) -> Prober {
        Prober::start(self.ecosystem.port_of(WITNESS))
    }

    /// Makes the second guest send a command that only ends with the daemon.
    #[track_caller]
    pub(super) fn put_in_flight(&mut self) {
        self.other.send("sleep_async#held\necho#after [1]\n");
        // The daemon takes commands in order, so it has both.
        self.other.expect("echo#after [1]");
    }

    /// Asserts that this command is answered `crashed`, and that the connection stays usable.
    #[track_caller]
    pub(super) fn expect_in_flight_crashed(&mut self) {
        let message = self.other.message();
        assert_eq!(message.tag.as_deref(), Some("held"), "{message:?}");
        let fault = message.result().expect_err("it can't have ended well");
        assert_eq!(
            (fault.code.as_str(), fault.command.as_str()),
            ("crashed", "sleep_async")
        );
        assert_eq!(self.other.ask("echo", &json!([2])), 2);
    }

    /// Asserts that the daemon was replaced once, for a cause that contains this text.
    #[track_caller]
    pub(super) fn expect_replaced(&self, cause: &str) {
        let status = self.ecosystem.until_state(NAME, "ready");
        let told = status["last_end"]["cause"].as_str().unwrap_or_default();
        assert!(told.contains(cause), "{cause:?} is not what {status} says");
        assert_eq!(
            (&status["generation"], &status["restarts"]),
            (&json!(2), &json!(1)),
            "{status}"
        );
        assert_eq!(status["last_end"]["generation"], 1, "{status}");
    }

    /// Asserts that the daemon still runs its first instance.
    #[track_caller]
    pub(super) fn expect_same_instance(&self) {
        let status = self.ecosystem.status(NAME);
        assert_eq!(
            (&status["generation"], &status["restarts"]),
            (&json!(1), &json!(0)),
            "{status}"
        );
    }

    /// Asserts that a stop succeeds, even if parts of the daemon hang.
    #[track_caller]
    pub(super) fn expect_stops(&self) {
        let _ = self.ecosystem.cli(&["stop", NAME]).ok();
        assert_eq!(self.ecosystem.status(NAME)["state"], "stopped");
    }
}

fn host(config: &Value) -> Ecosystem {
    let mut whole =
        json!({"stop_grace_ms": 1_000, "command_ms": 10_000, "instance_wait_ms": 15_000});
    for (key, value) in config.as_object().expect("a config is an object") {
        whole[key] = value.clone();
    }
    let mut ecosystem = Ecosystem::asleep();
    ecosystem.configure(&whole);
    ecosystem.wake(&[]);
    // Some of these hosts are meant to crash; none leaves a core dump.
    process::set_bound(ecosystem.pid(), Resource::Core, 0);
    ecosystem
}

/// A guest that calls another daemon steadily.
pub(super) struct Prober {
    thread: JoinHandle<Vec<(Instant, Duration)>>,
    calls: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
    misdeed: Instant,
}

impl Prober {
    fn start(port: u16) -> Self {
        let (calls, ends) = (Arc::default(), Arc::default());
        let thread = thread::spawn({
            let (calls, ends) = (Arc::clone(&calls), Arc::clone(&ends));
            move || probe(Guest::connect(port), &calls, &ends)
        });
        let mut prober = Prober {
            thread,
            calls,
            ends,
            misdeed: Instant::now(),
        };
        prober.until_calls(CALLS_MIN);
        prober.misdeed = Instant::now();
        prober
    }

    #[track_caller]
    fn until_calls(&self, more: usize) {
        let target = self.calls.load(Ordering::Relaxed) + more;
        until(LIMIT, "the prober's calls are answered", || {
            assert!(!self.thread.is_finished(), "the prober was not answered");
            self.calls.load(Ordering::Relaxed) >= target
        });
    }

    /// Asserts that every call was answered, and that none took as long as a stall.
    #[track_caller]
    pub(super) fn expect_unharmed(self, misdeed: &str) {
        self.until_calls(CALLS_MIN);
        self.ends.store(true, Ordering::Relaxed);
        let calls = self.thread.join().expect("every call is answered");
        let is_before = |(at, took): &&(Instant, Duration)| *at + *took < self.misdeed;
        let before: Vec<Duration> = calls.iter().filter(is_before).map(|call| call.1).collect();
        let during: Vec<Duration> = calls[before.len()..].iter().map(|call| call.1).collect();
        println!(
            "{misdeed}: others' p99 before {:.1?}, during {:.1?} (worst {:.1?}, {} calls)",
            p99(&before),
            p99(&during),
            during.iter().max(),
            during.len()
        );
        assert!(
            during.iter().all(|took| *took < CALL_MAX),
            "a call to another daemon stalled"
        );
    }
}

fn probe(mut guest: Guest, calls: &AtomicUsize, ends: &AtomicBool) -> Vec<(Instant, Duration)> {
    let mut took = Vec::new();
    while !ends.load(Ordering::Relaxed) {
        let number = calls.load(Ordering::Relaxed);
        let start = Instant::now();
        assert_eq!(guest.ask("echo", &json!([number])), number);
        took.push((start, start.elapsed()));
        calls.store(number + 1, Ordering::Relaxed);
        thread::sleep(CALL_PAUSE);
    }
    took
}

fn p99(calls: &[Duration]) -> Duration {
    let mut sorted = calls.to_vec();
    sorted.sort();
    sorted[sorted.len() * 99 / 100]
}
