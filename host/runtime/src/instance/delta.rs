//! The changes that an instance takes over after it was started from a snapshot.

use std::sync::Arc;
use std::time::Duration;

use dae_plugin_api::abi::status;
use tokio::time::timeout;

use super::{Body, Instance, LIFE, Pending, refused};
use dae_store::blocking;
use dae_store::state_text::StateText;

impl Instance {
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
        let pending = self.start_apply(delta.bytes());
        let applying = self
            .runtime()
            .spawn(async move { timeout(limit, pending).await });
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
