//! A disk for one home, small enough to be filled.
//!
//! The disk is a tmpfs, which only root may mount. The mounts are in a namespace of this process. They end with the
//! process and its children, and no other process sees them. Without root there is no such disk: the steps that fill it
//! are left out, and the test prints that.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// The mount options. The size fits the stored and the loaded copy of every version several times.
const OPTIONS: &str = "size=128m,mode=0700";

/// The file that takes up the free space.
const FILLER: &str = "filler";

const CHUNK_BYTES: usize = 64 << 10;

/// The smallest piece that a tmpfs allocates.
const PAGE_BYTES: usize = 4 << 10;

/// Moves this process into its own mount namespace. Must be called while the process has one thread.
///
/// # Errors
/// Returns the reason if the process cannot have its own mounts.
pub fn keep_mounts_apart() -> Result<(), String> {
    let apart = unshare(CloneFlags::CLONE_NEWNS).and_then(|()| {
        let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
    });
    let apart = apart.map_err(|error| format!("it may not mount a file system: {error}"));
    // Only a mount shows whether the process may mount.
    apart.and_then(|()| {
        let tried = tempfile::tempdir().map_err(|error| error.to_string())?;
        Disk::over(tried.path()).map(drop)
    })
}

/// A mounted disk. Dropping it unmounts it.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
}

impl Disk {
    /// Mounts a disk over a directory.
    ///
    /// # Errors
    /// Returns the reason if the disk cannot be mounted.
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

    /// Takes up all free space, including what has become free since the last call.
    pub fn fill(&self) {
        let mut options = File::options();
        let opened = options
            .create(true)
            .append(true)
            .open(self.root.join(FILLER));
        // On a full disk there may be no space for another file.
        let Ok(mut filler) = opened else {
            return;
        };
        for bytes in [CHUNK_BYTES, PAGE_BYTES, 1] {
            let chunk = vec![0; bytes];
            while filler.write_all(&chunk).is_ok() {}
        }
    }

    /// Frees the space that [`Disk::fill`] has taken.
    pub fn free(&self) {
        fs::remove_file(self.root.join(FILLER)).expect("it was filled");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A host may still have files open on the disk. The disk goes away when the last one is closed.
        let unmounted = umount2(&self.root, MntFlags::MNT_DETACH);
        if let Err(error) = unmounted {
            eprintln!("cannot unmount {}: {error}", self.root.display());
        }
    }
}
