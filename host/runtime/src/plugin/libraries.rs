//! The images that this process has loaded: one for each content hash, for ever.
//!
//! Daemons of the same file share its image, and a rollback finds the old one again. None is ever given back, so they are
//! counted. The private copy that an image was loaded from is for those who look at it from outside, a debugger or a
//! backtrace; it goes when no daemon uses the image any more, and a daemon that comes back to the image does without.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Instant;

use tokio::sync::{OnceCell, OwnedMutexGuard};

use crate::plugin::command_table::CommandTable;
use crate::plugin::library::{LoadFault, PluginLibrary};
use dae_store::blocking;
use dae_store::lock::lock;
use dae_store::manifest::Manifest;
use dae_store::plugin_store::ImageCopy;
use dae_store::settings::Settings;

/// See the file's head.
#[derive(Debug, Default)]
pub struct Libraries {
    by_hash: Mutex<HashMap<String, Arc<LibrarySlot>>>,
    entries: Mutex<HashSet<usize>>,
}

/// An image's place, which is taken before it is loaded.
#[derive(Debug, Default)]
struct LibrarySlot {
    loaded: OnceCell<Arc<LoadedLibrary>>,
    in_use: Mutex<Weak<LibraryUse>>,
    tried: Arc<tokio::sync::Mutex<PreflightRecord>>,
}

/// What is known of that content from its trial. Held locked by who has one on its way.
#[derive(Debug, Clone, Default)]
pub enum PreflightRecord {
    /// Nothing yet.
    #[default]
    Never,
    /// It came through.
    Passed,
    /// It didn't, then. Why is known where it had no state to read: then that was the doing of the file, under these
    /// settings.
    Failed(Instant, Option<(Arc<Settings>, String)>),
}

#[derive(Debug)]
struct LoadedLibrary {
    hash: String,
    image: PluginLibrary,
    copy: ImageCopy,
    commands: OnceLock<Arc<CommandTable>>,
    is_left_behind: AtomicBool,
}

/// Why this process has no image of a content.
#[derive(Debug)]
pub struct LibraryFault {
    /// For a person.
    pub text: String,
    /// The system's loader refused the file in this process; a new process may load it.
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

/// An image that a daemon runs, or is to run again. The last one that is dropped removes the private copy.
#[derive(Debug)]
pub struct LibraryUse(Arc<LoadedLibrary>);

impl LibraryUse {
    /// The code.
    #[must_use]
    pub fn image(&self) -> PluginLibrary {
        self.0.image
    }

    /// Its content hash.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.0.hash
    }

    /// The table of its commands, which are in that manifest.
    #[must_use]
    pub fn commands(&self, manifest: &Manifest) -> Arc<CommandTable> {
        let commands = self
            .0
            .commands
            .get_or_init(|| Arc::new(CommandTable::of(manifest)));
        Arc::clone(commands)
    }

    /// A thread of it is left that can't be ended: whoever looks for the reason needs the copy.
    pub fn leave_behind(&self) {
        self.0.is_left_behind.store(true, Ordering::Relaxed);
    }
}

impl Drop for LibraryUse {
    fn drop(&mut self) {
        if !self.0.is_left_behind.load(Ordering::Relaxed) {
            // Where it was removed before, or can't be, the next start of the host sweeps.
            let _ = std::fs::remove_file(&self.0.copy.path);
        }
    }
}

impl Libraries {
    /// Whether that content is loaded.
    #[must_use]
    pub fn has(&self, hash: &str) -> bool {
        let by_hash = lock(&self.by_hash);
        by_hash
            .get(hash)
            .is_some_and(|place| place.loaded.initialized())
    }

    /// The turn to try that content out. Of many daemons of one file that start together, one has it tried, and the others
    /// see what came of it.
    pub async fn trial_turn(&self, hash: &str) -> OwnedMutexGuard<PreflightRecord> {
        let place = Arc::clone(lock(&self.by_hash).entry(hash.to_owned()).or_default());
        Arc::clone(&place.tried).lock_owned().await
    }

    /// How many are loaded.
    #[must_use]
    pub fn count(&self) -> usize {
        let by_hash = lock(&self.by_hash);
        let places = by_hash.values();
        places.filter(|place| place.loaded.initialized()).count()
    }

    /// What is mapped of all that are loaded (bytes).
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let by_hash = lock(&self.by_hash);
        let sizes = by_hash.values().map(|place| place.bytes());
        sizes.fold(0, u64::saturating_add)
    }

    /// What is mapped of those among these contents that no daemon uses any more (bytes).
    #[must_use]
    pub fn idle_bytes(&self, hashes: &BTreeSet<String>) -> u64 {
        let by_hash = lock(&self.by_hash);
        let places = hashes.iter().filter_map(|hash| by_hash.get(hash));
        let idle = places.filter(|place| lock(&place.in_use).strong_count() == 0);
        idle.map(|place| place.bytes()).fold(0, u64::saturating_add)
    }

    /// The image of that content; loaded, if it isn't yet, from the private copy that `copy` makes.
    ///
    /// # Errors
    /// The copy's or the loader's. The next call tries again.
    pub async fn get<F>(
        self: &Arc<Self>,
        hash: &str,
        copy: F,
    ) -> Result<Arc<LibraryUse>, LibraryFault>
    where
        F: FnOnce() -> anyhow::Result<ImageCopy> + Send + 'static,
    {
        let place = Arc::clone(lock(&self.by_hash).entry(hash.to_owned()).or_default());
        if let Some(loaded) = place.loaded.get() {
            return Ok(place.taken(Arc::clone(loaded)));
        }
        // In a task of its own: a file that is loaded after its limit is mapped all the same, is counted, and is there for
        // the next who asks.
        let (images, hash) = (Arc::clone(self), hash.to_owned());
        let loading = tokio::spawn(async move {
            let loaded = place.loaded.get_or_try_init(|| async {
                let loaded = load(hash, copy).await?;
                images.check_entry(&loaded.image)?;
                Ok::<_, LibraryFault>(Arc::new(loaded))
            });
            let loaded = Arc::clone(loaded.await?);
            Ok(place.taken(loaded))
        });
        let crashed = |error| LibraryFault::from(format!("loading it crashed: {error}"));
        loading.await.map_err(crashed)?
    }

    /// New content must be new code. A loader that gives an image of before for it, as some do for a path or an inode that
    /// they know, would have a reload accepted that changed nothing.
    fn check_entry(&self, image: &PluginLibrary) -> Result<(), String> {
        match lock(&self.entries).insert(image.entry()) {
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
    F: FnOnce() -> anyhow::Result<ImageCopy> + Send + 'static,
{
    let loaded = blocking::run(move || {
        let copy = copy().map_err(|error| format!("{error:#}"))?;
        let image = PluginLibrary::open(&copy.path).map_err(|fault: LoadFault| {
            // Nothing of it will ever run.
            let _ = std::fs::remove_file(&copy.path);
            LibraryFault {
                text: fault.to_string(),
                is_of_loader: fault.is_of_loader(),
            }
        })?;
        Ok(LoadedLibrary {
            hash,
            image,
            copy,
            commands: OnceLock::new(),
            is_left_behind: AtomicBool::new(false),
        })
    });
    loaded
        .await
        .map_err(|why| format!("it can't be loaded: {why}"))?
}
