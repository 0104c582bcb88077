//! Commands in progress, and the ends of commands and instances: plain data for everything that runs them.

use std::pin::Pin;

use dae_plugin_api::abi::status;
use serde::{Deserialize, Serialize};

use crate::connection::pending_calls::CallError;

/// The statuses that only the host gives, and no plugin.
pub mod host_status {
    /// The command exceeded its limit.
    pub const TIMEOUT: u32 = 0x1_0000;
    /// No daemon has that name (control socket).
    pub const UNKNOWN_DAEMON: u32 = 0x1_0001;
    /// The daemon exists, but it is not running (control socket).
    pub const NOT_RUNNING: u32 = 0x1_0002;
    /// The process that had the command ended. The guest gets `crashed`, but no handler has panicked.
    pub const DIED: u32 = 0x1_0003;
    /// Another daemon has the name (control socket).
    pub const NAME_TAKEN: u32 = 0x1_0004;
    /// The file did not last before (control socket).
    pub const QUARANTINED: u32 = 0x1_0005;
}

/// One command for an instance.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The index into the manifest's commands.
    pub index: u32,
    /// The guest that sent it.
    pub guest: u64,
    /// The arguments as they came.
    pub arguments: &'a str,
    /// The number of the call for its parts; 0 if its caller takes none.
    pub parts: u64,
}

/// Commands of one guest that go to an instance together.
#[derive(Debug, Clone, Copy)]
pub struct CommandBatch<'a> {
    /// The guest that sent them.
    pub guest: u64,
    /// The number of commands.
    pub count: usize,
    /// The index and arguments of each, as entries (`ipc::batch`).
    pub entries: &'a [u8],
}

/// The end of a command, with what it left in the sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// A status of `dae_plugin_api::abi::status`, or of [`host_status`].
    pub status: u32,
    /// The result as JSON, or the error's text.
    pub bytes: Vec<u8>,
}

impl Completion {
    /// Returns a success with this result.
    #[must_use]
    pub fn done(bytes: Vec<u8>) -> Self {
        let status = status::DONE;
        Completion { status, bytes }
    }

    /// Returns a success without a result.
    #[must_use]
    pub fn nothing() -> Self {
        Completion::without_text(status::NOTHING)
    }

    /// Returns the answer about a guest or an event queue that has gone.
    #[must_use]
    pub fn gone() -> Self {
        Completion::without_text(status::GONE)
    }

    /// Returns the answer to an operation that the host does not know.
    #[must_use]
    pub fn unknown() -> Self {
        Completion::without_text(status::UNKNOWN)
    }

    /// Returns a failure for this reason.
    #[must_use]
    pub fn failed(text: String) -> Self {
        Completion {
            status: status::FAILED,
            bytes: text.into_bytes(),
        }
    }

    fn without_text(status: u32) -> Self {
        let bytes = Vec::new();
        Completion { status, bytes }
    }
}

impl From<CallError> for Completion {
    fn from(error: CallError) -> Self {
        Completion {
            status: status::FAILED,
            bytes: serde_json::to_vec(&error).unwrap_or_default(),
        }
    }
}

/// The host's answer to a daemon's request.
pub enum HostAnswer {
    /// The request is answered already.
    Now(Completion),
    /// The request is not answered yet. Dropping the future cancels it.
    Later(Pin<Box<dyn Future<Output = Completion> + Send>>),
}

/// The state of a daemon's client. Its number crosses between a host and its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::FromRepr)]
#[repr(u8)]
pub enum ClientState {
    /// The connection is down at the moment.
    Away = 0,
    /// The connection is up.
    Open = 1,
    /// The connection has been closed for good.
    Over = 2,
}

/// A future that ends with the instance, and returns how it ended.
pub type InstanceEnd = Pin<Box<dyn Future<Output = RunEnd> + Send + Sync>>;

/// The end of an instance's background work, or of the instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunEnd {
    /// It returned: a daemon without background work does so at once, and lives on.
    Returned,
    /// It returned an error.
    Failed(String),
    /// It panicked.
    Crashed(String),
    /// The instance is gone: its process has ended.
    Died(String),
}
