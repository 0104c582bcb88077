//! Linux shows each thread that it counts below `/proc`.

use std::path::{Path, PathBuf};

/// Returns the path under which the system shows this thread while it counts it; `None` if it shows no threads.
pub(crate) fn task_of_this_thread() -> Option<PathBuf> {
    let task = std::fs::read_link("/proc/thread-self").ok()?;
    Some(Path::new("/proc").join(task))
}
