//! The code that depends on the operating system: one module for each matter, with a twin for each system.
//!
//! A module's own file holds its documentation and the part that all systems share. Its twins are `unix.rs` (and
//! `linux.rs`, where Linux differs from other systems) and `windows.rs`; they have the same functions, but for a few that only
//! one system needs. No other file of this crate names a system. `handle`, `in_use` and `security` are parts that several Windows twins share. Only `handle`,
//! `security` and `home_lock` call Windows directly, so that no other file needs `unsafe`.

pub(crate) mod advice;
pub(crate) mod control_address;
pub(crate) mod directories;
pub(crate) mod disk;
pub(crate) mod file_id;
pub(crate) mod file_name;
#[cfg(windows)]
mod handle;
pub(crate) mod home_lock;
#[cfg(windows)]
mod in_use;
pub(crate) mod journald;
pub(crate) mod log_file;
pub(crate) mod plugin_file;
pub(crate) mod private;
pub mod real_path;
#[cfg(test)]
pub(crate) mod sample_library;
#[cfg(windows)]
pub mod security;
pub(crate) mod stamp;
pub(crate) mod threads;
pub mod write_access;
