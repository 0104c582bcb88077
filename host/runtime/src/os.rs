//! The seam to the operating system: the only place in this crate that knows which system it runs on.
//!
//! Each matter has a file with its documentation and the choice of the twin for this system: `unix` for all Unix
//! systems, `linux` where Linux has more, `windows`. The rest of the crate sees the same functions everywhere. The store
//! has a folder of the same kind for files and directories.
//!
//! - [`account`]: the user of this process and of others
//! - [`bounds`]: the limits of a worker's process
//! - [`clock`]: the clock that all processes of the machine share
//! - [`control_listener`]: the listener of the control socket
//! - [`descriptors`]: descriptors of files and sockets, and how many a process may have
//! - [`library`]: loading a dynamic library for good, and ending a process whose loader hangs
//! - [`mounts`]: file systems that forbid running code
//! - [`shared_memory`]: memory that a host shares with its worker
//! - [`signals`]: the signals, or console events, that end a host
//! - [`tcp_counts`]: the kernel's counts of a connection's bytes, and direct reading and writing
//! - [`warden`]: a worker's end with its host
//! - [`worker_process`]: the process of a worker, with all that it starts
//! - [`worker_stream`]: the stream between a host and its worker

#[cfg(windows)]
pub mod account;
pub mod bounds;
pub mod clock;
pub mod control_listener;
pub mod descriptors;
pub mod library;
pub mod mounts;
pub mod shared_memory;
pub mod signals;
pub mod tcp_counts;
pub mod warden;
pub mod worker_process;
pub mod worker_stream;
