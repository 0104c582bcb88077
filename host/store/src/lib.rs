//! The host's disk access and plain data, and the decisions that need no clock, socket or lock.
//!
//! The modules in reading order, which is also the order of imports (a file imports only what stands below it):
//!
//! - [`install_plan`]: the rules of an install · [`uninstall`]: what an uninstall leaves
//! - [`daemon_config`]: the values that a daemon runs with, and where each comes from
//! - [`archive`]: states and entries that have left an ecosystem, kept for a while
//! - [`snapshots`]: the states of daemons · [`state_text`]: their texts
//! - [`plugin_store`]: copies of the installed files
//! - [`event_log`]: the kept events · [`log`]: the logs of the host and of its daemons
//! - [`registry`]: the installed daemons · [`manifest`]: a plugin file's description of itself
//! - [`reconcile`]: the actions that changed files require
//! - [`config`], [`settings`]: the owner's settings · [`restart`]: the decision after an instance has ended
//! - [`retention`]: how long the archive and logs are kept · [`durations`]: time spans that are safe to compute with
//! - [`daemon_state`]: the states in a daemon's life · [`event`]: what happens to daemons and to the host
//! - [`sleep_rule`]: the reasons for sleep
//! - [`restart_rule`]: the reasons for restarts
//! - [`report`]: the data types of the host's replies · [`usage`]: those of `usage` · [`call_graph`]: those of `graph`
//! - [`difference`]: the differences between two JSON values, such as settings · [`json_form`]: the form of what programs read
//! - [`home`]: the directory of an ecosystem, its lock and its control socket
//! - [`atomic_file`]: files that survive a power cut
//! - [`json5_text`], [`text_file`]: text that people write · [`printable`]: untrusted text, made safe for a terminal
//! - [`blocking`]: work that may block · [`tasks`]: tasks and threads that may panic
//! - [`ranged`]: numbers with a range of their own, as they are read
//! - [`rate_limit`]: messages that are logged at a limited rate · [`lock`]: the function that locks a mutex
//! - [`os`]: the code that depends on the operating system, with [`write_access`]: the check of who may write a file

#![cfg_attr(windows, deny(unsafe_code))]
#![cfg_attr(not(windows), forbid(unsafe_code))]
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod archive;
pub mod atomic_file;
pub mod blocking;
pub mod call_graph;
pub mod config;
pub mod daemon_config;
pub mod daemon_state;
pub mod difference;
pub mod durations;
pub mod event;
pub mod event_log;
pub mod home;
pub mod install_plan;
pub mod json5_text;
pub mod json_form;
pub mod lock;
pub mod log;
pub mod manifest;
pub mod os;
pub mod plugin_store;
pub mod printable;
pub mod ranged;
pub mod rate_limit;
pub mod reconcile;
pub mod registry;
pub mod report;
pub mod restart;
pub mod restart_rule;
pub mod retention;
pub mod settings;
pub mod sleep_rule;
pub mod snapshots;
pub mod state_text;
pub mod tasks;
pub mod text_file;
pub mod uninstall;
pub mod usage;

pub use os::{real_path, write_access};
