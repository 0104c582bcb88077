//! Connections between daemons, and the names of daemons.

pub mod call_graph;
pub mod client;
pub mod directory;
pub mod ecosystem_api;
pub mod reset;
pub mod self_connection;
