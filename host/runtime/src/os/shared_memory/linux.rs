//! Files in memory, sealed at their length.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

/// A mapping of a file. It is unmapped when this is dropped.
#[derive(Debug)]
pub(super) struct Region {
    at: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it is an address of memory that belongs to this value, and no thread has a special part in it. Users must
// take care that their accesses are atomic.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    pub(super) fn create(bytes: usize) -> io::Result<(Self, OwnedFd)> {
        let file = anonymous_file(bytes as u64)?;
        Ok((Self::map(&file, bytes)?, file))
    }

    pub(super) fn open(file: &OwnedFd, bytes: usize) -> io::Result<Self> {
        let size = rustix::fs::fstat(file)?.st_size;
        if usize::try_from(size) != Ok(bytes) {
            let text = format!("a hand-off state of {size} bytes, where {bytes} were expected");
            return Err(io::Error::other(text));
        }
        Self::map(file, bytes)
    }

    pub(super) fn address(&self) -> NonNull<u8> {
        self.at
    }

    fn map(file: &OwnedFd, bytes: usize) -> io::Result<Self> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping at an address that the kernel chooses; the file is as long as the memory, and is sealed
        // at that length.
        let at =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), bytes, protection, flags, file, 0) }?;
        let at = NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Region { at, bytes })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and nothing borrows from it any more. After a failure it stays
        // mapped, which does no harm.
        let _ = unsafe { rustix::mm::munmap(self.at.as_ptr().cast(), self.bytes) };
    }
}

fn anonymous_file(bytes: u64) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("dae-hand-off", flags)?;
    rustix::fs::ftruncate(&file, bytes)?;
    // A process that has the file mapped gets SIGBUS if the file becomes shorter.
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}
