//! Daemons talking to daemons: their names, and connections to them.

pub mod client;
pub mod directory;
pub mod ecosystem_api;
pub mod self_connection;
