//! The end of a replaced instance: its commands finish or are cancelled, and then it is ended in order. A new instance that
//! doesn't take over ends the same way.
//!
//! This may take as long as two grace periods. So after a replacement it runs in a task of its own, which logs
//! whatever goes wrong. A stop waits for that task, because a stopped daemon must be gone. So does the start of an
//! exclusive daemon.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::build::Built;
use super::daemon::DaemonNow;
use super::{Current, Supervisor, SupervisorShared};
use dae_runtime::instance::Instance;
use dae_runtime::os::allocator;
use dae_runtime::plugin::libraries::LibraryUse;
use dae_runtime::process::HUGE_STATE_BYTES;
use dae_runtime::session::gate::LeaseReturn;
use dae_store::blocking;
use dae_store::report::Mode;
use dae_store::tasks;

/// The most instances that may end at the same time beside the one that answers. Each may hold a process or the
/// memory of an instance for its grace period. A faster series of reloads waits for the first one to end.
const RETIRING_MAX: usize = 8;
/// The longest time that a cancelled command may take to return.
const LET_GO_MAX: Duration = Duration::from_millis(200);

/// An instance that is to end, and what ending it needs.
pub(super) struct RetiringInstance {
    instance: Arc<Instance>,
    /// The library that it runs, if it is in-process.
    library: Option<Arc<LibraryUse>>,
    /// `None` if it has never answered.
    leased: Option<LeaseReturn>,
    shared: Arc<SupervisorShared>,
    now: Arc<DaemonNow>,
    /// True if it has left much memory of this process once it has ended.
    leaves_much: bool,
}

impl Supervisor {
    pub(super) fn retiree(&self, current: Current) -> RetiringInstance {
        self.retiring((current.instance, current.library), Some(current.leased))
    }

    fn retiring(
        &self,
        (instance, library): (Arc<Instance>, Option<Arc<LibraryUse>>),
        leased: Option<LeaseReturn>,
    ) -> RetiringInstance {
        RetiringInstance {
            instance,
            library,
            leased,
            shared: Arc::clone(&self.shared),
            now: Arc::clone(&self.now),
            leaves_much: self.monitor.state_bytes >= HUGE_STATE_BYTES,
        }
    }

    /// Waits until another instance may end beside those that are ending. To be called before a new one is built, when no
    /// guest waits.
    pub(super) async fn room_to_retire(&mut self) {
        while self.retiring.try_join_next().is_some() {}
        if self.retiring.len() >= RETIRING_MAX {
            self.retiring.join_next().await;
        }
    }

    /// Ends the instance in a task of its own.
    pub(super) fn retire_aside(&mut self, current: Current) {
        let retiree = self.retiree(current);
        self.spawn_end(retiree);
    }

    /// Ends a new instance that doesn't take over, in a task of its own: the guests go on with the old one.
    pub(super) fn discard(&mut self, built: Built) {
        let discarded = self.retiring((built.instance, built.library), None);
        self.spawn_end(discarded);
    }

    fn spawn_end(&mut self, retiree: RetiringInstance) {
        self.retiring.spawn(async move {
            drop(tasks::logged("the end of an instance", retiree.retire()).await)
        });
    }

    /// Waits until all earlier instances have ended.
    pub(super) async fn all_retired(&mut self) {
        while self.retiring.join_next().await.is_some() {}
    }
}

impl RetiringInstance {
    /// Waits for running commands, then ends the instance. Returns the faults, which are already logged.
    pub(super) async fn retire(self) -> Vec<String> {
        let RetiringInstance {
            instance,
            library,
            leased,
            shared,
            now,
            leaves_much,
        } = self;
        let grace = shared.config().stop_grace();
        if let Some(mut leased) = leased {
            drain(&mut leased, grace).await;
        }
        let identity = Arc::clone(&instance.identity);
        let faults = instance.end(grace).await.err().unwrap_or_default();
        for fault in &faults {
            shared.tell(
                &identity.name,
                Some(identity.generation),
                "warn",
                &fault.text,
            );
        }
        let is_left_behind = faults.iter().any(|fault| fault.is_left_behind);
        if let Some(library) = library.filter(|_| identity.mode == Mode::InProcess) {
            now.running().retired.add(library.hash(), is_left_behind);
            if is_left_behind {
                library.leave_behind();
            }
        }
        if leaves_much && identity.mode == Mode::InProcess {
            // Without a thread for it, the memory stays for what comes.
            let _ = blocking::run(allocator::give_back).await;
        }
        faults.into_iter().map(|fault| fault.text).collect()
    }
}

/// Waits for the running commands, up to `grace`, and cancels those that remain.
pub(super) async fn drain(leased: &mut LeaseReturn, grace: Duration) {
    if leased.given_back.is_terminated() {
        // It was drained before, to save its state.
        return;
    }
    if timeout(grace, &mut leased.given_back).await.is_err() {
        leased.revoke.cancel();
        // A handler that blocks a thread doesn't return. It is left running.
        let _ = timeout(LET_GO_MAX, &mut leased.given_back).await;
    }
}
