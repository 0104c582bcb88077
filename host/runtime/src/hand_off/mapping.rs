//! The mapping of the shared memory into this process.
//!
//! The file behind the memory is sealed, so that neither side can shrink it under the other.

#![allow(unsafe_code)]

use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags};

use super::memory::SharedMemory;

/// The mapped memory.
#[derive(Debug)]
pub(super) struct Mapping(NonNull<SharedMemory>);

// SAFETY: it contains only atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Creates zeroed memory, and returns it with the file behind it.
    ///
    /// # Errors
    /// The system's error; `Unsupported` where it has no such files.
    pub(super) fn create() -> io::Result<(Self, OwnedFd)> {
        let file = anonymous_file(size_of::<SharedMemory>() as u64)?;
        Ok((Self::map(&file)?, file))
    }

    /// Maps the memory that the other side has created.
    ///
    /// # Errors
    /// The system's error, or that the file has the wrong size.
    pub(super) fn open(file: &OwnedFd) -> io::Result<Self> {
        let size = rustix::fs::fstat(file)?.st_size;
        if usize::try_from(size) != Ok(size_of::<SharedMemory>()) {
            let text = format!(
                "a hand-off state of {size} bytes, where {} were expected",
                size_of::<SharedMemory>()
            );
            return Err(io::Error::other(text));
        }
        Self::map(file)
    }

    fn map(file: &OwnedFd) -> io::Result<Self> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping at an address that the kernel chooses; the file is as long as the memory, and is sealed
        // at that length.
        let at = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                size_of::<SharedMemory>(),
                protection,
                flags,
                file,
                0,
            )
        }?;
        let at = NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping(at))
    }
}

impl Deref for Mapping {
    type Target = SharedMemory;

    fn deref(&self) -> &SharedMemory {
        // SAFETY: the mapping has the size and the alignment of a `SharedMemory` (a mapping begins at a page), and
        // lives as long as `self`. The contents are atomics, for which any bytes are valid and which the other process
        // may change at any time.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and nothing borrows from it any more. After a failure it stays
        // mapped, which does no harm.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), size_of::<SharedMemory>()) };
    }
}

#[cfg(target_os = "linux")]
fn anonymous_file(bytes: u64) -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("dae-hand-off", flags)?;
    rustix::fs::ftruncate(&file, bytes)?;
    // A process that has the file mapped gets SIGBUS if the file becomes shorter.
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

#[cfg(not(target_os = "linux"))]
fn anonymous_file(_: u64) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}
