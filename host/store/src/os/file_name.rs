//! Names that can't be names of files although their characters can.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::check;
#[cfg(windows)]
pub(crate) use windows::check;
