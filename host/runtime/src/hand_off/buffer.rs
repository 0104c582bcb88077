//! A buffer in the shared memory: the worker's one thread and the kernel fill it by address, and the host copies from it
//! by atomic loads.
//!
//! The worker writes plainly, since the host copies only bytes that the worker has reported with `Release`, and the
//! worker changes none of those in the same turn. So an honest worker's write never meets a load. A dishonest one may
//! write at any time; therefore the host loads atomically, and each byte at most once. The worker also reads plainly:
//! the host never writes.

#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// A buffer in shared memory, as the host uses it.
#[repr(C, align(8))]
pub(crate) struct Buffer<const BYTES: usize>([AtomicU8; BYTES]);

/// The right to fill the buffers of a hand-off state: there is one in the worker's process, that of its cursor. The
/// SAFETY arguments of the buffers rest on that.
#[derive(Debug)]
pub(super) struct BufferGuard(());

impl BufferGuard {
    /// Creates the right for the worker's cursor. See [`WorkerCursor::at`](super::cursor::WorkerCursor::at).
    pub(super) fn of_cursor() -> Self {
        BufferGuard(())
    }
}

/// A buffer in shared memory, as the worker uses it.
pub(crate) struct OwnBuffer<'m, const BYTES: usize>(&'m Buffer<BYTES>);

impl<const BYTES: usize> Buffer<BYTES> {
    /// Returns the buffer for the worker's thread.
    #[inline]
    pub(super) fn own<'m>(&'m self, _guard: &'m mut BufferGuard) -> OwnBuffer<'m, BYTES> {
        OwnBuffer(self)
    }

    /// Returns a copy of a part of the buffer, cut off at the buffer's end. The copy is made by whole words where they
    /// are aligned, and by bytes at both ends, so that it touches no byte outside of the part.
    pub(super) fn copy(&self, part: Range<usize>) -> Vec<u8> {
        let bytes = self.0.get(limited::<BYTES>(part)).unwrap_or_default();
        let mut copy = Vec::with_capacity(bytes.len());
        // SAFETY: `AtomicU64` has the layout of eight `AtomicU8`, apart from its alignment, which `align_to` sees to. A
        // worker that writes here all the same does so from another process.
        let (first, words, last) = unsafe { bytes.align_to::<AtomicU64>() };
        let byte = |byte: &AtomicU8| byte.load(Ordering::Relaxed);
        copy.extend(first.iter().map(byte));
        for word in words {
            copy.extend_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        copy.extend(last.iter().map(byte));
        copy
    }

    /// Returns the address of the first byte.
    fn start(&self) -> *mut u8 {
        self.0.as_ptr().cast_mut().cast()
    }
}

/// Cuts a part off at the buffer's end.
fn limited<const BYTES: usize>(part: Range<usize>) -> Range<usize> {
    let end = part.end.min(BYTES);
    part.start.min(end)..end
}

impl<const BYTES: usize> OwnBuffer<'_, BYTES> {
    /// Writes bytes from the offset `at` on. Returns false if they do not fit.
    #[inline]
    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) -> bool {
        let fits = bytes.len() <= BYTES.saturating_sub(at);
        if fits {
            // SAFETY: the range lies within the buffer, which consists of atomics and so may be changed through a shared
            // reference. Only the owner of the guard gets here, and the host reads none of the range now (see the file's
            // head). `bytes` is not in the buffer, to which there are no references.
            unsafe {
                let to = self.0.start().add(at);
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
            }
        }
        fits
    }

    /// Appends a part of the buffer to private memory. The part is cut off at the buffer's end.
    #[inline]
    pub(super) fn copy_into(&self, part: Range<usize>, out: &mut Vec<u8>) {
        let part = limited::<BYTES>(part);
        let (from, to) = (out.len(), out.len() + part.len());
        out.reserve(part.len());
        // SAFETY: the part lies within the buffer, and as many bytes of capacity lie behind those of `out`. Nothing
        // writes to the part meanwhile: the host never writes, and this thread holds the guard.
        unsafe {
            let to = out.as_mut_ptr().add(from);
            std::ptr::copy_nonoverlapping(self.0.start().add(part.start), to, part.len());
        }
        // SAFETY: the bytes up to there are initialised, by the copy above.
        unsafe { out.set_len(to) };
    }

    /// Returns the address of a part of the buffer and its length, for the kernel to read from or write to. The part is
    /// cut off at the buffer's end.
    pub(super) fn address(&self, part: Range<usize>) -> (*mut u8, usize) {
        let part = limited::<BYTES>(part);
        (self.0.start().wrapping_add(part.start), part.len())
    }
}
