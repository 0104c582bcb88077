//! Daemons that are compiled into the embedding program: two of them, in every step of their life.

use std::path::Path;
use std::time::Duration;

use dae_host::Dae;
use dae_host::dae::FaultKind;
use dae_host::home::Home;
use dae_host::log::tail_files;
use dae_host::report::{InstallRequest, Mode};
use dae_plugin_api::tracing;
use dae_tests::{Artefacts, Ecosystem, Guest, LIMIT, until};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::start;
use greeter::Greeter;
use tally::Tally;

const GRACE: Duration = Duration::from_millis(300);

/// A daemon of this program with a config and no state.
mod greeter {
    use dae_plugin_api::prelude::*;

    /// Greets people.
    pub(super) struct Greeter {
        word: String,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Config {
        word: Option<String>,
    }

    /// Greets people.
    #[daemon(built_in)]
    impl Greeter {
        fn start(config: Config) -> Self {
            let word = config.word.unwrap_or_else(|| "Hello".to_owned());
            Greeter { word }
        }

        /// Greets `who`.
        #[command]
        fn greet(&self, who: &str) -> String {
            format!("{}, {who}!", self.word)
        }

        /// Asks the tally, over the host.
        #[command]
        async fn count(&self, eco: Ecosystem) -> Result<u64> {
            eco.call("Tally", "add", ()).await
        }
    }
}

/// A daemon of this program with a state.
mod tally {
    use std::sync::atomic::{AtomicU64, Ordering};

    use dae_plugin_api::prelude::*;

    /// Counts.
    pub(super) struct Tally {
        count: AtomicU64,
    }

    /// The state that one generation hands to the next.
    #[derive(Serialize, Deserialize)]
    struct Count {
        count: u64,
    }

    /// Counts.
    #[daemon(built_in)]
    impl Tally {
        fn start(state: Option<Count>) -> Self {
            let count = AtomicU64::new(state.map_or(0, |state| state.count));
            Tally { count }
        }

        fn save(&self) -> Count {
            let count = self.count.load(Ordering::SeqCst);
            Count { count }
        }

        /// Adds one, and keeps it.
        #[command(saves)]
        fn add(&self) -> u64 {
            self.count.fetch_add(1, Ordering::SeqCst) + 1
        }

        /// Panics.
        #[command]
        fn panic(&self) {
            panic!("asked to panic");
        }
    }
}

/// Tests that two daemons of the program answer guests, the program and each other, and keep port, config and state
/// over restarts of the program.
pub(super) fn life(runtime: &Runtime) {
    runtime.block_on(async {
        let home = tempfile::tempdir().expect("a temporary directory");
        let port = first_run(home.path()).await;
        second_run(home.path(), port).await;
        third_run(home.path()).await;
    });
}

/// Installs both, and returns the port of the tally.
async fn first_run(home: &Path) -> u16 {
    let dae = start(home, &json!({})).await;
    let greeter = InstallRequest {
        config: Some(json!({"word": "Ahoy"})),
        ..InstallRequest::default()
    };
    let greeter = dae.install_builtin_with::<Greeter>(greeter).await;
    assert_eq!(greeter.expect("it is new").name, "Greeter");
    let installed = dae.install_builtin::<Tally>().await.expect("it is new");
    assert_eq!(installed.generation, 1);
    assert_eq!(ask(&dae, "Greeter", "greet", &["Ada"]).await, "Ahoy, Ada!");
    assert_eq!(ask(&dae, "Greeter", "count", &[]).await, 1);
    let port = installed.port.expect("it listens");
    let answer = move || Guest::connect(port).ask("add", &json!([]));
    let answer = tokio::task::spawn_blocking(answer).await;
    assert_eq!(answer.expect("no panic"), 2);
    let again = dae.install_builtin::<Tally>().await.expect("it runs");
    assert_eq!(again.generation, 1, "the same daemon goes on");
    dae.restart("Tally").await.expect("it runs");
    assert_eq!(ask(&dae, "Tally", "add", &[]).await, 3);
    let status = dae.status("Tally").expect("it is there");
    assert_eq!(status.mode, Some(Mode::InProcess));
    assert_eq!(status.state, "ready");
    end(dae).await;
    port
}

/// Finds both where they were, and stops the tally.
async fn second_run(home: &Path, port: u16) {
    let dae = start(home, &json!({})).await;
    for name in ["Tally", "Greeter"] {
        let status = dae.status(name).expect("it is registered");
        assert!(status.reason.contains("built into a program"), "{status:?}");
    }
    let again = dae.install_builtin::<Tally>().await;
    assert_eq!(again.expect("it is registered").port, Some(port));
    let again = dae.install_builtin::<Greeter>().await;
    assert_eq!(again.expect("it is registered").name, "Greeter");
    assert_eq!(ask(&dae, "Tally", "add", &[]).await, 4);
    assert_eq!(ask(&dae, "Greeter", "greet", &["Ada"]).await, "Ahoy, Ada!");
    dae.stop("Tally").await.expect("it runs");
    end(dae).await;
}

/// Finds the tally stopped, starts it, and uninstalls both.
async fn third_run(home: &Path) {
    let dae = start(home, &json!({})).await;
    let stopped = dae.install_builtin::<Tally>().await;
    let stopped = stopped.expect("it is registered");
    assert!(stopped.waits, "its owner has stopped it: {stopped:?}");
    dae.start("Tally").await.expect("it can be started");
    assert_eq!(ask(&dae, "Tally", "add", &[]).await, 5);
    dae.uninstall("Tally").await.expect("it is there");
    let lost = dae.uninstall("Greeter").await;
    assert_eq!(lost.expect("it is registered").name, "Greeter");
    end(dae).await;
}

/// Tests that panics are answered and counted, and that what needs a file is refused with the reason.
pub(super) fn limits(runtime: &Runtime) {
    runtime.block_on(async {
        let home = tempfile::tempdir().expect("a temporary directory");
        let config = json!({"defaults": {"mode": "subprocess", "preflight": "start"}});
        let dae = start(home.path(), &config).await;
        restarts_after_a_panic(&dae).await;
        is_logged_for_it_alone(home.path());
        refuses_what_needs_a_file(&dae).await;
        assert_eq!(ask(&dae, "Tally", "add", &[]).await, 3);
        end(dae).await;
        is_told_by_the_program(home.path());
    });
}

async fn restarts_after_a_panic(dae: &Dae) {
    let request = InstallRequest {
        settings: Some(json!({"on_panic": "restart"})),
        ..InstallRequest::default()
    };
    let installed = dae.install_builtin_with::<Tally>(request).await;
    assert_eq!(installed.expect("it is new").name, "Tally");
    assert_eq!(ask(dae, "Tally", "add", &[]).await, 1);
    let crashed = dae.call::<Value>("Tally", "panic", ()).await;
    assert_eq!(crashed.expect_err("it panics").code(), Some("crashed"));
    let restarted = async {
        while dae.status("Tally").expect("it is there").generation < 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, restarted).await.expect("it restarts");
    assert_eq!(ask(dae, "Tally", "add", &[]).await, 2);
}

async fn refuses_what_needs_a_file(dae: &Dae) {
    let refused = [
        dae.reload("Tally", false).await.map(drop),
        dae.set_mode("Tally", Mode::Subprocess).await.map(drop),
        dae.rollback("Tally").await.map(drop),
    ];
    for fault in refused {
        let text = fault.expect_err("it has no file").to_string();
        assert!(text.contains("built into this program"), "{text}");
    }
    assert_eq!(dae.versions("Tally").await.expect("one").len(), 1);
    let file = InstallRequest {
        name: Some("Tally".to_owned()),
        file: Artefacts::of_tests().plugin("counter").into(),
        replace: true,
        ..InstallRequest::default()
    };
    let fault = dae.install_with(file).await.expect_err("it has the name");
    assert_eq!(fault.kind(), FaultKind::NameTaken, "{fault}");
    let plugin = Artefacts::of_tests().plugin("sample");
    dae.install("Greeter", plugin).await.expect("it is new");
    let fault = dae.install_builtin::<Greeter>().await;
    assert_eq!(fault.expect_err("taken").kind(), FaultKind::NameTaken);
}

/// Ends the ecosystem, and releases its home for the next one.
async fn end(dae: Dae) {
    dae.shutdown(GRACE).await;
    drop(dae);
}

/// Checks that the daemon's log has its panic, and no record of the program or of the host.
fn is_logged_for_it_alone(home: &Path) {
    let panics = || panic!("a panic of the program");
    let panicked = std::thread::spawn(panics).join();
    panicked.expect_err("it panics");
    tracing::error!("a record of the program");
    let logs = Home::at(home).logs_dir();
    let tail = || tail_files(&logs, Some("Tally"), 1000).expect("the log");
    let is_told = |text: &str| tail().iter().any(|one| one.message.contains(text));
    until(LIMIT, "its panic is logged", || is_told("asked to panic"));
    assert!(!is_told("of the program"), "{:?}", tail());
}

/// Checks that the program `dae-host` says of the same home why the daemon does not run there.
fn is_told_by_the_program(home: &Path) {
    let mut ecosystem = Ecosystem::asleep();
    ecosystem.settle_in(home);
    ecosystem.wake(&[]);
    let status = ecosystem.cli(&["status", "Tally"]).code(3).stdout;
    assert!(status.contains("built into a program"), "{status}");
}

async fn ask(dae: &Dae, daemon: &str, command: &str, arguments: &[&str]) -> Value {
    let answer = dae.call(daemon, command, arguments).await;
    answer.unwrap_or_else(|fault| panic!("{command} of {daemon}: {fault}"))
}
