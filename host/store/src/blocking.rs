//! Runs blocking work on separate threads, and handles a system that has no thread left.
//!
//! tokio panics if it can't create a thread: in the task that spawns work, at any time, and while it builds a runtime.
//! A limit on the processes of a user or service must affect only the work that needs the thread. All work for tokio's
//! pool therefore goes through this file. Work that the pool can't take is refused with an error and never runs later.
//! Code that builds a runtime first checks that there are enough threads ([`check_threads`]).
//!
//! A library that hangs in its constructor holds the system loader's lock. Everything that takes this lock then hangs
//! too: loading another library, an orderly exit of the process, and a thread's first use of a thread-local variable
//! with a destructor. Runtime threads therefore use all such variables when they begin
//! (`session::thread_start::prepare` in the runtime crate), and one pool thread stays idle ([`keep_one_idle`]), since a
//! new thread would hang at its start.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, Once, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};

use crate::os::advice::NO_THREAD;
use crate::os::threads::task_of_this_thread;

/// The longest time that the system may take to stop counting an ended thread.
const ENDED_MAX: Duration = Duration::from_secs(1);

/// The interval at which the idle thread is used. tokio ends a pool thread after 10 s without use.
const TOUCH_EVERY: Duration = Duration::from_secs(4);

/// The stack size of a thread that does nothing (bytes).
const STACK_BYTES: usize = 64 << 10;

/// Work on a pool thread. Dropping this doesn't stop the work, but its result is lost.
#[derive(Debug)]
pub struct Blocking<R>(Result<JoinHandle<R>, Option<String>>);

/// Runs `work` on a thread of the current runtime's pool.
pub fn run<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Blocking<R> {
    Blocking(spawn_on(&Handle::current(), work).map_err(Some))
}

impl<R> Future for Blocking<R> {
    type Output = Result<R, String>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(handle) => {
                let joined = Pin::new(handle).poll(context);
                joined.map(|joined| joined.map_err(why))
            }
            Err(refused) => Poll::Ready(Err(refused.take().unwrap_or_default())),
        }
    }
}

/// Runs `work` on a thread of the current runtime's pool, or on this one if the system has no thread left. For work on
/// the disk that must be done even then. Once begun, the work is completed, even if this future is dropped.
///
/// # Errors
/// The work panicked, or the runtime is ending; the text says which.
pub async fn run_or_here<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, String> {
    let (reply, result) = oneshot::channel();
    let queued = Arc::new(Mutex::new(Some(work)));
    let to_run = Arc::clone(&queued);
    let spawned = spawn_on(&Handle::current(), move || {
        let work = crate::lock::lock(&to_run).take();
        if let Some(work) = work {
            // The caller may be gone.
            let _ = reply.send(work());
        }
    });
    match spawned {
        Ok(handle) => handle.await.map_err(why)?,
        Err(_) => {
            // It is gone if a thread has become idle meanwhile and has taken it.
            let work = crate::lock::lock(&queued).take();
            if let Some(work) = work {
                return Ok(work());
            }
        }
    }
    result
        .await
        .map_err(|_| "it ended without a result".to_owned())
}

/// Runs `work` on a thread of the given runtime's pool.
///
/// # Errors
/// No thread is available; the work doesn't run.
pub fn spawn_on<R: Send + 'static>(
    runtime: &Handle,
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<JoinHandle<R>, String> {
    thread_local! {
        static SPAWNS: Cell<bool> = const { Cell::new(false) };
    }
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !SPAWNS.get() {
                hook(panic);
            }
        }));
    });
    // The pool queues the work before it looks for a thread, and leaves it in the queue if it finds none.
    let queued = Arc::new(Mutex::new(Some(work)));
    let to_run = Arc::clone(&queued);
    let run = move || match crate::lock::lock(&to_run).take() {
        Some(work) => work(),
        // The work was refused. Nobody has its handle, and `resume_unwind` calls no panic hook.
        None => resume_unwind(Box::new(NO_THREAD)),
    };
    SPAWNS.set(true);
    let spawned = catch_unwind(AssertUnwindSafe(|| runtime.spawn_blocking(run)));
    SPAWNS.set(false);
    match spawned {
        Ok(handle) => Ok(handle),
        Err(_) => {
            drop(crate::lock::lock(&queued).take());
            Err(NO_THREAD.to_owned())
        }
    }
}

/// Keeps one thread of the current runtime's pool idle while this future is polled, for times when the system has no
/// more threads or a new one could not begin.
pub async fn keep_one_idle() {
    loop {
        // If no thread is available, the next iteration tries again.
        let _ = run(|| ()).await;
        tokio::time::sleep(TOUCH_EVERY).await;
    }
}

/// Checks that this process can have `count` more threads at the same time.
///
/// # Errors
/// It can't; the text says what to do.
pub fn check_threads(count: usize) -> io::Result<()> {
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let one = |_| {
        let released = Arc::clone(&released);
        let waits = move || {
            // The thread ends when the sender is dropped.
            let _ = crate::lock::lock(&released).recv();
            task_of_this_thread()
        };
        thread::Builder::new().stack_size(STACK_BYTES).spawn(waits)
    };
    let made: io::Result<Vec<_>> = (0..count).map(one).collect();
    drop(release);
    let made =
        made.map_err(|error| io::Error::new(error.kind(), format!("{NO_THREAD} ({error})")))?;
    let ended = made.into_iter().map(|thread| thread.join().ok().flatten());
    let tasks: Vec<PathBuf> = ended.flatten().collect();
    // The system counts a joined thread for a moment longer.
    let began = Instant::now();
    while tasks.iter().any(|task| task.exists()) && began.elapsed() < ENDED_MAX {
        thread::yield_now();
    }
    Ok(())
}

/// Calls `work` with each number below `count` on up to `threads_max` threads, including this one. Returns the results
/// in the order of the numbers; `None` stands for a call that panicked.
///
/// If the system has no spare threads, fewer threads do the work. A thread that can't begin, because a library that is
/// being loaded holds the loader's lock, is not waited for.
pub fn side_by_side<T: Send + 'static>(
    count: usize,
    threads_max: usize,
    work: impl Fn(usize) -> T + Send + Sync + 'static,
) -> Vec<Option<T>> {
    let shared = Arc::new(SharedWork {
        work,
        next: AtomicUsize::new(0),
        results: Mutex::new(Results {
            all: (0..count).map(|_| None).collect(),
            left: count,
        }),
        all_done: Condvar::new(),
    });
    for _ in 1..threads_max.min(count) {
        let theirs = Arc::clone(&shared);
        if thread::Builder::new()
            .spawn(move || theirs.do_some())
            .is_err()
        {
            break;
        }
    }
    shared.do_some();
    let results = crate::lock::lock(&shared.results);
    let results = shared
        .all_done
        .wait_while(results, |results| results.left > 0);
    let mut results = results.unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut results.all)
}

/// Work that several threads share.
struct SharedWork<T, W> {
    work: W,
    /// The next number that no thread has taken.
    next: AtomicUsize,
    results: Mutex<Results<T>>,
    all_done: Condvar,
}

struct Results<T> {
    all: Vec<Option<T>>,
    /// The number of results still missing.
    left: usize,
}

impl<T, W: Fn(usize) -> T> SharedWork<T, W> {
    fn do_some(&self) {
        let count = crate::lock::lock(&self.results).all.len();
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            let result = catch_unwind(AssertUnwindSafe(|| (self.work)(number)));
            let mut results = crate::lock::lock(&self.results);
            results.all[number] = result.ok();
            results.left -= 1;
            if results.left == 0 {
                self.all_done.notify_all();
            }
        }
    }
}

/// Returns why a task has no result, for a person: its panic's message, or that it was dropped with its runtime.
pub fn why(error: JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else {
        return "the host is ending".to_owned();
    };
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    match text {
        Some(text) => format!("it panicked: {text}"),
        None => "it panicked".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::runtime::Builder;

    #[test]
    fn a_task_without_a_result_is_told_in_plain_words() {
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let ends = tokio::spawn(std::future::pending::<()>());
            ends.abort();
            assert_eq!(why(ends.await.unwrap_err()), "the host is ending");
            let panics = tokio::spawn(async { resume_unwind(Box::new("no such thing")) });
            let error = panics.await.unwrap_err();
            assert_eq!(why(error), "it panicked: no such thing");
        });
    }

    #[test]
    fn results_of_many_threads_are_in_order_and_a_panic_costs_one_of_them() {
        let results = side_by_side(100, 4, |number| {
            if number == 7 {
                resume_unwind(Box::new("asked to panic"));
            }
            number
        });
        let expected: Vec<_> = (0..100).map(|n| (n != 7).then_some(n)).collect();
        assert_eq!(results, expected);
        assert_eq!(side_by_side(0, 4, |_| ()), []);
    }

    #[test]
    fn work_is_done_and_space_for_it_is_found() {
        check_threads(3).unwrap();
        let runtime = Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(async { run(|| 7).await }), Ok(7));
        assert_eq!(runtime.block_on(run_or_here(|| 7)), Ok(7));
        let panics = || -> u32 { resume_unwind(Box::new("no such thing")) };
        let why = runtime.block_on(run_or_here(panics)).unwrap_err();
        assert_eq!(why, "it panicked: no such thing");
    }
}
