//! Changes whose future is dropped midway: each is either completed, or was never begun.
//!
//! Each change is dropped after its first poll, at several later times, as soon as it has begun, and while it waits for
//! another change. Then the next change of the same daemon waits for the dropped one, and the registered daemon is
//! compared with the running one.

use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use dae_host::Dae;
use dae_host::report::{InstallRequest, Mode, RollbackRequest, Status};
use dae_tests::{Artefacts, Guest, LIMIT, spoil};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};

use super::start;

const NAME: &str = "Recipe";

/// The duration of `save` (ms). A change that has begun takes at least this long.
const SAVE_MS: u64 = 200;

/// The time at which a change is dropped.
#[derive(Debug, Clone, Copy)]
enum When {
    /// After its first poll.
    Polled,
    /// The given number of milliseconds later, whatever the change is doing then.
    After(u64),
    /// As soon as it has begun.
    Begun,
    /// While it waits for another change of the same daemon.
    Waiting,
}

const ALL: [When; 7] = [
    When::Polled,
    When::After(1),
    When::Waiting,
    When::After(5),
    When::Begun,
    When::After(20),
    When::After(100),
];

const GRACE: Duration = Duration::from_secs(5);

/// An ecosystem with one daemon.
struct Scene {
    dae: Dae,
    home: TempDir,
    files: [PathBuf; 2],
}

/// The properties of the daemon that the registry and the running instance agree on.
#[derive(Debug, PartialEq)]
struct Aftermath {
    version: u64,
    is_in_process: bool,
}

impl Scene {
    async fn set() -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let plain = std::fs::read(Artefacts::of_tests().plugin("recipe")).expect("the plugin");
        let files = [1, 2].map(|version| {
            let bytes = spoil::of_recipe(plain.clone(), &json!({ "version": version }));
            spoil::write(home.path(), &format!("recipe-{version}.so"), &bytes)
        });
        let dae = start(home.path(), &json!({})).await;
        Scene { dae, home, files }
    }

    fn request(&self, version: u64) -> InstallRequest {
        InstallRequest {
            name: Some(NAME.to_owned()),
            file: self.files[usize::from(version == 2)].clone(),
            replace: true,
            force: true,
            config: Some(json!({ "save_ms": SAVE_MS })),
            ..InstallRequest::default()
        }
    }

    /// Installs the given version, and counts to one.
    async fn fill(&self, version: u64) {
        let installed = self.dae.install_with(self.request(version)).await;
        let port = installed.expect("it starts").port.expect("it has a port");
        Guest::connect(port).ask("increment", &json!([0]));
    }

    fn hash(&self) -> String {
        self.dae.status(NAME).expect("it is there").hash
    }

    /// Waits until no change is in progress, and compares the registered daemon with the running one. Returns `None` if
    /// it is not installed.
    async fn found(&self, count: u64) -> Option<Aftermath> {
        // The daemon already runs, so this only waits for changes in progress.
        let is_known = self.dae.start(NAME).await.is_ok();
        let entry = registered(self.home.path());
        let status = self.dae.status(NAME).ok();
        let are_there = (is_known, entry.is_some(), status.is_some());
        let (Some(entry), Some(status)) = (entry, status) else {
            assert_eq!(are_there, (false, false, false), "half of it is there");
            return None;
        };
        assert!(is_known);
        assert_eq!((&*status.state, &*status.reason), ("ready", ""));
        let found = Aftermath::of(&status, count);
        let is_same = entry["port"] == json!(status.port) && entry["hash"] == json!(status.hash);
        assert!(is_same, "registered is {entry}, and shown {status:?}");
        let mode = match found.is_in_process {
            true => "in-process",
            false => "subprocess",
        };
        assert_eq!(entry["mode"], mode);
        let file = std::fs::read(&self.files[usize::from(found.version == 2)]).expect("a file");
        let stored = stored_file(self.home.path(), &entry["hash"]);
        assert!(stored == file, "registered is another file than what runs");
        Some(found)
    }
}

impl Aftermath {
    /// Asks the daemon itself, whose count must be `count`.
    fn of(status: &Status, count: u64) -> Self {
        let mut guest = Guest::connect(status.port.expect("it has a port"));
        let kept = guest.ask("count", &json!([]));
        assert_eq!(kept, count, "its state is handed on");
        Aftermath {
            version: guest.ask("version", &json!([])).as_u64().expect("a number"),
            is_in_process: status.pid == Some(std::process::id()),
        }
    }
}

fn registered(home: &Path) -> Option<Value> {
    let text = std::fs::read(home.join("registry.json")).expect("a registry");
    let registry: Value = serde_json::from_slice(&text).expect("JSON");
    registry["daemons"].get(NAME).cloned()
}

fn stored_file(home: &Path, hash: &Value) -> Vec<u8> {
    let hash = hash.as_str().expect("a hash");
    let stored = std::fs::read_dir(home.join("store")).expect("the store");
    let mut paths = stored.map(|entry| entry.expect("an entry").path());
    // The schemas of its code lie beside the file, under the same hash.
    let is_it = |path: &PathBuf| {
        path.to_string_lossy().contains(hash) && path.extension() != Some("json".as_ref())
    };
    let path = paths.find(is_it).expect("the stored file");
    std::fs::read(path).expect("the stored file")
}

/// A change in progress.
type Change<'s> = Pin<Box<dyn Future<Output = ()> + 's>>;

impl Scene {
    /// Polls a change until the given time, at least once, and drops it.
    async fn drop_midway(&self, when: When, mut change: Change<'_>) {
        let other = matches!(when, When::Waiting).then(|| {
            let dae = self.dae.clone();
            tokio::spawn(async move { dae.restart(NAME).await })
        });
        if other.is_some() {
            self.until_begun().await;
        }
        let time = async {
            match when {
                When::Polled | When::Waiting => {}
                When::After(ms) => sleep(Duration::from_millis(ms)).await,
                When::Begun => self.until_begun().await,
            }
        };
        tokio::select! {
            biased;
            () = &mut change => {}
            () = time => {}
        }
        drop(change);
        if let Some(other) = other {
            other.await.expect("no panic").expect("it is restarted");
        }
    }

    async fn until_begun(&self) {
        let until = async {
            while self.dae.status(NAME).expect("it is there").state != "reloading" {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(LIMIT, until).await.expect("a change begins");
    }

    /// Drops a change at each of the times. `effect` returns the property that the change alters.
    async fn drop_at_all_times<'s, T: PartialEq + Copy>(
        &self,
        change: impl Fn(T) -> Change<'s>,
        effect: impl Fn(&Aftermath) -> T,
    ) {
        for when in ALL {
            let before = effect(&self.found(1).await.expect("it is there"));
            self.drop_midway(when, change(before)).await;
            let after = effect(&self.found(1).await.expect("it is there"));
            match when {
                When::Begun => {
                    assert!(after != before, "it had begun, and was not carried through")
                }
                When::Waiting => assert!(after == before, "it had not begun, and was made later"),
                When::Polled | When::After(_) => {}
            }
        }
    }
}

pub(super) fn install(runtime: &Runtime) {
    runtime.block_on(async {
        let scene = Scene::set().await;
        // A first install: the daemon is either complete or absent.
        let mut first = Box::pin(scene.dae.install_with(scene.request(1)));
        let polled = poll_fn(|context| Poll::Ready(first.as_mut().poll(context).is_pending()));
        assert!(polled.await, "it takes longer than a poll");
        drop(first);
        scene.found(0).await;
        scene.fill(1).await;
        let next = |version| -> Change {
            let request = scene.request(3 - version);
            let dae = &scene.dae;
            Box::pin(async move { drop(dae.install_with(request).await) })
        };
        scene.drop_at_all_times(next, |found| found.version).await;
        scene.dae.shutdown(GRACE).await;
    });
}

pub(super) fn rollback(runtime: &Runtime) {
    runtime.block_on(async {
        let scene = Scene::set().await;
        scene.fill(1).await;
        let first = scene.hash();
        let second = scene.dae.install_with(scene.request(2)).await;
        second.expect("it starts");
        let hashes = [first, scene.hash()];
        let back = |version| -> Change {
            let request = RollbackRequest {
                name: NAME.to_owned(),
                to: Some(hashes[usize::from(version == 1)].clone()),
                fresh: false,
                strict: None,
            };
            let dae = &scene.dae;
            Box::pin(async move { drop(dae.rollback_with(request).await) })
        };
        scene.drop_at_all_times(back, |found| found.version).await;
        scene.dae.shutdown(GRACE).await;
    });
}

pub(super) fn set_mode(runtime: &Runtime) {
    runtime.block_on(async {
        let scene = Scene::set().await;
        scene.fill(1).await;
        let moved = |is_in_process| -> Change {
            let mode = match is_in_process {
                true => Mode::Subprocess,
                false => Mode::InProcess,
            };
            let dae = &scene.dae;
            Box::pin(async move { drop(dae.set_mode(NAME, mode).await) })
        };
        scene
            .drop_at_all_times(moved, |found| found.is_in_process)
            .await;
        scene.dae.shutdown(GRACE).await;
    });
}
