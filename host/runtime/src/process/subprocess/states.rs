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
            self.try_flush()?;
            tokio::task::yield_now().await;
        }
    }

    /// Lends the subprocess a file for the state that it has announced: one file for each save.
    pub(super) fn lend_file(self: &Arc<Self>, frame: &Frame<'_>) -> Result<(), String> {
        let (id, (length, _)) = (frame.id, ipc::split_u64(frame.payload));
        let bytes = usize::try_from(length).unwrap_or(usize::MAX);
        match lock(&self.calls).by_id.get_mut(&id) {
            Some(call) if call.may_lend => call.may_lend = false,
            Some(_) => return Err("a state that was not asked for".to_owned()),
            // The save was given up.
            None => return Ok(()),
        }
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
        Ok(())
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Duration;

    use tokio::sync::{mpsc, oneshot, watch};

    use super::*;
    use crate::os::worker_stream::WorkerEnd;
    use crate::process::subprocess::{Subprocess, WAITING_BYTES_MAX, WaitingCall};
    use dae_store::manifest::Manifest;

    /// The longest time that a test waits.
    const LIMIT: Duration = Duration::from_secs(10);

    /// A link, and the end of the process, which reads nothing.
    fn link() -> (Arc<Link>, WorkerEnd) {
        let (ours, theirs) = worker_stream::pair().expect("a socket pair");
        let stream = ours.open().expect("a stream");
        (Arc::new(Link::new((1, stream), None, None)), theirs)
    }

    /// Queues more than the socket takes.
    fn fill(link: &Link) {
        let bytes = vec![0; WAITING_BYTES_MAX / 2];
        lock(&link.outgoing).put(FrameKind::Call, 1, &[&bytes]);
        link.flush();
    }

    fn waits_for(link: &Link, id: u64, may_lend: bool) -> oneshot::Receiver<CallEnd> {
        let (sender, receiver) = oneshot::channel();
        let call = WaitingCall {
            sender,
            since: std::time::Instant::now(),
            is_aside: false,
            is_command: !may_lend,
            may_lend,
            lent: None,
        };
        lock(&link.calls).by_id.insert(id, call);
        receiver
    }

    #[tokio::test]
    async fn a_file_for_a_process_that_has_ended_is_given_up() {
        let (link, theirs) = link();
        fill(&link);
        drop(theirs);
        let file = SealedFile::of(b"[1]").expect("a file");
        let sending = link.send_with_file(b"frame", file.descriptor());
        let sent = tokio::time::timeout(LIMIT, sending).await;
        assert!(sent.expect("it ends").is_err());
    }

    #[tokio::test]
    async fn a_process_that_reads_no_state_does_not_hold_its_start_up() {
        let (link, _theirs) = link();
        fill(&link);
        let (_steps, taken) = mpsc::channel(1);
        let (_ended, ended) = watch::channel(None);
        let loaded = LoadedSubprocess {
            subprocess: Subprocess {
                link,
                ended,
                is_held: false,
            },
            steps: taken,
            schemas: Ok(None),
            manifest: Manifest::default(),
            start_limit: Duration::from_millis(50),
            refill: None,
        };
        let state = StateText::of("1".repeat(LARGE_STATE_BYTES).into_bytes());
        let started = tokio::time::timeout(LIMIT, loaded.start(Some(state))).await;
        let fault = started.expect("it ends").expect_err("nobody reads");
        assert!(fault.text.contains("within 50ms"), "{fault:?}");
    }

    #[tokio::test]
    async fn one_file_is_lent_for_each_save_and_none_for_anything_else() {
        let (link, _theirs) = link();
        let _save = waits_for(&link, 1, true);
        let _command = waits_for(&link, 2, false);
        let announce = |id| {
            let payload = 100_000_u64.to_le_bytes();
            link.lend_file(&Frame {
                kind: FrameKind::StateReady,
                id,
                payload: &payload,
            })
        };
        assert_eq!(announce(1), Ok(()));
        assert!(lock(&link.calls).by_id[&1].lent.is_some());
        assert!(announce(1).is_err(), "once more");
        assert!(announce(2).is_err(), "a command");
        assert_eq!(announce(3), Ok(()), "a save that was given up");
    }
}
