//! Staging: what is copied to the plugin store and swept from it.
//!
//! A file is copied in the turn of its daemon, and protected from the sweep until the registry names it. Copying,
//! hashing, syncing and sweeping run on threads that may block.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};

use super::{Fault, Inner, lock};
use dae_store::blocking;
use dae_store::home::HomeLock;
use dae_store::plugin_store::{Artefact, PluginStore};
use dae_store::report::InstallRequest;

/// The plugin store, and what is copied to it and swept from it.
#[derive(Debug)]
pub(super) struct Staging {
    store: Arc<PluginStore>,
    /// Hashes of artefacts that are staged but not in the registry yet. They must not be swept.
    staged: Mutex<Vec<String>>,
    /// Locked shared while staging and exclusively while sweeping. So no sweep runs between storing a file and
    /// noting its hash.
    sweeping: RwLock<()>,
    /// Held by the sweep that runs. The others wait for it without a thread.
    sweep_turn: Arc<tokio::sync::Mutex<()>>,
    /// Keeps the home locked during work on the disk, even if the ecosystem is dropped meanwhile.
    _held: Arc<HomeLock>,
}

/// A stored file that is protected from the sweep until this is dropped.
pub(super) struct StagedPlugin {
    pub(super) artefact: Arc<Artefact>,
    staging: Arc<Staging>,
}

impl Drop for StagedPlugin {
    fn drop(&mut self) {
        let mut staged = lock(&self.staging.staged);
        if let Some(at) = staged.iter().position(|hash| *hash == self.artefact.hash) {
            staged.swap_remove(at);
        }
    }
}

impl Staging {
    pub(super) fn over(store: Arc<PluginStore>, held: Arc<HomeLock>) -> Arc<Self> {
        Arc::new(Staging {
            store,
            staged: Mutex::default(),
            sweeping: RwLock::default(),
            sweep_turn: Arc::default(),
            _held: held,
        })
    }

    /// Copies a file to the store.
    async fn stage(self: &Arc<Self>, file: PathBuf) -> Result<StagedPlugin, Fault> {
        let staging = Arc::clone(self);
        let staged = blocking::run(move || {
            let _unswept = staging.sweeping.read();
            let artefact = staging.store.stage(&file)?;
            lock(&staging.staged).push(artefact.hash.clone());
            Ok(StagedPlugin {
                artefact: Arc::new(artefact),
                staging: Arc::clone(&staging),
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
        let store = Arc::clone(&self.store);
        let settled = blocking::run(move || store.settle(&artefact));
        async move { settled.await.map_err(anyhow::Error::msg)? }
    }

    /// Reads and checks a stored file.
    pub(super) async fn stored(&self, name: &str, hash: &str) -> Result<Artefact, Fault> {
        let (store, hash) = (Arc::clone(&self.store), hash.to_owned());
        let found = blocking::run(move || store.find(&hash)).await;
        let failed = |text: String| Fault::failed(format!("{name}: {text}"));
        let found = found.map_err(|why| failed(format!("its stored file can't be read: {why}")))?;
        found.map_err(|error| failed(format!("{error:#}")))
    }

    /// Returns whether the file has the content with that hash. Both files are read.
    pub(super) async fn is_same(&self, hash: String, file: PathBuf) -> bool {
        let store = Arc::clone(&self.store);
        let compare = blocking::run(move || store.is_same(&hash, &file));
        compare.await.unwrap_or(false)
    }

    /// Removes stored files that are neither staged nor `registered`.
    pub(super) async fn sweep(
        self: &Arc<Self>,
        registered: impl FnOnce() -> HashSet<String> + Send + 'static,
    ) -> anyhow::Result<()> {
        let turn = Arc::clone(&self.sweep_turn).lock_owned().await;
        let staging = Arc::clone(self);
        let swept = blocking::run_or_here(move || {
            let _turn = turn;
            // If a file is being staged, the sweep after that install does this too.
            let Ok(_alone) = staging.sweeping.try_write() else {
                return Ok(());
            };
            // In this order, because staged hashes move to the registry.
            let mut keep: HashSet<String> = lock(&staging.staged).iter().cloned().collect();
            keep.extend(registered());
            staging.store.sweep(&keep)
        });
        swept.await.map_err(anyhow::Error::msg)?
    }
}

impl Inner {
    /// Stages the file of a request. If a daemon of that name runs on, the fault says so.
    pub(super) async fn stage_for(&self, request: &InstallRequest) -> Result<StagedPlugin, Fault> {
        let staged = self.staging.stage(request.file.clone()).await;
        match (staged, &request.name) {
            (Err(fault), Some(name)) if request.replace => Err(self.as_refusal(name, fault)),
            (staged, _) => staged,
        }
    }

    /// Removes stored files that nothing refers to, and has the watch look at the files of the registry again.
    pub(super) async fn tidy(&self) {
        self.watch_anew.notify_one();
        let catalogue = Arc::clone(&self.catalogue);
        if let Err(error) = self.staging.sweep(move || catalogue.hashes()).await {
            tracing::warn!(
                error = format!("{error:#}"),
                "the store could not be tidied"
            );
        }
    }
}
