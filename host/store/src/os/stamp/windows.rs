//! The index of the file with its change time, and the access list.

use std::fs::Metadata;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::windows::io::AsHandle as _;
use std::path::Path;

use super::FileMarks;
use crate::os::{handle, security};

/// The ticks of a file's times in a second: 100 ns.
const TICKS_PER_SECOND: i64 = 10_000_000;

/// A hash of the owner and the access list. It is compared only with others of this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct WriteAccess {
    hash: u64,
}

/// Returns the marks, or none if the file can't be opened: its length and time are then all that is known.
pub(super) fn marks(path: &Path, _metadata: &Metadata) -> FileMarks {
    let found = handle::open_to_look(path).and_then(|file| {
        let ticks = handle::change_time(&file)?;
        Ok(FileMarks {
            inode: handle::information(&file)?.index,
            changed: (
                ticks.div_euclid(TICKS_PER_SECOND),
                ticks.rem_euclid(TICKS_PER_SECOND) * 100,
            ),
        })
    });
    found.unwrap_or_default()
}

pub(super) fn write_access(dir: &Path) -> Option<WriteAccess> {
    let access = handle::open_to_look(dir)
        .and_then(|dir| security::access(dir.as_handle()))
        .ok()?;
    let mut hasher = DefaultHasher::new();
    format!("{access:?}").hash(&mut hasher);
    Some(WriteAccess {
        hash: hasher.finish(),
    })
}
