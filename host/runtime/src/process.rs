//! A daemon in a process of its own, and what it and its host say to each other.

pub(crate) mod hand_off;
pub mod host_requests;
pub(crate) mod ipc;
pub mod signals;
pub mod subprocess;

pub use ipc::{PreflightMessage, StartMessage};
