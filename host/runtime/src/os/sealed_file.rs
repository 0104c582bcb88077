//! Files in memory that nobody can change any more, for bytes that several processes read without a copy. Only Linux has
//! them: elsewhere they can't be created, and bytes pass over the stream between the processes.

use std::io;

use super::descriptors::{BorrowedDescriptor, OwnedDescriptor};
use dae_store::state_text::StateMemory;

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(not(target_os = "linux"))]
use elsewhere as system;
#[cfg(target_os = "linux")]
use linux as system;

/// A file in memory whose content is final, mapped into this process.
#[derive(Debug)]
pub struct SealedFile(system::SealedFile);

impl SealedFile {
    /// Creates a file with a copy of these bytes.
    ///
    /// # Errors
    /// The system's error; `Unsupported` where it has no such files.
    pub fn of(bytes: &[u8]) -> io::Result<Self> {
        let file = create(bytes.len())?;
        fill(&file, bytes)?;
        SealedFile::seal(file)
    }

    /// Makes the content of a file final that this process has created.
    ///
    /// # Errors
    /// The system's error, such as that another process has the file mapped and may still write to it.
    pub fn seal(file: OwnedDescriptor) -> io::Result<Self> {
        system::SealedFile::seal(file).map(SealedFile)
    }

    /// Opens a file that another process has created.
    ///
    /// # Errors
    /// The system's error, or that its content isn't final or not so long.
    pub fn open(file: OwnedDescriptor, bytes: usize) -> io::Result<Self> {
        system::SealedFile::open(file, bytes).map(SealedFile)
    }

    /// Returns its descriptor, for another process.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedDescriptor<'_> {
        self.0.descriptor()
    }
}

impl StateMemory for SealedFile {
    fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// Creates a file of that length for another process to fill. Nobody can change its length.
///
/// # Errors
/// The system's error; `Unsupported` where it has no such files.
pub fn create(bytes: usize) -> io::Result<OwnedDescriptor> {
    system::create(bytes)
}

/// Writes the whole content of a file that was created with that length.
///
/// # Errors
/// The system's error, or that the file is none of these.
pub fn fill(file: &OwnedDescriptor, bytes: &[u8]) -> io::Result<()> {
    system::fill(file, bytes)
}
