//! A buffer of a model: bytes that loom watches.

use std::cell::Cell;
use std::ops::Range;

use loom::cell::UnsafeCell;

/// A buffer, as the host uses it.
pub(crate) struct Buffer<const BYTES: usize>([Byte; BYTES]);

/// A byte, and a cell that reports an access which is not ordered after the other side's last one.
struct Byte(Cell<u8>, UnsafeCell<()>);

/// The right to fill the buffers.
#[derive(Debug)]
pub(super) struct BufferGuard;

impl BufferGuard {
    pub(super) fn of_cursor() -> Self {
        BufferGuard
    }
}

/// A buffer, as the worker uses it.
pub(crate) struct OwnBuffer<'m, const BYTES: usize>(&'m Buffer<BYTES>);

impl<const BYTES: usize> Buffer<BYTES> {
    pub(super) fn zeroed() -> Self {
        Buffer(std::array::from_fn(|_| {
            Byte(Cell::new(0), UnsafeCell::new(()))
        }))
    }

    pub(super) fn own<'m>(&'m self, _guard: &'m mut BufferGuard) -> OwnBuffer<'m, BYTES> {
        OwnBuffer(self)
    }

    pub(super) fn copy(&self, part: Range<usize>) -> Vec<u8> {
        let bytes = self.0.get(part).unwrap_or_default();
        let read = |Byte(byte, watched): &Byte| watched.with(|_| byte.get());
        bytes.iter().map(read).collect()
    }
}

impl<const BYTES: usize> OwnBuffer<'_, BYTES> {
    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) -> bool {
        let Some(room) = self.0.0.get(at..at + bytes.len()) else {
            return false;
        };
        for (Byte(byte, watched), value) in room.iter().zip(bytes) {
            watched.with_mut(|_| byte.set(*value));
        }
        true
    }

    pub(super) fn copy_into(&self, part: Range<usize>, out: &mut Vec<u8>) {
        out.extend(self.0.copy(part));
    }
}
