//! A subprocess between the load of its file and the start of its daemon.

use std::time::Duration;

use tokio::sync::mpsc;

use super::reserve::RefillOnDrop;
use super::{Subprocess, lock};
use crate::plugin::libraries::{Schemas, overdue_schemas};
use crate::plugin::start_fault::StartFault;
use crate::process::ipc::{FrameKind, StartMessage};
use dae_store::manifest::Manifest;
use dae_store::state_text::StateText;

/// A subprocess that has loaded its file and has not started its daemon. Loading can be done in advance, so that no
/// guest waits for it. Dropping this kills the process.
#[derive(Debug)]
pub struct LoadedSubprocess {
    pub(super) subprocess: Subprocess,
    pub(super) steps: mpsc::Receiver<Result<Schemas, StartFault>>,
    pub(super) schemas: Schemas,
    pub(super) manifest: Manifest,
    /// The limit for the time until it answers.
    pub(super) start_limit: Duration,
    /// Held until the start is over. `None` after that, and where tests make the process.
    pub(super) refill: Option<RefillOnDrop>,
}

impl LoadedSubprocess {
    /// Returns the manifest of its file.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Replaces its manifest by one that has the schemas of its code, too.
    pub fn describe(&mut self, manifest: Manifest) {
        self.manifest = manifest;
    }

    /// Returns the schemas that its code has made.
    pub fn schemas(&self) -> Schemas {
        self.schemas.clone()
    }

    /// Starts its daemon from that state, and waits until it answers.
    ///
    /// # Errors
    /// The reason why it does not; it is then killed.
    pub async fn start(mut self, state: Option<StateText>) -> Result<Subprocess, StartFault> {
        self.begin(state).await?;
        Ok(self.subprocess)
    }

    /// Has a file loaded, and waits until it is.
    ///
    /// # Errors
    /// The reason why it is not.
    pub(super) async fn load(
        &mut self,
        message: StartMessage,
        limit: Duration,
    ) -> Result<(), String> {
        let sent = serde_json::to_vec(&message).map_err(|error| error.to_string())?;
        let link = &self.subprocess.link;
        lock(&link.outgoing).put(FrameKind::Load, 0, &[&sent]);
        link.more.notify_one();
        let too_long = || format!("it was not loaded within {limit:?}");
        let mut taken = self.step(limit, too_long).await;
        if message.manifest.run_time_schemas && taken.is_ok() {
            let setting = match message.preflight {
                Some(_) => "preflight_ms",
                None => "start_ms",
            };
            let too_long = || overdue_schemas(limit, setting);
            taken = self.step(limit, too_long).await;
        }
        self.manifest = message.manifest;
        self.schemas = taken.map_err(|fault| fault.text)?;
        Ok(())
    }

    /// Does what [`LoadedSubprocess::start`] does, and keeps the process.
    ///
    /// # Errors
    /// As there.
    pub(super) async fn begin(&mut self, state: Option<StateText>) -> Result<(), StartFault> {
        let limit = self.start_limit;
        let too_long = || format!("it did not answer within {limit:?}");
        let sending = tokio::time::timeout(limit, self.send_start(state));
        sending
            .await
            .map_err(|_| format!("it did not read what it starts from within {limit:?}"))?;
        // A little longer than the limit of `start` itself, because the subprocess reports an excess more precisely.
        let _ = self.step(limit + Duration::from_secs(1), too_long).await?;
        self.refill = None;
        Ok(())
    }

    async fn step(
        &mut self,
        limit: Duration,
        too_long: impl Fn() -> String,
    ) -> Result<Schemas, StartFault> {
        match tokio::time::timeout(limit, self.steps.recv()).await {
            Ok(Some(result)) => result,
            Ok(None) => Err(self.subprocess.end_text().await.into()),
            Err(_) => Err(too_long().into()),
        }
    }
}
