//! The connection to a subprocess, as the [hand-offs](crate::hand_off) of its guests use it.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Link, Subprocess};
use crate::hand_off::{HandOff, HandOffState, HostHandOffs, Terms, WorkerLink};
use crate::os::descriptors::BorrowedDescriptor;
use crate::os::worker_stream;
use crate::process::ipc::{self, FrameKind};
use dae_store::lock::lock;

impl Subprocess {
    /// Hands off an idle guest; see [`HandOff::begin`].
    ///
    /// # Errors
    /// The guest's socket, if the guest cannot be handed off now.
    pub(crate) fn hand_off(
        &self,
        guest: u64,
        socket: TcpStream,
        limits: (usize, Duration),
    ) -> Result<HandOff, TcpStream> {
        HandOff::begin(Arc::clone(&self.link) as _, guest, socket, limits)
    }
}

impl WorkerLink for Link {
    fn hand_offs(&self) -> &HostHandOffs {
        &self.hand_offs
    }

    fn hand_off_state(&self) -> Option<&Arc<HandOffState>> {
        self.hand_off_state.as_ref()
    }

    fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn send_guest(&self, id: u64, terms: &Terms, guest: BorrowedDescriptor<'_>) -> io::Result<()> {
        let outgoing = lock(&self.outgoing);
        // Waiting frames go first, and a subprocess that does not read gets no guests.
        if !outgoing.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let frame = ipc::whole(FrameKind::HandOff, id, &[&terms.payload()]);
        worker_stream::send_with(&self.stream, &frame, guest)
    }

    fn send_reclaim(&self, id: u64) {
        lock(&self.outgoing).put(FrameKind::Reclaim, id, &[]);
        self.flush();
    }

    fn cancel_begun(&self, id: u64, guest: u64) {
        let mut calls = lock(&self.calls);
        let Some(mut end) = calls.begun.remove(&id) else {
            return;
        };
        let is_running = calls.by_id.remove(&id).is_some();
        drop(calls);
        if let Ok(ended) = end.try_recv() {
            self.has_read(guest, ended.completion.bytes.len());
        } else if is_running {
            lock(&self.outgoing).put(FrameKind::Cancel, id, &[]);
            self.flush();
        }
    }

    fn note_read(&self, guest: u64, bytes: usize) {
        self.has_read(guest, bytes);
    }

    fn kill(&self, cause: &str) {
        *lock(&self.kill_cause) = Some(cause.to_owned());
        self.kill.notify_one();
    }
}
