//! The texts that name a remedy in the words of the system: its limits, its tools and its errors.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{
    FILE_RIGHTS, NO_HOME_DIRECTORY, NO_THREAD, OWNER, is_in_use, of_error, of_path,
};
#[cfg(windows)]
pub(crate) use windows::{
    FILE_RIGHTS, NO_HOME_DIRECTORY, NO_THREAD, OWNER, is_in_use, of_error, of_path,
};
