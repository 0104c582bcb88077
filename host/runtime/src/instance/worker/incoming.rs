//! What comes from the host: frames, and the descriptors that come with some.

use std::io;
use std::os::fd::OwnedFd;

use super::wire::HostConnection;
use crate::process::ipc::FrameInbox;

/// One read of the socket, in bytes.
const READ_BYTES: usize = 64 << 10;

/// See the file's head.
pub(super) struct Incoming {
    chunk: Box<[u8]>,
    descriptors: Vec<OwnedFd>,
}

impl Incoming {
    pub(super) fn new() -> Self {
        Incoming {
            chunk: vec![0; READ_BYTES].into(),
            descriptors: Vec::new(),
        }
    }

    /// Reads once, into that inbox. Where it is dropped before its end, nothing is lost.
    pub(super) async fn read(
        &mut self,
        wire: &HostConnection,
        inbox: &mut FrameInbox,
    ) -> io::Result<()> {
        let read = wire.receive(&mut self.chunk, &mut self.descriptors).await?;
        inbox
            .room(READ_BYTES)
            .extend_from_slice(&self.chunk[..read]);
        Ok(())
    }

    /// Those that came last; see [`socket::receive`](crate::process::ipc::socket::receive).
    pub(super) fn descriptors(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.descriptors)
    }
}
