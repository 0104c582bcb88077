//! Saves on demand: keeps a daemon's state when its own code asks for it (`eco.save()`, `#[command(saves)]`).
//!
//! Requests share saves. A request that arrives while a save runs waits for the next one, because the running one may
//! have read the state before the change that the request is about. All requests that wait share that next save. Each
//! save is a task of its own: a command that is cancelled takes no save of others with it.
//!
//! The supervisor closes the saver before it saves a state to hand over, and waits for the save that runs. So the state
//! that is handed over is the last one of an instance, and no state of an old generation replaces it later. While a save
//! runs, the supervisor takes no checkpoint, for the same reason.

use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::runtime::Handle;
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;

use super::SupervisorShared;
use dae_runtime::instance::Instance;
use dae_runtime::plugin::completion::Completion;
use dae_runtime::plugin::host_api::StateKeeper;
use dae_store::blocking;
use dae_store::lock::lock;
use dae_store::log::{Journal, Record};
use dae_store::snapshots::{KeptState, SnapshotOccasion, Snapshots};

/// The size of a state above which a save on demand logs a warning (bytes). Each save writes and syncs the whole state,
/// which takes about 10 ms per MiB on a plain disk.
const STATE_BYTES_WARN: usize = 1 << 20;

/// The longest wait for a save that runs, before a successor's state is written. After [`Saver::close`] a save ends at once,
/// unless its disk hangs.
const HOLD_BACK_MAX: Duration = Duration::from_millis(200);

/// The answer to a request of an instance that has not started, that has crashed, or that is being replaced or stopped.
const NOT_CURRENT: &str = "this instance is not the one that answers: its `start` has not returned yet, it has crashed, or it \
                           is being replaced or stopped; at a reload and a stop, the state that it hands over is kept instead";

/// Keeps the state of one daemon on demand.
#[derive(Debug)]
pub(super) struct Saver {
    name: String,
    /// The longest time that one run of `save` may take.
    limit: Duration,
    states: Snapshots,
    journal: Journal,
    runtime: Handle,
    open: Mutex<Option<OpenInstance>>,
    next: Mutex<Option<NextSave>>,
    /// Held by the save that runs.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// The instance whose state may be kept.
#[derive(Debug)]
struct OpenInstance {
    instance: Weak<Instance>,
    generation: u64,
    /// True once the size of its state was logged.
    is_warned: bool,
}

/// A save that has not begun.
#[derive(Debug)]
struct NextSave {
    generation: u64,
    outcome: SharedOutcome,
}

type SharedOutcome = Shared<BoxFuture<'static, Result<(), String>>>;

impl Saver {
    pub(super) fn of(name: &str, shared: &SupervisorShared) -> Arc<Self> {
        Arc::new(Saver {
            name: name.to_owned(),
            limit: shared.config().stop_grace(),
            states: shared.disk.states.clone(),
            journal: shared.journal.clone(),
            runtime: Handle::current(),
            open: Mutex::default(),
            next: Mutex::default(),
            turn: Arc::default(),
        })
    }

    /// Returns the handle through which the code of that generation asks for saves.
    pub(super) fn keeper(self: &Arc<Self>, generation: u64) -> Arc<dyn StateKeeper> {
        let saver = Arc::clone(self);
        Arc::new(GenerationSaver { saver, generation })
    }

    /// Lets the code of that instance ask for saves, and no other.
    pub(super) fn open(&self, instance: &Arc<Instance>) {
        let mut open = lock(&self.open);
        let generation = instance.identity.generation;
        // After a reload that failed, the instance is open again.
        let before = open.take().filter(|one| one.generation == generation);
        *open = Some(OpenInstance {
            instance: Arc::downgrade(instance),
            generation,
            is_warned: before.is_some_and(|one| one.is_warned),
        });
    }

    /// Waits for the save that runs, for at most the time that a save may take, and refuses all further ones. A disk that
    /// hangs must not hold the guests that wait for a reload. A save that returns later is refused; if the disk had it
    /// already, the state that is handed over replaces it.
    pub(super) async fn close(&self) {
        let _turn = timeout(self.limit, self.turn()).await;
        *lock(&self.open) = None;
    }

    /// Keeps saves back while the guard is held, although the new instance may already ask for them: the state that it has
    /// started from is written first, so that it never replaces a later one. Returns `None` if the disk hangs.
    pub(super) async fn hold_back(&self) -> Option<OwnedMutexGuard<()>> {
        timeout(HOLD_BACK_MAX, self.turn()).await.ok()
    }

    /// Waits for the save that runs. None begins while the guard is held.
    pub(super) async fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// Returns the outcome of the next save, which has not begun.
    fn next(self: &Arc<Self>, generation: u64) -> SharedOutcome {
        let mut next = lock(&self.next);
        if let Some(waiting) = next.as_ref().filter(|one| one.generation == generation) {
            return waiting.outcome.clone();
        }
        let saver = Arc::clone(self);
        let save = self.runtime.spawn(async move {
            let _turn = saver.turn().await;
            // A request that arrives from here on may be about a change that this save misses.
            lock(&saver.next).take_if(|one| one.generation == generation);
            saver.save(generation).await
        });
        let ended = save.map(|ended| {
            ended.unwrap_or_else(|error| {
                Err(format!("the save has no result: {}", blocking::why(error)))
            })
        });
        let outcome = ended.boxed().shared();
        *next = Some(NextSave {
            generation,
            outcome: outcome.clone(),
        });
        outcome
    }

    async fn save(&self, generation: u64) -> Result<(), String> {
        let instance = self.current(generation).ok_or(NOT_CURRENT)?;
        if !instance.has_state() {
            return Err(
                "this daemon has no state to keep: add a `save` method and a `start` that takes the state, or \
                 #[daemon(state = Type)]"
                    .to_owned(),
            );
        }
        let began = Instant::now();
        let saved = instance.save(self.limit).await;
        drop(instance);
        let state = saved.map_err(|text| match began.elapsed() >= self.limit {
            true => {
                format!("{text}; does the command that asked for it hold a lock that `save` needs?")
            }
            false => text,
        })?;
        self.note_size(generation, state.bytes().len());
        let state = KeptState::of(state, SnapshotOccasion::Checkpoint, generation)?;
        let is_current = || self.current(generation).is_some();
        let kept = self.states.keep_if((&self.name, &state), is_current).await;
        match kept {
            Some(written) => written.map_err(|error| format!("{error:#}")),
            None => Err(NOT_CURRENT.to_owned()),
        }
    }

    /// Returns the instance of that generation if it is the one that answers.
    fn current(&self, generation: u64) -> Option<Arc<Instance>> {
        let open = lock(&self.open);
        let current = open.as_ref().filter(|one| one.generation == generation)?;
        current.instance.upgrade()
    }

    /// Logs a warning if the state is large, once for each instance.
    fn note_size(&self, generation: u64, bytes: usize) {
        let mut open = lock(&self.open);
        let Some(current) = open.as_mut().filter(|one| one.generation == generation) else {
            return;
        };
        if bytes <= STATE_BYTES_WARN || std::mem::replace(&mut current.is_warned, true) {
            return;
        }
        let text = format!(
            "its state has {bytes} bytes, and each save on demand writes all of it; above {STATE_BYTES_WARN} bytes, keep \
             the data in a file of the daemon's own, or save it at intervals (setting `checkpoint_s`)"
        );
        let record = Record::about(&self.name, Some(generation), "warn", &text);
        drop(open);
        self.journal.write(record);
    }
}

/// The saver as the code of one generation has it.
#[derive(Debug)]
struct GenerationSaver {
    saver: Arc<Saver>,
    generation: u64,
}

impl StateKeeper for GenerationSaver {
    fn save(&self) -> Pin<Box<dyn Future<Output = Completion> + Send>> {
        let outcome = self.saver.next(self.generation);
        Box::pin(outcome.map(|outcome| match outcome {
            Ok(()) => Completion::nothing(),
            Err(text) => Completion::failed(text),
        }))
    }
}
