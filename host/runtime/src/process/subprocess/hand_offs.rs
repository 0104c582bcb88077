//! Guests that are handed off to a subprocess, from the host's view.
//!
//! A guest that sends one batch of quick commands after the other is handed off: the subprocess reads its lines and
//! writes its replies itself, and the host sees nothing of them (see [`crate::process::hand_off`]). The guest returns
//! when the host recalls it, when the subprocess meets anything but a quick command, when the guest becomes quiet, when
//! one of its commands does not end, and when the subprocess ends. The task of its connection waits for the return
//! ([`HandOff::poll_back`]) and continues where the subprocess stopped.
//!
//! For each subprocess one task watches the hand-offs while there are any.

mod watch;

use std::collections::HashMap;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use tokio::runtime::Handle;

use super::{Link, Subprocess};
use crate::plugin::completion::Completion;
use crate::process::hand_off::socket::{counts, keep_in_line};
use crate::process::hand_off::{
    ByteCounts, Custody, HandOffSlot, HandOffState, LostWork, Position, SLOTS,
};
use crate::process::ipc::hand_off::{HandedBack, Terms};
use crate::process::ipc::{self, FrameKind, socket};
use crate::threads::counters::CounterSource;
use dae_store::lock::lock;
use dae_store::tasks;
use watch::HandOffWatch;

/// The interval at which hand-offs are checked.
const LOOK: Duration = Duration::from_millis(100);
/// The part of its descriptors that a process may use for guests: one in this many. The rest is for its other needs.
const DESCRIPTORS_SHARE: u64 = 4;

/// The hand-offs of one subprocess.
#[derive(Debug)]
pub(super) struct HandOffs {
    /// The most hand-offs at a time.
    most: usize,
    table: Mutex<HandOffTable>,
}

#[derive(Debug, Default)]
struct HandOffTable {
    /// The hand-offs by id.
    by_id: HashMap<u64, Arc<HandOffEntry>>,
    free: Vec<usize>,
    /// The number of slots that have ever been used.
    used: usize,
    is_looked_after: bool,
    /// True once the subprocess has ended: then there are no more hand-offs.
    has_ended: bool,
}

/// One hand-off, shared by the guest's task, the process supervisor and the task that watches hand-offs.
#[derive(Debug)]
struct HandOffEntry {
    place: HandOffSlot,
    guest_id: u64,
    guest: AtomicWaker,
    told: Mutex<LastReport>,
}

#[derive(Debug, Default)]
struct LastReport {
    back: Option<HandedBack>,
    why: Option<RecallReason>,
    /// True once the guest's task has gone.
    is_abandoned: bool,
}

/// The reason for recalling a guest. Later variants take precedence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecallReason {
    /// The guest has become quiet, or the host has something for it.
    Called,
    /// The instance must go, and no longer waits for the guest's command.
    Revoked,
    /// The command that the subprocess runs has not ended within its limit.
    TooLong(Position),
    /// The subprocess has ended, and the command that it ran ends with this completion.
    Died(Completion),
}

impl RecallReason {
    fn weight(&self) -> u8 {
        match self {
            RecallReason::Called => 0,
            RecallReason::Revoked => 1,
            RecallReason::TooLong(_) => 2,
            RecallReason::Died(_) => 3,
        }
    }

    fn stronger(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        one.into_iter()
            .chain(other)
            .max_by_key(RecallReason::weight)
    }
}

/// The contents of a guest's return.
#[derive(Debug, Default)]
pub struct Returned {
    pub handed: HandedBack,
    /// The line that the subprocess ran and will not answer, and the reason.
    pub broken: Option<(Vec<u8>, RecallReason)>,
    /// True if the subprocess handed the guest back unasked, or if a command took too long.
    pub(crate) is_unwanted: bool,
}

/// A guest that is handed off. Dropping it shuts its connection.
pub(crate) struct HandOff {
    link: Arc<Link>,
    hand_off_state: Arc<HandOffState>,
    entry: Arc<HandOffEntry>,
    socket: Option<TcpStream>,
    before: ByteCounts,
    /// True once the host has asked the subprocess for the guest.
    is_called: bool,
}

impl HandOffs {
    /// Creates the table for a subprocess that may have this many descriptors.
    pub(super) fn new(descriptors: Option<u64>) -> Self {
        let share = descriptors.map_or(SLOTS as u64, |most| most / DESCRIPTORS_SHARE);
        HandOffs {
            most: SLOTS.min(usize::try_from(share).unwrap_or(SLOTS)),
            table: Mutex::default(),
        }
    }

    /// Takes a guest that the subprocess hands back. If no task waits for it, returns the guest and the number of bytes
    /// of its replies.
    pub(super) fn on_hand_back(
        &self,
        (id, back): (u64, HandedBack),
        hand_off_state: Option<&HandOffState>,
    ) -> Option<(u64, usize)> {
        let mut table = lock(&self.table);
        // A hand-off that was seized is no longer in the table, and its unread bytes no longer count.
        let entry = table.by_id.get(&id).cloned()?;
        let mut told = lock(&entry.told);
        if told.is_abandoned {
            table.forget(entry.place, hand_off_state);
            return Some((entry.guest_id, back.unread()));
        }
        told.back = Some(back);
        drop(told);
        entry.guest.wake();
        None
    }

    /// Ends all hand-offs, after the subprocess and all of its group have ended.
    pub(super) fn end(&self, ended: &Completion) {
        let mut table = lock(&self.table);
        for entry in table.by_id.values() {
            entry.tell(RecallReason::Died(ended.clone()));
        }
        table.has_ended = true;
    }
}

impl HandOffTable {
    /// Takes a free slot, if the limit allows it.
    fn take_slot(&mut self, most: usize) -> io::Result<usize> {
        if self.by_id.len() >= most || self.has_ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(self.free.pop().unwrap_or_else(|| {
            self.used += 1;
            self.used - 1
        }))
    }

    /// Ends a hand-off, and frees its slot.
    fn forget(&mut self, place: HandOffSlot, hand_off_state: Option<&HandOffState>) {
        if self.by_id.remove(&place.id).is_some() {
            if let Some(hand_off_state) = hand_off_state {
                hand_off_state.clear(place);
            }
            self.free.push(place.slot);
        }
    }
}

impl HandOffEntry {
    fn tell(&self, why: RecallReason) {
        let mut told = lock(&self.told);
        told.why = RecallReason::stronger(told.why.take(), Some(why));
        drop(told);
        self.guest.wake();
    }
}

impl Subprocess {
    /// Hands off an idle guest, whose lines may have `line_bytes_max` bytes and whose commands may take `limit`.
    ///
    /// # Errors
    /// The guest's socket, if the guest cannot be handed off now.
    pub(crate) fn hand_off(
        &self,
        guest: u64,
        socket: TcpStream,
        (line_bytes_max, limit): (usize, Duration),
    ) -> Result<HandOff, TcpStream> {
        let handed_off = self.link.hand_off(guest, &socket, line_bytes_max);
        let Ok((entry, hand_off_state, before)) = handed_off else {
            return Err(socket);
        };
        self.link.look_after(limit);
        Ok(HandOff {
            link: Arc::clone(&self.link),
            hand_off_state,
            entry,
            socket: Some(socket),
            before,
            is_called: false,
        })
    }
}

impl Link {
    fn hand_off(
        &self,
        guest: u64,
        guests_socket: &TcpStream,
        line_bytes_max: usize,
    ) -> io::Result<(Arc<HandOffEntry>, Arc<HandOffState>, ByteCounts)> {
        let guests_socket = guests_socket.as_fd();
        keep_in_line(guests_socket)?;
        let before = counts(guests_socket)?;
        let inode = rustix::fs::fstat(guests_socket)?.st_ino;
        let mut table = lock(&self.hand_offs.table);
        let outgoing = lock(&self.outgoing);
        // Waiting frames go first, and a subprocess that does not read gets no guests.
        if !outgoing.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let hand_off_state = self.hand_off_state.clone();
        let hand_off_state = hand_off_state.ok_or(io::ErrorKind::Unsupported)?;
        let slot = table.take_slot(self.hand_offs.most)?;
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let place = HandOffSlot { id, slot };
        hand_off_state.hand_off(place);
        let terms = Terms::of(slot, guest, line_bytes_max, inode);
        let frame = ipc::whole(FrameKind::Lend, id, &[&terms.payload()]);
        if let Err(error) = socket::send_with(&self.stream, &frame, guests_socket) {
            hand_off_state.clear(place);
            table.free.push(slot);
            return Err(error);
        }
        drop(outgoing);
        let entry = Arc::new(HandOffEntry {
            place,
            guest_id: guest,
            guest: AtomicWaker::new(),
            told: Mutex::default(),
        });
        table.by_id.insert(id, Arc::clone(&entry));
        Ok((entry, hand_off_state, before))
    }

    /// Starts the task that watches hand-offs, unless it runs already.
    fn look_after(self: &Arc<Self>, limit: Duration) {
        let mut table = lock(&self.hand_offs.table);
        if !std::mem::replace(&mut table.is_looked_after, true) {
            let link = Arc::clone(self);
            let make = move || look_after(Arc::clone(&link), limit);
            tasks::keep_alive(&Handle::current(), "the watch over handed-off guests", make);
        }
    }
}

/// Watches hand-offs while there are any: recalls quiet guests, and has a guest seized whose command takes too long.
async fn look_after(link: Arc<Link>, limit: Duration) {
    let mut watch = HandOffWatch::of(limit);
    loop {
        tokio::time::sleep(LOOK).await;
        let mut table = lock(&link.hand_offs.table);
        let hand_off_state = link.hand_off_state.clone().filter(|_| !table.has_ended);
        let Some(hand_off_state) = hand_off_state.filter(|_| !table.by_id.is_empty()) else {
            table.is_looked_after = false;
            return;
        };
        if table
            .by_id
            .values()
            .any(|one| !hand_off_state.is_sound(one.place))
        {
            drop(table);
            let text = "the memory that it shares with its host was overwritten";
            *lock(&link.kill_cause) = Some(text.to_owned());
            link.kill.notify_one();
            return;
        }
        let turns = |entry: &HandOffEntry| hand_off_state.turns(entry.place.slot);
        let hand_offs = table.by_id.iter().map(|(id, entry)| (*id, turns(entry)));
        for (id, why) in watch.look(hand_offs.collect(), hand_off_state.at(), Instant::now()) {
            if let Some(entry) = table.by_id.get(&id) {
                entry.tell(why);
            }
        }
    }
}

impl HandOff {
    /// Returns the counters of the guest's commands.
    pub(crate) fn counting(&self) -> Arc<dyn CounterSource> {
        Arc::clone(&self.hand_off_state) as _
    }

    /// Returns the guest and the contents of its return, once it is back. Recalls it for `why`, or for another task's
    /// reason. Both wake the guest's task.
    pub(crate) fn poll_back(
        &mut self,
        why: Option<RecallReason>,
        guest: &Context<'_>,
    ) -> Poll<(TcpStream, Returned)> {
        self.entry.guest.register(guest.waker());
        let (back, told) = {
            let mut told = lock(&self.entry.told);
            if told.why.as_ref().is_some_and(|why| self.has_moved_on(why)) {
                told.why = None;
            }
            (told.back.take(), told.why.clone())
        };
        if let Some(handed) = back {
            return self.come_home(Returned {
                handed,
                broken: None,
                is_unwanted: !self.is_called,
            });
        }
        match RecallReason::stronger(told, why) {
            None => Poll::Pending,
            Some(why @ RecallReason::Died(_)) => self.recover(why),
            Some(why) => self.call_home(why),
        }
    }

    /// Returns whether the command that took too long has ended after all.
    fn has_moved_on(&self, why: &RecallReason) -> bool {
        match why {
            RecallReason::TooLong(line) => {
                self.hand_off_state.at() != Some((self.entry.place.id, *line))
            }
            RecallReason::Called | RecallReason::Revoked | RecallReason::Died(_) => false,
        }
    }

    fn call_home(&mut self, why: RecallReason) -> Poll<(TcpStream, Returned)> {
        // First, so that no line is begun from here on.
        if !self.is_called && self.hand_off_state.recall(self.entry.place) == Custody::Now {
            self.reclaim();
            return self.come_home(Returned::default());
        }
        self.is_called = true;
        let is_patient = matches!(why, RecallReason::Called) || self.has_moved_on(&why);
        // If the guest cannot be seized, it is being handed back.
        let line = match &why {
            RecallReason::TooLong(line) => Some(*line),
            RecallReason::Called | RecallReason::Revoked | RecallReason::Died(_) => None,
        };
        match !is_patient && self.hand_off_state.seize(self.entry.place, line) {
            true => self.recover(why),
            false => Poll::Pending,
        }
    }

    /// Takes the unfinished work of a subprocess that is dead or does not hand the guest back.
    fn recover(&mut self, why: RecallReason) -> Poll<(TcpStream, Returned)> {
        let now = self.socket.as_ref().map(|socket| counts(socket.as_fd()));
        let Some(Ok(now)) = now else {
            // Then the guest cannot be answered on this socket, either.
            return self.come_home(Returned::default());
        };
        let since = ByteCounts {
            read: now.read.saturating_sub(self.before.read),
            written: now.written.saturating_sub(self.before.written),
        };
        // A single reading: the line that it names has begun, and nothing of the rest has.
        let LostWork {
            replies,
            line,
            rest,
        } = self.hand_off_state.lost_work(self.entry.place.id, since);
        self.reclaim();
        self.come_home(Returned {
            handed: HandedBack {
                replies,
                rest,
                ..HandedBack::default()
            },
            is_unwanted: matches!(why, RecallReason::TooLong(_)),
            broken: line.map(|line| (line, why)),
        })
    }

    fn come_home(&mut self, back: Returned) -> Poll<(TcpStream, Returned)> {
        self.forget();
        match self.socket.take() {
            Some(socket) => Poll::Ready((socket, back)),
            // The socket is taken only once.
            None => Poll::Pending,
        }
    }

    fn forget(&self) {
        lock(&self.link.hand_offs.table).forget(self.entry.place, Some(&self.hand_off_state));
    }

    /// Makes the subprocess close its copy of the socket.
    fn reclaim(&self) {
        lock(&self.link.outgoing).put(FrameKind::Reclaim, self.entry.place.id, &[]);
        self.link.flush();
    }
}

impl Drop for HandOff {
    fn drop(&mut self) {
        let Some(socket) = self.socket.take() else {
            return;
        };
        // The subprocess has a copy of the socket, and may be using it. Then it hands the guest back, and the return is
        // discarded.
        let _ = socket.shutdown(std::net::Shutdown::Both);
        let is_back = {
            let mut told = lock(&self.entry.told);
            told.is_abandoned = true;
            told.back.is_some()
        };
        if is_back || self.hand_off_state.recall(self.entry.place) == Custody::Now {
            self.reclaim();
            self.forget();
        }
    }
}
