//! The calls that start a save, and the changes that an instance takes over after it was started from a snapshot.

use std::sync::Arc;
use std::time::Duration;

use dae_plugin_api::abi::status;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Body, Instance, LIFE, Pending, refused};
use crate::plugin::state_part::StatePart;
use dae_store::blocking;
use dae_store::state_text::StateText;

impl Instance {
    /// Starts to save its state. The future keeps the instance alive.
    pub(crate) fn start_save(self: &Arc<Self>, part: StatePart) -> Pending {
        match &self.body {
            Body::InProcess(live, _) => Pending::InProcess(self.watched(LIFE, || live.save(part))),
            Body::Subprocess(subprocess) => Pending::Subprocess(subprocess.save(part)),
            Body::BuiltIn(_) => refused("it has no state".to_owned()),
        }
    }

    /// Starts to save its state on a thread of its own. A worker has one thread for everything else, and the command that
    /// holds a lock that `save` needs must be able to go on. The pool's threads may all wait for this very save.
    pub(crate) fn start_save_aside(self: &Arc<Self>, part: StatePart) -> Pending {
        let (mut saving, runtime) = (self.start_save(part), self.runtime());
        let (mut reply, result) = oneshot::channel();
        let thread = std::thread::Builder::new().name("save".to_owned());
        let begun = thread.spawn(move || {
            let ended = runtime.block_on(async {
                tokio::select! {
                    biased;
                    // The host has given the save up.
                    () = reply.closed() => None,
                    ended = &mut saving => Some(ended),
                }
            });
            drop(saving);
            if let Some(ended) = ended {
                // The host may have given it up at this moment.
                let _ = reply.send(ended);
            }
        });
        match begun {
            Ok(_) => Pending::Aside(result),
            Err(error) => refused(format!(
                "the system gives its process no more threads ({error})"
            )),
        }
    }

    /// Returns whether it can hand over, or take over, what has changed since a snapshot.
    #[must_use]
    pub fn has_delta(&self) -> bool {
        self.manifest.hands_over_delta()
    }

    /// Carries out the changes of a delta, before its background work begins.
    ///
    /// # Errors
    /// The author's error, or that it took longer than `limit`.
    pub async fn apply(self: &Arc<Self>, delta: &StateText, limit: Duration) -> Result<(), String> {
        let (instance, delta) = (Arc::clone(self), delta.clone());
        // In a task of its own from the first byte on: the author's type is read before there is a future.
        let applying = self.runtime().spawn(async move {
            let pending = instance.start_apply(delta.bytes());
            timeout(limit, pending).await
        });
        match timeout(limit + Duration::from_millis(100), applying).await {
            Ok(Ok(Ok(ended))) if ended.status == status::NOTHING => Ok(()),
            Ok(Ok(Ok(ended))) => Err(format!(
                "its `apply` failed: {}",
                String::from_utf8_lossy(&ended.bytes)
            )),
            Ok(Err(error)) => Err(format!(
                "its `apply` has no result: {}",
                blocking::why(error)
            )),
            Ok(Ok(Err(_))) | Err(_) => Err(format!("its `apply` took longer than {limit:?}")),
        }
    }

    /// Starts to carry out the changes of a delta. The future keeps the instance alive.
    pub(crate) fn start_apply(self: &Arc<Self>, delta: &[u8]) -> Pending {
        match &self.body {
            Body::InProcess(live, _) => {
                Pending::InProcess(self.watched(LIFE, || live.apply(delta)))
            }
            Body::Subprocess(subprocess) => Pending::Subprocess(subprocess.apply(delta)),
            Body::BuiltIn(_) => refused("it has no state".to_owned()),
        }
    }
}
