//! A daemon in a process of its own, and the protocol between it and its host.

pub(crate) mod ipc;
pub mod subprocess;

pub use ipc::{HUGE_STATE_BYTES, PreflightMessage, StartMessage};
