//! The thread that runs a test host: every task of its daemons, one at a time, in the order in which they became ready.
//!
//! The thread works only while the test waits for it. So nothing changes between two statements of a test, and the same
//! test takes the same steps each time. A thread of its own, and not that of the test, because a command that never
//! returns must not hang the test: the test waits for a limited time, and then names the code that holds the thread.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread, ThreadId};
use std::time::Instant;

use super::signal::lock;

/// The polls after which a round ends although tasks are ready. A task that always wakes itself would never let it end.
const ROUND_POLLS_MAX: usize = 100_000;

/// The most tasks that an error names.
const NAMED_MAX: usize = 5;

type JobFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The tasks of a test host, and their thread.
pub struct Executor {
    ready: Mutex<Ready>,
    changed: Condvar,
    jobs: Mutex<BTreeMap<u64, Arc<Job>>>,
}

#[derive(Default)]
struct Ready {
    queue: VecDeque<Arc<Job>>,
    /// True while the thread is to run what is ready.
    is_busy: bool,
    /// Set when a thread of a daemon has done something that the test may wait for.
    is_nudged: bool,
    polls: usize,
    /// The task that runs now.
    running: Option<String>,
    is_closed: bool,
    thread: Option<ThreadId>,
    last_id: u64,
    /// The panic of a test's own code, such as a handler of a fake daemon.
    panic: Option<Box<dyn Any + Send>>,
}

/// A task.
struct Job {
    id: u64,
    /// The instance that it belongs to; 0 for the host's own.
    owner: u64,
    label: String,
    work: Mutex<Option<JobFuture>>,
    is_queued: AtomicBool,
    is_cancelled: AtomicBool,
    executor: Weak<Executor>,
}

impl Wake for Job {
    fn wake(self: Arc<Self>) {
        let Some(executor) = self.executor.upgrade() else {
            return;
        };
        if !self.is_queued.swap(true, Ordering::AcqRel) {
            lock(&executor.ready).queue.push_back(self);
            executor.changed.notify_all();
        }
    }
}

impl Executor {
    /// Starts the thread.
    pub fn start() -> Arc<Self> {
        let executor = Arc::new(Executor {
            ready: Mutex::default(),
            changed: Condvar::new(),
            jobs: Mutex::default(),
        });
        let own = Arc::clone(&executor);
        let thread = thread::Builder::new().name("dae-testing".to_owned());
        let started = thread.spawn(move || own.serve());
        // A test has nothing else to do then.
        let started = started.expect("a thread for the test host");
        lock(&executor.ready).thread = Some(started.thread().id());
        executor
    }

    /// Adds a task. `label` names it in errors.
    pub fn spawn(
        self: &Arc<Self>,
        owner: u64,
        label: &str,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> u64 {
        let id = {
            let mut ready = lock(&self.ready);
            ready.last_id += 1;
            ready.last_id
        };
        let job = Arc::new(Job {
            id,
            owner,
            label: label.to_owned(),
            work: Mutex::new(Some(Box::pin(work))),
            is_queued: AtomicBool::new(false),
            is_cancelled: AtomicBool::new(false),
            executor: Arc::downgrade(self),
        });
        lock(&self.jobs).insert(id, Arc::clone(&job));
        job.wake();
        id
    }

    /// Drops a task that has not ended. If its code holds the thread, it is dropped when that code returns.
    pub fn cancel(&self, id: u64) {
        let job = lock(&self.jobs).remove(&id);
        if let Some(job) = job {
            job.is_cancelled.store(true, Ordering::SeqCst);
            job.drop_cancelled();
        }
    }

    /// Drops the tasks of an instance.
    pub fn cancel_all_of(&self, owner: u64) {
        let of_owner = |job: &&Arc<Job>| job.owner == owner;
        let ids: Vec<u64> = lock(&self.jobs)
            .values()
            .filter(of_owner)
            .map(|job| job.id)
            .collect();
        ids.into_iter().for_each(|id| self.cancel(id));
    }

    /// Returns the number of tasks of an instance that have not ended.
    #[cfg(test)]
    pub fn tasks_of(&self, owner: u64) -> usize {
        let jobs = lock(&self.jobs);
        jobs.values().filter(|job| job.owner == owner).count()
    }

    /// Returns whether this is the thread of the tasks. It can't wait for itself.
    pub fn is_here(&self) -> bool {
        lock(&self.ready).thread == Some(thread::current().id())
    }

    /// Returns whether a task holds the thread although nobody waits for it any more.
    pub fn is_held(&self) -> bool {
        lock(&self.ready).running.is_some()
    }

    /// Runs the tasks until none is ready.
    ///
    /// # Errors
    /// A task has not returned by the deadline; its label.
    ///
    /// # Panics
    /// Panics with the panic of the test's own code in a task.
    pub fn round(&self, deadline: Instant) -> Result<(), String> {
        let mut ready = lock(&self.ready);
        ready.is_busy = true;
        ready.polls = 0;
        self.changed.notify_all();
        while ready.is_busy {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let running = ready.running.clone();
                return Err(running.unwrap_or_else(|| "a task".to_owned()));
            }
            let waited = self.changed.wait_timeout(ready, left);
            ready = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if let Some(panic) = ready.panic.take() {
            drop(ready);
            resume_unwind(panic);
        }
        Ok(())
    }

    /// Wakes the test if it waits for work.
    pub fn nudge(&self) {
        lock(&self.ready).is_nudged = true;
        self.changed.notify_all();
    }

    /// Waits until another thread has woken a task, or has called [`Executor::nudge`]. Returns false if none has by the
    /// deadline.
    pub fn waits_for_work(&self, deadline: Instant) -> bool {
        let mut ready = lock(&self.ready);
        while ready.queue.is_empty() && !std::mem::take(&mut ready.is_nudged) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(ready, left);
            ready = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Returns the labels of the tasks that have not ended, for an error.
    pub fn unfinished(&self) -> String {
        let mut labels: Vec<String> = Vec::new();
        for job in lock(&self.jobs).values() {
            if !labels.contains(&job.label) {
                labels.push(job.label.clone());
            }
        }
        let more = labels.len().saturating_sub(NAMED_MAX);
        labels.truncate(NAMED_MAX);
        match (labels.is_empty(), more) {
            (true, _) => "nothing".to_owned(),
            (_, 0) => labels.join(", "),
            _ => format!("{} and {more} more", labels.join(", ")),
        }
    }

    /// Ends the thread, and drops all tasks, unless one of them holds the thread.
    pub fn close(&self) {
        let (is_held, queue) = {
            let mut ready = lock(&self.ready);
            ready.is_closed = true;
            self.changed.notify_all();
            (ready.running.is_some(), std::mem::take(&mut ready.queue))
        };
        // A task that is dropped may wake another one, which takes the lock.
        drop(queue);
        if !is_held {
            let jobs = std::mem::take(&mut *lock(&self.jobs));
            for job in jobs.into_values() {
                drop(lock(&job.work).take());
            }
        }
    }

    fn serve(&self) {
        while let Some(job) = self.next() {
            job.is_queued.store(false, Ordering::Release);
            let waker = Waker::from(Arc::clone(&job));
            let polled = catch_unwind(AssertUnwindSafe(|| job.poll(&waker)));
            job.drop_cancelled();
            let mut ready = lock(&self.ready);
            ready.running = None;
            let has_ended = match polled {
                Ok(has_ended) => has_ended,
                Err(panic) => {
                    ready.panic = Some(panic);
                    true
                }
            };
            drop(ready);
            if has_ended {
                lock(&self.jobs).remove(&job.id);
            }
        }
    }

    /// Waits for the next task that is to run; `None` at the end.
    fn next(&self) -> Option<Arc<Job>> {
        let mut ready = lock(&self.ready);
        loop {
            if ready.is_closed {
                return None;
            }
            if ready.is_busy {
                let has_turn = ready.polls < ROUND_POLLS_MAX && ready.panic.is_none();
                if let Some(job) = has_turn.then(|| ready.queue.pop_front()).flatten() {
                    ready.polls += 1;
                    ready.running = Some(job.label.clone());
                    return Some(job);
                }
                ready.is_busy = false;
                self.changed.notify_all();
            }
            let waited = self.changed.wait(ready);
            ready = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Job {
    /// Polls the task. Returns true if it has ended.
    fn poll(&self, waker: &Waker) -> bool {
        let mut place = lock(&self.work);
        let Some(work) = place.as_mut() else {
            return true;
        };
        let has_ended = work
            .as_mut()
            .poll(&mut Context::from_waker(waker))
            .is_ready();
        if has_ended {
            *place = None;
        }
        has_ended
    }

    /// Drops the work of a cancelled task, unless its code runs. The thread calls this again after that.
    fn drop_cancelled(&self) {
        if self.is_cancelled.load(Ordering::SeqCst) {
            let work = self.work.try_lock().ok().and_then(|mut work| work.take());
            drop(work);
        }
    }
}

/// Runs a future to its end on this thread, which may block.
pub fn run_here<T>(work: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut work = pin!(work);
    loop {
        match work.as_mut().poll(&mut context) {
            Poll::Ready(result) => return result,
            Poll::Pending => thread::park(),
        }
    }
}
