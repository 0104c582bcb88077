//! The memory that a host and one of its workers share, and the two buffers in it.
//!
//! Both sides write only to atomics, apart from the buffers. The worker's one thread that owns the `WorkerCursor`
//! writes a buffer. The host copies only what that thread has reported as present, after the worker is dead or has lost
//! access. The file behind the memory is sealed, so that neither side can shrink it under the other.

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

// SAFETY: the states of the slots decide which side may access it when; see this file's head and that of `hand_off.rs`.
unsafe impl<const BYTES: usize> Sync for Buffer<BYTES> {}

impl<const BYTES: usize> Buffer<BYTES> {
    /// Returns the buffer for the worker's thread to fill.
    pub(super) fn writable<'a>(&'a self, _own: &'a mut BufferGuard) -> &'a mut [u8] {
        // SAFETY: in this process there is one `BufferGuard` for a hand-off state (`WorkerCursor::at` requires it). The
        // slice borrows it mutably, so there is no other slice of the buffer. The other process has none, and copies
        // only bytes that are no longer written.
        unsafe { &mut *self.0.get() }
    }

    /// Returns what the worker's thread has filled.
    pub(super) fn readable<'a>(&'a self, _own: &'a BufferGuard) -> &'a [u8] {
        // SAFETY: as above; while the guard is borrowed, there is no slice to write to, and the other process never
        // writes.
        unsafe { &*self.0.get() }
    }

    /// Returns a copy of a part of the buffer, cut off at the buffer's end.
    pub(super) fn copy(&self, from: usize, to: usize) -> Vec<u8> {
        let (from, to) = (from.min(BYTES), to.min(BYTES));
        let mut copy = vec![0; to.saturating_sub(from)];
        // SAFETY: both are valid for that length, which is bounded by the buffer's. A worker that keeps to the rules
        // does not write to this part now (see the file's head). Whatever a faulty one writes all the same is valid as
        // bytes.
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

// SAFETY: it contains only atomics and buffers that are `Sync`.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
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
        Ok(Page(at))
    }
}

impl Deref for Page {
    type Target = SharedMemory;

    fn deref(&self) -> &SharedMemory {
        // SAFETY: the mapping has the size and the alignment of a `SharedMemory` (a mapping begins at a page), lives as
        // long as `self`, and any bytes are valid for its contents: atomics and bytes.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Page {
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
