//! The progress of a worker with the commands that it was sent, visible to both sides at any moment.
//!
//! A worker begins commands in the order of the ids that its host assigned. Before it begins one, it moves one word
//! forward by compare-and-swap. To withdraw commands, the host moves the same word past them. So a single word decides
//! whether a command has begun or never will, and the host need not wait for a stuck worker.
//!
//! A batch that was set aside because the reply budget is used up is not in that order. The worker reports it, and its
//! later progress, in frames.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::HandOffState;

/// The lowest bit of a batch's or call's id in a word. The bits below hold the index of a command in its batch.
const ID_SHIFT: u32 = 16;
/// The index that stands for a whole batch. No batch has that many commands: each takes at least 8 of its batch's 64
/// KiB.
const ALL: u64 = (1 << ID_SHIFT) - 1;

/// The words in the shared memory. All zero is a worker that has begun nothing.
#[repr(C)]
pub(super) struct Progress {
    /// The last command begun in the order of ids, or the last one that the host has withdrawn.
    front: AtomicU64,
    /// The command that the worker's thread runs, and its start by the system's monotonic clock. A start of 0 means
    /// none.
    at: AtomicU64,
    since_ns: AtomicU64,
}

/// The part of a batch or call that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Nothing.
    None,
    /// This many of its commands.
    Some(usize),
    /// All of it.
    All,
}

impl Begun {
    /// Reads from a word how much of a batch or call has begun.
    fn of(word: u64, id: u64) -> Self {
        match (word >> ID_SHIFT).cmp(&id) {
            std::cmp::Ordering::Less => Begun::None,
            std::cmp::Ordering::Greater => Begun::All,
            std::cmp::Ordering::Equal if word & ALL == ALL => Begun::All,
            std::cmp::Ordering::Equal => Begun::Some((word & ALL) as usize + 1),
        }
    }
}

/// The worker's progress at the time when its host withdrew commands.
#[derive(Debug, Clone, Copy)]
pub struct CommandPosition(u64);

impl CommandPosition {
    /// Returns how much of a batch or call had begun by then.
    pub fn begun(self, id: u64) -> Begun {
        Begun::of(self.0, id)
    }
}

/// A command that the worker's thread runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunningCommand {
    /// The id of its batch or call.
    pub id: u64,
    /// Its index in the batch.
    pub index: usize,
    /// The time since its start.
    pub time: Duration,
}

/// The host's side.
impl HandOffState {
    /// Returns how much of a batch or call has begun.
    pub fn begun(&self, id: u64) -> Begun {
        Begun::of(self.page.progress.front.load(Ordering::SeqCst), id)
    }

    /// Returns the command that the worker's thread runs, or `None` if it runs none.
    pub fn running(&self) -> Option<RunningCommand> {
        let Progress { at, since_ns, .. } = &self.page.progress;
        // A worker that changes the words at each attempt runs many commands, none of which takes long.
        for _ in 0..8 {
            let word = at.load(Ordering::SeqCst);
            let since = since_ns.load(Ordering::SeqCst);
            // If the first word is unchanged, both belong to one command.
            if at.load(Ordering::SeqCst) == word {
                return (since != 0).then(|| RunningCommand {
                    id: word >> ID_SHIFT,
                    index: (word & ALL) as usize,
                    // The start is the worker's claim: one in the future counts as no time.
                    time: Duration::from_nanos(monotonic_ns().saturating_sub(since)),
                });
            }
        }
        None
    }

    /// Withdraws all commands up to and including that batch or call that have not begun: they never will. Returns the
    /// worker's progress at that time.
    pub(crate) fn withdraw(&self, up_to: u64) -> CommandPosition {
        let (set, failed) = (Ordering::SeqCst, Ordering::SeqCst);
        let past = up_to << ID_SHIFT | ALL;
        let push = |front| (front < past).then_some(past);
        let before = self.page.progress.front.fetch_update(set, failed, push);
        CommandPosition(before.unwrap_or_else(|front| front))
    }
}

/// The worker's side.
impl HandOffState {
    /// Begins a command in the order of ids. Returns false if it was withdrawn. `last` caches the word between calls.
    pub fn begin(&self, last: &mut u64, id: u64, index: usize) -> bool {
        let front = &self.page.progress.front;
        let next = id << ID_SHIFT | index as u64 & ALL;
        while let Err(now) = front.compare_exchange(*last, next, Ordering::SeqCst, Ordering::SeqCst)
        {
            if now >= next {
                return false;
            }
            *last = now;
        }
        *last = next;
        true
    }

    /// Records that this thread runs a command.
    pub fn run(&self, id: u64, index: usize, since_ns: u64) {
        let Progress {
            at,
            since_ns: since,
            ..
        } = &self.page.progress;
        // While the two words do not match, the start of 0 means that there is no command.
        since.store(0, Ordering::SeqCst);
        at.store(id << ID_SHIFT | index as u64 & ALL, Ordering::SeqCst);
        since.store(since_ns, Ordering::SeqCst);
    }

    /// Records that this thread runs no command.
    pub fn rest(&self) {
        self.page.progress.since_ns.store(0, Ordering::SeqCst);
    }
}

/// Returns the time of the clock that all processes of the machine share (ns).
pub fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let time = Duration::try_from(time).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_has_begun_is_told_from_what_is_withdrawn_and_never_begins() {
        let (hand_off_state, _file) = HandOffState::create().unwrap();
        let mut last = 0;
        assert_eq!(hand_off_state.begun(4), Begun::None);
        assert!(hand_off_state.begin(&mut last, 4, 0) && hand_off_state.begin(&mut last, 4, 1));
        assert_eq!(
            (hand_off_state.begun(4), hand_off_state.begun(3)),
            (Begun::Some(2), Begun::All)
        );
        let front = hand_off_state.withdraw(5);
        assert_eq!(
            (front.begun(4), front.begun(5)),
            (Begun::Some(2), Begun::None)
        );
        // The withdrawal covers the rest of a batch and the next one. A later one begins.
        assert!(!hand_off_state.begin(&mut last, 4, 2) && !hand_off_state.begin(&mut last, 5, 0));
        assert!(hand_off_state.begin(&mut last, 6, 0));
        assert_eq!(hand_off_state.withdraw(5).begun(6), Begun::Some(1));
    }

    #[test]
    fn a_command_that_runs_is_seen_with_its_time_and_nonsense_is_no_time() {
        let (hand_off_state, _file) = HandOffState::create().unwrap();
        assert_eq!(hand_off_state.running(), None);
        hand_off_state.run(4, 1, monotonic_ns() - 1_000_000);
        let running = hand_off_state.running().unwrap();
        assert_eq!((running.id, running.index), (4, 1));
        assert!(running.time >= Duration::from_millis(1));
        hand_off_state.run(4, 2, u64::MAX);
        assert_eq!(hand_off_state.running().unwrap().time, Duration::ZERO);
        hand_off_state.rest();
        assert_eq!(hand_off_state.running(), None);
    }

    #[test]
    fn on_two_threads_a_command_begins_or_is_withdrawn_and_never_both() {
        const COMMANDS: usize = 50;
        for round in 0..2_000 {
            let (hand_off_state, file) = HandOffState::create().unwrap();
            let theirs = HandOffState::open(&file).unwrap();
            let worker = std::thread::spawn(move || {
                let mut last = 0;
                (0..COMMANDS)
                    .filter(|index| theirs.begin(&mut last, 4, *index))
                    .count()
            });
            for _ in 0..round % 61 {
                std::hint::spin_loop();
            }
            let begun = match hand_off_state.withdraw(4).begun(4) {
                Begun::None => 0,
                Begun::Some(count) => count,
                Begun::All => COMMANDS,
            };
            assert_eq!(begun, worker.join().unwrap());
        }
    }
}
