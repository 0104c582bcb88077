//! The requests of a subprocess that its host carries out, each in a task, until it answers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use dae_plugin_api::operation;
use tokio_util::task::AbortOnDropHandle;

use dae_store::lock::lock;

/// The most requests that may be in progress. Each costs a task.
const REQUESTS_MAX: usize = 8192;

/// The most parts of replies that may wait for their guests. They are apart from the other requests, so that guests that don't
/// read keep a daemon from nothing else. The bytes of waiting parts have a limit of their own.
const PARTS_MAX: usize = 65_536;

/// Tasks by the number of their request. A task that is removed is ended.
pub(super) type RequestTasks = Arc<Mutex<HashMap<u64, AbortOnDropHandle<()>>>>;

/// The requests in progress.
#[derive(Debug, Default)]
pub(super) struct RequestsInProgress {
    parts: RequestTasks,
    others: RequestTasks,
}

impl RequestsInProgress {
    /// Returns the tasks of an operation's kind, and how many there may be.
    pub(super) fn of(&self, operation: &str) -> (&RequestTasks, usize) {
        match operation {
            operation::PART => (&self.parts, PARTS_MAX),
            _ => (&self.others, REQUESTS_MAX),
        }
    }

    /// Ends a request that nobody waits for.
    pub(super) fn cancel(&self, id: u64) {
        for tasks in [&self.parts, &self.others] {
            drop(lock(tasks).remove(&id));
        }
    }

    /// Ends all of them.
    pub(super) fn clear(&self) {
        for tasks in [&self.parts, &self.others] {
            lock(tasks).clear();
        }
    }
}
