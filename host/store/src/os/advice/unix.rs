//! The remedies on Unix.

use std::io;
use std::path::Path;

use rustix::io::Errno;

/// The error text if no thread is available.
pub(crate) const NO_THREAD: &str = "the system gives the host's process no more threads; allow its user or its service more \
                                    (`ulimit -u`, or TasksMax= of its service)";

/// Where to look if a file of the home may not be used.
pub(crate) const OWNER: &str = "see who owns it and its directory (`ls -ld`), or run as that user";

/// Where to look if a plugin's file may not be read.
pub(crate) const FILE_RIGHTS: &str = "see `ls -ld` of it and of its directories";

/// The error text if the user has no home directory.
pub(crate) const NO_HOME_DIRECTORY: &str = "cannot tell where your home directory is; set HOME, or name a home, also by the variable DAE_HOME";

/// Returns a remedy for an error that only this system has.
pub(crate) fn of_error(error: &io::Error, _path: &Path) -> Option<&'static str> {
    (Errno::from_io_error(error) == Some(Errno::MFILE)).then_some(
        "this process may open no more files: allow it more (`ulimit -n`, or LimitNOFILE= of its service)",
    )
}

/// Returns `None`: on Unix the error's kind is enough to choose the remedy.
pub(crate) fn of_path(_error: &io::Error, _path: &Path) -> Option<&'static str> {
    None
}

/// Returns false: here, a program that has a file open keeps no other from reading, replacing or removing it.
pub(crate) fn is_in_use(_error: &io::Error) -> bool {
    false
}
