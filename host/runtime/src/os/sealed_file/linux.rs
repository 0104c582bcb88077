//! Files of `memfd_create`, which the kernel keeps from every change once they are sealed.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

/// A sealed file and its mapping, which is unmapped when this is dropped.
#[derive(Debug)]
pub(super) struct SealedFile {
    file: OwnedFd,
    at: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory belongs to this value and is only read.
unsafe impl Send for SealedFile {}
// SAFETY: as above.
unsafe impl Sync for SealedFile {}

/// The seals of a length, and those of the content besides.
const LENGTH: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);
const CONTENT: SealFlags = SealFlags::WRITE.union(SealFlags::SEAL);
/// The unit of `st_blocks` (bytes), whatever the file system's own; see stat(3type).
const BLOCK_BYTES: i64 = 512;

impl SealedFile {
    pub(super) fn seal(file: OwnedFd) -> io::Result<Self> {
        rustix::fs::fcntl_add_seals(&file, CONTENT)?;
        let stat = rustix::fs::fstat(&file)?;
        // A page that nobody has written would be had only when this process reads it. If the system has none left then, it
        // ends the process.
        if stat.st_blocks * BLOCK_BYTES < stat.st_size {
            return Err(io::Error::other("a file with parts that were not written"));
        }
        let bytes = length_of(&file)?;
        SealedFile::open(file, bytes)
    }

    pub(super) fn open(file: OwnedFd, bytes: usize) -> io::Result<Self> {
        let seals = rustix::fs::fcntl_get_seals(&file)?;
        let length = length_of(&file)?;
        if !seals.contains(LENGTH | CONTENT) || length != bytes || bytes == 0 {
            let text = format!(
                "a file of {length} bytes with the seals {seals:?}, where a sealed one of {bytes} bytes was expected"
            );
            return Err(io::Error::other(text));
        }
        // Private, because kernels before 6.7 map no sealed file as shared, not even to read it. Nothing is copied for
        // pages that are only read.
        let flags = MapFlags::PRIVATE;
        // SAFETY: a new mapping at an address that the kernel chooses. The seals keep the file's length and content.
        let at = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ,
                flags,
                &file,
                0,
            )
        }?;
        let at = NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(SealedFile { file, at, bytes })
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is as long, and lives as long as this value. By its seals nobody writes to the file.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.bytes) }
    }
}

impl Drop for SealedFile {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and nothing borrows from it any more. After a failure it stays
        // mapped, which does no harm.
        let _ = unsafe { rustix::mm::munmap(self.at.as_ptr().cast(), self.bytes) };
    }
}

pub(super) fn create(bytes: usize) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("dae-state", flags)?;
    rustix::fs::ftruncate(&file, bytes as u64)?;
    rustix::fs::fcntl_add_seals(&file, LENGTH)?;
    Ok(file)
}

pub(super) fn fill(file: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    // A socket or another file has no seals.
    rustix::fs::fcntl_get_seals(file)?;
    let length = length_of(file)?;
    if length != bytes.len() {
        let text = format!("a file of {length} bytes for {} bytes", bytes.len());
        return Err(io::Error::other(text));
    }
    let mut written = 0;
    while written < bytes.len() {
        written += rustix::io::pwrite(file, &bytes[written..], written as u64)?;
    }
    Ok(())
}

fn length_of(file: &OwnedFd) -> io::Result<usize> {
    let size = rustix::fs::fstat(file)?.st_size;
    usize::try_from(size).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::super::{SealedFile, create, fill};
    use super::*;
    use dae_store::state_text::StateMemory as _;

    #[test]
    fn the_content_is_final_for_every_process_that_has_the_file() {
        let file = create(3).unwrap();
        let of_other = file.try_clone().unwrap();
        fill(&of_other, b"abc").unwrap();
        assert!(fill(&of_other, b"abcd").is_err(), "its length is fixed");
        assert!(fill(&of_other, b"ab").is_err(), "another state's file");
        let sealed = SealedFile::seal(file).unwrap();
        assert_eq!(sealed.bytes(), b"abc");
        assert!(fill(&of_other, b"xyz").is_err());
        let of_other = SealedFile::open(of_other, 3).unwrap();
        assert_eq!(of_other.bytes(), b"abc");
    }

    #[test]
    fn a_file_that_may_change_or_has_another_length_is_refused() {
        let file = create(3).unwrap();
        assert!(SealedFile::open(file.try_clone().unwrap(), 3).is_err());
        fill(&file, b"abc").unwrap();
        let sealed = SealedFile::seal(file).unwrap();
        let again = sealed.descriptor().try_clone_to_owned().unwrap();
        assert!(SealedFile::open(again, 4).is_err());
        let holes = create(3 << 20).unwrap();
        assert!(SealedFile::seal(holes).is_err(), "nobody has filled it");
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(fill(&null.into(), b"x").is_err());
    }

    #[test]
    fn a_file_that_another_process_may_still_write_to_is_not_sealed() {
        let file = create(3).unwrap();
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping that nothing uses.
        let mapped =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), 3, protection, flags, &file, 0) };
        let mapped = mapped.unwrap();
        let refused = SealedFile::seal(file).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
        // SAFETY: the mapping from above.
        unsafe { rustix::mm::munmap(mapped, 3) }.unwrap();
    }
}
