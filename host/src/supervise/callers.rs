//! The changes of a new file for callers, and the refusal of one that breaks them.
//!
//! The new file is compared with the one that runs, or that the next start would run. Schemas that only the code knows
//! are compared once a preflight or the load has asked for them.

use std::sync::Arc;

use super::{DaemonSpec, Supervisor};
use dae_store::blocking;
use dae_store::manifest;
use dae_store::report::CommandChanges;

impl Supervisor {
    /// Returns the spec with the schemas that are known of its code, and its changes for callers.
    ///
    /// # Errors
    /// It breaks a caller, and the request or else the setting `strict` refuses that.
    pub(super) async fn check_callers(
        &self,
        spec: &DaemonSpec,
        strict: Option<bool>,
    ) -> Result<(DaemonSpec, CommandChanges), String> {
        let spec = self.with_known_schemas(spec.clone()).await;
        let (old, new) = (&self.spec.artefact, &spec.artefact);
        if old.hash == new.hash {
            return Ok((spec, CommandChanges::default()));
        }
        let [old, new] = [old, new].map(|artefact| Arc::clone(&artefact.manifest));
        let changes = blocking::run_or_here(move || manifest::changes(&old, &new)).await?;
        manifest::check_strict(&changes, strict, &spec.settings)?;
        Ok((spec, changes))
    }
}
