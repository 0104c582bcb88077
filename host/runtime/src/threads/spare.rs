//! The threads that guests and daemons' code run on, and the spare threads that replace those that a handler blocks.
//!
//! A handler that has proven quick is called directly on a guest's thread. If it then never returns, that thread is
//! lost. If that thread was the one that polls the sockets, nothing polls them any more, and with as many such handlers
//! as threads, every daemon stands still. So the watchdog looks for handlers that hold a thread. For a handler that it
//! sees in two looks, a spare thread takes over until it returns, and its command must prove quick again, with more
//! runs than before ([`crate::threads::latency`]).
//!
//! A spare thread is a thread of the runtime that waits inside a task, so it costs only its stack. The watchdog sleeps
//! while nothing is called.
//!
//! One limitation remains: the task that a stuck handler's thread was about to run next, at most one, waits as well.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::threads::latency;
use crate::threads::watchdog::{RunningHandler, Watchdog};
use dae_store::blocking;
use dae_store::lock::lock;
use dae_store::tasks;

/// The interval between two looks. A handler gets relief after one to two of these, about when a guest begins to
/// notice.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The minimum number of spare threads: small machines have stuck handlers too.
const RESERVE_MIN: usize = 4;

/// The threads of a host.
#[derive(Debug)]
pub struct Threads {
    // `None` only while this is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
    reserve: Arc<Reserve>,
}

impl Threads {
    /// Starts one thread per processor, and the spare ones. Each thread calls `prepare` when it begins.
    ///
    /// # Errors
    /// The system's error: it can't run so many threads.
    pub fn start(prepare: fn()) -> io::Result<Self> {
        let processors = processors();
        let size = reserve_size();
        blocking::check_threads(Self::count())?;
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
            slots: Mutex::default(),
            changed: Condvar::new(),
            watchdog,
        });
        reserve.relieve(0, runtime.handle());
        // A handler that holds its thread moves that thread's other work to another one ([`crate::threads::latency`]),
        // and if the system has none to give, tokio panics.
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

    /// Returns the total number of threads, including the watchdog and the idle one.
    pub fn count() -> usize {
        processors() + reserve_size() + 2
    }

    /// Returns the handle that spawns work on these threads.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Ends the threads, and waits at most `limit` for those that are blocked.
    pub fn end(mut self, limit: Duration) {
        self.reserve.end();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(limit);
        }
    }
}

/// Ends the threads without waiting: a runtime must not wait for its threads on one of them, or on another runtime's.
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

/// Returns the number of spare threads: all usual threads may be stuck at once before the first one is noticed.
fn reserve_size() -> usize {
    processors().max(RESERVE_MIN)
}

#[derive(Debug)]
struct Reserve {
    size: usize,
    slots: Mutex<ThreadSlots>,
    changed: Condvar,
    /// Finds the handlers that hold a thread of this runtime.
    watchdog: Arc<Watchdog>,
}

#[derive(Debug, Default)]
struct ThreadSlots {
    /// Threads that wait in reserve, or are about to.
    taken: usize,
    /// Threads that should wait in reserve.
    wanted: usize,
    has_ended: bool,
}

impl Reserve {
    /// Releases one spare thread for each stuck one, as long as there are any, and calls the others back.
    fn relieve(self: &Arc<Self>, stuck: usize, threads: &Handle) {
        let mut slots = self.slots();
        slots.wanted = self.size.saturating_sub(stuck);
        while slots.taken < slots.wanted && !slots.has_ended {
            slots.taken += 1;
            let reserve = Arc::clone(self);
            // Spawned from outside, the task wakes a thread, which wakes another one before it sits down. So the thread
            // that polls the sockets is never lost.
            threads.spawn(async move {
                // Makes the task that this thread was to run next visible to other threads.
                tokio::spawn(async {});
                reserve.sit();
            });
        }
        self.changed.notify_all();
    }

    /// Holds this thread in reserve until it is needed.
    fn sit(&self) {
        let is_needed = |slots: &mut ThreadSlots| slots.taken <= slots.wanted && !slots.has_ended;
        let slots = self.changed.wait_while(self.slots(), is_needed);
        slots.unwrap_or_else(PoisonError::into_inner).taken -= 1;
    }

    fn end(&self) {
        self.slots().has_ended = true;
        self.changed.notify_all();
        self.watchdog.wake();
    }

    fn has_ended(&self) -> bool {
        self.slots().has_ended
    }

    fn slots(&self) -> MutexGuard<'_, ThreadSlots> {
        lock(&self.slots)
    }
}

/// Runs the watchdog's loop until the threads end.
#[expect(clippy::disallowed_methods, reason = "this thread has no other work")]
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
        // Includes handlers that were stuck before: while they hold their threads, their commands stay distrusted.
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

    /// A limit that only a missing relief exceeds.
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
                    watchdog::during(u64::MAX - 1, 0, true, || lock(&released).recv())
                });
            }
            // The runtime's timer needs a thread that waits for it.
            let (done, is_done) = mpsc::channel();
            threads.handle().spawn(async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                done.send(())
            });
            is_done.recv_timeout(LIMIT).expect("work goes on");
            drop(release);
            until_all_are_taken(&threads.reserve);
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
        // A handler of the other runtime is stuck, and then that runtime ends.
        other.handle().spawn(async move {
            watchdog::during(u64::MAX - 11, 0, true, || lock(&released).recv())
        });
        until(|| other.reserve.slots().wanted < other.reserve.size);
        assert_eq!(own.reserve.slots().wanted, own.reserve.size);
        other.end(Duration::ZERO);
        // Now a handler of the first runtime is stuck.
        let (stuck, is_stuck) = mpsc::channel::<()>();
        let is_stuck = Arc::new(Mutex::new(is_stuck));
        own.handle().spawn(async move {
            watchdog::during(u64::MAX - 12, 0, true, || lock(&is_stuck).recv())
        });
        until(|| own.reserve.slots().wanted < own.reserve.size);
        drop((stuck, release));
        until_all_are_taken(&own.reserve);
        own.end(LIMIT);
    }

    #[track_caller]
    fn until_all_are_taken(reserve: &Reserve) {
        until(|| reserve.slots().taken == reserve.size && reserve.slots().wanted == reserve.size);
    }

    #[expect(clippy::disallowed_methods, reason = "a test waits for other threads")]
    #[track_caller]
    fn until(holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < LIMIT, "it doesn't come");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
