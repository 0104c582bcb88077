//! A plugin host for long-running daemons: the library, for programs that want an ecosystem of their own.
//!
//! [`Dae`] is all that an embedding program needs. The modules, in reading order, which is also the order of imports (a
//! file imports only what stands below it):
//!
//! - `cli`: the program's command line
//! - [`dae`]: the ecosystem, and what changes it
//! - `control`: the socket by which its owner does
//! - `plan`: what is to be done about the drop-in directory
//! - `supervise`: one task a daemon, which owns its port
//! - `guest`: one connection, line in, call, line out
//! - `door`: what guests find behind a port
//! - `instance`: one instance of a daemon · `services`: what its code may ask of the host
//! - `dylib`: a plugin's file in this process · `images`: those that are loaded
//! - `commands`, `lenient`, `mailbox`, `stats`: what a connection works with
//! - `store`, `registry`, `manifest`, `home`, `log`: what is on the disk
//! - `restart`, `state`, `identity`, `config`, `report`: pure data and decisions

pub mod cli;
pub mod config;
pub mod dae;
pub mod home;
pub mod log;
pub mod manifest;
pub mod registry;
pub mod report;
pub mod restart;
pub mod store;

mod commands;
mod control;
mod door;
mod durable;
mod dylib;
mod guest;
mod identity;
mod images;
mod instance;
mod lenient;
mod mailbox;
mod plan;
mod services;
mod state;
mod stats;
mod supervise;

pub use dae::Dae;
