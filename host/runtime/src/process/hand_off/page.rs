//! The memory that a host and one of its workers share, and the two buffers in it.
//!
//! What both sides write is atomics alone. A buffer is written by the worker, from the one thread that has the desk; the host
//! copies from it what that thread has said is there, when it is dead or has been shut out of it. The file behind the memory
//! is sealed, so that no side can pull it from under the other.

#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags};

use super::SharedMemory;
use super::cursor::BufferGuard;

/// A buffer in shared memory.
#[repr(C)]
pub(super) struct Buffer<const BYTES: usize>(UnsafeCell<[u8; BYTES]>);

// SAFETY: who may touch it when is decided by the slots' states; see the file's head.
unsafe impl<const BYTES: usize> Sync for Buffer<BYTES> {}

impl<const BYTES: usize> Buffer<BYTES> {
    /// For the worker's thread: to be filled.
    pub(super) fn writable<'a>(&'a self, _own: &'a mut BufferGuard) -> &'a mut [u8] {
        // SAFETY: in this process there is one `Own` for a hand-off state (`Desk::open` says so), which the slice borrows alone, so
        // that there is no other slice of it; the other process has none, and copies bytes that are not written any more.
        unsafe { &mut *self.0.get() }
    }

    /// For the worker's thread: what it has filled.
    pub(super) fn readable<'a>(&'a self, _own: &'a BufferGuard) -> &'a [u8] {
        // SAFETY: as above; while `Own` is borrowed nobody has a slice to write to, and the other process never writes.
        unsafe { &*self.0.get() }
    }

    /// A copy of a part of it, as much as there is.
    pub(super) fn copy(&self, from: usize, to: usize) -> Vec<u8> {
        let (from, to) = (from.min(BYTES), to.min(BYTES));
        let mut copy = vec![0; to.saturating_sub(from)];
        // SAFETY: both are valid for that length, which was bounded by the buffer's; a worker that keeps to the rules doesn't
        // write to this part now (see the file's head), and what a broken one writes all the same are bytes.
        unsafe {
            let start = self.0.get().cast::<u8>().add(from);
            std::ptr::copy_nonoverlapping(start, copy.as_mut_ptr(), copy.len());
        }
        copy
    }
}

/// The mapped memory.
#[derive(Debug)]
pub(super) struct Page(NonNull<SharedMemory>);

// SAFETY: what is in it is atomics and buffers that are `Sync`.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    /// New memory, all zero, and the file behind it.
    ///
    /// # Errors
    /// The system's; `Unsupported` where it has no such files.
    pub(super) fn create() -> io::Result<(Self, OwnedFd)> {
        let file = anonymous_file(size_of::<SharedMemory>() as u64)?;
        Ok((Self::map(&file)?, file))
    }

    /// That of the other side.
    ///
    /// # Errors
    /// The system's, or that the file isn't one of these.
    pub(super) fn open(file: &OwnedFd) -> io::Result<Self> {
        let size = rustix::fs::fstat(file)?.st_size;
        if usize::try_from(size) != Ok(size_of::<SharedMemory>()) {
            let text = format!(
                "a ledger of {size} bytes, where {} were expected",
                size_of::<SharedMemory>()
            );
            return Err(io::Error::other(text));
        }
        Self::map(file)
    }

    fn map(file: &OwnedFd) -> io::Result<Self> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice; the file is as long as the memory, and sealed so.
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
        Ok(Page(at))
    }
}

impl Deref for Page {
    type Target = SharedMemory;

    fn deref(&self) -> &SharedMemory {
        // SAFETY: the mapping is as large and as aligned as that (a mapping begins at a page), lives as long as this, and
        // any bytes are valid for what is in it: atomics and bytes.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: the mapping is this one's own, and nothing borrows from it any more. A failure leaves it mapped, which
        // hurts nobody.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), size_of::<SharedMemory>()) };
    }
}

#[cfg(target_os = "linux")]
fn anonymous_file(bytes: u64) -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("dae-ledger", flags)?;
    rustix::fs::ftruncate(&file, bytes)?;
    // A file that has become shorter is a SIGBUS for whoever has it mapped.
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

#[cfg(not(target_os = "linux"))]
fn anonymous_file(_: u64) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}
