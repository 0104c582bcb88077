//! A command on its way, and how commands and instances end: plain data that everything which runs them shares.

use std::pin::Pin;

use serde::{Deserialize, Serialize};

/// Statuses that no plugin gives: they are the host's own.
pub mod host_status {
    /// The command ran longer than it may.
    pub const TIMEOUT: u32 = 0x1_0000;
    /// There is no daemon of that name (control socket).
    pub const UNKNOWN_DAEMON: u32 = 0x1_0001;
    /// There is one, but it isn't running (control socket).
    pub const NOT_RUNNING: u32 = 0x1_0002;
    /// The process that had the command in its hands ended: `crashed` to the guest, and no panic of a handler's.
    pub const DIED: u32 = 0x1_0003;
}

/// One command for an instance.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Index into the manifest's commands.
    pub index: u32,
    /// Who sent it.
    pub guest: u64,
    /// As it came.
    pub arguments: &'a str,
}

/// Commands of one guest that go to an instance together.
#[derive(Debug, Clone, Copy)]
pub struct CommandBatch<'a> {
    /// Who sent them.
    pub guest: u64,
    /// How many they are.
    pub count: usize,
    /// Each one's index and arguments, as `ipc::batch` has it.
    pub entries: &'a [u8],
}

/// How a command ended, and what it left in the sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// One of `dae_plugin_api::abi::status`, or of [`host_status`].
    pub status: u32,
    /// The result as JSON, or the error's text.
    pub bytes: Vec<u8>,
}

/// What a daemon has asked of its host, on its way.
pub enum HostRequest {
    /// Answered already.
    Now(Completion),
    /// Dropped, it is cancelled.
    Later(Pin<Box<dyn Future<Output = Completion> + Send>>),
}

/// How a connection is that a daemon has opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientState {
    /// The other side is not there at the moment.
    Away,
    /// The connection is there.
    Open,
    /// It has been closed for good.
    Over,
}

/// How an instance ends, once it does.
pub type InstanceEnd = Pin<Box<dyn Future<Output = RunEnd> + Send + Sync>>;

/// How an instance's background work ended.
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
