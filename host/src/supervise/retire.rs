//! The end of an instance whose place another has taken: its commands finish or are cancelled, and it is ended in order.
//!
//! That may take as long as two graces, and nobody waits for it: it is done in a task of its own, and whatever goes wrong
//! is told there. Two do wait: a stop, since what is told to be stopped must be gone, and a daemon that must be alone.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::daemon::DaemonNow;
use super::{Current, Supervisor, SupervisorShared};
use dae_runtime::instance;
use dae_store::report::Mode;
use dae_store::tasks;

/// How many may end at once beside the one that answers. Each may hold a process, or the memory of an instance, for as
/// long as its grace; who reloads faster than that waits for the first of them.
const RETIRING_MAX: usize = 8;
/// How long a cancelled command may take to let go.
const LET_GO_MAX: Duration = Duration::from_millis(200);

/// An instance that is to end, and all that its end needs.
pub(super) struct RetiringInstance {
    current: Current,
    shared: Arc<SupervisorShared>,
    now: Arc<DaemonNow>,
}

impl Supervisor {
    pub(super) fn retiree(&self, current: Current) -> RetiringInstance {
        RetiringInstance {
            current,
            shared: Arc::clone(&self.shared),
            now: Arc::clone(&self.now),
        }
    }

    /// Ends it beside all else.
    pub(super) async fn retire_aside(&mut self, current: Current) {
        while self.retiring.try_join_next().is_some() {}
        if self.retiring.len() >= RETIRING_MAX {
            self.retiring.join_next().await;
        }
        let retiree = self.retiree(current);
        self.retiring.spawn(async move {
            drop(tasks::told("the end of an instance", retiree.retire()).await)
        });
    }

    /// Waits until nothing is left of those of before.
    pub(super) async fn all_retired(&mut self) {
        while self.retiring.join_next().await.is_some() {}
    }
}

impl RetiringInstance {
    /// Waits for running commands, then ends the instance; what went wrong on the way has been told.
    pub(super) async fn retire(self) -> Vec<String> {
        let RetiringInstance {
            mut current,
            shared,
            now,
        } = self;
        let grace = shared.config.stop_grace();
        drain(&mut current, grace).await;
        let Current {
            instance, image, ..
        } = current;
        let identity = Arc::clone(&instance.identity);
        let faults = instance.end(grace).await.err().unwrap_or_default();
        for fault in &faults {
            shared.tell(&identity.name, Some(identity.generation), "warn", fault);
        }
        let is_left_behind = faults.iter().any(|fault| instance::is_left_behind(fault));
        if let Some(image) = image.filter(|_| identity.mode == Mode::InProcess) {
            now.running().retired.add(image.hash(), is_left_behind);
            if is_left_behind {
                image.leave_behind();
            }
        }
        faults
    }
}

/// Waits for the commands that run, up to `grace`, and cancels those that are left.
pub(super) async fn drain(current: &mut Current, grace: Duration) {
    if current.leased.given_back.is_terminated() {
        // It has been drained before, on the way to its state.
        return;
    }
    if timeout(grace, &mut current.leased.given_back)
        .await
        .is_err()
    {
        current.leased.revoke.cancel();
        // A handler that holds a thread doesn't let go; it is left to itself.
        let _ = timeout(LET_GO_MAX, &mut current.leased.given_back).await;
    }
}
