//! The disk and the plain data of a host: what it keeps, and the decisions that see no clock, socket or lock.
//!
//! In reading order, which is also the order of imports (a file imports only what stands below it):
//!
//! - [`archive`]: what has left an ecosystem, kept for a while
//! - [`snapshots`]: the states of daemons · [`plugin_store`]: copies of the files that are installed
//! - [`log`]: the host's log and those of daemons
//! - [`registry`]: what is installed · [`manifest`]: what a plugin's file says of itself
//! - [`reconcile`]: what is to be done about files that change
//! - [`config`], [`settings`]: what an owner sets · [`restart`]: what follows the end of an instance
//! - [`retention`]: for how long what has left is kept · [`durations`]: spans of time that are safe to compute with
//! - [`daemon_state`]: where a daemon is in its life · [`report`]: the shapes of what a host answers
//! - [`home`]: the directory of an ecosystem, its lock and its control socket
//! - [`atomic_file`]: files that survive a power cut · `write_access`: who may write a file
//! - [`json5_text`], [`text_file`]: what people write · [`printable`]: text of others, made safe for a terminal
//! - [`blocking`]: work that may block · [`tasks`]: tasks and threads that may panic
//! - [`rate_limit`]: what is logged only now and then · [`lock`]: the one way to lock a table

pub mod archive;
pub mod atomic_file;
pub mod blocking;
pub mod config;
pub mod daemon_state;
pub mod durations;
pub mod home;
pub mod json5_text;
pub mod lock;
pub mod log;
pub mod manifest;
pub mod plugin_store;
pub mod printable;
pub mod rate_limit;
pub mod reconcile;
pub mod registry;
pub mod report;
pub mod restart;
pub mod retention;
pub mod settings;
pub mod snapshots;
pub mod tasks;
pub mod text_file;
#[cfg(unix)]
mod write_access;
