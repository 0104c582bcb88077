//! The error of a request to the host. It doesn't cross: the plugin's side makes it of a status and a sink.

use std::fmt;

use super::status;

/// The reason why the host could not do what a daemon requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFault {
    /// A value of [`status`].
    pub status: u32,
    /// The host's message; may be empty.
    pub message: String,
}

impl fmt::Display for HostFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.status, self.message.is_empty()) {
            (status::GONE, true) => f.write_str("it has ended"),
            (status::UNKNOWN, true) => f.write_str("this host doesn't offer that"),
            (status, true) => write!(f, "the host answered with status {status}"),
            (_, false) => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for HostFault {}
