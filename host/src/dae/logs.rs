//! The `logs` command on the control socket: returns the last records, and then sends every new one, if requested.
//!
//! A reader that follows is subscribed before the past records are read, so that nothing is lost in between. A
//! record that is in both is sent once. The past is read on a thread that may block, and is limited in records and
//! bytes.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::{Dae, Fault, Inner};
use dae_runtime::connection::event_queue::EVENT_QUEUE_BYTES_MAX;
use dae_runtime::connection::guest_handle::GuestHandle;
use dae_store::blocking;
use dae_store::log::{Journal, LogQuery, Record};
use dae_store::registry::DAE_NAME;

/// The request of `logs`.
#[derive(Debug, Deserialize)]
pub(super) struct LogRequest {
    #[serde(flatten)]
    query: LogQuery,
    /// One more name, which a command line of an earlier version sends.
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    follow: bool,
}

/// The most records that one `logs` returns. The files have more.
const LOG_LINES_MAX: usize = 10_000;
/// The most bytes that one `logs` returns, as they are in the files: some tens of thousands of usual records.
const LOG_BYTES_MAX: usize = 8 << 20;
/// The longest time from a record's write to its delivery to followers. After it, no delivered record can be one of
/// the past.
const OVERLAP_MAX: Duration = Duration::from_secs(60);

/// A sender of new records to a reader, until the reader leaves.
pub(super) struct Follower {
    /// The selection of the records that are sent.
    query: LogQuery,
    records: Receiver<Arc<Record>>,
    /// The records that came while the past was read.
    held: Vec<Arc<Record>>,
    held_bytes: usize,
    /// The number of records that this reader was too slow for.
    missed: u64,
    past: SeenRecords,
}

/// The records of the past that the reader already has, by their hashes, for as long as they may come again.
struct SeenRecords {
    hashes: HashSet<u64>,
    state: RandomState,
    until: Instant,
}

/// Answers `logs`. Returns the last records, and a follower that sends the new ones once the answer is sent.
pub(super) async fn logs(
    dae: &Dae,
    request: LogRequest,
) -> Result<(Vec<Record>, Option<Follower>), Fault> {
    let LogRequest {
        mut query,
        name,
        follow,
    } = request;
    query.names.extend(name);
    query.lines = query.lines.min(LOG_LINES_MAX);
    let inner = &dae.inner;
    query
        .names
        .iter()
        .try_for_each(|name| inner.check_logged(name))?;
    let journal = inner.shared.journal.clone();
    let mut follower = follow.then(|| Follower::of(&journal, query.clone()));
    let mut reading = blocking::run(move || journal.read(&query, LOG_BYTES_MAX));
    let read = match &mut follower {
        Some(follower) => follower.hold_while(&mut reading).await,
        None => reading.await,
    };
    let past = read.map_err(anyhow::Error::msg).flatten();
    let past = past.map_err(|error| Fault::failed(format!("{error:#}")))?;
    if let Some(follower) = &mut follower {
        follower.knows(&past);
    }
    Ok((past, follower))
}

impl Inner {
    fn check_logged(&self, name: &str) -> Result<(), Fault> {
        match name == DAE_NAME || self.daemon(name).is_some() {
            true => Ok(()),
            false => Err(self.unknown(name)),
        }
    }
}

impl Follower {
    fn of(journal: &Journal, query: LogQuery) -> Self {
        Follower {
            query,
            records: journal.subscribe(),
            held: Vec::new(),
            held_bytes: 0,
            missed: 0,
            past: SeenRecords {
                hashes: HashSet::new(),
                state: RandomState::new(),
                until: Instant::now(),
            },
        }
    }

    /// Holds new records until `reading` has ended. It holds more than the journal keeps for slow readers.
    async fn hold_while<T>(&mut self, reading: &mut (impl Future<Output = T> + Unpin)) -> T {
        loop {
            let received = tokio::select! {
                read = &mut *reading => return read,
                received = self.records.recv() => received,
            };
            match received {
                Ok(record) if self.is_wanted(&record) => self.hold(record),
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => self.missed += missed,
                Err(RecvError::Closed) => return reading.await,
            }
        }
    }

    fn hold(&mut self, record: Arc<Record>) {
        let bytes = record.message.len() + size_of::<Record>();
        match self.held_bytes + bytes <= EVENT_QUEUE_BYTES_MAX {
            true => {
                self.held_bytes += bytes;
                self.held.push(record);
            }
            false => self.missed += 1,
        }
    }

    fn knows(&mut self, past: &[Record]) {
        let state = &self.past.state;
        let hashes = past.iter().map(|record| state.hash_one(json(record)));
        self.past.hashes = hashes.collect();
        self.past.until = Instant::now() + OVERLAP_MAX;
    }

    fn is_wanted(&self, record: &Record) -> bool {
        self.query.selects(record)
    }

    /// Sends the held records and the new ones, until the reader leaves or the journal ends.
    pub(super) async fn run(mut self, guest: Arc<GuestHandle>) {
        for record in std::mem::take(&mut self.held) {
            self.send(&guest, &record);
        }
        while !guest.has_left() {
            self.send_missed(&guest);
            // If nothing is written, check at intervals whether the reader is still there.
            let received = tokio::time::timeout(OVERLAP_MAX, self.records.recv()).await;
            match received {
                Ok(Ok(record)) if self.is_wanted(&record) => self.send(&guest, &record),
                Ok(Ok(_)) | Err(_) => {}
                Ok(Err(RecvError::Lagged(missed))) => self.missed += missed,
                Ok(Err(RecvError::Closed)) => return,
            }
        }
    }

    fn send(&mut self, guest: &GuestHandle, record: &Record) {
        let json = json(record);
        if !self.past.had(&json) {
            // The loop or the connection notices a reader that has left or doesn't read.
            guest.push(&[b"log [", json.as_bytes(), b"]"].concat());
        }
    }

    fn send_missed(&mut self, guest: &GuestHandle) {
        let missed = std::mem::take(&mut self.missed);
        if missed > 0 {
            let text = format!(
                "{missed} records are left out here, since they came faster than they were read; the log files of the home have them"
            );
            self.send(guest, &Record::about(DAE_NAME, None, "warn", &text));
        }
    }
}

impl SeenRecords {
    /// Returns whether the reader has that record already.
    fn had(&mut self, json: &str) -> bool {
        if self.hashes.is_empty() {
            return false;
        }
        if Instant::now() > self.until {
            self.hashes = HashSet::new();
        }
        self.hashes.remove(&self.state.hash_one(json))
    }
}

fn json(record: &Record) -> String {
    serde_json::to_string(record).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dae_runtime::connection::guest_handle::Guests;
    use dae_store::log::Console;

    fn write(journal: &Journal, daemon: &str, text: &str) {
        journal.write(Record::about(daemon, Some(1), "info", text));
    }

    /// Returns the messages that were pushed, once the last one is among them.
    async fn pushed(guest: &GuestHandle, last: &str) -> Vec<String> {
        let mut bytes = Vec::new();
        loop {
            guest.take_into(&mut bytes);
            let text = String::from_utf8_lossy(&bytes);
            let records = text.lines().map(|line| {
                let json = line.strip_prefix("log ").unwrap();
                let [record]: [Record; 1] = serde_json::from_str(json).unwrap();
                record.message
            });
            let messages: Vec<String> = records.collect();
            if messages.iter().any(|message| message == last) {
                return messages;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn nothing_is_lost_or_told_twice_between_the_past_and_the_present() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), Console::Off).unwrap();
        let guest = Guests::default().enter();
        write(&journal, "A", "past");
        let mut follower = Follower::of(&journal, LogQuery::last(Some("A"), 0));
        // More records than the journal keeps for a slow reader.
        const BETWEEN: usize = 3000;
        let writer = journal.clone();
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        let mut reading = tokio::spawn(async move {
            write(&writer, "A", "in both");
            let past = writer.tail(Some("A"), 10, usize::MAX).unwrap();
            for n in 0..BETWEEN {
                write(&writer, "A", &format!("between {n}"));
                write(&writer, "B", "of another");
                tokio::task::yield_now().await;
            }
            released.await.unwrap();
            past
        });
        release.send(()).unwrap();
        let past = follower.hold_while(&mut reading).await.unwrap();
        assert_eq!(past.len(), 2);
        follower.knows(&past);
        tokio::spawn(follower.run(Arc::clone(&guest)));
        write(&journal, "A", "the last");
        let messages = pushed(&guest, "the last").await;
        assert_eq!(messages.len(), BETWEEN + 1, "{:?}", messages.first());
        assert_eq!(messages[0], "between 0");
        assert_eq!(messages[BETWEEN - 1], format!("between {}", BETWEEN - 1));
    }

    #[tokio::test]
    async fn what_a_slow_reader_misses_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), Console::Off).unwrap();
        let guests = Guests::default();
        let guest = guests.enter();
        let mut follower = Follower::of(&journal, LogQuery::default());
        let large = "x".repeat(EVENT_QUEUE_BYTES_MAX / 2);
        for _ in 0..3 {
            follower.hold(Arc::new(Record::about("A", None, "info", &large)));
        }
        follower.held.truncate(1);
        let running = tokio::spawn(follower.run(Arc::clone(&guest)));
        write(&journal, "A", "the last");
        let messages = pushed(&guest, "the last").await;
        assert!(
            messages[1].starts_with("2 records are left out"),
            "{}",
            messages[1]
        );
        guests.leave(guest.id());
        write(&journal, "A", "nobody is there");
        running.await.unwrap();
    }
}
