//! The seam to the operating system: the only place in this crate that knows which system it runs on.
//!
//! Each matter has a file with its documentation and the choice of the twin for this system: `unix` for all Unix
//! systems, `linux` where Linux has more, `windows`. The rest of the crate sees the same functions everywhere. The store
//! has a folder of the same kind for files and directories.
//!
//! - [`control_client`]: the connection to the control socket
//! - [`file_stamp`]: facts about a file that differ after a change
//! - [`first_process`]: the first process of a container
//! - [`interrupt`]: the signals that end a command
//! - [`listening_sockets`]: the sockets that listen on this machine, and their processes
//! - [`new_name`]: renaming without replacing
//! - [`process_group`]: a process with all that it starts
//! - [`service_manager`]: reports to the service manager
//! - [`successor`]: a program that takes this one's place
//! - [`terminal`]: keys and escape sequences
//! - [`trust`]: the check that nobody else can change a file
//! - [`wording`]: words that a person knows from this system

pub mod control_client;
pub mod file_stamp;
pub mod first_process;
pub mod interrupt;
pub mod listening_sockets;
pub mod new_name;
pub mod process_group;
pub mod service_manager;
pub mod successor;
pub mod terminal;
pub mod trust;
pub mod wording;
