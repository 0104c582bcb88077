//! The events of a home on the disk, so that "what happened last night?" has an answer, with or without a host.
//!
//! Events are lines of JSON in `logs/events/events.log`, rotated like a daemon's log: five files of at most 10 MiB hold some
//! 300,000 events. Nothing is synced. Events have ids that grow over restarts of the host ([`DaeEvent::id`]), so a reader
//! can continue where it ended.
//!
//! A disk that can't take events never holds the host up: the event still reaches those who listen, and the caller learns
//! of the beginning and the end of the fault.

use std::collections::{BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::atomic_file::{self, DiskFault};
use crate::event::{CauseKind, DaeEvent, DaeEventKind};
use crate::lock::lock;
use crate::log::{LogFile, each_line_from_last, paths};
use crate::os::private;
use crate::registry::DAE_NAME;

/// The name of the current file.
const FILE_NAME: &str = "events.log";

/// The number of last events in which the end of the last host is looked for. A host with more daemons than this may
/// crash just after its start; then the events before that don't matter.
const LOOKED_AT_MAX: usize = 10_000;

/// Events as the host keeps them.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    dir: PathBuf,
    file: LogFile,
    /// The id of the last event; `None` until the file was read.
    last_id: Option<u64>,
    /// The number of events that were not kept since the last that was.
    lost: u64,
}

/// A selection of kept events. As JSON it is the request of `events`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EventQuery {
    /// The daemons, `Dae` for the host itself; empty for all.
    pub names: Vec<String>,
    /// The highest number of events; the last ones are returned.
    pub lines: usize,
    /// Only events with a higher id.
    pub after: Option<u64>,
    /// Only events at this time or later.
    pub since: Option<Timestamp>,
    /// Only events at this time or earlier.
    pub until: Option<Timestamp>,
}

impl EventQuery {
    /// Returns whether the query selects the event.
    #[must_use]
    pub fn selects(&self, event: &DaeEvent) -> bool {
        let is_named = self.names.is_empty() || self.names.contains(&event.daemon);
        is_named
            && self.after.is_none_or(|after| event.id > after)
            && self.since.is_none_or(|since| event.time >= since)
            && self.until.is_none_or(|until| event.time <= until)
    }
}

impl EventLog {
    /// Returns the event log in that directory. It touches no file before the first event.
    #[must_use]
    pub fn in_directory(dir: &Path) -> Self {
        let path = dir.join(FILE_NAME);
        EventLog {
            written: Mutex::new(Written {
                dir: dir.to_owned(),
                file: LogFile::new(path.clone()),
                last_id: None,
                lost: 0,
            }),
            path,
        }
    }

    /// Gives the event its id, writes it, and calls `send` with it: in the order of the ids. If the fate of the disk
    /// changes, an event of the host says so, through `send` as well.
    pub fn write(&self, mut event: DaeEvent, mut send: impl FnMut(DaeEvent)) {
        let mut written = lock(&self.written);
        event.id = written.next_id(&self.path);
        let was_lost = written.lost;
        let kept = written.append(&event);
        let notice = match kept {
            Ok(()) if was_lost > 0 => Some(DaeEventKind::DiskWorks { lost: was_lost }),
            Ok(()) => {
                let path = self.path.clone();
                let is_displaced = written.file.take_displaced();
                is_displaced.then_some(DaeEventKind::HistoryLost { path })
            }
            Err(error) => {
                written.lost = was_lost + 1;
                let fault = DiskFault::new(&error, "write the events", &self.path);
                let cause = format!("{fault}; until then events are shown and not kept");
                let cause_kind = CauseKind::Disk;
                (was_lost == 0).then_some(DaeEventKind::DiskFailed { cause, cause_kind })
            }
        };
        send(event);
        if let Some(kind) = notice {
            let mut notice = DaeEvent::now(DAE_NAME, None, kind);
            notice.id = written.next_id(&self.path);
            if written.lost == 0 {
                // Should the disk fail again, the next event notices.
                let _ = written.append(&notice);
            }
            send(notice);
        }
    }
}

impl EventLog {
    /// Removes all events of a daemon. Returns whether there were any. Blocks the thread.
    ///
    /// # Errors
    /// A disk error.
    pub fn forget(&self, daemon: &str) -> anyhow::Result<bool> {
        let mut written = lock(&self.written);
        // The ids go on, whichever event was the last.
        written.last_id.get_or_insert_with(|| last_id(&self.path));
        // The next event opens the new file.
        written.file = LogFile::new(self.path.clone());
        let is_others = |line: &&[u8]| event_of(line).is_none_or(|event| event.daemon != daemon);
        let mut has_any = false;
        for path in paths(&self.path) {
            let bytes = match atomic_file::read(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                read => read.map_err(|error| DiskFault::new(&error, "read the events", &path))?,
            };
            let lines = bytes.split_inclusive(|byte| *byte == b'\n');
            let kept = lines.filter(is_others).collect::<Vec<_>>().concat();
            if kept.len() < bytes.len() {
                has_any = true;
                atomic_file::write(&path, &kept)?;
            }
        }
        Ok(has_any)
    }
}

impl Written {
    fn next_id(&mut self, path: &Path) -> u64 {
        let last = self.last_id.unwrap_or_else(|| last_id(path));
        let now = u64::try_from(Timestamp::now().as_microsecond()).unwrap_or(0);
        let id = now.max(last + 1);
        self.last_id = Some(id);
        id
    }

    fn append(&mut self, event: &DaeEvent) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        let written = self.file.append(&line);
        let is_gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
        match &written {
            // It is the first event of the home, or somebody has removed the directory.
            Err(error) if is_gone(error) => {
                private::make_owners_directory(&self.dir)?;
                self.file.append(&line)?;
            }
            _ => written?,
        }
        self.lost = 0;
        Ok(())
    }
}

/// Returns the id of the last kept event, or 0.
fn last_id(path: &Path) -> u64 {
    let mut last = 0;
    // A file that can't be read has no event that this one could follow.
    let _ = each_line_from_last(path, |line| match event_of(line) {
        Some(event) => {
            last = event.id;
            ControlFlow::Break(())
        }
        None => ControlFlow::Continue(()),
    });
    last
}

fn event_of(line: &[u8]) -> Option<DaeEvent> {
    serde_json::from_slice(line).ok()
}

/// Returns whether the kept events show that the last host of the home did not end in order. Blocks the thread.
#[must_use]
pub fn is_host_crashed(dir: &Path) -> bool {
    // Without any event of a host, of which there is one at each start, no host has run.
    let mut is_crashed = false;
    let mut looked_at = 0;
    // Unreadable events tell nothing.
    let _ = each_line_from_last(&dir.join(FILE_NAME), |line| {
        looked_at += 1;
        match event_of(line).map(|event| event.kind) {
            Some(DaeEventKind::HostEnded) => is_crashed = false,
            Some(DaeEventKind::HostStarted { .. }) => is_crashed = true,
            _ if looked_at < LOOKED_AT_MAX => return ControlFlow::Continue(()),
            // A host that ends in order says so last, up to a few late events.
            _ => is_crashed = true,
        }
        ControlFlow::Break(())
    });
    is_crashed
}

/// Returns the names of the daemons that have kept events. Missing files count as empty. Blocks the thread.
///
/// # Errors
/// A disk error.
pub fn names(dir: &Path) -> anyhow::Result<BTreeSet<String>> {
    /// The member of an event that is looked at.
    #[derive(Deserialize)]
    struct Named {
        daemon: String,
    }
    let mut names = BTreeSet::new();
    each_line_from_last(&dir.join(FILE_NAME), |line| {
        names.extend(serde_json::from_slice(line).map(|Named { daemon }| daemon));
        ControlFlow::Continue(())
    })?;
    Ok(names)
}

/// Returns the last events that the query selects, oldest first, and at most `bytes_max` bytes of them as they are in the
/// files. Missing files count as empty, and lines that are no events are skipped. Blocks the thread.
///
/// # Errors
/// A disk error.
pub fn read(dir: &Path, query: &EventQuery, bytes_max: usize) -> anyhow::Result<Vec<DaeEvent>> {
    let mut events = VecDeque::new();
    let mut bytes = 0;
    each_line_from_last(&dir.join(FILE_NAME), |line| {
        let Some(event) = event_of(line) else {
            return ControlFlow::Continue(());
        };
        // Ids never go back, other than the machine's clock.
        let is_over = query.after.is_some_and(|after| event.id <= after);
        bytes += line.len();
        if is_over || events.len() >= query.lines || bytes > bytes_max {
            return ControlFlow::Break(());
        }
        if query.selects(&event) {
            events.push_front(event);
        }
        ControlFlow::Continue(())
    })?;
    Ok(events.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn event(daemon: &str, kind: DaeEventKind) -> DaeEvent {
        DaeEvent::now(daemon, None, kind)
    }

    fn write(log: &EventLog, daemon: &str, kind: DaeEventKind) -> Vec<DaeEvent> {
        let mut sent = Vec::new();
        log.write(event(daemon, kind), |event| sent.push(event));
        sent
    }

    fn all() -> EventQuery {
        EventQuery {
            lines: usize::MAX,
            ..EventQuery::default()
        }
    }

    fn names(dir: &Path, query: &EventQuery) -> Vec<String> {
        let events = read(dir, query, usize::MAX).unwrap();
        events.into_iter().map(|event| event.daemon).collect()
    }

    #[test]
    fn kept_events_are_found_by_name_number_and_place() {
        let dir = tempfile::tempdir().unwrap();
        let log = EventLog::in_directory(dir.path());
        assert!(names(dir.path(), &all()).is_empty());
        let ids: Vec<u64> = ["A", "B", "A", "C"]
            .iter()
            .map(|name| write(&log, name, DaeEventKind::Ready)[0].id)
            .collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
        assert_eq!(names(dir.path(), &all()), ["A", "B", "A", "C"]);
        let last = EventQuery { lines: 2, ..all() };
        assert_eq!(names(dir.path(), &last), ["A", "C"]);
        let named = EventQuery {
            names: vec!["A".to_owned(), "C".to_owned()],
            lines: 2,
            ..all()
        };
        assert_eq!(names(dir.path(), &named), ["A", "C"]);
        let after = EventQuery {
            after: Some(ids[1]),
            ..all()
        };
        assert_eq!(names(dir.path(), &after), ["A", "C"]);
        let later = EventQuery {
            since: Some(Timestamp::MAX),
            ..all()
        };
        assert!(names(dir.path(), &later).is_empty());
    }

    #[test]
    fn a_daemons_events_are_removed_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let log = EventLog::in_directory(dir.path());
        for name in ["A", "B", "A"] {
            let _ = write(&log, name, DaeEventKind::Ready);
        }
        let last = read(dir.path(), &all(), usize::MAX).unwrap().pop().unwrap();
        assert!(log.forget("A").unwrap());
        assert!(!log.forget("A").unwrap());
        let _ = write(&log, "C", DaeEventKind::Ready);
        assert_eq!(names(dir.path(), &all()), ["B", "C"]);
        let next = read(dir.path(), &all(), usize::MAX).unwrap().pop().unwrap();
        assert!(next.id > last.id);
    }

    #[test]
    fn ids_grow_over_restarts_and_wrong_clocks() {
        let dir = tempfile::tempdir().unwrap();
        let ahead = DaeEvent {
            id: u64::MAX / 2,
            ..event("A", DaeEventKind::Ready)
        };
        let text = serde_json::to_string(&ahead).unwrap();
        fs::write(dir.path().join(FILE_NAME), format!("{text}\ncut o")).unwrap();
        let log = EventLog::in_directory(dir.path());
        assert_eq!(write(&log, "A", DaeEventKind::Ready)[0].id, ahead.id + 1);
    }

    #[test]
    fn the_last_event_of_a_host_tells_whether_it_ended_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let log = EventLog::in_directory(dir.path());
        let started = DaeEventKind::HostStarted {
            version: "1".to_owned(),
            pid: 1,
            after_crash: false,
        };
        assert!(!is_host_crashed(dir.path()), "no host has run");
        write(&log, DAE_NAME, started);
        write(&log, "A", DaeEventKind::Ready);
        assert!(is_host_crashed(dir.path()));
        write(&log, DAE_NAME, DaeEventKind::HostEnded);
        write(&log, "A", DaeEventKind::Stopped);
        assert!(!is_host_crashed(dir.path()));
        for _ in 0..LOOKED_AT_MAX {
            write(&log, "A", DaeEventKind::Ready);
        }
        assert!(is_host_crashed(dir.path()), "it ran on for long");
    }

    #[test]
    fn a_disk_that_fails_is_told_once_and_so_is_its_recovery() {
        let dir = tempfile::tempdir().unwrap();
        let events = dir.path().join("events");
        // A file in place of the directory, since a missing one is made.
        fs::write(&events, "").unwrap();
        let log = EventLog::in_directory(&events);
        let first = write(&log, "A", DaeEventKind::Ready);
        assert!(
            matches!(&first[1].kind, DaeEventKind::DiskFailed { cause, .. } if cause.contains("events.log")),
            "{first:?}"
        );
        assert_eq!(write(&log, "A", DaeEventKind::Stopped).len(), 1);
        fs::remove_file(&events).unwrap();
        let back = write(&log, "A", DaeEventKind::Ready);
        assert_eq!(back[1].kind, DaeEventKind::DiskWorks { lost: 2 });
        assert_eq!(write(&log, "A", DaeEventKind::Stopped).len(), 1);
        assert_eq!(names(&events, &all()), ["A", "Dae", "A"]);
    }

    /// On Windows, nobody can move a directory with an open file in it.
    #[cfg(all(test, unix))]
    #[test]
    fn events_that_somebody_moves_or_removes_are_told_once_and_kept_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (events, moved) = (dir.path().join("logs/events"), dir.path().join("moved"));
        let log = EventLog::in_directory(&events);
        assert_eq!(
            write(&log, "A", DaeEventKind::Ready).len(),
            1,
            "a first one"
        );
        let lost = DaeEventKind::HistoryLost {
            path: events.join(FILE_NAME),
        };
        for round in 0..2 {
            match round {
                0 => fs::rename(dir.path().join("logs"), &moved).unwrap(),
                _ => fs::remove_dir_all(&events).unwrap(),
            }
            let sent = write(&log, "B", DaeEventKind::Ready);
            let kinds: Vec<_> = sent.iter().map(|event| &event.kind).collect();
            assert_eq!(kinds, [&DaeEventKind::Ready, &lost], "round {round}");
            assert_eq!(write(&log, "C", DaeEventKind::Ready).len(), 1);
            assert_eq!(names(&events, &all()), ["B", "Dae", "C"]);
        }
        assert_eq!(names(&moved.join("events"), &all()), ["A"]);
        let known = super::names(&events).unwrap();
        assert_eq!(Vec::from_iter(known), ["B", "C", "Dae"]);
    }
}
