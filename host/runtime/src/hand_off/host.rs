//! The host's side of the hand-offs to one subprocess.
//!
//! The guest returns when the host recalls it, when the subprocess meets anything but a quick command, when the guest becomes quiet, when
//! one of its commands does not end, and when the subprocess ends. The task of its connection waits for the return
//! ([`HandOff::poll_back`]) and continues where the subprocess stopped.
//!
//! For each subprocess one task watches the hand-offs while there are any.

mod watch;

use std::collections::HashMap;
use std::io;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use tokio::runtime::Handle;

use super::atomics::SLOTS;
use super::messages::{HandedBack, Terms};
use super::slot::{Custody, HandOffSlot};
use super::socket::{ByteCounts, counts, keep_in_line};
use super::state::{HandOffState, LostWork, Position};
use crate::os::descriptors::{self, BorrowedDescriptor};
use crate::plugin::completion::Completion;
use crate::threads::counters::{CounterSource, SharedCounts};
use dae_store::lock::lock;
use dae_store::tasks;
use watch::HandOffWatch;

/// The interval at which hand-offs are checked.
const LOOK: Duration = Duration::from_millis(100);
/// The part of its descriptors that a process may use for guests: one in this many. The rest is for its other needs.
const DESCRIPTORS_SHARE: u64 = 4;

/// The connection to a subprocess, as far as the hand-offs need it.
pub(crate) trait WorkerLink: Send + Sync {
    /// Returns the hand-offs of the subprocess.
    fn hand_offs(&self) -> &HostHandOffs;

    /// Returns the memory shared with it; `None` if there is none.
    fn hand_off_state(&self) -> Option<&Arc<HandOffState>>;

    /// Returns a new id.
    fn next_id(&self) -> u64;

    /// Sends the terms of a hand-off and the guest's socket, at once or not at all.
    ///
    /// # Errors
    /// The system's error; `WouldBlock` if the subprocess does not read.
    fn send_guest(&self, id: u64, terms: &Terms, socket: BorrowedDescriptor<'_>) -> io::Result<()>;

    /// Makes the subprocess close its copy of the socket.
    fn send_reclaim(&self, id: u64);

    /// Cancels the command that the subprocess began for the guest of that hand-off, if there is one.
    fn cancel_begun(&self, id: u64, guest: u64);

    /// Notes that a guest has read so many bytes of its replies, or never will.
    fn note_read(&self, guest: u64, bytes: usize);

    /// Kills the subprocess for this reason.
    fn kill(&self, cause: &str);
}

/// The hand-offs of one subprocess.
#[derive(Debug)]
pub(crate) struct HostHandOffs {
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
    is_watched: bool,
    /// True once the subprocess has ended: then there are no more hand-offs.
    has_ended: bool,
}

/// One hand-off, shared by the guest's task, the process supervisor and the task that watches hand-offs.
#[derive(Debug)]
struct HandOffEntry {
    place: HandOffSlot,
    guest_id: u64,
    guest: AtomicWaker,
    last_report: Mutex<LastReport>,
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
    Recalled,
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
            RecallReason::Recalled => 0,
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
    /// The id of the hand-off.
    pub(crate) id: u64,
    pub handed: HandedBack,
    /// The line that the subprocess ran and will not answer, and the reason.
    pub broken: Option<(Vec<u8>, RecallReason)>,
    /// True if the subprocess handed the guest back unasked, or if a command took too long.
    pub(crate) is_unwanted: bool,
}

/// A guest that is handed off. Dropping it shuts its connection.
pub(crate) struct HandOff {
    link: Arc<dyn WorkerLink>,
    hand_off_state: Arc<HandOffState>,
    entry: Arc<HandOffEntry>,
    socket: Option<TcpStream>,
    before: ByteCounts,
    /// True once the host has asked the subprocess for the guest.
    is_recalled: bool,
}

impl HostHandOffs {
    /// Creates the table for a subprocess that may have this many descriptors.
    pub(crate) fn new(descriptors: Option<u64>) -> Self {
        let share = descriptors.map_or(SLOTS as u64, |most| most / DESCRIPTORS_SHARE);
        HostHandOffs {
            most: SLOTS.min(usize::try_from(share).unwrap_or(SLOTS)),
            table: Mutex::default(),
        }
    }

    /// Takes a guest that the subprocess hands back, and calls `is_taken` before the guest's task knows of it. If no task
    /// waits for it, returns the guest and the number of bytes of its replies.
    ///
    /// # Errors
    /// The subprocess has handed it back before.
    pub(crate) fn on_hand_back(
        &self,
        (id, back): (u64, HandedBack),
        hand_off_state: Option<&HandOffState>,
        is_taken: impl FnOnce(),
    ) -> Result<Option<(u64, usize)>, String> {
        let mut table = lock(&self.table);
        // A hand-off that was seized is no longer in the table, and its unread bytes no longer count.
        let Some(entry) = table.by_id.get(&id).cloned() else {
            return Ok(None);
        };
        let mut last_report = lock(&entry.last_report);
        if last_report.is_abandoned {
            table.forget(entry.place, hand_off_state);
            return Ok(Some((entry.guest_id, back.unread())));
        }
        if last_report.back.is_some() {
            return Err("a guest that is handed back twice".to_owned());
        }
        is_taken();
        last_report.back = Some(back);
        drop(last_report);
        entry.guest.wake();
        Ok(None)
    }

    /// Ends all hand-offs, after the subprocess and all of its group have ended.
    pub(crate) fn end(&self, ended: &Completion) {
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
        let mut last_report = lock(&self.last_report);
        last_report.why = RecallReason::stronger(last_report.why.take(), Some(why));
        drop(last_report);
        self.guest.wake();
    }
}

impl HandOff {
    /// Hands off an idle guest, whose lines may have `line_bytes_max` bytes and whose commands may take `limit`.
    ///
    /// # Errors
    /// The guest's socket, if the guest cannot be handed off now.
    pub(crate) fn begin(
        link: Arc<dyn WorkerLink>,
        guest: u64,
        socket: TcpStream,
        (line_bytes_max, limit): (usize, Duration),
    ) -> Result<HandOff, TcpStream> {
        let handed_off = send(&*link, guest, &socket, line_bytes_max);
        let Ok((entry, hand_off_state, before)) = handed_off else {
            return Err(socket);
        };
        start_watch(&link, limit);
        Ok(HandOff {
            link,
            hand_off_state,
            entry,
            socket: Some(socket),
            before,
            is_recalled: false,
        })
    }
}

/// Hands the guest off in the shared memory, and sends its socket.
fn send(
    link: &dyn WorkerLink,
    guest: u64,
    socket: &TcpStream,
    line_bytes_max: usize,
) -> io::Result<(Arc<HandOffEntry>, Arc<HandOffState>, ByteCounts)> {
    let socket = descriptors::of(socket);
    keep_in_line(socket)?;
    let before = counts(socket)?;
    let inode = descriptors::socket_number(socket)?;
    let hand_off_state = link.hand_off_state().ok_or(io::ErrorKind::Unsupported)?;
    let hand_offs = link.hand_offs();
    let mut table = lock(&hand_offs.table);
    let slot = table.take_slot(hand_offs.most)?;
    let place = HandOffSlot {
        id: link.next_id(),
        slot,
    };
    hand_off_state.hand_off(place);
    let terms = Terms::of(slot, guest, line_bytes_max, inode);
    if let Err(error) = link.send_guest(place.id, &terms, socket) {
        hand_off_state.clear(place);
        table.free.push(slot);
        return Err(error);
    }
    let entry = Arc::new(HandOffEntry {
        place,
        guest_id: guest,
        guest: AtomicWaker::new(),
        last_report: Mutex::default(),
    });
    table.by_id.insert(place.id, Arc::clone(&entry));
    Ok((entry, Arc::clone(hand_off_state), before))
}

/// Starts the task that watches hand-offs, unless it runs already.
fn start_watch(link: &Arc<dyn WorkerLink>, limit: Duration) {
    let mut table = lock(&link.hand_offs().table);
    if !std::mem::replace(&mut table.is_watched, true) {
        let link = Arc::clone(link);
        let make = move || watch(Arc::clone(&link), limit);
        tasks::keep_alive(&Handle::current(), "the watch over handed-off guests", make);
    }
}

/// Watches hand-offs while there are any: recalls quiet guests, and has a guest seized whose command takes too long.
async fn watch(link: Arc<dyn WorkerLink>, limit: Duration) {
    let mut looks = HandOffWatch::of(limit);
    loop {
        tokio::time::sleep(LOOK).await;
        let mut table = lock(&link.hand_offs().table);
        let hand_off_state = link.hand_off_state().cloned().filter(|_| !table.has_ended);
        let Some(hand_off_state) = hand_off_state.filter(|_| !table.by_id.is_empty()) else {
            table.is_watched = false;
            return;
        };
        if table
            .by_id
            .values()
            .any(|one| !hand_off_state.is_sound(one.place))
        {
            drop(table);
            return link.kill("the memory that it shares with its host was overwritten");
        }
        let turns = |entry: &HandOffEntry| hand_off_state.turns(entry.place.slot);
        let hand_offs = table.by_id.iter().map(|(id, entry)| (*id, turns(entry)));
        for (id, why) in looks.look(hand_offs.collect(), hand_off_state.at(), Instant::now()) {
            if let Some(entry) = table.by_id.get(&id) {
                entry.tell(why);
            }
        }
    }
}

impl CounterSource for HandOffState {
    fn counted(&self) -> &SharedCounts {
        &self.memory.answered
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
        let (back, last_report) = {
            let mut last_report = lock(&self.entry.last_report);
            if last_report
                .why
                .as_ref()
                .is_some_and(|why| self.has_moved_on(why))
            {
                last_report.why = None;
            }
            (last_report.back.take(), last_report.why.clone())
        };
        if let Some(handed) = back {
            return self.complete(Returned {
                id: self.entry.place.id,
                handed,
                broken: None,
                is_unwanted: !self.is_recalled,
            });
        }
        match RecallReason::stronger(last_report, why) {
            None => Poll::Pending,
            Some(why @ RecallReason::Died(_)) => self.recover(why),
            Some(why) => self.recall(why),
        }
    }

    /// Returns whether the command that took too long has ended after all.
    fn has_moved_on(&self, why: &RecallReason) -> bool {
        match why {
            RecallReason::TooLong(line) => {
                self.hand_off_state.at() != Some((self.entry.place.id, *line))
            }
            RecallReason::Recalled | RecallReason::Revoked | RecallReason::Died(_) => false,
        }
    }

    fn recall(&mut self, why: RecallReason) -> Poll<(TcpStream, Returned)> {
        // First, so that no line is begun from here on.
        if !self.is_recalled && self.hand_off_state.recall(self.entry.place) == Custody::Now {
            self.link.send_reclaim(self.entry.place.id);
            return self.complete(Returned::default());
        }
        self.is_recalled = true;
        let is_patient = matches!(why, RecallReason::Recalled) || self.has_moved_on(&why);
        // If the guest cannot be seized, it is being handed back.
        let line = match &why {
            RecallReason::TooLong(line) => Some(*line),
            RecallReason::Recalled | RecallReason::Revoked | RecallReason::Died(_) => None,
        };
        match !is_patient && self.hand_off_state.seize(self.entry.place, line) {
            true => self.recover(why),
            false => Poll::Pending,
        }
    }

    /// Takes the unfinished work of a subprocess that is dead or does not hand the guest back.
    fn recover(&mut self, why: RecallReason) -> Poll<(TcpStream, Returned)> {
        let now = self
            .socket
            .as_ref()
            .map(|socket| counts(descriptors::of(socket)));
        let Some(Ok(now)) = now else {
            // Then the guest cannot be answered on this socket, either.
            return self.complete(Returned::default());
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
        self.link.send_reclaim(self.entry.place.id);
        self.complete(Returned {
            id: self.entry.place.id,
            handed: HandedBack {
                replies,
                rest,
                ..HandedBack::default()
            },
            is_unwanted: matches!(why, RecallReason::TooLong(_)),
            broken: line.map(|line| (line, why)),
        })
    }

    fn complete(&mut self, back: Returned) -> Poll<(TcpStream, Returned)> {
        self.forget();
        if back.handed.waiting.is_empty() {
            // A return that came after this one was looked for may have brought one.
            self.cancel_begun();
        }
        match self.socket.take() {
            Some(socket) => Poll::Ready((socket, back)),
            // The socket is taken only once.
            None => Poll::Pending,
        }
    }

    fn cancel_begun(&self) {
        let HandOffEntry {
            place, guest_id, ..
        } = *self.entry;
        self.link.cancel_begun(place.id, guest_id);
    }

    fn forget(&self) {
        lock(&self.link.hand_offs().table).forget(self.entry.place, Some(&self.hand_off_state));
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
        let back = {
            let mut last_report = lock(&self.entry.last_report);
            last_report.is_abandoned = true;
            last_report.back.take()
        };
        if let Some(back) = &back {
            self.cancel_begun();
            self.link.note_read(self.entry.guest_id, back.unread());
        }
        if back.is_some() || self.hand_off_state.recall(self.entry.place) == Custody::Now {
            self.link.send_reclaim(self.entry.place.id);
            self.forget();
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
