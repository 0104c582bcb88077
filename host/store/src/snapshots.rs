//! The snapshots of daemons: one file per daemon with the state that it hands over.
//!
//! A state is the author's JSON with the author's version number; the host doesn't interpret it. A snapshot is taken at
//! a stop, at a reload and, if configured, at regular intervals, and is given to the next start. Each write replaces
//! the whole file or leaves it unchanged. If the disk fails, the state stays in memory until a write succeeds.
//!
//! When a host shuts down, thousands of states arrive at once. They are written in batches: while one batch is written,
//! the next one accumulates.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, anyhow, bail};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::atomic_file::{self, DiskFault, StagedFile};
use crate::blocking;
use crate::home::Home;
use crate::lock::lock;
use crate::state_text::StateText;
use crate::text_file;

/// The highest number of files synced at the same time. On a disk with slow syncs, this many take hardly longer than
/// one. Each takes a thread.
const SYNCS_MAX: usize = 16;

/// The reason shown for a state that no batch has tried to write yet.
const NOT_YET: &str = "the disk has not taken it yet";

/// The occasion on which a state was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotOccasion {
    /// The daemon was stopped, or fell asleep.
    Stop,
    /// A regular checkpoint was due.
    Checkpoint,
    /// Another instance replaced the daemon's instance.
    Reload,
    /// A person gave the daemon a state from outside.
    Import,
}

/// A state with its time and origin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeptState {
    /// The time at which it was taken.
    pub time: Timestamp,
    /// The occasion on which it was taken.
    pub occasion: SnapshotOccasion,
    /// The generation of the instance that it was taken from.
    pub generation: u64,
    /// The state in the ABI's form: `{"version": …, "data": …}`.
    pub state: StateText,
}

/// The members of a snapshot file before the state, which is the last one.
#[derive(Serialize)]
struct SnapshotHead {
    time: Timestamp,
    occasion: SnapshotOccasion,
    generation: u64,
}

/// The content of a snapshot file, which stays where it was read.
#[derive(Deserialize)]
struct SnapshotForm<'a> {
    time: Timestamp,
    occasion: SnapshotOccasion,
    generation: u64,
    #[serde(borrow)]
    state: &'a RawValue,
}

impl KeptState {
    /// Creates a snapshot of a state in the ABI's form, dated now.
    ///
    /// # Errors
    /// The state is not JSON.
    pub fn of(
        state: impl Into<StateText>,
        occasion: SnapshotOccasion,
        generation: u64,
    ) -> Result<Self, String> {
        let kept = KeptState::unchecked(state.into(), occasion, generation);
        kept.state.check()?;
        Ok(kept)
    }

    /// Creates a snapshot of a state of which nobody knows yet whether it is JSON. It must be checked before it is kept.
    pub fn unchecked(state: StateText, occasion: SnapshotOccasion, generation: u64) -> Self {
        KeptState {
            time: Timestamp::now(),
            occasion,
            generation,
            state,
        }
    }

    /// Reads the text of a snapshot file.
    fn read(text: String) -> serde_json::Result<Self> {
        let form: SnapshotForm<'_> = serde_json::from_str(&text)?;
        let state = form.state.get();
        let start = state.as_ptr().addr() - text.as_ptr().addr();
        let range = start..start + state.len();
        let (time, occasion, generation) = (form.time, form.occasion, form.generation);
        Ok(KeptState {
            time,
            occasion,
            generation,
            state: StateText::read_in(text.into_bytes(), range),
        })
    }

    /// Returns the text of a snapshot file up to the state, after which it has a closing brace.
    fn head(&self) -> serde_json::Result<String> {
        let head = SnapshotHead {
            time: self.time,
            occasion: self.occasion,
            generation: self.generation,
        };
        let mut head = serde_json::to_string(&head)?;
        head.pop();
        head.push_str(",\"state\":");
        Ok(head)
    }

    /// Returns the state's length in the ABI's form (bytes).
    pub fn bytes(&self) -> u64 {
        self.state.bytes().len() as u64
    }

    /// Describes the snapshot's origin, for `status`.
    pub fn origin(&self) -> String {
        let occasion = match self.occasion {
            SnapshotOccasion::Stop => "the stop",
            SnapshotOccasion::Checkpoint => "the checkpoint",
            SnapshotOccasion::Reload => "the reload",
            SnapshotOccasion::Import => "the import",
        };
        format!("{occasion} at {:.0}", self.time)
    }
}

/// The content of a daemon's snapshot file.
#[derive(Debug, Clone)]
pub enum StoredState {
    /// There is no state.
    Nothing,
    /// A readable state.
    State(KeptState),
    /// The text of a state that can't be read.
    Damaged(String),
}

/// The snapshots of a home. Clones share them.
#[derive(Debug, Clone)]
pub struct Snapshots(Arc<SnapshotsInner>);

#[derive(Debug)]
struct SnapshotsInner {
    dir: PathBuf,
    /// States that are newer than the files on the disk, by daemon. The next batch writes them.
    unwritten: Mutex<BTreeMap<String, UnwrittenState>>,
    /// Held while a batch is written and while a state is removed. Otherwise a batch could write a removed state again.
    writing: Mutex<()>,
    /// Held by the task whose batch is being written. The waiting tasks then find their states written, or one of them
    /// writes the next batch.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// The number of write attempts since the start.
    written: AtomicU64,
}

/// A state that is not on the disk yet.
#[derive(Debug)]
struct UnwrittenState {
    state: Arc<KeptState>,
    /// The error of the last batch that tried to write it; `None` before the first one.
    fault: Option<String>,
}

impl Snapshots {
    /// Returns the snapshots of a home.
    pub fn of(home: &Home) -> Self {
        Snapshots(Arc::new(SnapshotsInner {
            dir: home.states_dir(),
            unwritten: Mutex::default(),
            writing: Mutex::default(),
            turn: Arc::default(),
            written: AtomicU64::new(0),
        }))
    }

    /// Returns the latest snapshot of a daemon.
    ///
    /// # Errors
    /// The snapshot exists but can't be read. An error prevents an accidental start without it.
    pub fn load(&self, daemon: &str) -> anyhow::Result<Option<KeptState>> {
        if let Some(newest) = lock(&self.0.unwritten).get(daemon) {
            return Ok(Some((*newest.state).clone()));
        }
        let path = self.path_of(daemon);
        let bytes = match atomic_file::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DiskFault::new(&error, "read the state", &path).into()),
        };
        let damaged = || {
            format!(
                "the state {} is damaged; an install, a reload or a rollback with `fresh` starts without it",
                path.display()
            )
        };
        let text = text_file::of_file(bytes)
            .map_err(anyhow::Error::msg)
            .with_context(damaged)?;
        let kept = KeptState::read(text).with_context(damaged)?;
        Ok(Some(kept))
    }

    /// Returns the latest snapshot like [`Snapshots::load`], but returns the text of a damaged one. For callers that
    /// don't start a daemon from it.
    ///
    /// # Errors
    /// A disk error.
    pub fn find(&self, daemon: &str) -> anyhow::Result<StoredState> {
        let damaged = match self.load(daemon) {
            Ok(state) => return Ok(state.map_or(StoredState::Nothing, StoredState::State)),
            Err(error) if error.is::<DiskFault>() => return Err(error),
            Err(_) => atomic_file::read(&self.path_of(daemon)),
        };
        Ok(match damaged {
            Ok(bytes) => StoredState::Damaged(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => StoredState::Nothing,
            // A state that can't be read must not count as none.
            Err(error) => {
                let path = self.path_of(daemon);
                return Err(DiskFault::new(&error, "read the state", &path).into());
            }
        })
    }

    /// Writes a state, together with all states that are not on the disk yet.
    ///
    /// # Errors
    /// A disk error. The previous state then remains on the disk, and [`Snapshots::load`] returns the new one while
    /// this process lives.
    pub fn keep(&self, daemon: &str, state: &KeptState) -> anyhow::Result<()> {
        let state = self.hold(daemon, state);
        self.write_batch();
        self.outcome(daemon, &state).unwrap_or(Ok(()))
    }

    /// Writes a state like [`Snapshots::keep`], in one batch with the states of all callers that arrive while an
    /// earlier batch is written.
    ///
    /// # Errors
    /// The same as [`Snapshots::keep`].
    pub async fn keep_with_others(&self, daemon: &str, state: &KeptState) -> anyhow::Result<()> {
        let state = self.hold(daemon, state);
        self.write_with_others(daemon, &state).await
    }

    /// Writes a state like [`Snapshots::keep_with_others`], but only if `is_current` returns true. It is called at the
    /// moment from which on the state counts as the daemon's latest. Returns `None` if it returned false.
    pub async fn keep_if(
        &self,
        (daemon, state): (&str, &KeptState),
        is_current: impl FnOnce() -> bool,
    ) -> Option<anyhow::Result<()>> {
        let state = self.hold_if((daemon, state), is_current)?;
        Some(self.write_with_others(daemon, &state).await)
    }

    /// Waits until the state that is held is on the disk, or its write has failed.
    async fn write_with_others(&self, daemon: &str, state: &Arc<KeptState>) -> anyhow::Result<()> {
        let turn = Arc::clone(&self.0.turn).lock_owned().await;
        if let Some(outcome) = self.outcome(daemon, state) {
            return outcome;
        }
        let states = self.clone();
        let batch = blocking::run(move || {
            // The lock is held until the batch ends, even if the caller stops waiting.
            let _turn = turn;
            states.write_batch();
        });
        if batch.await.is_err() {
            // The system has no thread left, so this thread writes the batch.
            self.write_batch();
        }
        self.outcome(daemon, state).unwrap_or(Ok(()))
    }

    /// Writes all states that are not on the disk yet.
    ///
    /// # Errors
    /// The first disk error.
    pub fn settle(&self) -> anyhow::Result<()> {
        self.write_batch();
        match self.unwritten().into_values().next() {
            Some(fault) => bail!(fault),
            None => Ok(()),
        }
    }

    /// Returns the daemons whose states are not on the disk, with the reasons.
    pub fn unwritten(&self) -> BTreeMap<String, String> {
        let unwritten = lock(&self.0.unwritten);
        let fault = |one: &UnwrittenState| one.fault.clone().unwrap_or_else(|| NOT_YET.to_owned());
        let all = unwritten.iter();
        all.map(|(daemon, one)| (daemon.clone(), fault(one)))
            .collect()
    }

    /// Returns the number of write attempts since the start. It shows the progress of a batch.
    pub fn written(&self) -> u64 {
        self.0.written.load(Ordering::Relaxed)
    }

    fn hold(&self, daemon: &str, state: &KeptState) -> Arc<KeptState> {
        let always = || true;
        let held = self.hold_if((daemon, state), always);
        held.expect("the condition is always true")
    }

    fn hold_if(
        &self,
        (daemon, state): (&str, &KeptState),
        is_current: impl FnOnce() -> bool,
    ) -> Option<Arc<KeptState>> {
        let state = Arc::new(state.clone());
        let one = UnwrittenState {
            state: Arc::clone(&state),
            fault: None,
        };
        let mut unwritten = lock(&self.0.unwritten);
        if !is_current() {
            return None;
        }
        unwritten.insert(daemon.to_owned(), one);
        Some(state)
    }

    /// Returns the result of writing that state, or `None` if no batch has tried yet. A newer state that has replaced
    /// it counts as success; the newer state's caller gets that result.
    fn outcome(&self, daemon: &str, state: &Arc<KeptState>) -> Option<anyhow::Result<()>> {
        let unwritten = lock(&self.0.unwritten);
        let is_it = |one: &&UnwrittenState| Arc::ptr_eq(&one.state, state);
        match unwritten.get(daemon).filter(is_it) {
            None => Some(Ok(())),
            Some(one) => {
                let fault = anyhow!(one.fault.clone()?);
                let note = "it is held in memory meanwhile, and lost if the host is killed";
                Some(Err(fault.context(note)))
            }
        }
    }

    /// Writes all states that are not on the disk, several at a time. A failure doesn't affect the others.
    fn write_batch(&self) {
        let _writing = lock(&self.0.writing);
        let batch: Arc<[(String, Arc<KeptState>)]> = {
            let unwritten = lock(&self.0.unwritten);
            let all = unwritten.iter();
            all.map(|(daemon, one)| (daemon.clone(), Arc::clone(&one.state)))
                .collect()
        };
        if batch.is_empty() {
            return;
        }
        let outcomes = self.write_all(&batch);
        let mut unwritten = lock(&self.0.unwritten);
        for ((daemon, state), outcome) in batch.iter().zip(outcomes) {
            // A newer state that has arrived meanwhile belongs to the next batch.
            let Some(one) = unwritten.get_mut(daemon) else {
                continue;
            };
            if Arc::ptr_eq(&one.state, state) {
                match outcome {
                    Ok(()) => drop(unwritten.remove(daemon)),
                    Err(fault) => one.fault = Some(fault),
                }
            }
        }
    }

    /// Writes the files of a batch and returns a result for each. Several files are synced at the same time, so that
    /// the file system can commit them together. Each file then replaces the old one, and the directory is synced once
    /// for all. `syncfs` is not used, because it would also wait for other programs' writes to the same disk.
    fn write_all(&self, batch: &Arc<[(String, Arc<KeptState>)]>) -> Vec<Result<(), String>> {
        let (states, to_stage) = (self.clone(), Arc::clone(batch));
        let staged = blocking::side_by_side(batch.len(), SYNCS_MAX, move |number| {
            let (daemon, state) = &to_stage[number];
            let head = state.head().map_err(|error| error.to_string())?;
            let staged = state.state.check().and_then(|()| {
                let parts = [head.as_bytes(), state.state.bytes(), b"}"];
                let staged = atomic_file::stage_parts(&states.path_of(daemon), &parts);
                staged.map_err(|fault| fault.to_string())
            });
            states.0.written.fetch_add(1, Ordering::Relaxed);
            staged
        });
        let put_in_place = |staged: Option<Result<StagedFile, String>>| {
            let staged = staged.unwrap_or_else(|| Err("writing it panicked".to_owned()))?;
            staged.put_in_place().map_err(|fault| fault.to_string())
        };
        // Others wait for the end of this batch, however many of its files a program has open.
        let mut outcomes: Vec<_> = atomic_file::with_one_wait(|| {
            let placed = staged.into_iter().map(put_in_place);
            placed.collect()
        });
        if outcomes.iter().any(Result::is_ok)
            && let Err(fault) = atomic_file::sync_directory(&self.0.dir)
        {
            outcomes.fill(Err(fault.to_string()));
        }
        outcomes
    }

    /// Removes a daemon's snapshot.
    ///
    /// # Errors
    /// A disk error. The snapshot is then still there, on the disk and in memory.
    pub fn forget(&self, daemon: &str) -> anyhow::Result<()> {
        let _writing = lock(&self.0.writing);
        let path = self.path_of(daemon);
        if path.exists() {
            atomic_file::remove(&path)?;
        }
        // After the file: if it can't be removed, the newer state in memory must still count, and not the file's.
        lock(&self.0.unwritten).remove(daemon);
        Ok(())
    }

    /// Returns the daemons that have a snapshot file.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let name = |entry: io::Result<std::fs::DirEntry>| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            name.strip_suffix(".json").map(str::to_owned)
        };
        Ok(std::fs::read_dir(&self.0.dir)?.filter_map(name).collect())
    }

    fn path_of(&self, daemon: &str) -> PathBuf {
        self.0.dir.join(format!("{daemon}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_as_it_was_and_a_damaged_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        home.create().unwrap();
        let states = Snapshots::of(&home);
        assert!(states.load("A").unwrap().is_none());
        let kept = KeptState::of(
            br#"{"version":1,"data":{"n": 5}}"#,
            SnapshotOccasion::Stop,
            3,
        )
        .unwrap();
        states.keep("A", &kept).unwrap();
        let loaded = states.load("A").unwrap().unwrap();
        assert_eq!(loaded.state.bytes(), br#"{"version":1,"data":{"n": 5}}"#);
        let path = states.path_of("A");
        let kept_text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("\u{feff}{kept_text}")).unwrap();
        assert!(states.load("A").is_ok(), "a byte order mark is dropped");
        assert_eq!((loaded.generation, loaded.bytes()), (3, 29));
        std::fs::write(home.states_dir().join("A.json"), "{").unwrap();
        assert!(
            states
                .load("A")
                .unwrap_err()
                .to_string()
                .contains("`fresh`")
        );
        states.forget("A").unwrap();
        assert!(states.load("A").unwrap().is_none());
    }

    #[test]
    fn a_state_that_cannot_be_written_is_held_until_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        home.create().unwrap();
        let states = Snapshots::of(&home);
        let kept = KeptState::of(br#"{"version":1,"data":5}"#, SnapshotOccasion::Stop, 3).unwrap();
        // A directory in the file's place makes every write fail.
        std::fs::create_dir(home.states_dir().join("B.json")).unwrap();
        let note = format!("{:#}", states.keep("B", &kept).unwrap_err());
        assert!(note.contains("held in memory"), "{note}");
        assert!(states.load("B").unwrap().is_some(), "it is not lost");
        states.forget("B").unwrap_err();
        assert!(states.load("B").unwrap().is_some(), "it is still there");
        std::fs::remove_dir(home.states_dir().join("B.json")).unwrap();
        states.settle().unwrap();
        assert!(
            Snapshots::of(&home).load("B").unwrap().is_some(),
            "written when it could be"
        );
    }

    #[tokio::test]
    async fn a_state_that_is_no_longer_current_replaces_none() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        home.create().unwrap();
        let states = Snapshots::of(&home);
        let kept = states.keep_if(("A", &state(1)), || true).await;
        kept.unwrap().unwrap();
        let kept = states.keep_if(("A", &state(2)), || false).await;
        assert!(kept.is_none(), "{kept:?}");
        let loaded = states.load("A").unwrap().unwrap();
        assert_eq!(loaded.state.bytes(), state(1).state.bytes());
    }

    #[tokio::test]
    async fn states_that_come_in_during_a_batch_share_the_next_one_and_each_hears_of_its_own() {
        const MANY: u64 = 100;
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        home.create().unwrap();
        let states = Snapshots::of(&home);
        std::fs::create_dir(home.states_dir().join("D7.json")).unwrap();
        let keep = |number: u64| {
            let (states, kept) = (states.clone(), state(number));
            async move {
                let name = format!("D{number}");
                states.keep_with_others(&name, &kept).await
            }
        };
        // The test takes the lock first, so that all other tasks wait for it.
        let turn = Arc::clone(&states.0.turn).lock_owned().await;
        let all = futures_util::future::join_all((0..MANY).map(keep));
        let release = async {
            while lock(&states.0.unwritten).len() < MANY as usize {
                tokio::task::yield_now().await;
            }
            drop(turn);
        };
        let (all, ()) = tokio::join!(all, release);
        // There was one batch: each file was tried once.
        assert_eq!(states.written(), MANY);
        for (number, kept) in (0..MANY).zip(all) {
            let name = format!("D{number}");
            assert_eq!(kept.is_err(), number == 7, "{name}: {kept:?}");
            let loaded = states.load(&name).unwrap().unwrap();
            assert_eq!(loaded.state.bytes(), state(number).state.bytes());
        }
        let unwritten: Vec<_> = states.unwritten().into_keys().collect();
        assert_eq!(unwritten, ["D7"]);
        assert_eq!(
            std::fs::read_dir(home.states_dir()).unwrap().count(),
            MANY as usize
        );
    }

    fn state(number: u64) -> KeptState {
        let text = format!(r#"{{"version":1,"data":{number}}}"#);
        KeptState::of(text.as_bytes(), SnapshotOccasion::Stop, 1).unwrap()
    }
}
