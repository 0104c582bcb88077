//! The downtime of a daemon whose process is killed: `cargo bench -p dae-tests --bench recovery`.
//!
//! The time runs from SIGKILL to the first reply of the successor, as seen by a guest whose connection stays open. The
//! guest asks the daemon for its process id, and repeats a command that was lost in the killed process. The time
//! includes noticing the end, cleaning up, starting a new process, loading the plugin, its `start`, and one round trip.
//!
//! Two more figures have the same reference: the time of each of ten kills in a row, the next one as soon as the
//! successor has answered, and the start of a stopped daemon, from the command `start` at the control socket to the first
//! reply to a guest that connects then.
//!
//! Absolute times depend on the machine. The ratio to the minimum is comparable: the time of the bare echo from its
//! spawn to its first reply on a new connection. The measurements alternate.
//!
//! The restart happens at once here, as for a daemon that has served for a while. The restart policy decides the delay
//! for a daemon that keeps crashing, and its limits are raised. Flags after `--`: `--kills N`. All figures go to `target/bench/recovery.json`.

#[path = "../figures/mod.rs"]
mod figures;
#[path = "../raw/mod.rs"]
mod raw;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use dae_tests::{Artefacts, Control, Ecosystem, Guest, process};
use figures::command_line;
use hdrhistogram::Histogram;
use raw::RawServer;
use rustix::process::Signal;
use serde_json::{Value, json};

/// The name of the daemon.
const NAME: &str = "Misbehave";

/// The number of kills: enough that two outliers do not determine the p99.
const KILLS_DEFAULT: u64 = 300;

/// The kills before the first measurement. After them the files are in the page cache, and the host has its threads.
const KILLS_WARM: u32 = 20;

/// The kills of which each follows the first reply after the one before. There is one such row in as many kills.
const KILLS_IN_A_ROW: u64 = 10;

/// The largest time in the histogram: a minute, in microseconds.
const TIME_US_MAX: u64 = 60_000_000;

/// The significant digits of a time.
const DIGITS: u8 = 3;

fn main() -> ExitCode {
    if std::env::args()
        .nth(1)
        .is_some_and(|one| one == raw::ARGUMENT)
    {
        return command_line::end("recovery", raw::main());
    }
    let Some(words) = command_line::words("recovery") else {
        return ExitCode::SUCCESS;
    };
    let kills = command_line::numbers(&words, [("--kills", KILLS_DEFAULT)]);
    command_line::end("recovery", kills.and_then(|[kills]| bench(kills)))
}

fn bench(kills: u64) -> Result<(), String> {
    let mut daemon = Daemon::start();
    for _ in 0..KILLS_WARM {
        daemon.recover();
    }
    let [mut recovery, mut row, mut start, mut bare] = std::array::from_fn(|_| Times::new());
    for number in 0..kills {
        daemon.rest();
        recovery.add(daemon.recover());
        daemon.rest();
        bare.add(bare_start().map_err(|error| format!("the bare echo: {error}"))?);
        start.add(daemon.start_again()?);
        daemon.rest();
        if number % KILLS_IN_A_ROW == 0 {
            (0..KILLS_IN_A_ROW).for_each(|_| row.add(daemon.recover()));
        }
    }
    let ways = [
        ("SIGKILL to next reply", "recovery", &recovery),
        ("the same, ten in a row", "in_a_row", &row),
        ("start to first reply", "start", &start),
    ];
    println!("{:<26} {:>8} {:>8} {:>8}", "ms", "p50", "p99", "max");
    for (label, _, times) in ways {
        println!("{label:<26} {}", times.row());
    }
    println!("{:<26} {}", "bare spawn to first reply", bare.row());
    let mut kept = json!({"kills": kills, "bare_ms": bare.json(), "ratio": {}});
    for (label, name, times) in ways {
        let (p50, p99) = (times.ratio(&bare, 0.5), times.ratio(&bare, 0.99));
        println!("{:<26} {p50:>8.2} {p99:>8.2}", format!("{label}, ratio"));
        kept[format!("{name}_ms")] = times.json();
        kept["ratio"][name] = json!({"p50": p50, "p99": p99});
    }
    figures::keep("recovery", kept)
}

/// A daemon in a subprocess, and a guest that stays connected.
struct Daemon {
    // Dropped before its host.
    guest: Guest,
    pid: u32,
    port: u16,
    control: Control,
    ecosystem: Ecosystem,
}

impl Daemon {
    fn start() -> Self {
        let restart = json!({
            "served_ms": 0, "healthy_ms": 0, "burst_max": 1_000_000, "slow_max": 1_000_000,
        });
        let settings = json!({ "restart": restart }).to_string();
        let ecosystem = Ecosystem::start_with(Artefacts::released());
        let flags = ["--isolate", "--settings", &settings];
        let mut daemon = Daemon {
            guest: ecosystem.install(NAME, "misbehave", &flags),
            pid: 0,
            port: ecosystem.port_of(NAME),
            control: ecosystem.control(),
            ecosystem,
        };
        daemon.pid = daemon.next_pid();
        daemon
    }

    /// Waits until the host has a process in reserve again, as it has for a daemon that has served for a while.
    fn rest(&self) {
        let has_rested = || {
            let of_host = self.ecosystem.status("Dae");
            of_host["reserve"]["pids"]
                .as_array()
                .is_some_and(|pids| !pids.is_empty())
        };
        dae_tests::wait::until(Duration::from_secs(10), "a process in reserve", has_rested);
    }

    /// Kills the process, and waits for its successor's reply.
    fn recover(&mut self) -> Duration {
        let start = Instant::now();
        process::signal(self.pid, Signal::KILL);
        self.pid = self.next_pid();
        start.elapsed()
    }

    /// Stops the daemon. Returns the time from its start to the first reply to a new guest.
    fn start_again(&mut self) -> Result<Duration, String> {
        let mut ask = |command: &str| {
            let done = self.control.ask(command, &json!(NAME));
            done.map_err(|fault| format!("{command}: {fault:?}"))
        };
        ask("stop")?;
        let port = self.port;
        let start = Instant::now();
        ask("start")?;
        self.guest = Guest::connect(port);
        let pid = self.guest.ask("pid", &json!([]));
        let took = start.elapsed();
        self.pid = pid.as_u64().expect("a process id") as u32;
        Ok(took)
    }

    /// Returns the process id of the next instance.
    fn next_pid(&mut self) -> u32 {
        loop {
            match self.guest.try_ask("pid", &json!([])) {
                Ok(pid) if pid != self.pid => {
                    return pid.as_u64().expect("a process id") as u32;
                }
                // The old process was not dead yet.
                Ok(_) => {}
                Err(fault) => assert_eq!(fault.code, "crashed", "{fault:?}"),
            }
        }
    }
}

fn bare_start() -> std::io::Result<Duration> {
    let start = Instant::now();
    let server = RawServer::start()?;
    let mut guest = Guest::connect(server.port);
    guest.send("echo [1]\n");
    guest.expect("echo [1]");
    Ok(start.elapsed())
}

/// The times of one measurement.
struct Times(Histogram<u64>);

impl Times {
    fn new() -> Self {
        Times(Histogram::new_with_max(TIME_US_MAX, DIGITS).expect("a range that is one"))
    }

    fn add(&mut self, time: Duration) {
        self.0.saturating_record(time.as_micros() as u64);
    }

    fn ms_at(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }

    fn row(&self) -> String {
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|quantile| self.ms_at(quantile));
        format!("{p50:>8.2} {p99:>8.2} {max:>8.2}")
    }

    fn ratio(&self, other: &Times, quantile: f64) -> f64 {
        self.ms_at(quantile) / other.ms_at(quantile)
    }

    fn json(&self) -> Value {
        json!({"p50": self.ms_at(0.5), "p99": self.ms_at(0.99), "max": self.ms_at(1.0)})
    }
}
