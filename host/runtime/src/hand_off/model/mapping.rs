//! The shared memory of a model: plain memory that both threads reach.

use std::io;
use std::ops::Deref;

use super::atomics::{AtomicU32, AtomicU64};
use super::buffer::Buffer;
use super::line::Line;
use super::memory::{Cursor, SharedMemory};
use super::progress::Progress;
use super::slot::Slot;
use crate::os::descriptors::OwnedDescriptor;
use crate::threads::counters::SharedCounts;

/// The memory of a model.
pub(super) struct Mapping(Box<SharedMemory>);

impl std::fmt::Debug for Mapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mapping")
    }
}

impl Mapping {
    pub(super) fn create() -> io::Result<(Self, OwnedDescriptor)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn open(_: &OwnedDescriptor) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Deref for Mapping {
    type Target = SharedMemory;

    fn deref(&self) -> &SharedMemory {
        &self.0
    }
}

/// Returns memory that is all zero, as a new file is.
pub(super) fn zeroed() -> Mapping {
    let word = || AtomicU64::new(0);
    Mapping(Box::new(SharedMemory {
        cursor: Cursor {
            hand_off: word(),
            turn: word(),
            read_before: word(),
            written_before: word(),
            taken: word(),
            line: Line(word()),
            done: word(),
        },
        progress: Progress {
            front: word(),
            at: word(),
            since_ns: word(),
        },
        answered: SharedCounts::default(),
        slots: std::array::from_fn(|_| Slot(word())),
        turns: std::array::from_fn(|_| AtomicU32::new(0)),
        taken: Buffer::zeroed(),
        made: Buffer::zeroed(),
    }))
}
