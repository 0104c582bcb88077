//! The check that nobody else can change a file or a directory whose content will be compiled and run.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::is_written_by_us;
#[cfg(windows)]
pub use windows::is_written_by_us;
