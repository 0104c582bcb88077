//! The orderly end of an ecosystem.
//!
//! Daemons are stopped side by side, and their states are written in batches ([`dae_store::snapshots`]). The whole
//! has no limit, except one without progress. Each step of a daemon's stop and each written state is progress, and
//! each step that runs a plugin's code has a limit of its own. If there is no progress for [`STALLED_GRACES`]
//! graces, for example because a disk hangs, the host ends without the remaining daemons. It logs which ones these
//! are, and whose states could not be saved.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::{Dae, Inner};
use crate::supervise::Daemon;
use dae_store::blocking;
use dae_store::event::{CauseKind, DaeEventKind};
use dae_store::registry::DAE_NAME;

/// The most stops that may keep a processor busy at once. It bounds threads, memory, and the states in memory.
const STOPS_MAX: usize = 64;
/// The time after which a stop no longer delays the next one, because it is waiting for something.
const STOP_QUICK: Duration = Duration::from_millis(100);
/// The limit without progress, in graces. A stop has three steps of up to a grace each: commands, `save`, `stop`.
const STALLED_GRACES: u32 = 3;
/// The interval between two checks for progress.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The interval between two log lines about the daemons that have not ended.
const LOG_EVERY: Duration = Duration::from_secs(5);
/// The most daemons that one log line names.
const NAMED_MAX: usize = 20;
/// The limit for writing the last replies to guests.
const GOODBYE: Duration = Duration::from_millis(200);
/// The limit for ending the threads that serve guests.
const THREADS_END_MAX: Duration = Duration::from_secs(2);

/// A report of progress, for a service manager.
#[derive(Debug)]
pub struct StopNews {
    /// The next report, or the end, comes within this time.
    pub within: Duration,
    /// The number of daemons that have ended, and the names of those that have not.
    pub status: String,
}

/// The daemons that have not ended.
type Unfinished = BTreeMap<String, Arc<Daemon>>;

impl Dae {
    /// Waits until the owner requests the end with `dae-host shutdown`. Without [`Builder::ends_on_request`] it waits
    /// forever.
    ///
    /// [`Builder::ends_on_request`]: super::Builder::ends_on_request
    pub async fn shutdown_requested(&self) {
        self.inner.lifetime.end_requested().await;
    }

    /// Ends the ecosystem: admits no new guests, gives running commands their grace, saves every daemon's state and
    /// runs its `stop`. The registry keeps all daemons for the next start.
    ///
    /// There is no limit while there is progress. Without progress for three times `grace`, or the config's
    /// `stop_grace_ms` if that is longer, the ecosystem ends without the remaining daemons and logs their names.
    pub async fn shutdown(&self, grace: Duration) {
        self.shutdown_telling(grace, |_| ()).await;
    }

    /// Does the same as [`Dae::shutdown`], and calls `tell` at the beginning and whenever there was progress.
    pub async fn shutdown_telling(&self, grace: Duration, mut tell: impl FnMut(&StopNews) + Send) {
        let inner = &self.inner;
        // The owner can see what the shutdown waits for, until it waits for nothing.
        let control = inner.lifetime.begin_end();
        let send = |kind| inner.shared.events.send(DAE_NAME, None, kind);
        send(DaeEventKind::HostEnding);
        let grace = grace.max(inner.shared.config().stop_grace());
        let limit = grace.saturating_mul(STALLED_GRACES);
        let unsaved = inner.end_daemons(limit, &mut tell).await;
        // Its processes are killed, which a disk can't hold up; those in an uninterruptible sleep have a limit there.
        inner.shared.code.preflights.end().await;
        inner.shared.code.spawner.end_reserve().await;
        // A disk that hangs must not hold the end up.
        let _ = timeout(limit, inner.record_new_ports()).await;
        inner.settle_states(limit, unsaved).await;
        drop(control);
        // Before the connections are closed, so that each open request gets its answer first.
        inner.lifetime.ended.cancel();
        inner.endpoint.close_all();
        inner.running.clear();
        if let Some(guests) = inner.lifetime.take_threads() {
            // Guests get a moment to receive their last replies. A handler that blocks a thread isn't waited for.
            // If no thread is available, the closure is dropped, and the runtime ends without waiting. If a library
            // hangs in its constructor, the end of the threads may hang too, so this has a limit.
            let ending = blocking::run(move || guests.end(GOODBYE));
            let _ = tokio::time::timeout(THREADS_END_MAX, ending).await;
            // A second shutdown finds no threads, and the home may be another host's by then.
            send(DaeEventKind::HostEnded);
        }
    }
}

impl Inner {
    /// Ends all daemons. Returns those whose state was not saved, and why.
    async fn end_daemons(
        &self,
        limit: Duration,
        tell: &mut (impl FnMut(&StopNews) + Send),
    ) -> BTreeMap<String, String> {
        let all = self.running.by_name();
        let left = self.end_all(&all, limit, tell).await;
        if !left.is_empty() {
            tracing::error!(
                daemons = left.len(),
                "the host ends without daemons that did not end, since there was no progress for {limit:?}: {}",
                list(left.keys().cloned())
            );
        }
        let unsaved = all.iter().filter_map(|(name, daemon)| {
            let why = why_unsaved(daemon, left.contains_key(name))?;
            Some((name.clone(), why))
        });
        unsaved.collect()
    }

    /// Ends all of these, side by side. Returns those that have not ended when there was no progress for `limit`.
    async fn end_all(
        &self,
        all: &Unfinished,
        limit: Duration,
        tell: &mut (impl FnMut(&StopNews) + Send),
    ) -> Unfinished {
        let mut ends = end_side_by_side(all);
        let mut left = all.clone();
        let mut stall = Stall::new(limit, Instant::now());
        let within = limit + LOOK_EVERY * 2;
        let mut next_log = Instant::now() + LOOK_EVERY;
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = tokio::select! {
                ended = ends.join_next() => match ended {
                    Some(name) => {
                        drop(name.map(|name| left.remove(&name)));
                        continue;
                    }
                    None => return left,
                },
                now = looks.tick() => now,
            };
            let status = || status(&left, all.len());
            match stall.after(self.stop_progress(), now) {
                StallLook::Progress => tell(&StopNews {
                    within,
                    status: status(),
                }),
                StallLook::Waiting => {}
                StallLook::Stalled => return left,
            }
            if now >= next_log {
                tracing::info!("the host is ending: {}", status());
                next_log = now + LOG_EVERY;
            }
        }
    }

    fn stop_progress(&self) -> u64 {
        self.shared.stop_steps.count() + self.shared.disk.states.written()
    }

    /// Writes the states that the disk has not taken before, and logs which ones are lost.
    async fn settle_states(&self, limit: Duration, unsaved: BTreeMap<String, String>) {
        let states = self.shared.disk.states.clone();
        if !states.unwritten().is_empty() {
            let settling = states.clone();
            // The check below finds what can't be written.
            let _ = timeout(limit, blocking::run(move || settling.settle())).await;
        }
        let of_kind = |kind| move |(daemon, why)| (daemon, (why, kind));
        let unsaved = unsaved.into_iter().map(of_kind(CauseKind::SaveFailed));
        let unwritten = states.unwritten().into_iter();
        let unsaved: BTreeMap<String, (String, CauseKind)> = unsaved
            .chain(unwritten.map(of_kind(CauseKind::Disk)))
            .collect();
        if unsaved.is_empty() {
            return;
        }
        for (daemon, (cause, cause_kind)) in unsaved.clone() {
            let text = format!("its state was not saved: {cause}");
            self.shared.tell(&daemon, None, "error", &text);
            let unsaved = DaeEventKind::StateUnsaved { cause, cause_kind };
            self.shared.events.send(&daemon, None, unsaved);
        }
        let count = unsaved.len();
        let names = list(unsaved.into_keys());
        tracing::error!(
            count,
            "daemons whose state was not saved, and which start from the one that was kept before: {names}"
        );
    }
}

/// Starts to end all of these. Each task returns the daemon's name.
fn end_side_by_side(all: &Unfinished) -> JoinSet<String> {
    let permits = Arc::new(Semaphore::new(STOPS_MAX));
    let mut ends = JoinSet::new();
    for (name, daemon) in all.clone() {
        ends.spawn(end_one(name, daemon, Arc::clone(&permits)));
    }
    ends
}

async fn end_one(name: String, daemon: Arc<Daemon>, permits: Arc<Semaphore>) -> String {
    let place = permits.acquire_owned().await.ok();
    let mut ending = std::pin::pin!(daemon.end());
    // Errors on the way show in the daemon's own status.
    if timeout(STOP_QUICK, &mut ending).await.is_err() {
        drop(place);
        let _ = ending.await;
    }
    name
}

/// Returns why a daemon's state was not saved, if it has one that should have been.
fn why_unsaved(daemon: &Daemon, is_left: bool) -> Option<String> {
    let (glance, stopping) = (daemon.glance(), daemon.stopping());
    let has_state = glance.spec.artefact.manifest.state_version.is_some();
    if !has_state || stopping.unsaved.is_some() {
        return stopping.unsaved;
    }
    match stopping.step {
        Some(step) if step.is_before_saved() => Some(format!(
            "the host ended while it waited for {}",
            step.text()
        )),
        None if is_left => Some(format!(
            "the host ended while it was {}",
            glance.state.word()
        )),
        _ => None,
    }
}

/// Returns the progress of the end, and what it waits for.
fn status(left: &Unfinished, all: usize) -> String {
    let waits_for = left.iter().map(|(name, daemon)| {
        let what = match daemon.stopping().step {
            Some(step) => step.text(),
            // Its stop has not begun, or it is in the middle of something else, such as a start.
            None => daemon.state_word(),
        };
        format!("{name} ({what})")
    });
    let ended = all - left.len();
    match left.is_empty() {
        true => format!("{ended} of {all} daemons have ended"),
        false => format!(
            "{ended} of {all} daemons have ended; it waits for {}",
            list(waits_for)
        ),
    }
}

/// Returns the first of these names, and how many more there are.
fn list(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(NAMED_MAX);
    let named: Vec<String> = names.take(NAMED_MAX).collect();
    match more {
        0 => named.join(", "),
        _ => format!("{} and {more} more", named.join(", ")),
    }
}

/// A detector for missing progress. Pure.
#[derive(Debug)]
struct Stall {
    limit: Duration,
    /// The progress at the last check; `None` before the first one.
    progress: Option<u64>,
    /// The time of the last progress.
    since: Instant,
}

/// The result of a check of [`Stall`].
#[derive(Debug, PartialEq, Eq)]
enum StallLook {
    /// There was progress since the last check.
    Progress,
    /// There was none, and there is time left.
    Waiting,
    /// There was none for the whole limit.
    Stalled,
}

impl Stall {
    fn new(limit: Duration, now: Instant) -> Self {
        Stall {
            limit,
            progress: None,
            since: now,
        }
    }

    fn after(&mut self, progress: u64, now: Instant) -> StallLook {
        if self.progress.replace(progress) != Some(progress) {
            self.since = now;
            return StallLook::Progress;
        }
        match now.saturating_duration_since(self.since) >= self.limit {
            true => StallLook::Stalled,
            false => StallLook::Waiting,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_has_time_for_as_long_as_it_makes_progress() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut stall = Stall::new(Duration::from_secs(3), start);
        for (progress, seconds, expected) in [
            (0, 0, StallLook::Progress),
            (0, 2, StallLook::Waiting),
            (1, 4, StallLook::Progress),
            (2, 100, StallLook::Progress),
            (2, 102, StallLook::Waiting),
            (2, 103, StallLook::Stalled),
        ] {
            assert_eq!(stall.after(progress, at(seconds)), expected, "{seconds} s");
        }
    }

    #[test]
    fn a_line_names_a_few_and_counts_the_rest() {
        let names = |count: usize| list((0..count).map(|number| format!("D{number}")));
        assert_eq!(names(2), "D0, D1");
        assert!(
            names(NAMED_MAX + 5).ends_with("D19 and 5 more"),
            "{}",
            names(25)
        );
    }
}
