//! Large states between a host and a subprocess: as a sealed file in memory, whose descriptor goes with a frame.
//!
//! To the subprocess, the file goes with the `Start`. The other way, the host can't receive descriptors, so it lends a
//! file: the subprocess announces the length of its state, gets an empty file of that length, fills it, and says so. The
//! host then seals the file, before it looks at it. Where a file can't be had, and for small states, the bytes are sent.

use std::io;
use std::sync::Arc;

use dae_plugin_api::abi::{SINK_BYTES_MAX, status};

use super::call::CallEnd;
use super::{Link, LoadedSubprocess, lock};
use crate::os::descriptors::{self, BorrowedDescriptor, OwnedDescriptor};
use crate::os::sealed_file::{self, SealedFile};
use crate::os::worker_stream;
use crate::plugin::completion::Completion;
use crate::process::ipc::{self, AT_ONCE, Frame, FrameKind, IN_FILE, LARGE_STATE_BYTES};
use dae_store::blocking;
use dae_store::state_text::StateText;

impl LoadedSubprocess {
    /// Sends the request to start from that state.
    pub(super) async fn send_start(&self, state: Option<StateText>) {
        let link = &self.subprocess.link;
        if let Some(state) = &state
            && state.bytes().len() >= LARGE_STATE_BYTES
            && link.send_state(state).await.is_ok()
        {
            return;
        }
        let state = state.as_ref().map_or(&[][..], StateText::bytes);
        lock(&link.outgoing).put(FrameKind::Start, 0, &[state]);
        link.flush();
    }
}

impl Link {
    /// Sends the request to start from a state that goes with it as a file.
    async fn send_state(&self, state: &StateText) -> io::Result<()> {
        let frame = ipc::whole(FrameKind::Start, state.bytes().len() as u64, &[]);
        if let Some(file) = state.memory::<SealedFile>() {
            return self.send_with_file(&frame, file.descriptor()).await;
        }
        let to_copy = state.clone();
        let copy = blocking::run_or_here(move || SealedFile::of(to_copy.bytes())).await;
        let copy = copy.map_err(io::Error::other)??;
        self.send_with_file(&frame, copy.descriptor()).await
    }

    /// Sends a frame with a descriptor, after those that wait.
    async fn send_with_file(&self, frame: &[u8], file: BorrowedDescriptor<'_>) -> io::Result<()> {
        loop {
            let sent = {
                let outgoing = lock(&self.outgoing);
                match outgoing.is_empty() {
                    true => worker_stream::send_with(&self.stream, frame, file),
                    false => Err(io::ErrorKind::WouldBlock.into()),
                }
            };
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return sent,
            }
            self.stream.writable().await?;
            self.flush();
            tokio::task::yield_now().await;
        }
    }

    /// Lends the subprocess a file for the state that it has announced.
    pub(super) fn lend_file(self: &Arc<Self>, frame: &Frame<'_>) {
        let (id, (length, _)) = (frame.id, ipc::split_u64(frame.payload));
        let bytes = usize::try_from(length).unwrap_or(usize::MAX);
        // Its bytes are refused, as those of a reply, if there are too many.
        let file = match bytes <= SINK_BYTES_MAX {
            true => sealed_file::create(bytes).ok(),
            false => None,
        };
        let lent = file.and_then(|file| {
            let copy = descriptors::of(&file).try_clone_to_owned().ok()?;
            // Nothing is lent for a save that was given up.
            lock(&self.calls).by_id.get_mut(&id)?.lent = Some(file);
            Some(copy)
        });
        let link = Arc::clone(self);
        tokio::spawn(async move {
            let frame = ipc::whole(FrameKind::TakeState, id, &[&[1]]);
            if let Some(file) = lent
                && (link.send_with_file(&frame, descriptors::of(&file)).await).is_ok()
            {
                return;
            }
            lock(&link.outgoing).put(FrameKind::TakeState, id, &[&[0]]);
            link.flush();
        });
    }

    /// Passes the end of a call to the one who waits for it. The bytes of a large result have come as parts.
    pub(super) fn on_ended(&self, frame: &Frame<'_>, parts: Option<Vec<u8>>) {
        let (marked, rest) = ipc::split_u32(frame.payload);
        let (guest, bytes) = ipc::split_u64(rest);
        let call = lock(&self.calls).by_id.remove(&frame.id);
        let mut ended = CallEnd {
            completion: Completion {
                status: marked & !(AT_ONCE | IN_FILE),
                bytes: parts.unwrap_or_else(|| bytes.to_vec()),
            },
            was_at_once: marked & AT_ONCE != 0,
            file: None,
        };
        let left = match call {
            Some(mut call) => {
                if marked & IN_FILE != 0 {
                    ended = in_file(call.lent.take());
                }
                call.sender.send(ended).err()
            }
            // A cancelled call is no longer in the table.
            None => Some(ended),
        };
        if let Some(ended) = left {
            self.has_read(guest, ended.completion.bytes.len());
        }
    }
}

/// Returns the end of a save whose state is in the file that was lent.
fn in_file(lent: Option<OwnedDescriptor>) -> CallEnd {
    let sealed = lent.ok_or_else(|| io::Error::other("no file was lent for it"));
    match sealed.and_then(SealedFile::seal) {
        Ok(file) => CallEnd {
            completion: Completion::done(Vec::new()),
            was_at_once: false,
            file: Some(file),
        },
        Err(error) => Completion {
            status: status::FAILED,
            bytes: format!("the file with its state can't be read: {error}").into_bytes(),
        }
        .into(),
    }
}
