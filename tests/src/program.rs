//! A program that runs to its end or keeps running, with its output.
//!
//! The output of a finished program is returned as a whole. The standard output of a running program is returned line
//! by line, each within a limit. A finished program has a time limit: it is killed and the test fails if it exceeds it,
//! because a hanging command line is a defect.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::LIMIT;
use crate::wait::until_some;

/// The result of a program that has ended.
#[derive(Debug)]
pub struct Output {
    /// The exit code, or -1 if a signal ended the program.
    pub status: i32,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Output {
    /// Returns the output unchanged if the program succeeded.
    ///
    /// # Panics
    /// Panics if the exit code is not 0.
    #[track_caller]
    #[must_use]
    pub fn ok(self) -> Self {
        self.code(0)
    }

    /// Returns the output unchanged if the program ended with the given exit code.
    ///
    /// # Panics
    /// Panics if the exit code differs.
    #[track_caller]
    #[must_use]
    pub fn code(self, expected: i32) -> Self {
        assert_eq!(self.status, expected, "exit code; {self:#?}");
        self
    }

    /// Parses standard output as one JSON document.
    ///
    /// # Panics
    /// Panics if standard output is not exactly one document.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| {
            panic!("expected one JSON document on standard output ({error}): {self:#?}")
        })
    }

    /// Parses standard output as JSON lines.
    ///
    /// # Panics
    /// Panics if a line is not a JSON document.
    #[track_caller]
    #[must_use]
    pub fn json_lines(&self) -> Vec<Value> {
        let read = |line: &str| {
            serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("expected JSON lines ({error}): {line}"))
        };
        self.stdout.lines().map(read).collect()
    }

    /// Returns whether standard error contains at least one of the words, ignoring case.
    #[must_use]
    pub fn says(&self, any_of: &[&str]) -> bool {
        let text = self.stderr.to_lowercase();
        any_of
            .iter()
            .any(|word| text.contains(&word.to_lowercase()))
    }
}

/// Writes a script that a program under test runs.
///
/// Another process writes the file. A thread of another test may start a program at the same moment, whose process would
/// have the file open for writing until it becomes that program; the kernel runs no such file ("text file busy").
///
/// # Panics
/// Panics if the file can't be written.
#[track_caller]
pub fn write_script(file: &Path, text: &str) {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", r#"printf %s "$1" >"$0" && chmod 755 "$0""#])
        .args([file.as_os_str(), text.as_ref()]);
    let _ = run(&mut shell, LIMIT).ok();
}

/// Runs `command` to its end, with the standard input that the caller has set.
///
/// # Panics
/// Panics if the program cannot be started, or does not end within `limit`. It is killed in the second case.
#[track_caller]
pub fn run(command: &mut Command, limit: Duration) -> Output {
    // Files instead of pipes: no reader has to keep up, and a grandchild that keeps a pipe open blocks nothing.
    let mut stdout = tempfile::tempfile().expect("a temporary file");
    let mut stderr = tempfile::tempfile().expect("a temporary file");
    command.stdout(stdout.try_clone().expect("a descriptor"));
    command.stderr(stderr.try_clone().expect("a descriptor"));
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let ended = ends_within(&mut child, limit);
    if ended.is_none() {
        child
            .kill()
            .and_then(|()| child.wait())
            .expect("a child of ours can be killed");
    }
    let output = Output {
        status: ended.and_then(|status| status.code()).unwrap_or(-1),
        stdout: contents(&mut stdout),
        stderr: contents(&mut stderr),
    };
    assert!(
        ended.is_some(),
        "{command:?} did not end within {limit:?}: {output:#?}"
    );
    output
}

/// Waits for the program's end, and returns its status if it ends within `limit`.
pub fn ends_within(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    until_some(limit * 2, "a program's end", || {
        let status = child.try_wait().expect("a child of ours can be waited for");
        (status.is_some() || start.elapsed() >= limit).then_some(status)
    })
}

fn contents(file: &mut File) -> String {
    let mut text = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut text))
        .expect("our own temporary file");
    String::from_utf8_lossy(&text).into_owned()
}

/// A program that keeps running, such as `logs -f` or a client in another language. Dropping this value kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    /// Starts `command`.
    ///
    /// # Panics
    /// Panics if it cannot be started.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        command.stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let stdout = child.stdout.take().expect("it was asked for");
        let (sender, lines) = channel();
        // Ends with the program's output, or when this value is dropped.
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.try_for_each(|line| sender.send(line))
        });
        Running { child, lines }
    }

    /// Returns the next line of standard output.
    ///
    /// # Panics
    /// Panics if no line comes within `limit`, or the program has closed its output.
    #[track_caller]
    pub fn line(&mut self, limit: Duration) -> String {
        self.line_within(limit)
            .unwrap_or_else(|| panic!("the program's output has ended"))
    }

    /// Returns the next line of standard output, or `None` if the program has closed its output.
    ///
    /// # Panics
    /// Panics if neither happens within `limit`.
    #[track_caller]
    pub fn line_within(&mut self, limit: Duration) -> Option<String> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => panic!("no line of output within {limit:?}"),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Returns the next line that contains `part`, and drops the lines before it.
    ///
    /// # Panics
    /// Panics if any line takes longer than `limit`.
    #[track_caller]
    pub fn line_with(&mut self, part: &str, limit: Duration) -> String {
        loop {
            let line = self.line(limit);
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Returns the process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the program's end, and returns its exit code if it ends within `limit`, or -1 if a signal ended it.
    pub fn end(&mut self, limit: Duration) -> Option<i32> {
        ends_within(&mut self.child, limit).map(|status| status.code().unwrap_or(-1))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
