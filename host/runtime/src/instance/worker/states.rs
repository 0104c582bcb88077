//! Large states between this worker and its host, which cross as files in memory; see
//! [`process::subprocess`](crate::process::subprocess).

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::thread;

use dae_plugin_api::abi::status;

use super::Worker;
use super::wire::HostConnection;
use crate::os::allocator;
use crate::os::descriptors::OwnedDescriptor;
use crate::os::sealed_file::{self, SealedFile};
use crate::plugin::completion::Completion;
use crate::process::ipc::{
    Frame, FrameKind, HUGE_STATE_BYTES, IN_FILE, LARGE_STATE_BYTES, StartMessage,
};
use dae_store::lock::lock;
use dae_store::state_text::StateText;

/// The states that the host has asked for.
#[derive(Default)]
pub(super) struct SavedStates {
    /// The calls whose `save` runs.
    expected: HashSet<u64>,
    /// The states of those for which the host is to lend a file.
    ready: HashMap<u64, Vec<u8>>,
}

impl SavedStates {
    /// Notes that this call saves the state.
    pub(super) fn expect(&mut self, id: u64) {
        self.expected.insert(id);
    }

    /// Forgets a call that the host has given up.
    pub(super) fn forget(&mut self, id: u64) {
        self.expected.remove(&id);
        self.ready.remove(&id);
    }

    /// Announces the state that this call has ended with, if it is a large one. Otherwise returns the end.
    pub(super) fn hold(
        &mut self,
        id: u64,
        ended: Option<Completion>,
        wire: &HostConnection,
    ) -> Option<Option<Completion>> {
        if !self.expected.remove(&id) {
            return Some(ended);
        }
        match ended {
            Some(Completion { status, bytes })
                if status == status::DONE && bytes.len() >= LARGE_STATE_BYTES =>
            {
                let length = (bytes.len() as u64).to_le_bytes();
                wire.send(FrameKind::StateReady, id, &[&length]);
                self.ready.insert(id, bytes);
                None
            }
            ended => Some(ended),
        }
    }
}

impl Worker {
    /// Waits for the request to start, and returns the state that it brings.
    pub(super) async fn state(&mut self) -> io::Result<Result<Option<StateText>, String>> {
        let (length, payload) = self.next_of(FrameKind::Start).await?;
        if length == 0 {
            let state = (!payload.is_empty()).then(|| StateText::of(payload));
            return Ok(Ok(state));
        }
        let file = self.incoming.descriptors().pop();
        let file = file.ok_or_else(|| io::Error::other("this process may open no more files"));
        let bytes = usize::try_from(length).unwrap_or(usize::MAX);
        let opened = file.and_then(|file| SealedFile::open(file, bytes));
        Ok(opened
            .map(|file| Some(StateText::of(file)))
            .map_err(|error| format!("the file with its state can't be used: {error}")))
    }

    /// Gives the host a state that was announced, in a thread of its own: the commands go on meanwhile.
    pub(super) fn take_state(&mut self, frame: &Frame<'_>) {
        // Taken even for a save that was given up, or the next one would fill it.
        let file = match frame.payload {
            [1] => self.incoming.descriptors().pop(),
            _ => None,
        };
        let Some(state) = self.states.ready.remove(&frame.id) else {
            return;
        };
        let (id, wire) = (frame.id, Arc::clone(&self.wire));
        let work = Arc::new(Mutex::new(Some(move || give(&wire, id, state, file))));
        let of_thread = Arc::clone(&work);
        let take = |work: &Mutex<Option<_>>| lock(work).take();
        let thread = thread::Builder::new().name("save".to_owned());
        let begun = thread.spawn(move || take(&of_thread).map(|give| give()));
        // The system gives this process no more threads.
        if begun.is_err()
            && let Some(give) = lock(&work).take()
        {
            give();
        }
    }
}

/// Tells the allocator of a huge state. It takes addresses for it in advance, which a bound on them would count.
pub(super) fn prepare_for(state: Option<&StateText>, message: &StartMessage) {
    let is_huge = state.is_some_and(|state| state.bytes().len() >= HUGE_STATE_BYTES);
    if is_huge && message.bounds.memory_bytes.is_none() {
        allocator::grow_in_large_steps();
    }
}

/// Writes a state into the host's file, or sends it if there is none.
fn give(wire: &HostConnection, id: u64, state: Vec<u8>, file: Option<OwnedDescriptor>) {
    let filled = file.is_some_and(|file| sealed_file::fill(&file, &state).is_ok());
    if !filled {
        return wire.send_ended((id, 0), status::DONE, state);
    }
    let (status, guest) = ((status::DONE | IN_FILE).to_le_bytes(), 0_u64.to_le_bytes());
    wire.send_now(FrameKind::Ended, id, &[&status, &guest]);
    // Only now, since the guests wait and a large state takes a while to free.
    drop(state);
}
