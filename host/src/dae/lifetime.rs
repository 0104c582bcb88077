//! The lifetime of an ecosystem: its tasks, its threads for guests, and the signals of its end.

use std::sync::Mutex;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::lock;
use dae_runtime::session::accept::Listener;
use dae_runtime::session::control::ControlSocket;
use dae_runtime::threads::spare::Threads;

/// The tasks and threads that run for as long as the ecosystem does. `shutdown` ends them.
#[derive(Debug)]
pub(super) struct Lifetime {
    /// Cancelled when the end begins. After that nothing new begins.
    pub(super) ending: CancellationToken,
    /// Cancelled when everything has ended. Open requests are then answered that the host has ended.
    pub(super) ended: CancellationToken,
    /// Cancelled when the owner requests the end on the control socket. `None` if the program doesn't wait for that.
    requested: Option<CancellationToken>,
    parts: Mutex<Parts>,
}

#[derive(Debug)]
struct Parts {
    tasks: Vec<Task>,
    /// The threads for daemons' code and guests. They are separate, so that no handler can block the management of
    /// the ecosystem.
    guests: Option<Threads>,
}

/// A part that runs for the whole ecosystem. They are kept in the order of their start.
#[derive(Debug)]
pub(super) enum Task {
    Listening(#[expect(dead_code, reason = "held until it is dropped")] Listener),
    Control(#[expect(dead_code, reason = "held until it is dropped")] ControlSocket),
    Loop(JoinHandle<()>),
}

impl Lifetime {
    pub(super) fn of(guests: Threads, listening: Listener, ends_on_request: bool) -> Self {
        Lifetime {
            requested: ends_on_request.then(CancellationToken::new),
            ending: CancellationToken::new(),
            ended: CancellationToken::new(),
            parts: Mutex::new(Parts {
                tasks: vec![Task::Listening(listening)],
                guests: Some(guests),
            }),
        }
    }

    /// Returns whether the program waits for a request of the owner to end.
    pub(super) fn can_be_ended(&self) -> bool {
        self.requested.is_some()
    }

    /// Requests the end, for the owner.
    pub(super) fn request_end(&self) {
        let Some(requested) = &self.requested else {
            return;
        };
        // A host that is ending already has another reason.
        if !requested.is_cancelled() && !self.ending.is_cancelled() {
            tracing::info!("the host ends, as its owner asked on the control socket");
        }
        requested.cancel();
    }

    /// Waits until the owner requests the end; forever if the program doesn't wait for that.
    pub(super) async fn end_requested(&self) {
        match &self.requested {
            Some(requested) => requested.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// Keeps a part that has just been started.
    pub(super) fn keep(&self, task: Task) {
        lock(&self.parts).tasks.push(task);
    }

    /// Begins the end: stops all tasks in the reverse order of their start, and Dae's listener. Returns the control
    /// socket, which stays until the owner has nothing to wait for any more.
    pub(super) fn begin_end(&self) -> Vec<Task> {
        self.ending.cancel();
        let tasks = std::mem::take(&mut lock(&self.parts).tasks);
        let (control, others): (Vec<_>, Vec<_>) = tasks
            .into_iter()
            .partition(|task| matches!(task, Task::Control(_)));
        for task in others.into_iter().rev() {
            if let Task::Loop(task) = task {
                task.abort();
            }
        }
        control
    }

    /// Takes the threads for guests, which the caller ends.
    pub(super) fn take_threads(&self) -> Option<Threads> {
        lock(&self.parts).guests.take()
    }
}
