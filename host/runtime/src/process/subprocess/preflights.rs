//! Preflights that share a process: it tries many files, one after the other.
//!
//! A host that starts with hundreds of files would otherwise make as many processes, which takes longer than loading the
//! files. A process in which a file has passed stays for the next one. Only preflights that start nothing may share one,
//! and only without settings that change the process.
//!
//! A file that fails in such company is not judged by that, because another file may be the reason. Its preflight is
//! repeated in a process of its own, whose result counts. So a crash is blamed on one file, and has no effect on others:
//! a process never tries two files at a time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{LoadedSubprocess, Spawner, Subprocess, SubprocessPlan, lock};
use crate::plugin::libraries::Schemas;
use crate::plugin::start_fault::StartFault;
use crate::process::ipc::StartMessage;
use dae_store::settings::{Bounds, Settings};
use dae_store::state_text::StateText;

/// The most files that one process tries. Each takes memory and a thread key until the process ends, and a crash costs
/// the company of all others.
const FILES_MAX: u32 = 64;
/// The time for which a process waits for another file.
const IDLE_MAX: Duration = Duration::from_millis(500);
/// The longest wait for the end of processes that were killed.
const GONE_MAX: Duration = Duration::from_secs(5);
/// The limit for a step of a file in company. A slower file gets a process of its own, and its whole limit.
const STEP_MAX: Duration = Duration::from_secs(1);

/// The processes that have passed a file and wait for another.
#[derive(Debug, Default)]
pub struct Preflights {
    idle: Mutex<Vec<IdleProcess>>,
}

#[derive(Debug)]
struct IdleProcess {
    loaded: LoadedSubprocess,
    /// The number of files that it has tried.
    files: u32,
    since: Instant,
}

impl Preflights {
    /// Returns whether a preflight that starts nothing may share its process under these settings.
    #[must_use]
    pub fn may_share(settings: &Settings) -> bool {
        let changes_nothing = (settings.env.is_empty(), settings.nice);
        changes_nothing == (true, None) && settings.bounds == Bounds::default()
    }

    /// Runs a preflight that starts nothing, and that stays. Returns the schemas that the file's code has made.
    ///
    /// # Errors
    /// The fault of the file, which was alone in its process.
    pub async fn run(
        self: &Arc<Self>,
        plan: SubprocessPlan,
        state: Option<StateText>,
        spawner: &Spawner,
    ) -> Result<Schemas, StartFault> {
        let waiting = lock(&self.idle).pop();
        if let Some(waiting) = waiting {
            let (message, limits) = (plan.message.clone(), (plan.load_limit, plan.start_limit));
            let tried = (message, state.clone());
            let passed = self.try_in_company(waiting, tried, limits).await;
            if let Some(schemas) = passed {
                return Ok(schemas);
            }
        }
        let mut loaded = Subprocess::load(plan, spawner).await?;
        loaded.begin(state).await?;
        let schemas = loaded.schemas();
        self.keep(loaded, 1);
        Ok(schemas)
    }

    /// Ends the processes that wait, and returns once they are gone, or after a limit.
    pub async fn end(&self) {
        let idle = std::mem::take(&mut *lock(&self.idle));
        let gone = idle.iter().map(|one| {
            one.loaded.subprocess.kill();
            one.loaded.subprocess.died()
        });
        // Their records would else stay for the next host.
        let _ = tokio::time::timeout(GONE_MAX, join_all(gone)).await;
    }

    /// Tries a file in a process that has tried others. `None` says nothing about the file.
    async fn try_in_company(
        self: &Arc<Self>,
        waiting: IdleProcess,
        (message, state): (StartMessage, Option<StateText>),
        (load_limit, start_limit): (Duration, Duration),
    ) -> Option<Schemas> {
        let IdleProcess {
            mut loaded, files, ..
        } = waiting;
        loaded.subprocess.link.serves(&message.name);
        loaded.start_limit = start_limit.min(STEP_MAX);
        let loading = loaded.load(message, load_limit.min(STEP_MAX));
        loading.await.ok()?;
        loaded.begin(state).await.ok()?;
        let schemas = loaded.schemas();
        self.keep(loaded, files + 1);
        Some(schemas)
    }

    /// Keeps a process in which all files have passed for the next one.
    fn keep(self: &Arc<Self>, loaded: LoadedSubprocess, files: u32) {
        if files >= FILES_MAX {
            return;
        }
        let since = Instant::now();
        lock(&self.idle).push(IdleProcess {
            loaded,
            files,
            since,
        });
        let all = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(IDLE_MAX).await;
            lock(&all.idle).retain(|one| one.since != since);
        });
    }
}
