//! An ecosystem under test: a home in a temporary directory, and the real host as a child process of the test.
//!
//! The host leads its own process group, so that nothing it starts outlives the test. It is ready when the control
//! socket answers a command line. Its standard error goes to a file beside the home, which is printed when the test
//! panics.
//!
//! The host gets the test's environment without the variables that would change its behaviour: colours, log filters,
//! another home.
//!
//! When a test passes and its host still runs, the host must hold nothing that its daemons took. All daemons are
//! uninstalled, and the host's file descriptors, threads and child processes are compared with those right after its
//! first start ([`Possessions`]). Then SIGTERM ends the host, which must exit with code 0. A test that cannot meet this
//! gives the reason with [`Ecosystem::leaves`].

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

/// The longest time a host may take to end: 5 s for running commands, 5 s for `stop`, and time for the disk.
const END_MAX: Duration = Duration::from_secs(20);

/// The longest time one command line may take. `install` alone waits up to 10 s for a daemon's start.
const CLI_MAX: Duration = Duration::from_secs(60);

/// Environment variables that must not influence a test.
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
    /// The resources that the host held right after its first start in this home.
    held_at_start: Option<Possessions>,
    /// The reason for skipping the check of the host's resources at the end.
    left: OnceLock<&'static str>,
    // Dropped last, because the host works in this directory.
    directory: TempDir,
}

impl Ecosystem {
    /// Starts a host in a fresh home, and waits until it answers.
    ///
    /// # Panics
    /// Panics if the host does not answer within [`LIMIT`].
    #[track_caller]
    #[must_use]
    pub fn start() -> Self {
        let mut ecosystem = Self::asleep();
        ecosystem.wake(&[]);
        ecosystem
    }

    /// Does the same as [`Ecosystem::start`] with the given artefacts, for a bench. The host's resources are not
    /// checked at the end.
    ///
    /// # Panics
    /// Panics if the host does not answer within [`LIMIT`].
    #[track_caller]
    #[must_use]
    pub fn start_with(artefacts: &'static Artefacts) -> Self {
        let mut ecosystem = Self::asleep_with(artefacts);
        ecosystem.wake(&[]);
        ecosystem
    }

    /// Creates a fresh home without a host.
    ///
    /// # Panics
    /// Panics if no temporary directory can be created.
    #[must_use]
    pub fn asleep() -> Self {
        Self::fresh(Artefacts::of_tests())
    }

    /// Does the same as [`Ecosystem::asleep`] with the given artefacts, for a bench. The host's resources are not
    /// checked at the end.
    ///
    /// # Panics
    /// Panics if no temporary directory can be created.
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

    /// Starts a host in a fresh home with the given config file, and waits until it answers.
    ///
    /// # Panics
    /// Panics if the host does not answer within [`LIMIT`].
    #[track_caller]
    #[must_use]
    pub fn start_configured(config: &serde_json::Value) -> Self {
        let mut ecosystem = Self::asleep();
        ecosystem.configure(config);
        ecosystem.wake(&[]);
        ecosystem
    }

    /// Starts a host in the home, and waits until it answers.
    ///
    /// # Panics
    /// Panics if a host already runs, or if the new one ends or does not answer within [`LIMIT`].
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
            // The control socket answers slightly before the start is complete.
            until(LIMIT, "the host says that it has started", || {
                fs::metadata(self.stdout_file()).is_ok_and(|file| file.len() > 0)
            });
            self.held_at_start = Some(Possessions::of(self.pid()));
        }
    }

    /// Skips the check of the host's resources at the end of the test, for the given reason. This is for tests after
    /// which a host may hold more, or cannot be asked.
    pub fn leaves(&self, reason: &'static str) {
        // Only the first reason is kept.
        let _ = self.left.set(reason);
    }

    /// Starts a host in the home, and does not wait for it.
    ///
    /// # Panics
    /// Panics if a host already runs.
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

    /// Writes the home's config file, for a host that has yet to start. Unless the config says otherwise, the host does
    /// not scan for foreign daemons, because the machine is full of other tests' daemons.
    ///
    /// # Panics
    /// Panics if the file cannot be written.
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

    /// Ends the host with SIGTERM, and expects exit code 0.
    ///
    /// # Panics
    /// Panics if no host runs, if its exit code is not 0, or if it takes too long.
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
    /// Panics if no host runs.
    #[track_caller]
    pub fn kill(&mut self) {
        let mut host = self.host.take().expect("a host that runs");
        process::kill_group(host.id());
        host.wait().expect("our child");
    }

    /// Sends the host a signal.
    ///
    /// # Panics
    /// Panics if no host runs.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        process::signal(self.pid(), signal);
    }

    /// Waits until the host ends, and returns its exit code, or -1 if a signal ended it.
    ///
    /// # Panics
    /// Panics if the host does not end in time.
    #[track_caller]
    pub fn end(&mut self) -> i32 {
        self.end_status().code().unwrap_or(-1)
    }

    /// Waits until the host ends, and returns its exit status: the signal or the code.
    ///
    /// # Panics
    /// Panics if the host does not end in time.
    #[track_caller]
    pub fn end_status(&mut self) -> ExitStatus {
        let host = self.host.as_mut().expect("a host that runs");
        let status = program::ends_within(host, END_MAX);
        let status = status.unwrap_or_else(|| panic!("the host did not end within {END_MAX:?}"));
        self.host = None;
        status
    }

    /// Returns the process id of the host.
    ///
    /// # Panics
    /// Panics if no host runs.
    #[track_caller]
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.host.as_ref().expect("a host that runs").id()
    }

    /// Returns a command that runs the executable for this home, with a clean environment.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.artefacts.host());
        for variable in VARIABLES_REMOVED {
            command.env_remove(variable);
        }
        command.env("DAE_HOME", self.home()).stdin(Stdio::null());
        command
    }

    /// Runs one command line for this home to its end.
    ///
    /// # Panics
    /// Panics if the command line does not end within a minute.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> Output {
        program::run(self.command().args(arguments), CLI_MAX)
    }

    /// Starts a command line that keeps running, such as `logs -f`.
    #[track_caller]
    #[must_use]
    pub fn cli_running(&self, arguments: &[&str]) -> Running {
        Running::start(self.command().args(arguments))
    }

    /// Installs a plugin of the workspace under the given name with further flags, and connects a guest to it.
    ///
    /// # Panics
    /// Panics if the installation fails, or the daemon does not listen.
    #[track_caller]
    pub fn install(&self, name: &str, library: &str, flags: &[&str]) -> Guest {
        let file = self.plugin(library);
        let file = file.to_str().expect("a path in UTF-8");
        let arguments = [&["install", name, file], flags].concat();
        let _ = self.cli(&arguments).ok();
        self.guest(name)
    }

    /// Connects a new guest to a daemon.
    ///
    /// # Panics
    /// Panics if there is no such daemon, or it does not listen.
    #[track_caller]
    #[must_use]
    pub fn guest(&self, name: &str) -> Guest {
        Guest::connect(self.port_of(name))
    }

    /// Returns the file of a plugin of the workspace, by the name of its library.
    #[track_caller]
    #[must_use]
    pub fn plugin(&self, library: &str) -> PathBuf {
        self.artefacts.plugin(library).to_owned()
    }

    /// Returns the directory of the home.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.home.clone()
    }

    /// Uses the home at `path` from the next start on, after the test has moved or linked it there.
    ///
    /// # Panics
    /// Panics if a host runs.
    #[track_caller]
    pub fn settle_in(&mut self, path: &Path) {
        assert!(self.host.is_none(), "a host runs in the home");
        self.home = path.to_owned();
    }

    /// Returns a directory for a test's own files, outside the home, that only its owner may write.
    ///
    /// # Panics
    /// Panics if the directory cannot be created.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        let scratch = self.directory.path().join("scratch");
        fs::create_dir_all(&scratch).expect("a directory of our own");
        // This does not depend on the umask: the host refuses plugins from a directory that a group may write.
        fs::set_permissions(&scratch, fs::Permissions::from_mode(0o700))
            .expect("a directory of our own");
        scratch
    }

    /// Returns everything that the host has written to standard error.
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

    /// Uninstalls all daemons, waits until the host holds no more than at its start, and ends the host. The end of
    /// every test calls this, unless the test has called it before.
    ///
    /// # Panics
    /// Panics if the host still holds more after [`LIMIT`], or does not end with exit code 0.
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
