//! The seam to the operating system: all code that differs between systems.
//!
//! Each matter has a file with its documentation and the choice of the twin for this system: `unix` for all Unix
//! systems, `linux` where Linux has more and `elsewhere` for the others, `windows`. The rest of the crate sees the same functions everywhere. The store
//! has a folder of the same kind for files and directories.
//!
//! - `account`: on Windows, the user of this process and of others
//! - [`allocator`]: hints for the allocator where a large state passes
//! - [`background`]: a program without a terminal
//! - [`bounds`]: the limits of a worker's process
//! - [`clock`]: the clock that all processes of the machine share
//! - [`control_client`]: the connection to the control socket
//! - [`control_listener`]: the listener of the control socket
//! - [`descriptors`]: descriptors of files and sockets, and how many a process may have
//! - [`file_stamp`]: facts about a file that differ after a change
//! - [`first_process`]: the first process of a container
//! - [`interrupt`]: the signals that end a command
//! - `job_object`: on Windows, processes that are bounded and ended together
//! - [`library`]: loading a dynamic library for good, and ending a process whose loader hangs
//! - [`listening_sockets`]: the sockets that listen on this machine, and their processes
//! - `long_path`: on Windows, the form of long paths
//! - [`machine`]: the memory, disk and descriptors that are left
//! - [`mounts`]: file systems that forbid running code
//! - [`new_name`]: renaming without replacing
//! - [`own_environment`]: the environment variables of a worker
//! - [`own_process`]: the resources that this process has, for metrics
//! - [`own_program`]: the path at which this program is started again
//! - [`port`]: ports of the loopback address, and the error of one that is taken
//! - [`process_group`]: a process with all that it starts
//! - [`process_name`]: the name of a process in lists
//! - [`process_usage`]: the CPU time and the memory of processes
//! - [`sealed_file`]: files in memory that nobody can change any more
//! - [`service_manager`]: reports to the service manager
//! - [`shared_memory`]: memory that a host shares with its worker
//! - [`signals`]: the signals, or console events, that end a host
//! - [`successor`]: a program that takes this one's place
//! - [`tcp_counts`]: the kernel's counts of a connection's bytes, and direct reading and writing
//! - [`terminal`]: keys and escape sequences
//! - [`trust`]: the check that nobody else can change a file
//! - `under_test`: on Windows, the parts that tests share
//! - [`warden`]: a worker's end with its host
//! - [`wording`]: words that a person knows from this system
//! - [`worker_process`]: the process of a worker, with all that it starts
//! - [`worker_stream`]: the stream between a host and its worker

#[cfg(windows)]
pub mod account;
pub mod allocator;
pub mod background;
pub mod bounds;
pub mod clock;
pub mod control_client;
pub mod control_listener;
pub mod descriptors;
pub mod file_stamp;
pub mod first_process;
pub mod interrupt;
#[cfg(windows)]
mod job_object;
pub mod library;
pub mod listening_sockets;
#[cfg(windows)]
mod long_path;
pub mod machine;
pub mod mounts;
pub mod new_name;
pub(crate) mod own_environment;
pub mod own_process;
pub mod own_program;
pub mod port;
pub mod process_group;
pub(crate) mod process_name;
pub mod process_usage;
pub mod sealed_file;
pub mod service_manager;
pub mod shared_memory;
pub mod signals;
pub mod successor;
pub mod tcp_counts;
pub mod terminal;
pub mod trust;
#[cfg(all(test, windows))]
mod under_test;
pub mod warden;
pub mod wording;
pub mod worker_process;
pub mod worker_stream;
