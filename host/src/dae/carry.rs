//! Makes changes completely or not at all, even if their caller goes away.
//!
//! A change waits for its name's turn, and then for the daemon's supervisor. While it waits, it is abandoned if its
//! caller goes away, because a late change would surprise a client that has given up. Once it has begun, it is
//! carried through in a task of its own. A half-made change, such as a running daemon that isn't in the registry,
//! would be worse than either result.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::task::AbortHandle;

use super::{Dae, Fault, FaultKind, Inner};
use crate::supervise::ChangeStart;
use dae_store::event::{CauseKind, DaeEventKind};
use dae_store::registry::DAE_NAME;
use dae_store::report::Refusal;

/// A change of one daemon, as the log and `status` name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChangeKind {
    Install,
    Reload,
    /// An install by the file watch.
    NewFile,
    Rollback,
    Start,
    Stop,
    Restart,
    /// The move to a process of its own.
    Isolate,
    /// The move into the host's process.
    Embed,
    /// Other values for the same code.
    Configure,
    /// A state from outside.
    Import,
}

impl ChangeKind {
    /// Returns whether the change replaces a running instance by a new one.
    fn replaces_instance(self) -> bool {
        !matches!(self, ChangeKind::Start | ChangeKind::Stop)
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            ChangeKind::Install => "install",
            ChangeKind::Reload => "reload",
            ChangeKind::NewFile => "the new file",
            ChangeKind::Rollback => "rollback",
            ChangeKind::Start => "start",
            ChangeKind::Stop => "stop",
            ChangeKind::Restart => "restart",
            ChangeKind::Isolate => "isolate",
            ChangeKind::Embed => "embed",
            ChangeKind::Configure => "config",
            ChangeKind::Import => "state import",
        }
    }

    /// Returns whether the change brings a new file. If it is refused, the newest file is not what runs.
    pub(super) fn brings_file(self) -> bool {
        matches!(
            self,
            ChangeKind::Install | ChangeKind::Reload | ChangeKind::NewFile
        )
    }
}

/// A guard that abandons a change that has not begun when its caller goes away.
struct AbandonGuard {
    begin: Arc<ChangeStart>,
    task: AbortHandle,
}

impl Drop for AbandonGuard {
    fn drop(&mut self) {
        if self.begin.abandon() {
            self.task.abort();
        }
    }
}

impl Dae {
    /// Makes a change in a task of its own. If the returned future is dropped, the change is abandoned if it has
    /// not begun, and carried through if it has.
    pub(super) async fn carry_through<T, F>(
        &self,
        change: impl FnOnce(Dae, Arc<ChangeStart>) -> F,
    ) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        let begin = Arc::<ChangeStart>::default();
        let task = tokio::spawn(change(self.clone(), Arc::clone(&begin)));
        let _abandons = AbandonGuard {
            begin,
            task: task.abort_handle(),
        };
        task.await.unwrap_or_else(|error| {
            Err(Fault::failed(match error.is_panic() {
                true => {
                    tracing::error!(%error, "a change ended by a fault of the host");
                    "the change ended by a fault of the host; the cause is in its log; see `status`"
                }
                false => "the host is ending; the change was not made",
            }))
        })
    }
}

impl Inner {
    /// Logs a refused change, and marks its daemon until a change is accepted.
    pub(super) fn note_refusal(&self, name: &str, change: ChangeKind, fault: &Fault) {
        if fault.kind() == FaultKind::UnknownDaemon {
            return;
        }
        // The fault's own text may open with what the record says already.
        let text = fault.to_string();
        let reason = text.strip_prefix(&format!("refused {name}: "));
        let reason = reason.unwrap_or(&text).to_owned();
        let text = format!("{} was refused: {reason}", change.word());
        // This host keeps neither a log nor a status for daemons that it does not run.
        if self.running.foreign.fault(name).is_some() {
            self.shared.tell(DAE_NAME, None, "error", &text);
            return;
        }
        let daemon = self.daemon(name);
        if let Some(daemon) = daemon.as_ref().filter(|_| change.replaces_instance()) {
            daemon.count_refused();
        }
        let generation = daemon.map(|daemon| daemon.glance().generation);
        let generation = generation.filter(|generation| *generation > 0);
        self.shared.tell(name, generation, "error", &text);
        let refusal = Refusal {
            change: change.word().to_owned(),
            reason,
            time: Timestamp::now(),
        };
        let refused = DaeEventKind::Refused {
            change: refusal.change.clone(),
            reason: refusal.reason.clone(),
        };
        self.shared.events.send(name, generation, refused);
        self.catalogue.note_refusal(name, (change, refusal));
    }

    /// Logs a change that was made and could not be recorded.
    fn note_unrecorded(&self, name: &str, change: ChangeKind, fault: &Fault) {
        let unrecorded = DaeEventKind::Unrecorded {
            change: change.word().to_owned(),
            cause: fault.text.clone(),
            cause_kind: CauseKind::Disk,
        };
        let generation = self.daemon(name).map(|daemon| daemon.glance().generation);
        let generation = generation.filter(|generation| *generation > 0);
        let text = unrecorded.to_string();
        self.shared.tell(name, generation, "error", &text);
        self.shared.events.send(name, generation, unrecorded);
    }

    /// Notes whether a change was accepted or refused.
    pub(super) fn note_outcome<T>(
        &self,
        name: &str,
        change: ChangeKind,
        outcome: &Result<T, Fault>,
    ) {
        match outcome {
            Ok(_) => self.catalogue.note_accepted(name),
            Err(fault) if fault.kind() == FaultKind::Unrecorded => {
                self.catalogue.note_accepted(name);
                self.note_unrecorded(name, change, fault);
            }
            Err(fault) => self.note_refusal(name, change, fault),
        }
    }
}
