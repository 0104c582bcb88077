//! A soak with a model: random histories of a host and its daemons, each step compared with what must be.
//!
//! A history is a few dozen steps over a new home: daemons are installed, reloaded with good files and bad ones, rolled back,
//! stopped, started, moved between the host's process and their own, crashed and killed; their files are replaced and
//! renamed, the disk is full, the host ends in order or by SIGKILL and is started again; guests call all the while, and some are a
//! nuisance. [`model`] says which steps are possible and what holds after each. [`driver`] makes them and looks. At its end
//! each history ends its host, starts it again, and looks for what is left over.
//!
//! It is part of `cargo test --workspace`, for a minute. By itself:
//!
//! ```text
//! cargo test -p dae-tests --test soak                   a minute, from a new seed
//! cargo test -p dae-tests --test soak -- --hours 8      longer
//! cargo test -p dae-tests --test soak -- --seed 42      from a seed, which a failure prints
//! ```
//!
//! The plugins are built before the clock starts. The clock is looked at between steps. A history that fails is made
//! shorter for at most five minutes, and the shortest one that fails is printed. What depends on time may pass when it is
//! made again; then the history is printed as it was.
//!
//! Absent: the contents of logs, daemons that talk to each other, and foreign daemons. They have tests of their own.

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
use report::Seen;

/// Steps of a history: enough for some to be forgotten by the time that they matter, few enough to be read.
const STEPS: std::ops::RangeInclusive<usize> = 10..=40;

/// Between two lines that say how far it is.
const PROGRESS_S: u64 = 60;

/// What has been done.
#[derive(Default)]
struct Tally {
    histories: Cell<u64>,
    steps: Cell<u64>,
    /// Histories that were ended early, since the machine was too slow for a step.
    slow: Cell<u64>,
}

/// A run of the test.
struct Soak {
    options: Options,
    plugin: Plugin,
    has_own_disk: bool,
    deadline: Instant,
    tally: Tally,
    seen: Seen,
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
        seen: Seen::default(),
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

    /// Makes the history of a seed; the shortest one found that fails.
    fn history<const OWN_DISK: bool>(&self, seed: u64) -> Result<(), Vec<Step>> {
        let config = Config {
            cases: 1,
            failure_persistence: None,
            // Its time is its limit.
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
                // While it is made shorter, the clock is the shrinking's own.
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

    /// Makes a history, until the deadline if there is one.
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
