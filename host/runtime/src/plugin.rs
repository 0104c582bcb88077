//! A plugin's library in this process, and the two interfaces between it and its host.

pub(crate) mod command_table;
pub mod completion;
pub mod host_api;
pub mod host_request;
pub mod identity;
pub mod libraries;
pub mod library;
pub(crate) mod payload;
pub mod start_fault;
pub mod state_part;
