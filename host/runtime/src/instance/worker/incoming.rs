//! Incoming data from the host: frames, and the descriptors that come with some of them.

use std::io;

use super::wire::HostConnection;
use crate::os::descriptors::OwnedDescriptor;
use crate::process::ipc::FrameInbox;

/// The size of one read of the socket (bytes).
const READ_BYTES: usize = 64 << 10;

/// The reader of the host's frames.
pub(super) struct Incoming {
    chunk: Box<[u8]>,
    descriptors: Vec<OwnedDescriptor>,
}

impl Incoming {
    pub(super) fn new() -> Self {
        Incoming {
            chunk: vec![0; READ_BYTES].into(),
            descriptors: Vec::new(),
        }
    }

    /// Reads once into that inbox. Dropping the future early loses nothing.
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

    /// Takes the descriptors that came last; see [`worker_stream::receive`](crate::os::worker_stream::receive).
    pub(super) fn descriptors(&mut self) -> Vec<OwnedDescriptor> {
        std::mem::take(&mut self.descriptors)
    }
}
