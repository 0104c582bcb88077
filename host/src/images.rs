//! The images that this process has loaded: one for each content hash, for ever.
//!
//! Daemons of the same file share its image, and a rollback finds the old one again. None is ever given back, so they are
//! counted.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use crate::dylib::{Image, LoadFault};

/// See the file's head.
#[derive(Debug, Default)]
pub struct Images {
    by_hash: Mutex<HashMap<String, Arc<OnceCell<Image>>>>,
    entries: Mutex<HashSet<usize>>,
}

impl Images {
    /// Whether that content is loaded.
    #[must_use]
    pub fn has(&self, hash: &str) -> bool {
        let by_hash = self.by_hash.lock().unwrap_or_else(PoisonError::into_inner);
        by_hash.get(hash).is_some_and(|cell| cell.initialized())
    }

    /// How many are loaded.
    #[must_use]
    pub fn count(&self) -> usize {
        let by_hash = self.by_hash.lock().unwrap_or_else(PoisonError::into_inner);
        by_hash.values().filter(|cell| cell.initialized()).count()
    }

    /// The image of that content; loaded, if it isn't yet, from the private copy that `copy` makes.
    ///
    /// # Errors
    /// The copy's or the loader's. The next call tries again.
    pub async fn get<F>(&self, hash: &str, copy: F) -> Result<Image, String>
    where
        F: FnOnce() -> anyhow::Result<PathBuf> + Send + 'static,
    {
        let cell = {
            let mut by_hash = self.by_hash.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(by_hash.entry(hash.to_owned()).or_default())
        };
        cell.get_or_try_init(|| async {
            let loaded = spawn_blocking(move || {
                let path = copy().map_err(|error| format!("{error:#}"))?;
                Image::open(&path).map_err(|fault: LoadFault| fault.to_string())
            });
            let image = loaded
                .await
                .map_err(|error| format!("loading it crashed: {error}"))??;
            self.check_entry(&image).map(|()| image)
        })
        .await
        .copied()
    }

    /// New content must be new code. A loader that gives an image of before for it, as some do for a path or an inode that
    /// they know, would have a reload accepted that changed nothing.
    fn check_entry(&self, image: &Image) -> Result<(), String> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        match entries.insert(image.entry()) {
            true => Ok(()),
            false => Err(
                "the system's loader gave code that is loaded already, and not this file's"
                    .to_owned(),
            ),
        }
    }
}
