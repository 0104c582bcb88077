//! A plugin host for long-running daemons: the library, for programs that want an ecosystem of their own.
//!
//! [`Dae`] is all that an embedding program needs. The modules, in reading order, which is also the order of imports (a
//! file imports only what stands below it):
//!
//! - `cli`: the program's command line
//! - `fuzzed`: what the fuzzers reach
//! - [`dae`]: the ecosystem, and what changes it
//! - `control`: the socket by which its owner does
//! - `plan`: what is to be done about the drop-in directory
//! - `supervise`: one task a daemon, which owns its port
//! - `errands`: what a daemon has its host do about others · `visit`: a connection that it has opened to one
//! - `neighbours`: who is there to talk to · `topics`: events for whoever has subscribed
//! - `guest`: one connection, line in, call, line out · `turn`: one command of it · `greet`: a daemon is told of its guests
//! - `door`: what guests find behind a port
//! - [`worker`]: the main of a daemon's own process
//! - `reply`: the line that a command ends with
//! - `instance`: one instance of a daemon, wherever its code runs
//! - `child`: a daemon in a process of its own, as its host sees it
//! - `images`: the plugins that are loaded · `dylib`: a plugin's file in this process
//! - `services`: what a daemon's code may ask of the host · `requests`: what of it is refused by the request alone
//! - `relief`: the threads of all that, and those in reserve for where a handler holds one
//! - `discover`: the daemons of this machine that this host doesn't run
//! - `ledger`: who has which guest's socket, the host or its worker
//! - `commands`, `mailbox`, `heard`, `asked`, `feed`, `stats`, `pace`, `beat`, `room`: what a connection works with
//! - `frame`: what a host and its worker say to each other · `descriptors`: how many, and which are handed on
//! - [`store`], `past`, [`log`], [`registry`], [`manifest`], `states`, [`home`], `durable`: what is on the disk
//! - [`config`], [`settings`], [`restart`], `retention`, `state`, `identity`, `outcome`, [`report`], `spans`: pure data and decisions
//! - `tasks`: what becomes of tasks and threads that panic
//! - `hands`: who may write a file · `printable`: text of others, made safe for a terminal
//! - `seldom`: what is logged only now and then
//! - `threads`: those for work that may block · `signals`: which of them end a host
//! - `lock`: the one way to lock a table
//! - `self_connection`: TCP connections that have themselves as their peer
//! - `text`: text that a person has put into a file · `lenient`: JSON5

pub mod cli;
pub mod config;
pub mod dae;
#[doc(hidden)]
pub mod fuzzed;
pub mod home;
pub mod log;
pub mod manifest;
pub mod registry;
pub mod report;
pub mod restart;
pub mod settings;
pub mod store;
pub mod worker;

mod asked;
mod beat;
mod child;
mod commands;
mod control;
mod descriptors;
mod discover;
mod door;
mod durable;
mod dylib;
mod errands;
mod feed;
mod frame;
mod greet;
mod guest;
#[cfg(unix)]
mod hands;
mod heard;
mod identity;
mod images;
mod instance;
mod ledger;
mod lenient;
mod lock;
mod mailbox;
mod neighbours;
mod outcome;
mod pace;
mod past;
mod plan;
mod printable;
mod relief;
mod reply;
mod requests;
mod retention;
mod room;
mod seldom;
mod self_connection;
mod services;
mod signals;
mod spans;
mod state;
mod states;
mod stats;
mod supervise;
mod tasks;
mod text;
mod threads;
mod topics;
mod turn;
mod visit;

pub use dae::Dae;
