//! The libraries that this process has loaded: one for each content hash, for ever.
//!
//! Daemons of the same file share its library, and a rollback finds the old one again. No library is ever unloaded, so
//! they are counted. The private copy that a library was loaded from is for debuggers and backtraces, which look at it
//! from outside. It is removed when no daemon uses the library any more. A daemon that uses the library again does
//! without the copy.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{OnceCell, OwnedMutexGuard};

use crate::plugin::command_table::CommandTable;
use crate::plugin::library::{LoadFault, PluginLibrary};
use dae_store::blocking;
use dae_store::lock::lock;
use dae_store::manifest::Manifest;
use dae_store::plugin_store::LibraryCopy;
use dae_store::settings::Settings;

/// The loaded libraries by content hash.
#[derive(Debug, Default)]
pub struct Libraries {
    by_hash: Mutex<HashMap<String, Arc<LibrarySlot>>>,
    entries: Mutex<HashSet<usize>>,
}

/// The slot of a library, which is created before the library is loaded.
#[derive(Debug, Default)]
struct LibrarySlot {
    loaded: OnceCell<Arc<LoadedLibrary>>,
    in_use: Mutex<Weak<LibraryUse>>,
    tried: Arc<tokio::sync::Mutex<PreflightRecord>>,
    schemas: Mutex<Option<Schemas>>,
}

/// Returns the refusal of code that has not made its schemas within a limit, which that setting has.
#[must_use]
pub fn overdue_schemas(limit: Duration, setting: &str) -> String {
    format!(
        "its schemas were not made within {limit:?}, the limit `{setting}`: the `JsonSchema` of one of its types does not \
         return; mend it, or raise the limit if it only takes long"
    )
}

/// The schemas that a plugin's code has made, or the reason why it could not; `None` if it was built without them.
pub type Schemas = Result<Option<Arc<str>>, String>;

/// The result of a content's preflight. It is locked while a preflight runs.
#[derive(Debug, Clone, Default)]
pub enum PreflightRecord {
    /// No preflight has ended yet.
    #[default]
    Never,
    /// The preflight succeeded.
    Passed,
    /// The preflight failed, at this time. The reason is kept if there was no state to read: then the file failed by
    /// itself, under these settings.
    Failed(Instant, Option<(Arc<Settings>, String)>),
}

#[derive(Debug)]
struct LoadedLibrary {
    hash: String,
    library: PluginLibrary,
    copy: LibraryCopy,
    commands: OnceLock<Arc<CommandTable>>,
    is_left_behind: AtomicBool,
}

/// The reason why this process has no library for a content.
#[derive(Debug)]
pub struct LibraryFault {
    /// The reason as a text for a person.
    pub text: String,
    /// True if the system's loader refused the file in this process; a new process may load it.
    pub is_of_loader: bool,
}

impl From<String> for LibraryFault {
    fn from(text: String) -> Self {
        LibraryFault {
            text,
            is_of_loader: false,
        }
    }
}

/// A library that a daemon runs, or will run again. Dropping the last one removes the private copy.
#[derive(Debug)]
pub struct LibraryUse(Arc<LoadedLibrary>);

impl LibraryUse {
    /// Returns the library.
    #[must_use]
    pub fn library(&self) -> PluginLibrary {
        self.0.library
    }

    /// Returns the library's content hash.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.0.hash
    }

    /// Returns the table of its commands, which that manifest lists.
    #[must_use]
    pub fn commands(&self, manifest: &Manifest) -> Arc<CommandTable> {
        let commands = self
            .0
            .commands
            .get_or_init(|| Arc::new(CommandTable::of(manifest)));
        Arc::clone(commands)
    }

    /// Keeps the private copy, because a thread of the library is left that cannot be ended. The copy helps to find the
    /// reason.
    pub fn leave_behind(&self) {
        self.0.is_left_behind.store(true, Ordering::Relaxed);
    }
}

impl Drop for LibraryUse {
    fn drop(&mut self) {
        if !self.0.is_left_behind.load(Ordering::Relaxed) {
            // If the copy is removed already, or cannot be removed, the next start of the host cleans up.
            let _ = std::fs::remove_file(&self.0.copy.path);
        }
    }
}

impl Libraries {
    /// Returns whether that content is loaded.
    #[must_use]
    pub fn has(&self, hash: &str) -> bool {
        let by_hash = lock(&self.by_hash);
        by_hash
            .get(hash)
            .is_some_and(|place| place.loaded.initialized())
    }

    /// Adds the code of a daemon that is part of this program, under a hash that no file has. Does nothing if it is there.
    pub fn add_built_in(&self, hash: &str, library: PluginLibrary) {
        let place = Arc::clone(lock(&self.by_hash).entry(hash.to_owned()).or_default());
        let loaded = LoadedLibrary {
            hash: hash.to_owned(),
            library,
            // There is no copy to remove.
            copy: LibraryCopy {
                path: PathBuf::new(),
                mapped_bytes: 0,
            },
            commands: OnceLock::new(),
            is_left_behind: AtomicBool::new(false),
        };
        // An error means that it is there, since an earlier install.
        let _ = place.loaded.set(Arc::new(loaded));
    }

    /// Returns the schemas that a preflight of that content has left here, once. The caller keeps them with the stored
    /// file, so that no reload leaves any in memory.
    #[must_use]
    pub fn take_schemas(&self, hash: &str) -> Option<Schemas> {
        let by_hash = lock(&self.by_hash);
        lock(&by_hash.get(hash)?.schemas).take()
    }

    /// Leaves the schemas of that content for the start that follows its preflight.
    pub fn leave_schemas(&self, hash: &str, schemas: Schemas) {
        let place = Arc::clone(lock(&self.by_hash).entry(hash.to_owned()).or_default());
        *lock(&place.schemas) = Some(schemas);
    }

    /// Waits for the right to run a preflight of that content. If many daemons of one file start together, one runs the
    /// preflight, and the others see its result.
    pub async fn preflight_turn(&self, hash: &str) -> OwnedMutexGuard<PreflightRecord> {
        let place = Arc::clone(lock(&self.by_hash).entry(hash.to_owned()).or_default());
        Arc::clone(&place.tried).lock_owned().await
    }

    /// Returns how many libraries are loaded.
    #[must_use]
    pub fn count(&self) -> usize {
        let by_hash = lock(&self.by_hash);
        let places = by_hash.values();
        places.filter(|place| place.loaded.initialized()).count()
    }

    /// Returns how many bytes are mapped for all loaded libraries.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let by_hash = lock(&self.by_hash);
        let sizes = by_hash.values().map(|place| place.bytes());
        sizes.fold(0, u64::saturating_add)
    }

    /// Returns how many bytes are mapped for those of these contents that no daemon uses any more.
    #[must_use]
    pub fn idle_bytes(&self, hashes: &BTreeSet<String>) -> u64 {
        let by_hash = lock(&self.by_hash);
        let places = hashes.iter().filter_map(|hash| by_hash.get(hash));
        let idle = places.filter(|place| lock(&place.in_use).strong_count() == 0);
        idle.map(|place| place.bytes()).fold(0, u64::saturating_add)
    }

    /// Returns the library of that content. If it is not loaded yet, loads it from the private copy that `copy` makes.
    ///
    /// # Errors
    /// The copy's or the loader's error. The next call tries again.
    pub async fn get<F>(
        self: &Arc<Self>,
        hash: &str,
        copy: F,
    ) -> Result<Arc<LibraryUse>, LibraryFault>
    where
        F: FnOnce() -> anyhow::Result<LibraryCopy> + Send + 'static,
    {
        let place = Arc::clone(lock(&self.by_hash).entry(hash.to_owned()).or_default());
        if let Some(loaded) = place.loaded.get() {
            return Ok(place.taken(Arc::clone(loaded)));
        }
        // In a task of its own: if loading takes longer than the caller waits, the library is still mapped, counted,
        // and there for the next caller.
        let (libraries, hash) = (Arc::clone(self), hash.to_owned());
        let loading = tokio::spawn(async move {
            let loaded = place.loaded.get_or_try_init(|| async {
                let loaded = load(hash, copy).await?;
                libraries.check_entry(&loaded.library)?;
                Ok::<_, LibraryFault>(Arc::new(loaded))
            });
            let loaded = Arc::clone(loaded.await?);
            Ok(place.taken(loaded))
        });
        let crashed = |error| LibraryFault::from(format!("loading it crashed: {error}"));
        loading.await.map_err(crashed)?
    }

    /// Checks that new content is new code. Some loaders return an earlier library for a path or an inode that they
    /// know. A reload would then be accepted although it changed nothing.
    fn check_entry(&self, library: &PluginLibrary) -> Result<(), String> {
        match lock(&self.entries).insert(library.entry()) {
            true => Ok(()),
            false => Err(
                "the system's loader gave code that is loaded already, and not this file's"
                    .to_owned(),
            ),
        }
    }
}

impl LibrarySlot {
    fn bytes(&self) -> u64 {
        let loaded = self.loaded.get();
        loaded.map_or(0, |loaded| loaded.copy.mapped_bytes)
    }

    fn taken(&self, loaded: Arc<LoadedLibrary>) -> Arc<LibraryUse> {
        let mut in_use = lock(&self.in_use);
        in_use.upgrade().unwrap_or_else(|| {
            let first = Arc::new(LibraryUse(loaded));
            *in_use = Arc::downgrade(&first);
            first
        })
    }
}

async fn load<F>(hash: String, copy: F) -> Result<LoadedLibrary, LibraryFault>
where
    F: FnOnce() -> anyhow::Result<LibraryCopy> + Send + 'static,
{
    let loaded = blocking::run(move || {
        let copy = copy().map_err(|error| format!("{error:#}"))?;
        let library = PluginLibrary::open(&copy.path).map_err(|fault: LoadFault| {
            // None of its code will ever run.
            let _ = std::fs::remove_file(&copy.path);
            LibraryFault {
                text: fault.to_string(),
                is_of_loader: fault.is_of_loader(),
            }
        })?;
        Ok(LoadedLibrary {
            hash,
            library,
            copy,
            commands: OnceLock::new(),
            is_left_behind: AtomicBool::new(false),
        })
    });
    loaded
        .await
        .map_err(|why| format!("it can't be loaded: {why}"))?
}
