//! The store: the host's own copies of what is installed, each under the hash of its content.
//!
//! The source of a plugin belongs to its author, whose next build overwrites it; a mapped file that is overwritten ends
//! the host. So a source is read once, and everything after works on the copy. A name made of the content makes
//! copies that never change and are shared by all daemons of the same file, and shows a damaged one for what it is:
//! nothing is handed out whose bytes don't have their hash.
//!
//! From the store come images: private copies under names never used before, for the loader alone, which takes two
//! files of one name for the same. They are worth nothing once nobody runs them, and are removed then; what a process
//! that was killed has left, the next start of a host removes.
//!
//! The home's lock makes one writer. An error leaves the store as it was; it is a [`FileFault`] where the source is to
//! blame, and names file and attempt where the disk is.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, anyhow};

use crate::atomic_file::{self, DiskFault};
use crate::home::Home;
use crate::manifest::{self, FileFault, FileFaultKind, Manifest};
use crate::registry::check_hash;

/// Enough of a hash to recognise it by, where the name is unique without it.
const HASH_PREFIX_CHARS: usize = 16;

/// Files are compared and copied in parts of so many bytes, which stay in the processor's cache.
const COMPARED_BYTES: u64 = 64 << 10;

/// Where installed plugins lie.
#[derive(Debug, Clone)]
pub struct PluginStore {
    artefacts: PathBuf,
    images: PathBuf,
}

/// One installed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artefact {
    /// BLAKE3 of its content, in 64 hex digits.
    pub hash: String,
    /// Where it lies. Not to be loaded from there: see [`PluginStore::image`].
    pub path: PathBuf,
    /// Its length, in bytes.
    pub bytes: u64,
    /// What it takes in memory once it is mapped, as its own headers say (bytes).
    pub mapped_bytes: u64,
    /// What it tells about itself; the same for all daemons of it.
    pub manifest: Arc<Manifest>,
}

/// A private copy for one process to load.
#[derive(Debug, Clone)]
pub struct ImageCopy {
    /// Where it lies.
    pub path: PathBuf,
    /// What it takes in memory once it is mapped, as its own headers say.
    pub mapped_bytes: u64,
}

impl PluginStore {
    /// The store of a home, whose directories must be there.
    ///
    /// # Errors
    /// They are not.
    pub fn open(home: &Home) -> anyhow::Result<Self> {
        let store = PluginStore {
            artefacts: home.store_dir(),
            images: home.images_dir(),
        };
        for dir in [&store.artefacts, &store.images] {
            fs::read_dir(dir).map_err(|e| DiskFault::new(&e, "open the store", dir))?;
        }
        Ok(store)
    }

    /// Takes a copy of the plugin at `source`, or finds the one that it has of the same content. A power cut may take or
    /// damage it until [`PluginStore::settle`].
    ///
    /// # Errors
    /// A [`FileFault`] if the source is no plugin or changed meanwhile, else the disk's.
    pub fn stage(&self, source: &Path) -> anyhow::Result<Artefact> {
        let bytes = read_unchanging(source)?;
        let manifest = manifest::parse(&bytes).map_err(|fault| fault.at(source))?;
        let hash = hash_of(&bytes);
        let path = self.path_of(&hash);
        // What is there may have been damaged since, and is then written anew.
        if !holds(&path, &bytes) {
            atomic_file::place(&path, &bytes)?;
        }
        Ok(Artefact {
            hash,
            path,
            bytes: bytes.len() as u64,
            mapped_bytes: manifest::mapped_bytes(&bytes),
            manifest: Arc::new(manifest),
        })
    }

    /// Has what was staged outlive a power cut: to be done before a registry names it, and not before that, since nobody
    /// who waits for the new code has to wait for the disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn settle(&self, staged: &Artefact) -> anyhow::Result<()> {
        Ok(atomic_file::settle(&staged.path)?)
    }

    /// The artefact of that hash.
    ///
    /// # Errors
    /// There is none, or it was damaged.
    pub fn find(&self, hash: &str) -> anyhow::Result<Artefact> {
        let bytes = self.read(hash)?;
        let path = self.path_of(hash);
        Ok(Artefact {
            hash: hash.to_owned(),
            bytes: bytes.len() as u64,
            mapped_bytes: manifest::mapped_bytes(&bytes),
            manifest: Arc::new(manifest::parse(&bytes).map_err(|fault| fault.at(&path))?),
            path,
        })
    }

    /// Whether the file at `source` has the content of that hash. A damaged copy of ours is like nothing, so that whoever
    /// asks installs the file again, which mends it.
    #[must_use]
    pub fn is_same(&self, hash: &str, source: &Path) -> bool {
        // What is no plugin's file is not the content of one: a pipe is not waited for, nor a giant read.
        let Some(bytes) = manifest::file_bytes(source) else {
            return false;
        };
        let Ok(mut theirs) = File::open(source) else {
            return false;
        };
        // Two builds differ early on, most often: that costs less than a hash.
        match File::open(self.path_of(hash)) {
            Ok(mut ours) => {
                let is_as_long = ours.metadata().is_ok_and(|ours| ours.len() == bytes);
                is_as_long && are_same(&mut ours, &mut theirs).unwrap_or(false)
            }
            Err(_) => copy_hashed(&mut theirs, &mut io::sink()).is_ok_and(|found| found == hash),
        }
    }

    /// Removes every artefact but those whose hashes are in `keep`, and what interrupted writes have left.
    ///
    /// # Errors
    /// The disk's; what could be removed is.
    pub fn sweep(&self, keep: &HashSet<String>) -> anyhow::Result<()> {
        let kept: HashSet<PathBuf> = keep.iter().map(|hash| self.path_of(hash)).collect();
        sweep_directory(&self.artefacts, |path| kept.contains(path))
    }

    /// A private copy of an artefact, for one process to load and map for as long as it likes; the mapping outlives the
    /// file.
    ///
    /// # Errors
    /// It is there no more, it was damaged, or the disk is full.
    pub fn image(&self, artefact: &Artefact) -> anyhow::Result<ImageCopy> {
        let mut theirs = self.open_artefact(&artefact.hash)?;
        let path = self.images.join(image_name(&artefact.hash));
        let mut ours = create(&path)?;
        // In parts: a thousand whole files in memory, one after the other, leave it in pieces.
        let copied = copy_hashed(&mut theirs, &mut ours);
        let checked = match copied {
            Ok(hash) if hash == artefact.hash => Ok(()),
            Ok(_) => Err(damaged(&artefact.path)),
            Err(e) => Err(DiskFault::new(&e, "copy a plugin for loading to", &path).into()),
        };
        if let Err(error) = checked {
            // Half a copy is of no use, and neither is one of something else.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(ImageCopy {
            path,
            mapped_bytes: artefact.mapped_bytes,
        })
    }

    /// Removes all images. For the start of a host, when no process of the home runs any more: one that does keeps what
    /// it has mapped.
    ///
    /// # Errors
    /// The disk's; what could be removed is.
    pub fn sweep_images(&self) -> anyhow::Result<()> {
        sweep_directory(&self.images, |_| false)
    }

    /// The content of an artefact, which has the hash that it should.
    fn read(&self, hash: &str) -> anyhow::Result<Vec<u8>> {
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
        match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(anyhow!(
                "the installed copy {} is lost; install it again",
                path.display()
            )),
            result => Ok(result.map_err(|e| DiskFault::new(&e, "read", &path))?),
        }
    }

    /// The same suffix for all, whatever the source's was: a file is found by its hash alone.
    fn path_of(&self, hash: &str) -> PathBuf {
        let suffix = std::env::consts::DLL_SUFFIX;
        self.artefacts.join(format!("{hash}{suffix}"))
    }
}

/// A file's bytes, read twice: a file that somebody writes meanwhile hardly reads the same.
fn read_unchanging(source: &Path) -> anyhow::Result<Vec<u8>> {
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

/// Copies what is left of the one to the other; the hash of it.
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
    File::open(path).is_ok_and(|mut held| are_same(&mut &*bytes, &mut held).unwrap_or(false))
}

/// Whether both have the same bytes left. Reads no further than they do.
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

/// A name that no image of this process has or had. Other processes' images are told apart by the process id, and those
/// of a dead one of the same id are swept before.
fn image_name(hash: &str) -> String {
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
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    atomic_file::make_owners(&file)?;
    Ok(file)
}

/// Removes the files of `dir` that `is_kept` doesn't want. Tries all of them, and tells of the first that stayed.
fn sweep_directory(dir: &Path, is_kept: impl Fn(&Path) -> bool) -> anyhow::Result<()> {
    let entries = fs::read_dir(dir).map_err(|e| DiskFault::new(&e, "sweep", dir))?;
    let mut first = Ok(());
    for path in entries.flatten().map(|entry| entry.path()) {
        if !is_kept(&path) {
            first = first.and(atomic_file::remove(&path));
        }
    }
    // Not synced: what a power cut brings back, the next sweep removes.
    first.map_err(Into::into)
}

#[cfg(test)]
mod tests;
