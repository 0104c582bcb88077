//! A disk of the home's own, small enough to be filled.
//!
//! A tmpfs, which only root may mount. The mounts are in a namespace of this process: they end with it and its children, and
//! nobody else sees them. Without root there is no such disk, and the steps that fill it are left out; that is said.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// Room for the stored and the loaded copy of every version, several times.
const OPTIONS: &str = "size=128m,mode=0700";

/// What takes the room that is left.
const FILLER: &str = "filler";

const CHUNK_BYTES: usize = 64 << 10;

/// The smallest piece that a tmpfs gives.
const PAGE_BYTES: usize = 4 << 10;

/// Gives this process mounts of its own. To be called while it has one thread.
///
/// # Errors
/// Why it has none.
pub fn keep_mounts_apart() -> Result<(), String> {
    let apart = unshare(CloneFlags::CLONE_NEWNS).and_then(|()| {
        let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
    });
    let apart = apart.map_err(|error| format!("it may not mount a file system: {error}"));
    // Whether it may mount shows in the first one.
    apart.and_then(|()| {
        let trial = tempfile::tempdir().map_err(|error| error.to_string())?;
        Disk::over(trial.path()).map(drop)
    })
}

/// A mounted disk, until it is dropped.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
}

impl Disk {
    /// Mounts one over a directory.
    ///
    /// # Errors
    /// Why it can't be.
    pub fn over(directory: &Path) -> Result<Self, String> {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        let mounted = mount(
            Some("tmpfs"),
            directory,
            Some("tmpfs"),
            flags,
            Some(OPTIONS),
        );
        mounted.map_err(|error| {
            format!("cannot mount a tmpfs over {}: {error}", directory.display())
        })?;
        Ok(Disk {
            root: directory.to_owned(),
        })
    }

    /// Takes all the room that is left, or has become free since.
    pub fn fill(&self) {
        let mut options = File::options();
        let opened = options
            .create(true)
            .append(true)
            .open(self.root.join(FILLER));
        // On a full disk there may be no room for another file.
        let Ok(mut filler) = opened else {
            return;
        };
        for bytes in [CHUNK_BYTES, PAGE_BYTES, 1] {
            let chunk = vec![0; bytes];
            while filler.write_all(&chunk).is_ok() {}
        }
    }

    /// Gives the room back.
    pub fn free(&self) {
        fs::remove_file(self.root.join(FILLER)).expect("it was filled");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A host may still have files open there; the disk goes with the last of them.
        let unmounted = umount2(&self.root, MntFlags::MNT_DETACH);
        if let Err(error) = unmounted {
            eprintln!("cannot unmount {}: {error}", self.root.display());
        }
    }
}
