//! `on_crash`: runs the program that a daemon's settings name once the daemon has crashed.
//!
//! It follows the ecosystem's events as any reader does, so supervision never waits for it. A daemon has at most one run
//! at a time. What happens meanwhile leads to one more run, which learns how many crashes it stands for. The end of the host
//! kills what still runs.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, Weak};

use tokio::runtime::Handle;
use tokio::task::{AbortHandle, Id, JoinHandle, JoinSet};

use super::Inner;
use crate::supervise::{DaeEvents, SupervisorShared};
use dae_runtime::process::subprocess::hook::{self, Hook, HookLog};
use dae_store::durations;
use dae_store::event::{DaeEvent, DaeEventKind};
use dae_store::lock::lock;
use dae_store::log::shortened;
use dae_store::settings::Settings;
use dae_store::tasks;

/// The setting, as records name it.
const SETTING: &str = "on_crash";

/// The most bytes of a cause that a program gets. A cause may hold what a daemon's code has said, at any length.
const CAUSE_BYTES_MAX: usize = 4 << 10;

/// A crash that a program is run for.
#[derive(Debug)]
struct CrashNews {
    event: DaeEvent,
    /// The event in a word: `crashed`, `failed` or `crash-loop`.
    word: &'static str,
    cause: String,
    /// The crashes since the run before, this one included.
    count: u64,
}

/// The runs of all daemons.
#[derive(Debug, Default)]
struct Runs {
    running: JoinSet<String>,
    /// The daemons with a run.
    by_daemon: HashMap<String, DaemonRun>,
}

/// The run of one daemon.
#[derive(Debug)]
struct DaemonRun {
    /// Ends it, which kills its program.
    handle: AbortHandle,
    /// The news that wait for its end.
    waiting: Option<CrashNews>,
}

/// Runs programs until the ecosystem is gone.
pub(super) fn run_programs(inner: &Arc<Inner>) -> JoinHandle<()> {
    // No event is lost between now and the first turn of the task.
    let first = Mutex::new(Some(inner.shared.events.subscribe()));
    let inner = Arc::downgrade(inner);
    let make = move || {
        let taken = lock(&first).take();
        let again = || Some(inner.upgrade()?.shared.events.subscribe());
        follow(Weak::clone(&inner), taken.or_else(again))
    };
    tasks::keep_alive(&Handle::current(), SETTING, make)
}

async fn follow(inner: Weak<Inner>, events: Option<DaeEvents>) {
    let Some(mut events) = events else { return };
    let mut runs = Runs::default();
    loop {
        let news = tokio::select! {
            event = events.next() => match event {
                Some(event) if matches!(event.kind, DaeEventKind::Uninstalled) => {
                    runs.kill(&event.daemon);
                    None
                }
                Some(event) => CrashNews::of(event),
                None => return,
            },
            Some(done) = runs.running.join_next_with_id() => {
                done.ok().and_then(|(id, name)| runs.end(id, &name))
            }
        };
        let Some(news) = news else { continue };
        let Some(inner) = inner.upgrade() else { return };
        inner.take_crash(&mut runs, news);
    }
}

impl CrashNews {
    /// Returns the crash that the event reports, if `on_crash` runs a program for it.
    fn of(event: DaeEvent) -> Option<Self> {
        let (word, cause) = match &event.kind {
            DaeEventKind::Crashed { cause, .. } => ("crashed", cause),
            DaeEventKind::Failed { cause, .. } => ("failed", cause),
            DaeEventKind::CrashLoop { cause, .. } => ("crash-loop", cause),
            _ => return None,
        };
        let cause = shortened(cause, CAUSE_BYTES_MAX).replace('\0', " ");
        Some(CrashNews {
            word,
            cause,
            event,
            count: 1,
        })
    }
}

impl Runs {
    /// Notes the end of a daemon's run. Returns what has happened meanwhile.
    fn end(&mut self, id: Id, name: &str) -> Option<CrashNews> {
        // Another daemon may have got the name, and a run, since this one was uninstalled.
        self.by_daemon
            .get(name)
            .filter(|run| run.handle.id() == id)?;
        self.by_daemon.remove(name)?.waiting
    }

    /// Kills the program of an uninstalled daemon. A later daemon of the same name has no run.
    fn kill(&mut self, name: &str) {
        if let Some(run) = self.by_daemon.remove(name) {
            run.handle.abort();
        }
    }

    /// Returns the news if the daemon has no run. Otherwise they wait, in place of earlier ones.
    fn or_wait(&mut self, mut news: CrashNews) -> Option<CrashNews> {
        match self.by_daemon.get_mut(&news.event.daemon) {
            None => Some(news),
            Some(DaemonRun { waiting, .. }) => {
                news.count += waiting.take().map_or(0, |earlier| earlier.count);
                *waiting = Some(news);
                None
            }
        }
    }
}

impl Inner {
    /// Runs the daemon's program for a crash, now or after the run that it has.
    fn take_crash(&self, runs: &mut Runs, news: CrashNews) {
        let name = news.event.daemon.clone();
        let settings = self.daemon(&name).map(|one| one.glance().spec.settings);
        let Some(settings) = settings.filter(|settings| !settings.on_crash.is_empty()) else {
            return;
        };
        let Some(news) = runs.or_wait(news) else {
            return;
        };
        let hook = self.hook(&settings, &news);
        let shared = Arc::clone(&self.shared);
        let handle = runs.running.spawn(run_one(shared, hook, news.event));
        let waiting = None;
        runs.by_daemon.insert(name, DaemonRun { handle, waiting });
    }

    fn hook(&self, settings: &Settings, news: &CrashNews) -> Hook {
        Hook {
            setting: SETTING,
            words: settings.on_crash.clone(),
            variables: self.variables(news),
            directory: self.home.data.clone(),
            limit: durations::ms(settings.on_crash_ms),
        }
    }

    /// Returns the variables that say what has happened. None of them holds a value of the daemon's config or environment.
    fn variables(&self, news: &CrashNews) -> BTreeMap<String, String> {
        let event = &news.event;
        let generation = event.generation.map_or_else(String::new, |n| n.to_string());
        let mut variables: BTreeMap<String, String> = [
            ("DAE_DAEMON", event.daemon.clone()),
            ("DAE_EVENT", news.word.to_owned()),
            ("DAE_CAUSE", news.cause.clone()),
            ("DAE_CRASHES", news.count.to_string()),
            ("DAE_GENERATION", generation),
            ("DAE_TIME", event.time.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        variables.extend(self.home.variables());
        variables
    }
}

/// Runs a program, and records in the daemon's log how it ended. Returns the daemon's name.
async fn run_one(shared: Arc<SupervisorShared>, hook: Hook, event: DaeEvent) -> String {
    let (name, generation) = (event.daemon, event.generation);
    let journal = shared.journal.clone();
    let log = HookLog {
        daemon: name.clone(),
        generation,
        log: Arc::new(move |record| journal.write(record)),
    };
    let ended = tasks::logged(SETTING, hook::run(hook, log, &shared.code.spawner)).await;
    match ended {
        Some(Ok(())) => {
            let text = format!("{SETTING}: its program has run");
            shared.tell(&name, generation, "debug", &text);
        }
        Some(Err(text)) => shared.tell(&name, generation, "error", &text),
        // The host's log has the panic.
        None => {}
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use dae_store::event::CauseKind;

    fn crash(cause: &str) -> CrashNews {
        let kind = DaeEventKind::Crashed {
            cause: cause.to_owned(),
            cause_kind: CauseKind::Panicked,
        };
        CrashNews::of(DaeEvent::now("A", Some(1), kind)).unwrap()
    }

    #[test]
    fn what_happens_during_a_run_leads_to_one_more() {
        let mut runs = Runs::default();
        assert!(runs.or_wait(crash("one")).is_some());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let handle = runs
            .running
            .spawn_on(async { "A".to_owned() }, runtime.handle());
        let (id, waiting) = (handle.id(), None);
        runs.by_daemon
            .insert("A".to_owned(), DaemonRun { handle, waiting });
        assert!(runs.or_wait(crash("two")).is_none());
        assert!(runs.or_wait(crash("three")).is_none());
        // The late end of a run that an earlier daemon of the name had.
        let earlier = runs
            .running
            .spawn_on(async { "A".to_owned() }, runtime.handle());
        assert!(runs.end(earlier.id(), "A").is_none());
        let next = runs.end(id, "A").unwrap();
        assert_eq!((&*next.cause, next.count), ("three", 2));
        assert!(runs.or_wait(next).is_some());
    }

    #[test]
    fn only_a_crash_counts_and_its_cause_is_bounded() {
        assert!(CrashNews::of(DaeEvent::now("A", None, DaeEventKind::Ready)).is_none());
        let news = crash(&"a\0".repeat(CAUSE_BYTES_MAX));
        assert_eq!(news.cause.len(), CAUSE_BYTES_MAX);
        assert!(!news.cause.contains('\0'));
    }
}
