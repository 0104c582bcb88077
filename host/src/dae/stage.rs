//! Staging: copies a file to the store in the turn of its daemon, and protects it from the sweep until the registry
//! names it.

use std::path::Path;
use std::sync::Arc;

use super::{Fault, Inner, lock};
use dae_store::blocking;
use dae_store::plugin_store::Artefact;
use dae_store::report::InstallRequest;

/// A stored file that is protected from the sweep until this is dropped.
pub(super) struct StagedPlugin {
    pub(super) artefact: Arc<Artefact>,
    inner: Arc<Inner>,
}

impl Drop for StagedPlugin {
    fn drop(&mut self) {
        let mut staged = lock(&self.inner.staged);
        if let Some(at) = staged.iter().position(|hash| *hash == self.artefact.hash) {
            staged.swap_remove(at);
        }
    }
}

impl Inner {
    /// Stages the file of a request. If a daemon of that name runs on, the fault says so.
    pub(super) async fn stage_for(
        self: &Arc<Self>,
        request: &InstallRequest,
    ) -> Result<StagedPlugin, Fault> {
        match (self.stage(&request.file).await, &request.name) {
            (Err(fault), Some(name)) if request.replace => Err(self.as_refusal(name, fault)),
            (staged, _) => staged,
        }
    }

    async fn stage(self: &Arc<Self>, file: &Path) -> Result<StagedPlugin, Fault> {
        let (inner, file) = (Arc::clone(self), file.to_owned());
        let staged = blocking::run(move || {
            let _unswept = inner.sweeping.read();
            let artefact = inner.shared.store.stage(&file)?;
            lock(&inner.staged).push(artefact.hash.clone());
            Ok(StagedPlugin {
                artefact: Arc::new(artefact),
                inner: Arc::clone(&inner),
            })
        });
        let staged = staged.await;
        let staged = staged.map_err(|why| Fault::failed(format!("it can't be read: {why}")))?;
        staged.map_err(|error| Fault::staging(&error))
    }

    /// Starts to make a staged file durable on the disk. The returned future waits for the result.
    pub(super) fn settle(
        &self,
        artefact: Arc<Artefact>,
    ) -> impl Future<Output = anyhow::Result<()>> + use<> {
        let store = Arc::clone(&self.shared.store);
        let settled = blocking::run(move || store.settle(&artefact));
        async move { settled.await.map_err(anyhow::Error::msg)? }
    }
}
