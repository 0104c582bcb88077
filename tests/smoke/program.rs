//! The program under test, and the plugins beside it.
//!
//! `DAE_SMOKE_PROGRAM` holds the words that run it: `wine64 /path/dae-host.exe`, or a program of another C library or
//! processor with what runs it. `DAE_SMOKE_PLUGINS` names the folder of the plugins, which lie beside the program unless
//! it is set. Both are absolute, and no word has a space in it.
//!
//! Without the first variable the suite runs this machine's own program, which cargo builds first. If a program that the
//! variable names can't be started, the tests are skipped, but fail under CI.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use dae_tests::Artefacts;
use dae_tests::program::{self, Output};

/// The words that run the program.
const PROGRAM: &str = "DAE_SMOKE_PROGRAM";

/// The folder of the plugins.
const PLUGINS: &str = "DAE_SMOKE_PLUGINS";

/// The longest time one command line may take. The first one of a Wine prefix starts the services of its Windows.
pub const COMMAND_MAX: Duration = Duration::from_secs(90);

/// Variables that would change what the program does or prints.
const VARIABLES_REMOVED: [&str; 6] = [
    "DAE_HOME",
    "NO_COLOR",
    "CLICOLOR_FORCE",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "COLUMNS",
];

/// The kind of system that the program sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// Paths are those of the test, and libraries are ELF files.
    Linux,
    /// The test's root directory is drive `Z:`, and libraries are PE files.
    Windows,
}

/// The program under test.
#[derive(Debug)]
pub struct Program {
    words: Vec<String>,
    plugins: PathBuf,
    system: System,
}

impl Program {
    /// Returns the program that the environment names, or this machine's own if it names none. `None`, with the reason
    /// on standard error, if that program can't be run.
    ///
    /// # Panics
    /// Panics under CI if it can't be run.
    pub fn asked() -> Option<&'static Program> {
        static ASKED: OnceLock<Result<Program, String>> = OnceLock::new();
        match ASKED.get_or_init(Program::from_environment) {
            Ok(program) => Some(program),
            Err(reason) => {
                eprintln!("SKIPPED: {reason}");
                None
            }
        }
    }

    /// As [`Program::asked`], for a test that needs Windows.
    pub fn asked_on_windows() -> Option<&'static Program> {
        let program = Program::asked()?;
        if program.system == System::Windows {
            return Some(program);
        }
        eprintln!("SKIPPED: this is about Windows, and the program is none for it");
        None
    }

    fn from_environment() -> Result<Self, String> {
        let program = match std::env::var(PROGRAM) {
            Ok(words) => Program::of_words(&words)?,
            Err(_) => Program::of_this_machine(),
        };
        let started = program.command().arg("--version").output();
        if started.is_ok_and(|output| output.status.success()) {
            return Ok(program);
        }
        let reason = format!("the program can't be run: {}", program.words.join(" "));
        assert!(std::env::var_os("CI").is_none(), "{reason}");
        Err(reason)
    }

    fn of_words(words: &str) -> Result<Self, String> {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        let file = words.last().ok_or_else(|| format!("{PROGRAM} is empty"))?;
        let beside = Path::new(file).parent().map(Path::to_owned);
        let plugins = std::env::var_os(PLUGINS).map(PathBuf::from).or(beside);
        Ok(Program {
            system: match file.ends_with(".exe") {
                true => System::Windows,
                false => System::Linux,
            },
            plugins: plugins.unwrap_or_default(),
            words,
        })
    }

    /// Returns the program that cargo builds for this machine. Its plugins lie beside it.
    fn of_this_machine() -> Self {
        let file = Artefacts::of_tests().host();
        Program {
            words: vec![file.to_str().expect("a path in UTF-8").to_owned()],
            plugins: file.parent().expect("a file in a folder").to_owned(),
            system: System::Linux,
        }
    }

    /// Returns the kind of system that the program sees.
    pub fn system(&self) -> System {
        self.system
    }

    /// Returns a command that runs the program.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).stdin(Stdio::null());
        for variable in VARIABLES_REMOVED {
            command.env_remove(variable);
        }
        command
    }

    /// Returns a command that runs another program of Windows.
    ///
    /// # Panics
    /// Panics on another system.
    pub fn windows_command(&self, name: &str) -> Command {
        assert_eq!(self.system, System::Windows);
        let mut command = Command::new(&self.words[0]);
        command.arg(name).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> Output {
        program::run(self.command().args(words), COMMAND_MAX)
    }

    /// Returns the name that the program has for a path of this test.
    ///
    /// # Panics
    /// Panics if the path isn't absolute or no UTF-8.
    pub fn path(&self, path: &Path) -> String {
        assert!(path.is_absolute(), "{}", path.display());
        let path = path.to_str().expect("a path in UTF-8");
        match self.system {
            System::Linux => path.to_owned(),
            System::Windows => format!("Z:{}", path.replace('/', "\\")),
        }
    }

    /// Returns the name of the file of a library: `sample.dll`.
    pub fn library(&self, name: &str) -> String {
        match self.system {
            System::Linux => format!("lib{name}.so"),
            System::Windows => format!("{name}.dll"),
        }
    }

    /// Returns the name of the file of a program: `cargo.exe`.
    pub fn executable(&self, name: &str) -> String {
        match self.system {
            System::Linux => name.to_owned(),
            System::Windows => format!("{name}.exe"),
        }
    }

    /// Returns the path of another program that lies beside the plugins.
    ///
    /// # Panics
    /// Panics if it wasn't built.
    #[track_caller]
    pub fn beside(&self, name: &str) -> PathBuf {
        let file = self.plugins.join(self.executable(name));
        assert!(file.is_file(), "{} was not built", file.display());
        file
    }

    /// Returns the folder of the plugins.
    pub fn plugin_folder(&self) -> &Path {
        &self.plugins
    }

    /// Returns the path of a plugin.
    ///
    /// # Panics
    /// Panics if it wasn't built.
    #[track_caller]
    pub fn plugin(&self, name: &str) -> PathBuf {
        let file = self.plugins.join(self.library(name));
        assert!(file.is_file(), "{} was not built", file.display());
        file
    }
}
