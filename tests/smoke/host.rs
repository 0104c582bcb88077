//! A home with its host, as a person has them who types command lines.
//!
//! The host gets a home in a temporary directory. Nothing but its sockets, its files and its command line is used, so
//! that one suite fits all systems.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use dae_tests::program::{self, Output, Running};
use dae_tests::{Guest, LIMIT, until};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::{COMMAND_MAX, Program};
use crate::text;

/// The longest time for the start of a host. The first one of a Wine prefix starts the services of its Windows.
pub const START_MAX: Duration = Duration::from_secs(60);

/// The longest time for what takes several processes.
pub const PATIENT: Duration = Duration::from_secs(60);

/// A home, and its host while one runs.
#[derive(Debug)]
pub struct Host {
    program: &'static Program,
    home: PathBuf,
    /// The program's name of the home.
    named: String,
    running: Option<Running>,
    // Dropped last, because the host works in it.
    directory: TempDir,
}

impl Host {
    /// Starts a host in a fresh home.
    #[track_caller]
    pub fn start(program: &'static Program) -> Self {
        let mut host = Self::asleep(program);
        host.wake();
        host
    }

    /// Makes a fresh home without a host.
    ///
    /// # Panics
    /// Panics if there is no temporary directory.
    pub fn asleep(program: &'static Program) -> Self {
        Self::asleep_in(program, "home")
    }

    /// Makes a fresh home of that name, below a temporary directory.
    pub fn asleep_in(program: &'static Program, name: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("dae-").tempdir();
        let directory = directory.expect("a temporary directory");
        let home = directory.path().join(name);
        let host = Host {
            program,
            named: program.path(&home),
            home,
            running: None,
            directory,
        };
        host.configure(&json!({}));
        host
    }

    /// Gives the program another name of the home, from the next start on.
    pub fn name_home(&mut self, name: &str) {
        name.clone_into(&mut self.named);
    }

    /// Writes the config file, for the next start. The host looks for no daemons of other hosts: there are many.
    ///
    /// # Panics
    /// Panics if it can't be written.
    pub fn configure(&self, config: &Value) {
        let mut whole = json!({"scan_ms": 0});
        for (key, value) in config.as_object().expect("an object") {
            whole[key] = value.clone();
        }
        make_private(&self.home);
        fs::write(self.home.join("config.json5"), whole.to_string()).expect("a home of our own");
    }

    /// Starts a host in the home, and waits until it has said where Dae listens. Returns that line.
    ///
    /// # Panics
    /// Panics if it says nothing.
    #[track_caller]
    pub fn wake(&mut self) -> String {
        let mut running = self.launch();
        let line = running.line_within(START_MAX);
        self.running = Some(running);
        line.unwrap_or_else(|| panic!("the host has ended:\n{}", self.stderr()))
    }

    /// Starts a host in the home beside others that may run, and doesn't wait for it.
    ///
    /// # Panics
    /// Panics if it can't be run.
    pub fn launch(&self) -> Running {
        let stderr = File::options()
            .create(true)
            .append(true)
            .open(self.stderr_file());
        let mut command = self.command();
        command
            .arg("run")
            .stderr(stderr.expect("a file of our own"));
        Running::start(&mut command)
    }

    /// Ends the host by `shutdown`, and returns what that says.
    ///
    /// # Panics
    /// Panics if the host ends in another way.
    #[track_caller]
    pub fn shut_down(&mut self) -> Output {
        let said = self.cli(&["shutdown"]).ok();
        assert_eq!(self.end(), 0, "the host wrote:\n{}", self.stderr());
        said
    }

    /// Waits for the end of the host, and returns its exit code.
    ///
    /// # Panics
    /// Panics if it doesn't end.
    #[track_caller]
    pub fn end(&mut self) -> i32 {
        let mut running = self.running.take().expect("a host that runs");
        running.end(PATIENT).expect("the host ends")
    }

    /// Kills the host, as a crash would end it.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Returns a command for this home.
    pub fn command(&self) -> Command {
        let mut command = self.program.command();
        command.args(["--home", &self.named]);
        command
    }

    /// Runs a command line for this home to its end.
    #[track_caller]
    pub fn cli(&self, words: &[&str]) -> Output {
        program::run(self.command().args(words), COMMAND_MAX)
    }

    /// Runs a command line that must succeed, and returns its output without what differs from run to run.
    #[track_caller]
    pub fn said(&self, words: &[&str]) -> String {
        self.plain(&self.cli(words).ok().stdout)
    }

    /// Runs a command line that must fail with that code, and returns the message without what differs from run to run.
    #[track_caller]
    pub fn refused(&self, words: &[&str], code: i32) -> String {
        self.plain(&self.cli(words).code(code).stderr)
    }

    /// Returns a text without what differs from run to run.
    pub fn plain(&self, text: &str) -> String {
        let places = [
            (self.named.clone(), "HOME"),
            (self.path(self.directory.path()), "TEMP"),
        ];
        text::plain(text, &places)
    }

    /// Installs a plugin, and connects a guest.
    #[track_caller]
    pub fn install(&self, name: &str, library: &str, flags: &[&str]) -> Guest {
        let file = self.path(&self.program.plugin(library));
        let _ = self.cli(&[&["install", name, &file], flags].concat()).ok();
        self.guest(name)
    }

    /// Connects a guest to a daemon.
    #[track_caller]
    pub fn guest(&self, name: &str) -> Guest {
        Guest::connect(self.port(name))
    }

    /// Returns the port of a daemon.
    ///
    /// # Panics
    /// Panics if it has none.
    #[track_caller]
    pub fn port(&self, name: &str) -> u16 {
        let port = self.status(name)["port"].as_u64();
        u16::try_from(port.expect("a port")).expect("a port")
    }

    /// Returns all that is known of a daemon.
    #[track_caller]
    pub fn status(&self, name: &str) -> Value {
        let output = self.cli(&["status", name, "--json"]);
        // 3 is the code of a daemon that is stopped or failed.
        assert!(matches!(output.status, 0 | 3), "{output:#?}");
        output.json()
    }

    /// Returns the names of all daemons.
    ///
    /// # Panics
    /// Panics if the list is none.
    #[track_caller]
    pub fn names(&self) -> Vec<String> {
        let list = self.cli(&["list", "--json"]).ok().json();
        let rows = list.as_array().expect("an array").iter();
        rows.map(|row| row["name"].as_str().expect("a name").to_owned())
            .collect()
    }

    /// Calls a command of a daemon from the command line, and returns what is printed.
    #[track_caller]
    pub fn call(&self, words: &[&str]) -> String {
        let words = [&["call"], words].concat();
        self.cli(&words).ok().stdout.trim_end().to_owned()
    }

    /// Waits until a daemon is in that state.
    #[track_caller]
    pub fn until_state(&self, name: &str, state: &str) {
        until(PATIENT, &format!("{name} is {state}"), || {
            let status = self.cli(&["status", name, "--json"]);
            matches!(status.status, 0 | 3) && status.json()["state"] == state
        });
    }

    /// Waits until the host has written that to standard error.
    #[track_caller]
    pub fn until_written(&self, part: &str) {
        until(LIMIT, &format!("the host writes {part:?}"), || {
            self.stderr().contains(part)
        });
    }

    /// Copies a plugin to a file of this test, with some bytes behind it that make it another version.
    ///
    /// # Panics
    /// Panics if the file can't be written.
    #[track_caller]
    pub fn put(&self, library: &str, file: &Path, version: &str) {
        let mut bytes = fs::read(self.program.plugin(library)).expect("a plugin");
        bytes.extend_from_slice(version.as_bytes());
        // The host may have the old file open: a new one takes its name.
        let hidden = file.with_file_name(".new");
        fs::write(&hidden, bytes).expect("a file of our own");
        fs::rename(&hidden, file).expect("a file of our own");
    }

    /// Returns the program's name of a path.
    pub fn path(&self, path: &Path) -> String {
        self.program.path(path)
    }

    /// Returns the directory of the home.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Returns a file of a directory that only its owner may write, outside the home.
    pub fn scratch(&self, name: &str) -> PathBuf {
        let scratch = self.directory.path().join("scratch");
        make_private(&scratch);
        scratch.join(name)
    }

    /// Returns all that the host has written to standard error.
    pub fn stderr(&self) -> String {
        let bytes = fs::read(self.stderr_file()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn stderr_file(&self) -> PathBuf {
        self.directory.path().join("host.stderr")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let has_failed = std::thread::panicking();
        if self.running.is_some() && !has_failed {
            // Most tests end here, with a host that has to end in order.
            self.shut_down();
        }
        if has_failed {
            eprintln!("--- the host wrote:\n{}---", self.stderr());
        }
    }
}

/// Makes a directory that only its owner may write, whatever the umask.
pub fn make_private(directory: &Path) {
    fs::create_dir_all(directory).expect("a directory of our own");
    let owners = Permissions::from_mode(0o700);
    fs::set_permissions(directory, owners).expect("a directory of our own");
}
