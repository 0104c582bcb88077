//! A fake host for the tests of this crate: it keeps event queues, runs spawned tasks, and returns prepared answers.
//!
//! It has no threads and no clock. [`FakeHost::settle`] runs the spawned tasks until none makes further progress, and
//! [`FakeHost::finish`] runs a future together with them.

#![allow(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use abi_stable::std_types::{RSlice, RStr};
use async_ffi::{FfiFuture, FutureExt as _};

use crate::abi::{HostV1, HostVtableV1, Output, SinkV1, StepV1, status};
use crate::{Ecosystem, Guest, operation, wire};

/// The number of polls after which a test fails.
const ROUNDS_MAX: usize = 10_000;
/// More rounds than any task needs to make progress.
const SETTLING_ROUNDS: usize = 200;

/// The host of one daemon.
pub struct FakeHost(u64);

#[derive(Default)]
struct State {
    queues: HashMap<u64, EventQueue>,
    /// The queues of each connected guest.
    guests: HashMap<u64, Vec<u64>>,
    /// The answers to `ask_later`, by operation.
    answers: HashMap<String, (u32, Vec<u8>)>,
    /// All requests, of `ask` and of `ask_later`.
    asked: Vec<(String, Vec<u8>)>,
    emitted: Vec<(u64, String)>,
    logged: Vec<String>,
    tasks: Vec<FfiFuture<()>>,
    has_ended: bool,
}

#[derive(Default)]
struct EventQueue {
    lines: VecDeque<String>,
    is_over: bool,
}

static HOSTS: Mutex<Option<HashMap<u64, State>>> = Mutex::new(None);

fn with<T>(daemon: u64, act: impl FnOnce(&mut State) -> T) -> T {
    let mut hosts: MutexGuard<'_, _> = HOSTS.lock().unwrap_or_else(PoisonError::into_inner);
    act(hosts.get_or_insert_default().entry(daemon).or_default())
}

impl FakeHost {
    /// Creates a host without any requests so far.
    pub fn new() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        FakeHost(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub fn host(&self) -> HostV1 {
        HostV1 {
            daemon: self.0,
            vtable: &VTABLE,
        }
    }

    pub fn ecosystem(&self) -> Ecosystem {
        Ecosystem::new(self.host())
    }

    /// Returns a connected guest.
    pub fn guest(&self, id: u64) -> Guest {
        with(self.0, |state| {
            state.guests.entry(id).or_default();
        });
        Guest::new(self.host(), id)
    }

    /// Sets the answer to an operation.
    pub fn answer(&self, operation: &str, status: u32, answer: &[u8]) {
        let answer = (status, answer.to_vec());
        with(self.0, |state| {
            state.answers.insert(operation.into(), answer)
        });
    }

    /// Sends a line from the guest to its queues.
    pub fn say(&self, guest: u64, line: &str) {
        with(self.0, |state| {
            for queue in state.guests.get(&guest).into_iter().flatten() {
                let queue = state.queues.get_mut(queue).expect("a queue of that guest");
                queue.lines.push_back(line.to_owned());
            }
        });
    }

    /// Ends all queues of the guest, which stays connected.
    pub fn overflow_queues(&self, guest: u64) {
        self.say(guest, r#"disconnect ["slow-guest: more than it holds"]"#);
        with(self.0, |state| {
            for queue in std::mem::take(state.guests.entry(guest).or_default()) {
                state.queues.entry(queue).or_default().is_over = true;
            }
        });
    }

    /// Ends the guest for good.
    pub fn end_guest(&self, guest: u64) {
        self.say(guest, r#"disconnect ["it has gone"]"#);
        with(self.0, |state| {
            for queue in state.guests.remove(&guest).unwrap_or_default() {
                state.queues.entry(queue).or_default().is_over = true;
            }
        });
    }

    /// Ends the daemon, which cancels its spawned tasks.
    pub fn end(&self) {
        let tasks = with(self.0, |state| {
            state.has_ended = true;
            std::mem::take(&mut state.tasks)
        });
        drop(tasks);
    }

    pub fn asked(&self, operation: &str) -> Vec<Vec<u8>> {
        with(self.0, |state| {
            let named = state.asked.iter().filter(|(name, _)| name == operation);
            named.map(|(_, request)| request.clone()).collect()
        })
    }

    pub fn emitted(&self) -> Vec<(u64, String)> {
        with(self.0, |state| state.emitted.clone())
    }

    pub fn logged(&self) -> String {
        with(self.0, |state| state.logged.join("\n"))
    }

    /// Returns the number of tasks that haven't ended.
    pub fn tasks(&self) -> usize {
        with(self.0, |state| state.tasks.len())
    }

    pub fn open_queues(&self) -> usize {
        with(self.0, |state| {
            state.queues.values().filter(|queue| !queue.is_over).count()
        })
    }

    /// Polls every task once.
    fn round(&self) {
        let tasks = with(self.0, |state| std::mem::take(&mut state.tasks));
        let mut context = Context::from_waker(Waker::noop());
        let mut going_on = Vec::new();
        for mut task in tasks {
            if Pin::new(&mut task).poll(&mut context).is_pending() {
                going_on.push(task);
            }
        }
        with(self.0, |state| {
            going_on.append(&mut state.tasks);
            state.tasks = going_on;
        });
    }

    /// Runs the tasks until none makes further progress.
    pub fn settle(&self) {
        for _ in 0..SETTLING_ROUNDS {
            self.round();
        }
    }

    /// Runs `future` to its end, and the tasks beside it.
    #[track_caller]
    pub fn finish<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..ROUNDS_MAX {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
            self.round();
        }
        panic!("it does not end");
    }

    /// Polls `future` once.
    pub fn glance<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }
}

static VTABLE: HostVtableV1 = HostVtableV1 {
    log,
    ask,
    ask_later,
    emit,
    spawn,
    sleep,
    query,
};

unsafe extern "C" fn log(daemon: u64, _: u32, _: RStr<'_>, message: RStr<'_>, _: RStr<'_>) {
    with(daemon, |state| {
        state.logged.push(message.as_str().to_owned())
    });
}

unsafe extern "C" fn ask(
    daemon: u64,
    operation: RStr<'_>,
    request: RSlice<'_, u8>,
    _: *mut SinkV1,
) -> u32 {
    with(daemon, |state| {
        state.now(operation.as_str(), request.as_slice())
    })
}

impl State {
    fn now(&mut self, operation: &str, request: &[u8]) -> u32 {
        self.asked.push((operation.to_owned(), request.to_vec()));
        let (number, rest) = wire::number_of(request).unwrap_or((0, b""));
        match operation {
            _ if self.has_ended => status::GONE,
            operation::GUEST_LISTEN => {
                let guest = wire::number_of(rest).expect("a guest").0;
                let Some(queues) = self.guests.get_mut(&guest) else {
                    return status::GONE;
                };
                queues.push(number);
                self.queues.insert(number, EventQueue::default());
                status::NOTHING
            }
            operation::QUEUE_SUBSCRIBE | operation::QUEUE_WATCH => {
                // Treat the queue as one of guest 0.
                self.guests.entry(0).or_default().push(number);
                self.queues.insert(number, EventQueue::default());
                status::NOTHING
            }
            operation::QUEUE_CLOSE => {
                self.queues.entry(number).or_default().is_over = true;
                status::NOTHING
            }
            operation::PUBLISH | operation::GUEST_CLOSE => status::NOTHING,
            operation::GUEST_OPEN => status::GONE,
            _ => status::UNKNOWN,
        }
    }

    /// Returns the lines of a queue, or `GONE` after its end; `None` while there are none.
    fn next(&mut self, queue: u64) -> Option<(u32, Vec<u8>)> {
        let queue = self.queues.entry(queue).or_default();
        let lines: String = queue.lines.drain(..).map(|line| line + "\n").collect();
        match (lines.is_empty(), queue.is_over) {
            (false, _) => Some((status::DONE, lines.into_bytes())),
            (true, true) => Some((status::GONE, Vec::new())),
            (true, false) => None,
        }
    }
}

unsafe extern "C" fn ask_later(
    daemon: u64,
    operation: RStr<'_>,
    request: RSlice<'_, u8>,
    sink: *mut SinkV1,
) -> StepV1 {
    // SAFETY: the crate keeps the sink valid and leaves it to the step until the step has ended.
    let mut out = unsafe { Output::new(sink) };
    let request = request.as_slice().to_vec();
    if operation.as_str() == operation::QUEUE_NEXT {
        let queue = wire::number_of(&request).expect("a queue").0;
        let next = move || with(daemon, |state| state.next(queue));
        if let Some((status, lines)) = next() {
            out.push(&lines);
            return StepV1::ended(status);
        }
        let future = std::future::poll_fn(move |_| match next() {
            Some((status, lines)) => {
                out.push(&lines);
                Poll::Ready(status)
            }
            None => Poll::Pending,
        });
        return StepV1::pending(future.into_ffi());
    }
    let (status, answer) = with(daemon, |state| {
        state.asked.push((operation.as_str().to_owned(), request));
        let answer = state.answers.get(operation.as_str()).cloned();
        answer.unwrap_or((status::UNKNOWN, Vec::new()))
    });
    out.push(&answer);
    StepV1::ended(status)
}

unsafe extern "C" fn emit(daemon: u64, guest: u64, line: RSlice<'_, u8>) -> u32 {
    let line = String::from_utf8_lossy(line.as_slice()).into_owned();
    with(daemon, |state| {
        if !state.guests.contains_key(&guest) {
            return status::GONE;
        }
        state.emitted.push((guest, line));
        status::NOTHING
    })
}

unsafe extern "C" fn spawn(daemon: u64, future: FfiFuture<()>) -> u32 {
    let refused = with(daemon, |state| {
        if state.has_ended {
            return Some(future);
        }
        state.tasks.push(future);
        None
    });
    match refused {
        Some(_) => status::GONE,
        None => status::NOTHING,
    }
}

unsafe extern "C" fn sleep(_: u64, _: u64) -> FfiFuture<()> {
    std::future::ready(()).into_ffi()
}

unsafe extern "C" fn query(_: RStr<'_>) -> *const () {
    std::ptr::null()
}
