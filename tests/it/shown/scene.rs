//! The scene of the transcripts: one host, whose daemons are in all states that an operator meets, and a foreign daemon.
//!
//! The names and files are those of an operator. The files are copies in the directory where the commands run, so that
//! a command line names them without a path.

use std::fs;
use std::path::PathBuf;

use dae_tests::{Ecosystem, LIMIT, Output, Running, program, until};
use serde_json::json;

use crate::clients::{script, tool};
use crate::discovery::scene;

/// A config of the clock, and settings of the others. An hour is longer than any test.
const QUIET: &str = r#"{"every_ms": 3600000}"#;
const ON_DEMAND: &str = r#"{"start": "on-demand"}"#;
const SLOW: &str = r#"{"restart":
    {"backoff_first_ms": 3600000, "backoff_max_ms": 3600000, "served_ms": 3600000}}"#;
const BRIEF: &str =
    r#"{"restart": {"burst_max": 2, "backoff_first_ms": 20, "served_ms": 3600000}}"#;
const NEVER: &str = r#"{"restart": {"restart": "never"}, "on_panic": "restart"}"#;

/// The longest run of a command (`install` waits up to 10 s for a start).
const COMMAND_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// The files beside the commands, each with the plugin that it is a copy of.
pub(super) const FILES: [(&str, &str); 7] = [
    ("libbatch.so", "probe"),
    ("libclock.so", "clock"),
    ("libcounter.so", "counter"),
    ("libindex.so", "counter"),
    ("librelay.so", "relay"),
    ("libsample.so", "sample"),
    ("libsorter.so", "misbehave"),
];

/// The daemons that `apply` makes: two that are there, and a new one.
const DECLARED: &str = r#"
[daemons.Clock]
file = "libclock.so"
config = { every_ms = 3600000 }

[daemons.Counter]
file = "libcounter.so"
settings = { restart = { burst_max = 10 } }

[daemons.Board]
file = "libcounter.so"
mode = "subprocess"
after = ["Counter"]
"#;

/// The number of daemons in the scene, with Dae and the foreign one.
pub(super) const DAEMONS: usize = 11;

/// A home, and a directory in which an operator runs commands.
pub(super) struct Scene {
    pub(super) ecosystem: Ecosystem,
    _foreign: Option<Running>,
}

impl Scene {
    /// Returns a scene with that home, and no files.
    pub(super) fn over(ecosystem: Ecosystem) -> Self {
        Scene {
            ecosystem,
            _foreign: None,
        }
    }

    /// Makes a home without a host.
    pub(super) fn without_host() -> Self {
        let scene = Self::over(Ecosystem::asleep());
        scene.ecosystem.configure(&json!({"dae_port": 0}));
        scene.put_files();
        scene
    }

    /// Starts a host, and waits until each daemon is in its state. Returns `None` without Python, which runs the foreign
    /// daemon.
    pub(super) fn start() -> Option<Self> {
        let mut python = tool("python3", &["--version"])?;
        let mut foreign = Running::start(python.arg(script("daemon.py")).arg("Weather"));
        let port = foreign.line(LIMIT).parse().expect("a port");
        let mut config = scene::only(&[port]);
        config["dae_port"] = json!(0);
        let scene = Scene {
            ecosystem: Ecosystem::start_configured(&config),
            _foreign: Some(foreign),
        };
        scene.put_files();
        scene.install_ready();
        scene.install_ended();
        assert_eq!(scene::scan(&scene.ecosystem), ["Weather"]);
        scene.use_them();
        Some(scene)
    }

    /// The directory in which the commands run.
    pub(super) fn directory(&self) -> PathBuf {
        self.ecosystem.scratch()
    }

    fn put_files(&self) {
        for (name, plugin) in FILES {
            let file = self.directory().join(name);
            fs::copy(self.ecosystem.plugin(plugin), file).expect("a copy");
        }
        // The same code with other content: a byte behind its end that nobody reads.
        let new = self.directory().join("new");
        fs::create_dir(&new).expect("a directory");
        let mut bytes = fs::read(self.ecosystem.plugin("counter")).expect("the plugin");
        bytes.push(0);
        fs::write(new.join("libcounter.so"), bytes).expect("a file");
        fs::write(new.join("libsample.so"), "no plugin").expect("a file");
        fs::write(self.directory().join("dae.toml"), DECLARED).expect("a file");
    }

    /// Runs a command in the directory.
    pub(super) fn run(&self, words: &[String]) -> Output {
        let mut command = self.ecosystem.command();
        // The help has the width of the terminal, and none of these commands has one.
        command
            .args(words)
            .current_dir(self.directory())
            .env("COLUMNS", "100")
            .env("XDG_CONFIG_HOME", self.directory());
        program::run(&mut command, COMMAND_MAX)
    }

    fn install(&self, name: &str, words: &[&str]) {
        let words = [&["install", name], words].concat();
        let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        let _ = self.run(&words).ok();
    }

    fn install_ready(&self) {
        self.install("Counter", &["libcounter.so"]);
        self.install("Sample", &["libsample.so", "--isolate"]);
        self.install("Clock", &["libclock.so", "--config", QUIET]);
        self.install("Relay", &["librelay.so"]);
        self.install("Index", &["libindex.so", "--settings", ON_DEMAND]);
        self.install("Greeter", &["libsample.so"]);
        let _ = self.ecosystem.cli(&["stop", "Greeter"]).ok();
    }

    /// Installs daemons that end when they are called.
    fn install_ended(&self) {
        let isolated = ["libsorter.so", "--isolate", "--settings"];
        self.install("Worker", &[&isolated[..], &[SLOW]].concat());
        self.end("Worker", "abort", "backoff");
        self.install("Sorter", &[&isolated[..], &[BRIEF]].concat());
        for generation in [2, 3] {
            self.end("Sorter", "abort", "ready");
            let status = self.ecosystem.until_state("Sorter", "ready");
            assert_eq!(status["generation"], generation);
        }
        self.end("Sorter", "segfault", "crash-loop");
        self.install("Batch", &["libbatch.so", "--settings", NEVER]);
        self.end("Batch", "panic", "finished");
    }

    /// Has an instance end by a command, and waits until the daemon is in the state that follows.
    fn end(&self, name: &str, command: &str, state: &str) {
        let before = self.ecosystem.status(name)["generation"].clone();
        let _ = self.ecosystem.cli(&["call", name, command]).code(1);
        until(LIMIT, "its end is dealt with", || {
            let status = self.ecosystem.status(name);
            status["state"] == state && (state != "ready" || status["generation"] != before)
        });
    }

    /// Makes a few calls, which counts and logs show.
    fn use_them(&self) {
        for words in [
            &["call", "Counter", "increment", "5"][..],
            &["call", "Sample", "greet", "Ada"],
            &["call", "Sample", "greet", "Bob"],
            &["call", "Relay", "ask", "Counter", "count"],
        ] {
            let output = self.ecosystem.cli(words);
            assert_eq!(output.status, 0, "{words:?}: {output:?}");
        }
    }
}
