//! The schemas that only a plugin's code knows: asked for once, when the code is loaded, and kept in the store.
//!
//! A preflight asks for them first, in a process of its own. So a crash or a hang of the author's code is found there.

use std::sync::Arc;

use tokio::time::timeout;

use super::build::LoadedCode;
use super::{DaemonSpec, Supervisor};
use dae_runtime::plugin::libraries::{LibraryUse, Schemas, overdue_schemas};
use dae_store::blocking;
use dae_store::manifest::Manifest;
use dae_store::plugin_store::Artefact;

impl Supervisor {
    /// Adds the schemas of the loaded code to the manifest of `spec`, unless they are there. If the code can't make them,
    /// the daemon runs without, and its log has the reason.
    ///
    /// # Errors
    /// The code does not end. A process of its own is refused for that as well, before it comes here.
    pub(super) async fn describe(
        &self,
        spec: &mut DaemonSpec,
        code: &mut LoadedCode,
    ) -> Result<(), String> {
        if !spec.artefact.manifest.run_time_schemas {
            return Ok(());
        }
        let manifest = match self.schemas(&spec.artefact, code).await? {
            Ok(Some(schemas)) => self.described(&spec.artefact, &schemas).await,
            Ok(None) => return Ok(()),
            Err(reason) => Err(reason),
        };
        match manifest {
            Ok(manifest) => {
                if let LoadedCode::Apart(loaded) = code {
                    loaded.describe(manifest.clone());
                }
                spec.artefact = Arc::new(Artefact {
                    manifest: Arc::new(manifest),
                    ..(*spec.artefact).clone()
                });
            }
            Err(reason) => {
                let text = format!(
                    "its schemas are not known, and callers see none: {reason}; see the types with `JsonSchema` in its source"
                );
                self.shared.tell(&spec.name, None, "warn", &text);
            }
        }
        Ok(())
    }

    /// Adds the schemas that a preflight has asked for, if it has.
    pub(super) async fn with_known_schemas(&self, mut spec: DaemonSpec) -> DaemonSpec {
        let artefact = &spec.artefact;
        if !artefact.manifest.run_time_schemas {
            return spec;
        }
        let known = self.shared.code.libraries.take_schemas(&artefact.hash);
        if let Some(Ok(Some(schemas))) = known
            && let Ok(manifest) = self.described(artefact, &schemas).await
        {
            spec.artefact = Arc::new(Artefact {
                manifest: Arc::new(manifest),
                ..(**artefact).clone()
            });
        }
        spec
    }

    async fn schemas(&self, artefact: &Artefact, code: &LoadedCode) -> Result<Schemas, String> {
        if let Some(known) = self.shared.code.libraries.take_schemas(&artefact.hash) {
            return Ok(known);
        }
        match code {
            LoadedCode::Apart(loaded) => Ok(loaded.schemas()),
            LoadedCode::Here(library) => self.ask_library(library).await,
        }
    }

    /// Asks code that is loaded into this process, on a thread that may block.
    ///
    /// # Errors
    /// It does not end.
    async fn ask_library(&self, library: &Arc<LibraryUse>) -> Result<Schemas, String> {
        let library = library.library();
        let limit = self.shared.config().start_limit();
        match timeout(limit, blocking::run(move || library.schemas())).await {
            Ok(Ok(schemas)) => Ok(schemas.map(|schemas| schemas.map(Arc::from))),
            Ok(Err(why)) => Ok(Err(why.to_string())),
            Err(_) => {
                let refusal = overdue_schemas(limit, "start_ms");
                Err(format!(
                    "{refusal}; a thread of the host is left behind with it"
                ))
            }
        }
    }

    async fn described(&self, artefact: &Artefact, schemas: &Arc<str>) -> Result<Manifest, String> {
        let mut manifest = (*artefact.manifest).clone();
        manifest.add_schemas(schemas)?;
        if artefact.is_built_in {
            return Ok(manifest);
        }
        let (store, hash) = (Arc::clone(&self.shared.code.store), artefact.hash.clone());
        let text = Arc::clone(schemas);
        let kept = blocking::run(move || store.keep_schemas(&hash, &text)).await;
        if let Ok(Err(error)) = kept {
            // They are known as long as this host runs.
            let text = format!("its schemas could not be kept: {error:#}");
            self.shared
                .tell(&artefact.manifest.name, None, "warn", &text);
        }
        Ok(manifest)
    }
}
