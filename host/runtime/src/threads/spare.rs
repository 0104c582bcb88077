//! The threads that guests and daemons' code run on, and as many more in reserve for where a handler holds one.
//!
//! A handler that has shown that it is quick is called right on a guest's thread. Should it then not return, that thread
//! would be lost, and worse: where it was the one that waited for the sockets, nobody would, and where there are as many
//! such handlers as threads, every daemon would stand still. So a watcher looks at who holds a thread. One that is seen
//! in two looks gets relief, a thread of the reserve takes its place until it returns, and its command has to show again, and
//! for longer, that it is quick ([`crate::threads::latency`]).
//!
//! A thread in reserve is one of the runtime's own that sits in a task and waits; so it costs its stack and nothing else.
//! The watcher sleeps while nothing is called.
//!
//! What can't be helped: a task that a stuck handler's thread had been about to run next, which is at most one.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::threads::latency;
use crate::threads::watchdog::{RunningHandler, Watchdog};
use dae_store::blocking;
use dae_store::tasks;

/// Between two looks. A handler is relieved after one to two of these: about when a guest begins to notice.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The least in reserve: small machines have stuck handlers too.
const RESERVE_MIN: usize = 4;

/// See the file's head.
#[derive(Debug)]
pub struct Threads {
    // There until the end.
    runtime: Option<Runtime>,
    handle: Handle,
    reserve: Arc<Reserve>,
}

impl Threads {
    /// Starts them, as many as there are processors, and the reserve. Each calls `prepare` when it begins.
    ///
    /// # Errors
    /// The system's; it has no room for so many threads.
    pub fn start(prepare: fn()) -> io::Result<Self> {
        let processors = processors();
        let size = reserve_size();
        blocking::check_room(Self::count())?;
        let watchdog = Watchdog::new();
        let watched = Arc::clone(&watchdog);
        let runtime = Builder::new_multi_thread()
            .thread_name("guests")
            .worker_threads(processors + size)
            .on_thread_start(move || {
                prepare();
                watched.watch_this_thread();
            })
            .enable_all()
            .build()?;
        let reserve = Arc::new(Reserve {
            size,
            seats: Mutex::default(),
            changed: Condvar::new(),
            watchdog,
        });
        reserve.relieve(0, runtime.handle());
        // A handler that holds its thread gives what else that thread had to do to another one ([`crate::threads::latency`]), and where
        // the system has none to give, tokio panics.
        tasks::keep_alive(runtime.handle(), "the idle thread", blocking::keep_one_idle);
        let started = Threads {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
            reserve,
        };
        let (watched, handle) = (Arc::clone(&started.reserve), started.handle.clone());
        std::thread::Builder::new()
            .name("relief".to_owned())
            .spawn(move || {
                tasks::keep_thread_alive("the watchdog", || watch(&watched, &handle));
            })?;
        Ok(started)
    }

    /// How many they are in all, with the one that watches and the one that is idle.
    pub fn count() -> usize {
        processors() + reserve_size() + 2
    }

    /// The way to run something on them.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Ends them, and waits so long at most for those that are held.
    pub fn end(mut self, limit: Duration) {
        self.reserve.end();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(limit);
        }
    }
}

/// Ends them, and waits for none: a runtime must not wait for its threads on one of them, or on one of another's.
impl Drop for Threads {
    fn drop(&mut self) {
        self.reserve.end();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// All that usually run may be stuck at once, before the first one is noticed.
fn reserve_size() -> usize {
    processors().max(RESERVE_MIN)
}

#[derive(Debug)]
struct Reserve {
    size: usize,
    seats: Mutex<Seats>,
    changed: Condvar,
    /// Sees which handlers hold a thread of this runtime.
    watchdog: Arc<Watchdog>,
}

#[derive(Debug, Default)]
struct Seats {
    /// Threads that sit, or are on their way to.
    taken: usize,
    /// Threads that should.
    wanted: usize,
    has_ended: bool,
}

impl Reserve {
    /// Has as many threads run in place of stuck ones, as far as there are so many.
    fn relieve(self: &Arc<Self>, stuck: usize, threads: &Handle) {
        let mut seats = self.seats();
        seats.wanted = self.size.saturating_sub(stuck);
        while seats.taken < seats.wanted && !seats.has_ended {
            seats.taken += 1;
            let reserve = Arc::clone(self);
            // Spawned from outside, it wakes a thread, which wakes another before it sits down: so never the last one
            // that waits for the sockets is lost.
            threads.spawn(async move {
                // Pushes the task that this thread was to run next to where others find it.
                tokio::spawn(async {});
                reserve.sit();
            });
        }
        self.changed.notify_all();
    }

    /// Holds this thread for as long as it isn't needed.
    fn sit(&self) {
        let is_needed = |seats: &mut Seats| seats.taken <= seats.wanted && !seats.has_ended;
        let seats = self.changed.wait_while(self.seats(), is_needed);
        seats.unwrap_or_else(PoisonError::into_inner).taken -= 1;
    }

    fn end(&self) {
        self.seats().has_ended = true;
        self.changed.notify_all();
        self.watchdog.wake();
    }

    fn has_ended(&self) -> bool {
        self.seats().has_ended
    }

    /// No code of others runs under this lock, so a poisoned one is as good as new.
    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The watcher's life.
fn watch(reserve: &Arc<Reserve>, threads: &Handle) {
    tasks::fault_point("watchdog");
    let watchdog = &reserve.watchdog;
    let (mut before, mut relieved) = (watchdog.look(), Vec::<RunningHandler>::new());
    while !reserve.has_ended() {
        match relieved.is_empty() {
            true => watchdog.sleep(LOOK_EVERY, || reserve.has_ended()),
            false => std::thread::sleep(LOOK_EVERY),
        }
        let now = watchdog.look();
        let stuck: Vec<RunningHandler> = now
            .iter()
            .filter(|one| before.contains(one))
            .copied()
            .collect();
        // Those of before too: while they hold their threads, their commands get no others.
        stuck
            .iter()
            .for_each(|one| latency::doubt(one.instance, one.command));
        if stuck.len() > reserve.size && relieved.len() <= reserve.size {
            tracing::error!(
                stuck = stuck.len(),
                reserve = reserve.size,
                "more handlers hold a thread than there are in reserve; daemons in this process may stand still"
            );
        }
        if stuck.len() != relieved.len() {
            reserve.relieve(stuck.len(), threads);
        }
        (before, relieved) = (now, stuck);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::watchdog;
    use std::sync::mpsc;
    use std::time::Instant;

    /// What would take for ever without relief.
    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn work_goes_on_beside_as_many_stuck_handlers_as_there_are_threads_and_after_them() {
        let threads = Threads::start(watchdog::prepare_thread).unwrap();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..3 {
            let (release, released) = mpsc::channel::<()>();
            let released = Arc::new(Mutex::new(released));
            for _ in 0..processors {
                let released = Arc::clone(&released);
                threads.handle().spawn(async move {
                    watchdog::during(u64::MAX - 1, 0, true, || released.lock().unwrap().recv())
                });
            }
            // Through the runtime's timer, which needs a thread that waits for it.
            let (done, is_done) = mpsc::channel();
            threads.handle().spawn(async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                done.send(())
            });
            is_done.recv_timeout(LIMIT).expect("work goes on");
            drop(release);
            until_seated(&threads.reserve);
        }
        threads.end(LIMIT);
    }

    #[test]
    fn what_becomes_of_one_runtime_is_nothing_to_another() {
        let (own, other) = (
            Threads::start(watchdog::prepare_thread).unwrap(),
            Threads::start(watchdog::prepare_thread).unwrap(),
        );
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        // One of the other's handlers is stuck, and then the other ends.
        other.handle().spawn(async move {
            watchdog::during(u64::MAX - 11, 0, true, || released.lock().unwrap().recv())
        });
        until(|| other.reserve.seats().wanted < other.reserve.size);
        assert_eq!(own.reserve.seats().wanted, own.reserve.size);
        other.end(Duration::ZERO);
        // Now one of its own is.
        let (stuck, is_stuck) = mpsc::channel::<()>();
        let is_stuck = Arc::new(Mutex::new(is_stuck));
        own.handle().spawn(async move {
            watchdog::during(u64::MAX - 12, 0, true, || is_stuck.lock().unwrap().recv())
        });
        until(|| own.reserve.seats().wanted < own.reserve.size);
        drop((stuck, release));
        until_seated(&own.reserve);
        own.end(LIMIT);
    }

    #[track_caller]
    fn until_seated(reserve: &Reserve) {
        until(|| reserve.seats().taken == reserve.size && reserve.seats().wanted == reserve.size);
    }

    #[track_caller]
    fn until(holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < LIMIT, "it doesn't come");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
