//! A program that takes this one's place.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::become_program;
#[cfg(windows)]
pub use windows::become_program;
