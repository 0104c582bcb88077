//! A soak test with a model: random histories of a host and its daemons, each step compared with the model.
//!
//! A history is a few dozen steps in a new home. Daemons are installed, reloaded with good and bad files, rolled back,
//! stopped, started, moved between the host's process and their own, crashed and killed. Their files are replaced and
//! renamed. The disk gets full. The host ends in order or by SIGKILL and is started again. Guests call all the time,
//! and some misbehave. [`model`] says which steps are possible and what holds after each. [`driver`] performs them and
//! checks the result. At its end each history restarts the host, and checks for leftovers.
//!
//! The test runs for a minute as part of `cargo test --workspace`. It can also run alone:
//!
//! ```text
//! cargo test -p dae-tests --test soak                   a minute, from a new seed
//! cargo test -p dae-tests --test soak -- --hours 8      longer
//! cargo test -p dae-tests --test soak -- --seed 42      from a seed, which a failure prints
//! ```
//!
//! The plugins are built before the clock starts. The clock is checked between steps. A failing history is shrunk for
//! at most five minutes, and the shortest failing one is printed. A failure that depends on time may not occur again;
//! then the original history is printed.
//!
//! Not covered: the contents of logs, daemons that call each other, and foreign daemons. They have their own tests.

mod disk;
mod driver;
mod model;
mod options;
mod report;
mod step;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::Parser as _;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use proptest_state_machine::ReferenceStateMachine;

use driver::{Driver, Plugin};
use model::{Histories, Step, World};
use options::Options;
use report::FailureReport;

/// The steps of a history: enough for effects that appear late, and few enough to be read.
const STEPS: std::ops::RangeInclusive<usize> = 10..=40;

/// The interval of progress lines (s).
const PROGRESS_S: u64 = 60;

/// The counts of histories and steps so far.
#[derive(Default)]
struct Tally {
    histories: Cell<u64>,
    steps: Cell<u64>,
    /// Histories that were ended early because the machine was too slow for a step.
    slow: Cell<u64>,
}

/// A run of the test.
struct Soak {
    options: Options,
    plugin: Plugin,
    has_own_disk: bool,
    deadline: Instant,
    tally: Tally,
    seen: FailureReport,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(text) = options.idle() {
        println!("{text}");
        return ExitCode::SUCCESS;
    }
    let apart = disk::keep_mounts_apart();
    if let Err(reason) = &apart {
        println!("soak: the steps that fill the disk are left out: {reason}");
    }
    let plugin = Plugin::build();
    let soak = Soak {
        deadline: Instant::now() + options.time(),
        has_own_disk: apart.is_ok(),
        plugin,
        options,
        tally: Tally::default(),
        seen: FailureReport::default(),
    };
    soak.run()
}

fn seed_of_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

impl Soak {
    fn run(&self) -> ExitCode {
        let first = self.options.seed.unwrap_or_else(seed_of_clock);
        let time = self.options.time();
        println!("soak: {time:?} from seed {first}");
        report::keep_panics();
        let (mut seed, mut told) = (first, Instant::now());
        while Instant::now() < self.deadline && self.tally.histories.get() < self.options.histories
        {
            let failed = match self.has_own_disk {
                true => self.history::<true>(seed),
                false => self.history::<false>(seed),
            };
            if let Err(history) = failed {
                self.seen.print(seed, &history);
                println!("soak: FAILED after {}", self.told());
                return ExitCode::FAILURE;
            }
            seed = seed.wrapping_add(1);
            if told.elapsed().as_secs() >= PROGRESS_S {
                told = Instant::now();
                println!("soak: {}", self.told());
            }
        }
        println!("soak: ok, {}", self.told());
        ExitCode::SUCCESS
    }

    fn told(&self) -> String {
        let Tally {
            histories,
            steps,
            slow,
        } = &self.tally;
        let (histories, steps, slow) = (histories.get(), steps.get(), slow.get());
        format!(
            "{histories} histories, {steps} steps; {slow} histories ended early on a slow machine"
        )
    }

    /// Runs the history of a seed. If it fails, returns the shortest failing history found.
    fn history<const OWN_DISK: bool>(&self, seed: u64) -> Result<(), Vec<Step>> {
        let config = Config {
            cases: 1,
            failure_persistence: None,
            // Only the time limits the shrinking.
            max_shrink_iters: u32::MAX - 1,
            max_shrink_time: self.options.shrink_seconds.saturating_mul(1000),
            ..Config::default()
        };
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let strategy = Histories::<OWN_DISK>::sequential_strategy(STEPS);
        let is_first = Cell::new(true);
        let result =
            TestRunner::new_with_rng(config, rng).run(&strategy, |(world, steps, counter)| {
                // A history that is shrunk has its own time limit.
                let deadline = is_first.replace(false).then_some(self.deadline);
                if deadline.is_none() {
                    driver::shorten();
                }
                self.make(world, &steps, (deadline, counter))
            });
        self.tally.histories.set(self.tally.histories.get() + 1);
        match result {
            Ok(()) => Ok(()),
            Err(TestError::Fail(_, (_, steps, _))) => Err(steps),
            Err(TestError::Abort(reason)) => panic!("no history could be drawn: {reason}"),
        }
    }

    /// Performs a history, until the deadline if there is one.
    fn make(
        &self,
        world: World,
        steps: &[Step],
        (deadline, counter): (Option<Instant>, Option<Arc<AtomicUsize>>),
    ) -> Result<(), TestCaseError> {
        let begun = catch_unwind(AssertUnwindSafe(|| Driver::start(&self.plugin, &world)));
        let mut driver = begun.map_err(|_| {
            self.seen.keep(report::last_panic(), "");
            TestCaseError::fail("no host could be started")
        })?;
        let made = catch_unwind(AssertUnwindSafe(|| {
            let mut world = world;
            for step in steps {
                if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    break;
                }
                if let Some(counter) = &counter {
                    counter.fetch_add(1, Ordering::SeqCst);
                }
                if self.options.verbose {
                    println!("soak: {step:?}");
                }
                let before = world.clone();
                world.change(step);
                if driver.step(&before, step, &world).is_err() {
                    self.tally.slow.set(self.tally.slow.get() + 1);
                    driver.abandon();
                    return;
                }
                self.tally.steps.set(self.tally.steps.get() + 1);
            }
            driver.finish(&world);
        }));
        made.map_err(|_| {
            driver.abandon();
            self.seen.keep(report::last_panic(), &driver.stderr());
            TestCaseError::fail("it went wrong")
        })
    }
}
