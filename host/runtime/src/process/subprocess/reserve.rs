//! The worker processes that wait in reserve: a start takes one that has already loaded the program.
//!
//! Making a process, loading the program and its libraries, and preparing a runtime is the larger part of a start, and
//! is the same for every daemon. All that differs comes with the first message: limits, priority, environment, file. So a
//! process from the reserve becomes what a new one would be. Two things cannot come later: variables that the loader, the
//! allocator and the standard library read before `main`, and a bound on the address space, of which the thread that
//! waits in reserve has a part. A daemon that is given one of these gets a new process ([`needs_new`]).
//!
//! The reserve stays empty until the first subprocess is needed. It is filled again a moment after a start that took from
//! it is over ([`REFILL_PAUSE`]), so that the two do not compete. If it is still empty when a daemon's process dies, a new
//! one is made while the host cleans up after the dead one. One task owns the reserve ([`Keeper`]). A process that ends in
//! reserve is removed, and the next start makes up for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{self, BoxFuture, FutureExt as _, OptionFuture};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::lock;
use super::spawn::{ProcessMaker, SpawnedProcess};
use crate::os::worker_process;
use crate::process::ipc::{self, FrameKind};
use dae_store::settings::Settings;

/// The time from the end of a start until the reserve is filled again: the first commands to the daemon, which may have
/// waited for it, go first.
const REFILL_PAUSE: Duration = Duration::from_millis(3);

/// The limit for a killed process to go. One in an uninterruptible sleep is left.
const GONE_MAX: Duration = Duration::from_secs(5);

/// The beginnings of the names of variables that act before `main`, or are read once and kept: by the dynamic loader, by
/// the C library's allocator, and by Rust's standard library.
const EARLY_PREFIXES: [&str; 5] = ["LD_", "DYLD_", "GLIBC_", "MALLOC_", "RUST_"];

/// Returns whether a daemon with those settings needs a process that has not waited in reserve.
pub(super) fn needs_new(settings: &Settings) -> bool {
    let is_early = |name: &String| EARLY_PREFIXES.iter().any(|early| name.starts_with(early));
    settings.bounds.memory_bytes.is_some() || settings.env.keys().any(is_early)
}

/// A handle to the reserve. When the last clone is dropped, the processes in it end.
#[derive(Debug, Clone)]
pub(super) struct ProcessReserve {
    requests: mpsc::UnboundedSender<Request>,
    /// The ids of the processes in it.
    pids: Arc<Mutex<Vec<u32>>>,
}

enum Request {
    /// A process for a start, or none if a new one takes no longer.
    Take(oneshot::Sender<SpawnedProcess>),
    /// A start is over.
    Refill,
    /// A start is about to take one.
    Expect,
    /// The number of processes to keep from now on.
    Keep(usize),
    /// The end of all.
    End(oneshot::Sender<()>),
}

/// Fills the reserve again when it is dropped: the start that it belongs to is over.
#[derive(Debug)]
pub(super) struct RefillOnDrop(ProcessReserve);

impl Drop for RefillOnDrop {
    fn drop(&mut self) {
        self.0.request(Request::Refill);
    }
}

impl ProcessReserve {
    /// Starts an empty reserve that keeps nothing yet, on `runtime`. Its processes are made by `maker`.
    pub(super) fn start(runtime: &Handle, maker: ProcessMaker) -> Self {
        let (requests, inbox) = mpsc::unbounded_channel();
        let pids = Arc::default();
        let keeper = Keeper {
            maker,
            count: 0,
            is_needed: false,
            ready: VecDeque::new(),
            making: None,
            waiting: None,
            refill_at: None,
            pids: Arc::clone(&pids),
        };
        runtime.spawn(keeper.run(inbox));
        ProcessReserve { requests, pids }
    }

    /// Takes a process from the reserve, if there is one or one is being made.
    pub(super) async fn take(&self) -> Option<SpawnedProcess> {
        let (reply, taken) = oneshot::channel();
        self.request(Request::Take(reply));
        taken.await.ok()
    }

    /// Has a process made at once if none waits: a daemon's process has died, and a start is likely to follow.
    pub(super) fn expect(&self) {
        self.request(Request::Expect);
    }

    /// Returns a guard for the length of a start.
    pub(super) fn refill_later(&self) -> RefillOnDrop {
        RefillOnDrop(self.clone())
    }

    /// Keeps that many processes from now on; 0 ends those that wait.
    pub(super) fn keep(&self, count: usize) {
        self.request(Request::Keep(count));
    }

    /// Returns the ids of the processes that wait.
    pub(super) fn pids(&self) -> Vec<u32> {
        lock(&self.pids).clone()
    }

    /// Ends the reserve for ever, and waits until its processes are gone.
    pub(super) async fn end(&self) {
        let (reply, ended) = oneshot::channel();
        self.request(Request::End(reply));
        // Without a keeper there is nothing left to end.
        let _ = ended.await;
    }

    fn request(&self, request: Request) {
        // Fails when the reserve has ended; then a start makes its own process.
        let _ = self.requests.send(request);
    }
}

/// The task that owns the reserve.
struct Keeper {
    maker: ProcessMaker,
    /// The number of processes to keep.
    count: usize,
    /// True once a start has needed a process.
    is_needed: bool,
    ready: VecDeque<SpawnedProcess>,
    /// The process that is being made. One at a time, so that starts which need a new one don't wait behind many.
    making: Option<BoxFuture<'static, Result<SpawnedProcess, String>>>,
    /// The time at which the next one is made.
    refill_at: Option<Instant>,
    /// The start that gets the one that is being made.
    waiting: Option<oneshot::Sender<SpawnedProcess>>,
    pids: Arc<Mutex<Vec<u32>>>,
}

impl Keeper {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Request>) {
        loop {
            tokio::select! {
                biased;
                request = inbox.recv() => match request {
                    Some(Request::Take(start)) => self.give(start),
                    Some(Request::Refill) => self.refill_at = Some(Instant::now() + REFILL_PAUSE),
                    Some(Request::Expect) if self.ready.is_empty() => self.fill(),
                    Some(Request::Expect) => {}
                    Some(Request::Keep(count)) => drop(self.keep(count).await),
                    Some(Request::End(ended)) => {
                        future::join_all(self.keep(0).await).await;
                        // Fails if nobody waits for the end any more.
                        let _ = ended.send(());
                        return;
                    }
                    None => return drop(self.keep(0).await),
                },
                Some(made) = OptionFuture::from(self.making.as_mut()) => {
                    self.making = None;
                    self.on_made(made);
                }
                Some(()) = OptionFuture::from(self.refill_at.map(sleep_until)) => self.fill(),
                index = first_end(&mut self.ready) => self.on_end(index),
            }
            self.publish();
        }
    }

    fn give(&mut self, start: oneshot::Sender<SpawnedProcess>) {
        self.is_needed = true;
        while let Some(index) = first_end(&mut self.ready).now_or_never() {
            self.on_end(index);
        }
        match self.ready.pop_front() {
            Some(process) => self.send(process, start),
            None if self.making.is_some() && self.waiting.is_none() => self.waiting = Some(start),
            // Dropping `start` tells it to make its own.
            None => {}
        }
    }

    /// Gives a process to a start. If the start was given up meanwhile, the process stays.
    fn send(&mut self, process: SpawnedProcess, start: oneshot::Sender<SpawnedProcess>) {
        if let Err(process) = start.send(process) {
            self.ready.push_front(process);
        }
    }

    fn fill(&mut self) {
        self.refill_at = None;
        if self.is_needed && self.making.is_none() && self.ready.len() < self.count {
            let maker = self.maker.clone();
            self.making = Some(async move { maker.worker(&BTreeMap::new()).await }.boxed());
        }
    }

    fn on_made(&mut self, made: Result<SpawnedProcess, String>) {
        match made {
            Ok(process) => match self.waiting.take() {
                Some(start) => self.send(process, start),
                None => {
                    // It prepares for its start meanwhile. Without this it starts a little later.
                    let _ = process
                        .socket
                        .send_early(&ipc::whole(FrameKind::Wait, 0, &[]));
                    self.ready.push_back(process);
                }
            },
            Err(text) => {
                // The start that waits for it meets the same reason, and reports it.
                self.waiting = None;
                tracing::warn!("no process could be made for the reserve: {text}");
                return;
            }
        }
        self.fill();
    }

    fn on_end(&mut self, index: usize) {
        if let Some(process) = self.ready.remove(index) {
            let pid = process.process.pid();
            tokio::spawn(async move {
                let how = bury(process).await;
                tracing::warn!(
                    pid,
                    "a process in reserve {how}; the next start makes another"
                );
            });
        }
    }

    /// Keeps that many from now on. Returns the tasks that end the others.
    async fn keep(&mut self, count: usize) -> Vec<JoinHandle<String>> {
        self.count = count;
        if count == 0
            && let Some(making) = self.making.take()
        {
            // The order is with the thread that makes processes, so it is waited for.
            self.ready.extend(making.await);
        }
        let surplus = self.ready.split_off(count.min(self.ready.len()));
        self.fill();
        self.publish();
        let endings = surplus.into_iter();
        endings.map(|one| tokio::spawn(bury(one))).collect()
    }

    fn publish(&self) {
        *lock(&self.pids) = self.ready.iter().map(|one| one.process.pid()).collect();
    }
}

/// Waits until one of the processes has ended, and returns its index. Without any it waits for ever.
async fn first_end(ready: &mut VecDeque<SpawnedProcess>) -> usize {
    if ready.is_empty() {
        return future::pending().await;
    }
    let ends = ready.iter_mut().map(|one| one.process.exited().boxed());
    future::select_all(ends).await.1
}

/// Ends a process, and returns how it ended.
async fn bury(mut spawned: SpawnedProcess) -> String {
    let process = &mut spawned.process;
    let ending = async {
        let status = process.kill().await;
        process.all_gone().await;
        process.forget();
        status
    };
    match tokio::time::timeout(GONE_MAX, ending).await {
        Ok(Ok(status)) => worker_process::in_words(status),
        Ok(Err(error)) => format!("ended, and can't be asked how: {error}"),
        Err(_) => format!("can't be killed within {GONE_MAX:?} and is left"),
    }
}
