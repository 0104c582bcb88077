//! Memory that a host shares with its worker. Only Linux has it: elsewhere it can't be created, and everything works
//! without it.

use std::io;
use std::ptr::NonNull;

use super::descriptors::OwnedDescriptor;

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(not(target_os = "linux"))]
use elsewhere as system;
#[cfg(target_os = "linux")]
use linux as system;

/// A mapping of shared memory into this process. It begins at a page, and stays at its address for as long as this
/// lives.
#[derive(Debug)]
pub struct Region(system::Region);

impl Region {
    /// Creates zeroed memory, and returns it with the file behind it. Neither side can change the file's length.
    ///
    /// # Errors
    /// The system's error; `Unsupported` where it has no such files.
    pub fn create(bytes: usize) -> io::Result<(Self, OwnedDescriptor)> {
        let (region, file) = system::Region::create(bytes)?;
        Ok((Region(region), file))
    }

    /// Maps the memory that the other side has created.
    ///
    /// # Errors
    /// The system's error, or that the file has the wrong size.
    pub fn open(file: &OwnedDescriptor, bytes: usize) -> io::Result<Self> {
        system::Region::open(file, bytes).map(Region)
    }

    /// Returns the address of the first byte.
    #[must_use]
    pub fn address(&self) -> NonNull<u8> {
        self.0.address()
    }
}
