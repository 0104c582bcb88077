//! `connect`: a filter in a pipe, and a prompt at a terminal.

use std::fs::{self, File};
use std::io::{PipeWriter, Write as _, pipe};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use dae_tests::program::Running;
use dae_tests::{Ecosystem, LIMIT, Output, program, until};
use serde_json::json;

/// Runs `connect` with these lines as its standard input.
fn filter(ecosystem: &Ecosystem, name: &str, lines: &str) -> Output {
    let file = ecosystem.scratch().join("lines");
    fs::write(&file, lines).expect("a file of our own");
    let input = File::open(&file).expect("a file of our own");
    let mut command = ecosystem.command();
    command.args(["connect", name]).stdin(input);
    program::run(&mut command, LIMIT)
}

#[test]
fn a_pipe_gets_an_answer_a_line_and_the_last_code() {
    let ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Sample", "sample", &[]);
    let lines = "greet Ada\n\nadd --b 2 --a 1\nadd 1\ngreet 'Ada Lovelace'\n";
    let output = filter(&ecosystem, "Sample", lines).ok();
    let answers = [
        "\"Hello, Ada! You are number 1.\"",
        "3",
        "\"Hello, Ada Lovelace! You are number 2.\"",
    ];
    assert_eq!(output.stdout.lines().collect::<Vec<_>>(), answers);
    assert!(output.stderr.contains("Sample add: "), "{output:?}");
    assert!(output.stderr.contains("(bad-arguments)"), "{output:?}");

    let output = filter(&ecosystem, "Sample", "greet Ada\nad 1 2\n").code(1);
    assert!(output.says(&["add"]), "the nearest name: {output:?}");
    let _ = filter(&ecosystem, "Sample", "greet Ada\ngreet --nobody x\n").code(2);
    let output = filter(&ecosystem, "Sample", "nothing\n.quit\ngreet Ada\n").code(1);
    assert_eq!(output.stdout, "");
    let _ = filter(&ecosystem, "Sample", "").ok();
    let _ = filter(&ecosystem, "Nobody", "dae\n").code(4);
    let output = filter(
        &ecosystem,
        "Sample",
        ".raw\nadd#7 [1, 2]\n.raw\nadd 1 3\n.hlp\n",
    )
    .code(2);
    assert_eq!(output.stdout, "add#7 [3]\n4\n");
    assert!(output.stderr.contains("did you mean .help?"), "{output:?}");
    let output = filter(&ecosystem, "Sample", ".help add\n.options\n").ok();
    assert!(output.stdout.contains("add(a: "), "{output:?}");
}

/// A `connect` in a pipe, to which commands can be written.
struct Piped {
    running: Running,
    lines: PipeWriter,
    errors: PathBuf,
}

impl Piped {
    fn connect(ecosystem: &Ecosystem, name: &str) -> Self {
        let (input, lines) = pipe().expect("a pipe");
        let errors = ecosystem.scratch().join("errors");
        let mut command = ecosystem.command();
        command
            .args(["connect", name])
            .stdin(input)
            .stderr(File::create(&errors).expect("a file of our own"));
        // The command, which has a copy of the reading end, is dropped here.
        Piped {
            running: Running::start(&mut command),
            lines,
            errors,
        }
    }

    #[track_caller]
    fn ask(&mut self, line: &str) -> String {
        writeln!(self.lines, "{line}").expect("it reads");
        self.running.line(LIMIT)
    }

    /// Returns all that it has written to standard error.
    fn said(&self) -> String {
        fs::read_to_string(&self.errors).expect("a file of our own")
    }

    /// Waits until it has said a part of a sentence that often.
    #[track_caller]
    fn until_said(&self, part: &str, times: usize) {
        until(LIMIT, &format!("{part:?} is said"), || {
            self.said().matches(part).count() == times
        });
    }
}

#[test]
fn a_daemon_and_a_host_may_end_and_come_back() {
    let mut ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Counter", "counter", &[]);
    let mut connected = Piped::connect(&ecosystem, "Counter");
    assert_eq!(connected.ask("increment"), "1");
    // A restart closes no connection.
    let _ = ecosystem.cli(&["restart", "Counter"]).ok();
    assert_eq!(connected.ask("increment"), "2");
    assert_eq!(connected.said(), "");

    let _ = ecosystem.cli(&["stop", "Counter"]).ok();
    connected.until_said("to Counter is lost: ", 1);
    let _ = ecosystem.cli(&["start", "Counter"]).ok();
    connected.until_said("connected to Counter again", 1);
    assert_eq!(connected.ask("increment"), "3");

    ecosystem.stop();
    connected.until_said("to Counter is lost: ", 2);
    ecosystem.wake(&[]);
    connected.until_said("connected to Counter again", 2);
    assert_eq!(connected.ask("increment"), "4");
    assert_eq!(connected.said().lines().count(), 4, "{}", connected.said());
    let Piped {
        mut running, lines, ..
    } = connected;
    drop(lines);
    assert_eq!(running.end(LIMIT), Some(0));
}

/// A terminal of 80 by 24 in which a command runs.
pub(crate) struct Tmux {
    socket: PathBuf,
    /// The name in the prompt.
    daemon: String,
}

impl Tmux {
    /// Starts `connect` in a terminal. Returns `None` where tmux is not installed.
    fn connect(ecosystem: &Ecosystem, name: &str) -> Option<Self> {
        Self::start(ecosystem, &format!("connect {name}"), name)
    }

    /// Starts a command in a terminal. Returns `None` where tmux is not installed.
    pub(crate) fn start(ecosystem: &Ecosystem, words: &str, name: &str) -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            assert!(
                std::env::var_os("CI").is_none(),
                "tmux is not installed; CI needs it"
            );
            eprintln!("SKIPPED: tmux is not installed");
            return None;
        }
        let tmux = Tmux {
            socket: ecosystem.scratch().join("tmux"),
            daemon: name.to_owned(),
        };
        let program = ecosystem.command().get_program().to_owned();
        let line = format!(
            "trap : INT; '{}' --home '{}' {words}; echo ended with $?; cat",
            program.display(),
            ecosystem.home().display()
        );
        let _ = tmux.run(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "80",
            "-y",
            "24",
            &line,
        ]);
        Some(tmux)
    }

    fn run(&self, words: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket).args(words);
        command.env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR");
        program::run(&mut command, LIMIT).ok().stdout
    }

    pub(crate) fn keys(&self, keys: &[&str]) {
        let _ = self.run(&[&["send-keys"], keys].concat());
    }

    fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }

    /// Waits until an empty prompt is the last line.
    #[track_caller]
    fn until_prompt(&self) {
        until(LIMIT, "an empty prompt", || {
            self.screen()
                .trim_end()
                .ends_with(&format!("\n{}>", self.daemon))
        });
    }

    /// Waits until the screen shows a text.
    #[track_caller]
    pub(crate) fn until(&self, part: &str) -> String {
        until(LIMIT, &format!("{part:?} on\n{}", self.screen()), || {
            self.screen().contains(part)
        });
        self.screen()
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = Command::new("tmux")
            .arg("-S")
            .arg(&self.socket)
            .arg("kill-server")
            .status();
    }
}

#[test]
fn the_prompt_completes_words_and_shows_events_above_the_line() {
    let ecosystem = Ecosystem::start();
    let config = json!({"every_ms": 100}).to_string();
    let _guest = ecosystem.install("Clock", "clock", &["--config", &config]);
    let Some(tmux) = Tmux::connect(&ecosystem, "Clock") else {
        return;
    };
    tmux.until_prompt();
    tmux.keys(&["subsc", "Tab"]);
    let _ = tmux.until("Clock> subscribe");
    tmux.keys(&["Enter"]);
    let _ = tmux.until("< tick [");
    tmux.keys(&["unsub", "scribe"]);
    let screen = tmux.until("Clock> unsubscribe");
    until(LIMIT, "more events, and the line as it was", || {
        let now = tmux.screen();
        now != screen && now.trim_end().ends_with("\nClock> unsubscribe")
    });
    tmux.keys(&["Enter"]);
    tmux.until_prompt();
    tmux.keys(&["C-d"]);
    let _ = tmux.until("ended with 0");
}

#[test]
fn the_prompt_has_a_history_and_lines_that_go_on() {
    let ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Sample", "sample", &[]);
    let Some(tmux) = Tmux::connect(&ecosystem, "Sample") else {
        return;
    };
    tmux.until_prompt();
    tmux.keys(&["add 1 2", "Enter"]);
    let _ = tmux.until("\n3\n");
    tmux.until_prompt();
    tmux.keys(&["Up"]);
    until(LIMIT, "the last line comes back", || {
        tmux.screen().matches("Sample> add 1 2").count() == 2
    });
    tmux.keys(&["C-c"]);
    tmux.until_prompt();
    tmux.keys(&["greet [", "Enter"]);
    let _ = tmux.until("\n...");
    tmux.keys(&["]", "Enter"]);
    let screen = tmux.until("Hello, [");
    assert!(screen.contains("Sample> greet ["), "{screen}");
    tmux.until_prompt();
    tmux.keys(&["C-d"]);
    let _ = tmux.until("ended with 0");

    let history = ecosystem.home().join("history/Sample");
    let typed = fs::read_to_string(&history).expect("the history");
    assert!(typed.starts_with("add 1 2\ngreet ["), "{typed:?}");
    let mode = fs::metadata(&history)
        .expect("the history")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_ctrl_c_cancels_the_command_that_runs_and_keeps_the_prompt() {
    let ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Slow", "probe", &["--isolate"]);
    let Some(tmux) = Tmux::connect(&ecosystem, "Slow") else {
        return;
    };
    tmux.until_prompt();
    tmux.keys(&["slow 25000", "Enter"]);
    let at_column = |column: &str| {
        let found = tmux.run(&["display-message", "-p", "#{cursor_x}"]);
        found.trim() == column
    };
    until(LIMIT, "the line is sent", || at_column("0"));
    // The key means nothing until the command is under way.
    until(LIMIT, "the command is cancelled", || {
        tmux.keys(&["C-c"]);
        tmux.screen().contains("slow was cancelled")
    });
    // The new connection and the one of this test are left: the host has cancelled the command of the first.
    until(LIMIT, "the command has ended", || {
        ecosystem.status("Slow")["guests"] == 2
    });
    tmux.until_prompt();
    tmux.keys(&["echo 7", "Enter"]);
    let _ = tmux.until("\n7\n");
    tmux.until_prompt();
    tmux.keys(&["C-d"]);
    let _ = tmux.until("ended with 0");
}
