//! The shared memory, mapped into this process.

#![allow(unsafe_code)]

use std::io;
use std::ops::Deref;

use super::memory::SharedMemory;
use crate::os::descriptors::OwnedDescriptor;
use crate::os::shared_memory::Region;

/// The mapped memory.
#[derive(Debug)]
pub(super) struct Mapping(Region);

impl Mapping {
    /// Creates zeroed memory, and returns it with the file behind it.
    ///
    /// # Errors
    /// The system's error; `Unsupported` where it has no such files.
    pub(super) fn create() -> io::Result<(Self, OwnedDescriptor)> {
        let (region, file) = Region::create(size_of::<SharedMemory>())?;
        Ok((Mapping(region), file))
    }

    /// Maps the memory that the other side has created.
    ///
    /// # Errors
    /// The system's error, or that the file has the wrong size.
    pub(super) fn open(file: &OwnedDescriptor) -> io::Result<Self> {
        Region::open(file, size_of::<SharedMemory>()).map(Mapping)
    }
}

impl Deref for Mapping {
    type Target = SharedMemory;

    fn deref(&self) -> &SharedMemory {
        // SAFETY: the mapping has the size and the alignment of a `SharedMemory` (a mapping begins at a page), and
        // lives as long as `self`. The contents are atomics, for which any bytes are valid and which the other process
        // may change at any time.
        unsafe { self.0.address().cast().as_ref() }
    }
}
