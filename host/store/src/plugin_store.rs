//! The plugin store: the host's own copies of the installed files, each named by the hash of its content.
//!
//! A plugin's source file belongs to its author, whose next build overwrites it, and overwriting a mapped file ends the
//! host. A source is therefore read once, and everything else uses the copy. Since the name is the content's hash, a
//! copy never changes, all daemons of the same file share it, and damage is detected: the store returns no file whose
//! content doesn't match its hash.
//!
//! For loading, the store makes private copies under names that were never used before, because the loader treats files
//! of one name as the same library. Such a copy is removed once no process needs it. The next start of a host removes
//! the copies that a killed process has left.
//!
//! The home's lock ensures a single writer. An error leaves the store unchanged. It is a [`FileFault`] if the source is
//! the cause; a disk error names the file and the action.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, anyhow};

use crate::atomic_file::{self, DiskFault};
use crate::home::Home;
use crate::manifest::{self, FileContent, FileFault, FileFaultKind, Manifest, SCHEMAS_BYTES_MAX};
use crate::os::private;
use crate::registry::check_hash;

/// The number of characters of a hash in a file's name that is unique without it.
const HASH_PREFIX_CHARS: usize = 16;

/// The size of the parts in which files are compared and copied (bytes). They fit the processor's cache.
const COMPARED_BYTES: u64 = 64 << 10;

/// The directories of the installed plugins and of the copies for loading.
#[derive(Debug, Clone)]
pub struct PluginStore {
    artefacts: PathBuf,
    copies: PathBuf,
}

/// An installed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artefact {
    /// The BLAKE3 hash of its content, in 64 hex digits.
    pub hash: String,
    /// The path of the stored file. It must not be loaded from there: see [`PluginStore::copy_for_loading`].
    pub path: PathBuf,
    /// Its length, in bytes.
    pub bytes: u64,
    /// The size of the mapped library according to its headers (bytes).
    pub mapped_bytes: u64,
    /// Its manifest, shared by all daemons of the file.
    pub manifest: Arc<Manifest>,
    /// True if it is no file: the code is part of the program, and the hash only names it.
    pub is_built_in: bool,
}

impl Artefact {
    /// Returns the artefact of a daemon that is compiled into the program. `type_name` distinguishes it from others with the same
    /// manifest.
    ///
    /// # Errors
    /// The manifest is not one of this host's.
    pub fn built_in(type_name: &str, manifest: &str) -> Result<Self, FileFault> {
        let named = format!("built in: {type_name} {manifest}");
        Ok(Artefact {
            hash: hash_of(named.as_bytes()),
            path: PathBuf::new(),
            bytes: 0,
            mapped_bytes: 0,
            manifest: Arc::new(manifest::parse_text(manifest.as_bytes())?),
            is_built_in: true,
        })
    }
}

/// A private copy of a library for one process to load.
#[derive(Debug, Clone)]
pub struct LibraryCopy {
    /// The path of the copy.
    pub path: PathBuf,
    /// The size of the mapped library according to its headers (bytes).
    pub mapped_bytes: u64,
}

impl PluginStore {
    /// Opens the store of a home, whose directories must exist.
    ///
    /// # Errors
    /// A directory can't be read.
    pub fn open(home: &Home) -> anyhow::Result<Self> {
        let store = PluginStore {
            artefacts: home.store_dir(),
            copies: home.library_copies_dir(),
        };
        for dir in [&store.artefacts, &store.copies] {
            fs::read_dir(dir).map_err(|e| DiskFault::new(&e, "open the store", dir))?;
        }
        Ok(store)
    }

    /// Copies the plugin at `source` into the store, unless the store already has the content. Until
    /// [`PluginStore::settle`], a power cut may lose or damage the copy.
    ///
    /// # Errors
    /// A [`FileFault`] if the source is not a plugin or has changed meanwhile, otherwise a disk error.
    pub fn stage(&self, source: &Path) -> anyhow::Result<Artefact> {
        let bytes = read_unchanging(source)?;
        let mut manifest = manifest::parse(&bytes).map_err(|fault| fault.at(source))?;
        let hash = hash_of(&bytes);
        self.add_schemas(&hash, &mut manifest);
        let path = self.path_of(&hash);
        // A damaged copy is written again.
        if !holds(&path, &bytes) {
            atomic_file::place(&path, &bytes)?;
        }
        Ok(Artefact {
            hash,
            path,
            bytes: bytes.len() as u64,
            mapped_bytes: manifest::mapped_bytes(&bytes),
            manifest: Arc::new(manifest),
            is_built_in: false,
        })
    }

    /// Makes a staged file survive a power cut. To be called before a registry names the file, but not earlier, so that
    /// the start of new code doesn't wait for the disk.
    ///
    /// # Errors
    /// A disk error.
    pub fn settle(&self, staged: &Artefact) -> anyhow::Result<()> {
        match staged.is_built_in {
            true => Ok(()),
            false => Ok(atomic_file::settle(&staged.path)?),
        }
    }

    /// Returns the stored file with that hash.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn find(&self, hash: &str) -> anyhow::Result<Artefact> {
        let bytes = self.read(hash)?;
        let path = self.path_of(hash);
        let mut manifest = manifest::parse(&bytes).map_err(|fault| fault.at(&path))?;
        self.add_schemas(hash, &mut manifest);
        Ok(Artefact {
            hash: hash.to_owned(),
            bytes: bytes.len() as u64,
            mapped_bytes: manifest::mapped_bytes(&bytes),
            manifest: Arc::new(manifest),
            path,
            is_built_in: false,
        })
    }

    /// Keeps the schemas that the code of a stored file has made, JSON. They survive a restart of the host, but need not
    /// survive a power cut: the code makes them again.
    ///
    /// # Errors
    /// A disk error.
    pub fn keep_schemas(&self, hash: &str, schemas: &str) -> anyhow::Result<()> {
        Ok(atomic_file::place(
            &self.schemas_path_of(hash),
            schemas.as_bytes(),
        )?)
    }

    /// Adds the kept schemas to a manifest whose file holds only a part of them. Damaged ones count as none.
    fn add_schemas(&self, hash: &str, manifest: &mut Manifest) {
        if !manifest.run_time_schemas {
            return;
        }
        let mut text = String::new();
        let kept = atomic_file::open(&self.schemas_path_of(hash));
        // One byte more, so that a longer file is refused for its length.
        let read = kept.map(|file| {
            file.take(SCHEMAS_BYTES_MAX as u64 + 1)
                .read_to_string(&mut text)
        });
        if let Ok(Ok(_)) = read {
            let _ = manifest.add_schemas(&text);
        }
    }

    /// Returns whether the file at `source` has the content with that hash. A damaged stored copy counts as different,
    /// so that the caller installs the file again, which repairs the copy.
    #[must_use]
    pub fn is_same(&self, hash: &str, source: &Path) -> bool {
        // Returning early avoids waiting for a pipe or reading an oversized file.
        let Some(bytes) = manifest::file_bytes(source) else {
            return false;
        };
        let Ok(mut theirs) = atomic_file::open(source) else {
            return false;
        };
        // Different builds usually differ early in the file, so comparing is cheaper than hashing.
        match atomic_file::open(&self.path_of(hash)) {
            Ok(mut ours) => {
                let is_as_long = ours.metadata().is_ok_and(|ours| ours.len() == bytes);
                is_as_long && are_same(&mut ours, &mut theirs).unwrap_or(false)
            }
            Err(_) => copy_hashed(&mut theirs, &mut io::sink()).is_ok_and(|found| found == hash),
        }
    }

    /// Removes all stored files whose hashes are not in `keep`, and leftovers of interrupted writes.
    ///
    /// # Errors
    /// A disk error; everything else that could be removed is removed.
    pub fn sweep(&self, keep: &HashSet<String>) -> anyhow::Result<()> {
        let kept = self.paths_of(keep);
        sweep_directory(&self.artefacts, |path| kept.contains(path))
    }

    /// Returns the files that [`PluginStore::sweep`] removes.
    #[must_use]
    pub fn unused(&self, keep: &HashSet<String>) -> Vec<PathBuf> {
        let mut found = files_in(&self.artefacts);
        let kept = self.paths_of(keep);
        found.retain(|path| !kept.contains(path));
        found
    }

    /// Returns the private copies that [`PluginStore::sweep_copies`] removes.
    #[must_use]
    pub fn copies(&self) -> Vec<PathBuf> {
        files_in(&self.copies)
    }

    fn paths_of(&self, hashes: &HashSet<String>) -> HashSet<PathBuf> {
        let paths = hashes.iter();
        paths
            .flat_map(|hash| [self.path_of(hash), self.schemas_path_of(hash)])
            .collect()
    }

    /// Makes a private copy of a stored file for one process to load. The mapping survives the removal of the copy.
    ///
    /// # Errors
    /// The stored file is missing or damaged, or the disk is full.
    pub fn copy_for_loading(&self, artefact: &Artefact) -> anyhow::Result<LibraryCopy> {
        let mut theirs = self.open_artefact(&artefact.hash)?;
        let path = self.copies.join(copy_name(&artefact.hash));
        let mut ours = create(&path)?;
        // Copied in parts: reading a thousand whole files into memory one after the other would fragment it.
        let copied = copy_hashed(&mut theirs, &mut ours);
        let checked = match copied {
            Ok(hash) if hash == artefact.hash => Ok(()),
            Ok(_) => Err(damaged(&artefact.path)),
            Err(e) => Err(DiskFault::new(&e, "copy a plugin for loading to", &path).into()),
        };
        if let Err(error) = checked {
            // An incomplete or wrong copy is useless.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(LibraryCopy {
            path,
            mapped_bytes: artefact.mapped_bytes,
        })
    }

    /// Removes all private copies. To be called at the start of a host, when no other process of the home should run. A
    /// process that still runs keeps its mappings.
    ///
    /// # Errors
    /// A disk error; everything else that could be removed is removed.
    pub fn sweep_copies(&self) -> anyhow::Result<()> {
        sweep_directory(&self.copies, |_| false)
    }

    /// Returns the content of a stored file after checking its hash.
    fn read(&self, hash: &str) -> anyhow::Result<FileContent> {
        let mut file = self.open_artefact(hash)?;
        let path = self.path_of(hash);
        let bytes = manifest::read_whole(&mut file, &path)?;
        match hash_of(&bytes) == hash {
            true => Ok(bytes),
            false => Err(damaged(&path)),
        }
    }

    fn open_artefact(&self, hash: &str) -> anyhow::Result<File> {
        check_hash(hash).map_err(|reason| anyhow!(reason))?;
        let path = self.path_of(hash);
        match atomic_file::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(anyhow!(
                "the installed copy {} is lost; install it again",
                path.display()
            )),
            result => Ok(result.map_err(|e| DiskFault::new(&e, "read", &path))?),
        }
    }

    /// Returns the path of a stored file. All have the same suffix, whatever the source's was, so that the hash alone
    /// gives the path.
    fn path_of(&self, hash: &str) -> PathBuf {
        let suffix = std::env::consts::DLL_SUFFIX;
        self.artefacts.join(format!("{hash}{suffix}"))
    }

    /// Returns the path of the schemas that the code of a stored file has made.
    fn schemas_path_of(&self, hash: &str) -> PathBuf {
        self.artefacts.join(format!("{hash}.schema.json"))
    }
}

/// Reads a file twice and returns its bytes. A file that is being written is unlikely to give the same bytes twice.
fn read_unchanging(source: &Path) -> anyhow::Result<FileContent> {
    let mut file = manifest::open(source)?;
    let bytes = manifest::read_whole(&mut file, source)?;
    let again = file
        .rewind()
        .and_then(|()| are_same(&mut &*bytes, &mut file));
    if !again.with_context(|| format!("cannot read {} again", source.display()))? {
        let text = "changed while it was read; try again when whatever writes it is done";
        return Err(FileFault::new(FileFaultKind::Changed, text)
            .at(source)
            .into());
    }
    Ok(bytes)
}

fn damaged(path: &Path) -> anyhow::Error {
    anyhow!(
        "the installed copy {} is damaged: its content is not what was installed; install it again",
        path.display()
    )
}

/// Copies the rest of `from` to `to` and returns its hash.
fn copy_hashed(from: &mut File, to: &mut impl io::Write) -> io::Result<String> {
    let (mut part, mut hasher) = (Vec::new(), blake3::Hasher::new());
    loop {
        part.clear();
        from.take(COMPARED_BYTES).read_to_end(&mut part)?;
        if part.is_empty() {
            return Ok(hasher.finalize().to_hex().to_string());
        }
        hasher.update(&part);
        to.write_all(&part)?;
    }
}

fn hash_of(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

fn holds(path: &Path, bytes: &[u8]) -> bool {
    atomic_file::open(path).is_ok_and(|mut held| are_same(&mut &*bytes, &mut held).unwrap_or(false))
}

/// Returns whether the remaining bytes of both are the same. Stops reading at the first difference.
fn are_same(one: &mut impl Read, other: &mut impl Read) -> io::Result<bool> {
    let (mut of_one, mut of_other) = (Vec::new(), Vec::new());
    loop {
        for (file, part) in [
            (&mut *one as &mut dyn Read, &mut of_one),
            (other, &mut of_other),
        ] {
            part.clear();
            file.take(COMPARED_BYTES).read_to_end(part)?;
        }
        if of_one != of_other || of_one.is_empty() {
            return Ok(of_one == of_other);
        }
    }
}

/// Returns a name that no private copy of this process has had. The process id distinguishes copies of other processes;
/// a host's start has removed those of an earlier process with the same id.
fn copy_name(hash: &str) -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    let pid = std::process::id();
    let suffix = std::env::consts::DLL_SUFFIX;
    format!("{pid}-{number}-{}{suffix}", &hash[..HASH_PREFIX_CHARS])
}

fn create(path: &Path) -> Result<File, DiskFault> {
    create_new(path).map_err(|e| DiskFault::new(&e, "copy a plugin for loading to", path))
}

fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    private::set_owners_mode(&mut options);
    let file = options.open(path)?;
    atomic_file::make_owners(&file)?;
    Ok(file)
}

/// Returns the files in `dir`; none if it can't be read.
fn files_in(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Removes the files in `dir` for which `is_kept` returns false. Tries all of them and returns the first error.
fn sweep_directory(dir: &Path, is_kept: impl Fn(&Path) -> bool) -> anyhow::Result<()> {
    let entries = fs::read_dir(dir).map_err(|e| DiskFault::new(&e, "sweep", dir))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let removed = paths.filter(|path| !is_kept(path));
    let removed = removed.map(|path| atomic_file::remove(&path));
    let first = atomic_file::with_one_wait(|| removed.fold(Ok(()), Result::and));
    // The directory is not synced: the next sweep removes what a power cut restores.
    first.map_err(Into::into)
}

#[cfg(test)]
mod tests;
