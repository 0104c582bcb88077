//! An ecosystem under test: a home in a temporary directory, and the real host as a child of the test.
//!
//! The host leads a process group of its own, so that nothing it starts outlives the test. It is ready when the
//! control socket answers, which the command line asks for. Its standard error goes to a file beside the home and is
//! printed when the test panics.
//!
//! The environment is the test's, without what would make the host behave otherwise here than there: colours, log
//! filters, another home.
//!
//! At the end of a test that hasn't failed, the host that still runs must hold nothing of what its daemons have taken:
//! all daemons are uninstalled, and its descriptors, threads and child processes are compared with those right after its
//! first start ([`Possessions`]). Then it is ended by SIGTERM, and must end well. A test for which that isn't so says why
//! ([`Ecosystem::leaves`]).

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::leftovers::{Possessions, sockets, temporary_files};
use crate::program::{self, Output, Running};
use crate::{Artefacts, Guest, LIMIT, process, until};

/// How long a host may take to end: 5 s of grace for running commands, as much for `stop`, and what the disk takes.
const END_MAX: Duration = Duration::from_secs(20);

/// How long one command line may take; `install` alone waits up to 10 s for a daemon's start.
const CLI_MAX: Duration = Duration::from_secs(60);

/// What the tests' own surroundings must not decide.
const VARIABLES_REMOVED: [&str; 7] = [
    "DAE_HOME",
    "NO_COLOR",
    "CLICOLOR_FORCE",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "NOTIFY_SOCKET",
    "COLUMNS",
];

/// A home, and its host while one runs.
#[derive(Debug)]
pub struct Ecosystem {
    artefacts: &'static Artefacts,
    host: Option<Child>,
    home: PathBuf,
    /// What the host held right after its first start in this home.
    held_at_start: Option<Possessions>,
    /// Why it isn't looked at what the host holds at the end.
    left: OnceLock<&'static str>,
    // Dropped last: the host works in it.
    directory: TempDir,
}

impl Ecosystem {
    /// A host over a fresh home, answering.
    ///
    /// # Panics
    /// When it does not answer within [`LIMIT`].
    #[track_caller]
    #[must_use]
    pub fn start() -> Self {
        let mut ecosystem = Self::asleep();
        ecosystem.wake(&[]);
        ecosystem
    }

    /// As [`Ecosystem::start`], with what another build made, for a bench. What the host holds at the end isn't looked at.
    ///
    /// # Panics
    /// When it does not answer within [`LIMIT`].
    #[track_caller]
    #[must_use]
    pub fn start_with(artefacts: &'static Artefacts) -> Self {
        let mut ecosystem = Self::asleep_with(artefacts);
        ecosystem.wake(&[]);
        ecosystem
    }

    /// A fresh home with no host.
    ///
    /// # Panics
    /// When there is no room for a temporary directory.
    #[must_use]
    pub fn asleep() -> Self {
        Self::fresh(Artefacts::of_tests())
    }

    /// As [`Ecosystem::asleep`], with what another build made, for a bench. What the host holds at the end isn't looked at.
    ///
    /// # Panics
    /// When there is no room for a temporary directory.
    #[must_use]
    pub fn asleep_with(artefacts: &'static Artefacts) -> Self {
        let ecosystem = Self::fresh(artefacts);
        ecosystem.leaves("a bench measures, and the tests look at what is left");
        ecosystem
    }

    fn fresh(artefacts: &'static Artefacts) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("dae-")
            .tempdir()
            .expect("a temporary directory");
        let ecosystem = Ecosystem {
            artefacts,
            host: None,
            home: directory.path().join("home"),
            held_at_start: None,
            left: OnceLock::new(),
            directory,
        };
        ecosystem.configure(&json!({}));
        ecosystem
    }

    /// A host over a fresh home with that config file, answering.
    ///
    /// # Panics
    /// When it does not answer within [`LIMIT`].
    #[track_caller]
    #[must_use]
    pub fn start_configured(config: &serde_json::Value) -> Self {
        let mut ecosystem = Self::asleep();
        ecosystem.configure(config);
        ecosystem.wake(&[]);
        ecosystem
    }

    /// Starts a host over the home, and waits until it answers.
    ///
    /// # Panics
    /// When one runs already, or this one ends or stays silent.
    #[track_caller]
    pub fn wake(&mut self, arguments: &[&str]) {
        self.launch(arguments);
        until(LIMIT, "the control socket answers", || {
            let ended = self
                .host
                .as_mut()
                .and_then(|host| host.try_wait().expect("our child"));
            assert!(
                ended.is_none(),
                "the host ended ({ended:?}) before it answered:\n{}",
                self.stderr()
            );
            self.cli(&["list", "--json"]).status == 0
        });
        if self.held_at_start.is_none() && !arguments.contains(&"-q") {
            // The control socket answers a little earlier than the last of the start is done.
            until(LIMIT, "the host says that it has started", || {
                fs::metadata(self.stdout_file()).is_ok_and(|file| file.len() > 0)
            });
            self.held_at_start = Some(Possessions::of(self.pid()));
        }
    }

    /// Leaves out the look at what the host holds at the end of the test, for that reason. For tests after which a host
    /// may hold more, or can't be asked.
    pub fn leaves(&self, reason: &'static str) {
        // The first reason is enough.
        let _ = self.left.set(reason);
    }

    /// Starts a host over the home, and waits for nothing.
    ///
    /// # Panics
    /// When one runs already.
    #[track_caller]
    pub fn launch(&mut self, arguments: &[&str]) {
        assert!(
            self.host.is_none(),
            "the host of this ecosystem runs already"
        );
        let mut command = self.command();
        command
            .env_remove("DAE_HOME")
            .arg("run")
            .arg("--home")
            .arg(self.home())
            .args(arguments);
        let open = |path: PathBuf| {
            let opened = File::options().create(true).append(true).open(path);
            opened.expect("a log of our own")
        };
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(open(self.stdout_file()))
            .stderr(open(self.stderr_file()));
        self.host = Some(command.spawn().expect("the host can be run"));
    }

    /// Writes the home's config file, for a host that is yet to start. Unless it says otherwise, that host looks for
    /// nobody: the machine is full of other tests' daemons.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn configure(&self, config: &Value) {
        let mut whole = json!({"scan_ms": 0});
        for (key, value) in config.as_object().expect("a config is an object") {
            whole[key] = value.clone();
        }
        let home = self.home();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&home);
        let written = made.and_then(|()| fs::write(home.join("config.json5"), whole.to_string()));
        written.expect("a home of our own");
    }

    /// Ends the host with SIGTERM, and expects it to end well.
    ///
    /// # Panics
    /// When none runs, or its exit code is not 0, or it takes too long.
    #[track_caller]
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        assert_eq!(
            self.end(),
            0,
            "the host's exit code; it wrote:\n{}",
            self.stderr()
        );
    }

    /// Ends the host with SIGKILL, as a crash or the kernel would.
    ///
    /// # Panics
    /// When none runs.
    #[track_caller]
    pub fn kill(&mut self) {
        let mut host = self.host.take().expect("a host that runs");
        process::kill_group(host.id());
        host.wait().expect("our child");
    }

    /// Sends the host a signal.
    ///
    /// # Panics
    /// When none runs.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        process::signal(self.pid(), signal);
    }

    /// Waits for the host's end, and returns its exit code; -1 if a signal ended it.
    ///
    /// # Panics
    /// When it goes on.
    #[track_caller]
    pub fn end(&mut self) -> i32 {
        self.end_status().code().unwrap_or(-1)
    }

    /// Waits for the host's end, and returns how it ended, by which signal or with which code.
    ///
    /// # Panics
    /// When it goes on.
    #[track_caller]
    pub fn end_status(&mut self) -> ExitStatus {
        let host = self.host.as_mut().expect("a host that runs");
        let status = program::ends_within(host, END_MAX);
        let status = status.unwrap_or_else(|| panic!("the host did not end within {END_MAX:?}"));
        self.host = None;
        status
    }

    /// The host's process.
    ///
    /// # Panics
    /// When none runs.
    #[track_caller]
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.host.as_ref().expect("a host that runs").id()
    }

    /// The executable, about this home, with a clean environment.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.artefacts.host());
        for variable in VARIABLES_REMOVED {
            command.env_remove(variable);
        }
        command.env("DAE_HOME", self.home()).stdin(Stdio::null());
        command
    }

    /// Runs one command line about this home to its end.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> Output {
        program::run(self.command().args(arguments), CLI_MAX)
    }

    /// Starts a command line that goes on, such as `logs -f`.
    #[track_caller]
    #[must_use]
    pub fn cli_running(&self, arguments: &[&str]) -> Running {
        Running::start(self.command().args(arguments))
    }

    /// Installs a plugin of the workspace under a name, with further flags, and connects a guest to it.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn install(&self, name: &str, library: &str, flags: &[&str]) -> Guest {
        let file = self.plugin(library);
        let file = file.to_str().expect("a path in UTF-8");
        let arguments = [&["install", name, file], flags].concat();
        let _ = self.cli(&arguments).ok();
        self.guest(name)
    }

    /// A new guest of a daemon.
    ///
    /// # Panics
    /// When there is no such daemon, or it does not listen.
    #[track_caller]
    #[must_use]
    pub fn guest(&self, name: &str) -> Guest {
        Guest::connect(self.port_of(name))
    }

    /// A plugin of the workspace, by the name of its library.
    #[track_caller]
    #[must_use]
    pub fn plugin(&self, library: &str) -> PathBuf {
        self.artefacts.plugin(library).to_owned()
    }

    /// The home.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.home.clone()
    }

    /// From now on the home is at `path`, where the test has moved it or made it reachable.
    ///
    /// # Panics
    /// When a host runs.
    #[track_caller]
    pub fn settle_in(&mut self, path: &Path) {
        assert!(self.host.is_none(), "a host runs in the home");
        self.home = path.to_owned();
    }

    /// A directory for a test's own files, outside the home, that only its owner may write.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        let scratch = self.directory.path().join("scratch");
        fs::create_dir_all(&scratch).expect("a directory of our own");
        // Whatever the umask: plugins from a directory that a group may write are refused.
        fs::set_permissions(&scratch, fs::Permissions::from_mode(0o700))
            .expect("a directory of our own");
        scratch
    }

    /// All that the host has written to standard error.
    #[must_use]
    pub fn stderr(&self) -> String {
        let bytes = fs::read(self.stderr_file()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn stderr_file(&self) -> PathBuf {
        self.directory.path().join("host.stderr")
    }

    fn stdout_file(&self) -> PathBuf {
        self.directory.path().join("host.stdout")
    }

    /// Uninstalls all daemons, waits until the host holds no more than at its start, and ends it. The end of every test does
    /// that, unless it has been done.
    ///
    /// # Panics
    /// When it holds more, or doesn't end well.
    pub fn give_back(&mut self) {
        let is_running = |host: &mut Child| matches!(host.try_wait(), Ok(None));
        let is_checked = self.left.get().is_none() && self.host.as_mut().is_some_and(is_running);
        let Some(before) = self.held_at_start.take().filter(|_| is_checked) else {
            return;
        };
        self.uninstall_all();
        let (pid, began) = (self.pid(), Instant::now());
        loop {
            let mut left = Possessions::of(pid).beyond(&before);
            let files = temporary_files(&self.home).into_iter();
            left.extend(files.map(|path| format!("file {}", path.display())));
            if left.is_empty() {
                break;
            }
            let text = "the host has no daemon any more and still holds";
            assert!(
                began.elapsed() < LIMIT,
                "{text}:\n  {}\nits sockets:\n  {}",
                left.join("\n  "),
                sockets(pid)
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        self.stop();
    }

    fn uninstall_all(&self) {
        let mut control = self.control();
        control.be_patient(CLI_MAX);
        let list = control.ask_plainly("list").expect("a host that answers");
        let rows = list.as_array().expect("an array of daemons").iter();
        let own = rows.filter(|row| row["name"] != "Dae" && row["foreign"] != true);
        let names: Vec<&Value> = own.map(|row| &row["name"]).collect();
        for name in &names {
            control.send("uninstall", name);
        }
        for name in names {
            let uninstalled = control.reply();
            assert!(
                uninstalled.is_ok(),
                "{name} is uninstalled: {uninstalled:?}"
            );
        }
    }
}

impl Drop for Ecosystem {
    fn drop(&mut self) {
        let had_failed = std::thread::panicking();
        let given_back = match had_failed {
            true => Ok(()),
            false => catch_unwind(AssertUnwindSafe(|| self.give_back())),
        };
        if self.host.is_some() {
            self.kill();
        }
        if had_failed || given_back.is_err() {
            eprintln!("--- the host wrote:\n{}---", self.stderr());
        }
        if let Err(panic) = given_back {
            resume_unwind(panic);
        }
    }
}
