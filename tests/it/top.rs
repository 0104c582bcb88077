//! `top` and `list --watch` at a real terminal: a tmux server of the test's own, whose screen is captured.
//!
//! Without tmux these tests are skipped aloud.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use dae_tests::{Ecosystem, LIMIT, process, program, until};
use rustix::process::Signal;

use crate::clients::tool;
use crate::list::Mixed;

/// The daemons of [`Mixed`] with their states.
const STATES: [(&str, &str); 7] = [
    ("Dae", "ready"),
    ("Here", "ready"),
    ("Loops", "crash-loop"),
    ("Own", "ready"),
    ("Still", "stopped"),
    ("Waits", "backoff"),
    ("Far", "foreign"),
];

/// A terminal in which a shell runs one command line and says how it has ended.
pub(crate) struct Terminal {
    /// A directory of its own, with the socket of the tmux server.
    scratch: PathBuf,
}

impl Terminal {
    /// Runs a line of the shell in a terminal of that size. `DAE` in it stands for the program with the home. Returns
    /// `None` where tmux is not installed.
    pub(crate) fn run(
        ecosystem: &Ecosystem,
        (width, height): (u16, u16),
        line: &str,
    ) -> Option<Self> {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let _ = tool("tmux", &["-V"])?;
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let scratch = ecosystem.scratch().join(format!("terminal-{number}"));
        fs::create_dir(&scratch).expect("a directory");
        let terminal = Terminal { scratch };
        let program = ecosystem.command();
        let (program, home) = (program.get_program().display(), ecosystem.home());
        let script = terminal.scratch.join("run");
        // The process of the program has the id of the inner shell.
        let text = format!(
            "trap : INT; unset NO_COLOR; stty -g >{scratch}/before\n\
             sh -c 'echo $$ >{scratch}/pid; {line}'\n\
             echo \"ended with $?\"; stty -g >{scratch}/after; exec cat\n",
            scratch = terminal.scratch.display(),
            line = line.replace("DAE", &format!("exec {program} --home {}", home.display())),
        );
        fs::write(&script, text).expect("a script");
        let size = ["-x", &width.to_string(), "-y", &height.to_string()].map(str::to_owned);
        let shell = format!("sh {}", script.display());
        let begin = ["-f", "/dev/null", "new-session", "-d"].map(str::to_owned);
        let words = [&begin[..], &size, &[shell]].concat();
        let _ = terminal.tmux(&words.iter().map(String::as_str).collect::<Vec<_>>());
        Some(terminal)
    }

    fn socket(&self) -> PathBuf {
        self.scratch.join("tmux")
    }

    pub(crate) fn tmux(&self, words: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.args(["-u", "-S"]).arg(self.socket()).args(words);
        command
            .env("LC_ALL", "C.UTF-8")
            .env("TERM", "xterm-256color");
        program::run(&mut command, LIMIT).ok().stdout
    }

    /// Returns the lines of the screen.
    pub(crate) fn screen(&self) -> Vec<String> {
        let text = self.tmux(&["capture-pane", "-p"]);
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn press(&self, keys: &[&str]) {
        let _ = self.tmux(&[&["send-keys"], keys].concat());
    }

    #[track_caller]
    pub(crate) fn until_shows(&self, part: &str) -> Vec<String> {
        let shows = || self.screen().iter().any(|line| line.contains(part));
        until(LIMIT, &format!("the screen shows {part:?}"), shows);
        self.screen()
    }

    #[track_caller]
    pub(crate) fn until_gone(&self, part: &str) {
        let hides = || self.screen().iter().all(|line| !line.contains(part));
        until(LIMIT, &format!("the screen hides {part:?}"), hides);
    }

    /// Asserts that the program ends in that way, and leaves the terminal as it was.
    #[track_caller]
    pub(crate) fn is_given_back(&self, end: &str) {
        self.until_shows(end);
        let file = |name: &str| fs::read_to_string(self.scratch.join(name)).expect("a file");
        until(LIMIT, "the mode", || {
            self.scratch.join("after").exists() && !file("after").is_empty()
        });
        assert_eq!(file("after"), file("before"), "the mode of the terminal");
        let flags = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(flags, "0 1\n", "the first screen, and a cursor");
    }

    fn pid(&self) -> u32 {
        let text = fs::read_to_string(self.scratch.join("pid")).expect("a file");
        text.trim().parse().expect("a pid")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The server may have ended already.
        let _ = Command::new("tmux")
            .arg("-S")
            .arg(self.socket())
            .arg("kill-server")
            .output();
    }
}

/// Returns the words of the line of a daemon in the table.
#[track_caller]
fn row(screen: &[String], name: &str) -> Vec<String> {
    let words =
        |line: &String| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    // The first line is about the host.
    let found = screen
        .iter()
        .skip(1)
        .map(words)
        .find(|words| words.first().is_some_and(|first| first == name));
    found.unwrap_or_else(|| panic!("no {name}: {screen:#?}"))
}

#[test]
fn a_small_and_a_wide_screen_show_every_daemon_and_the_log_of_one() {
    let mixed = Mixed::start();
    let narrow = "NAME STATE GEN GUESTS CALLS/s P99 CPU MEM UPTIME";
    let wide = "NAME STATE MODE GEN GUESTS CALLS/s P50 P99 CPU MEM RESTARTS UPTIME";
    for (size, heading) in [((80, 24), narrow), ((140, 40), wide)] {
        let Some(terminal) = Terminal::run(&mixed.ecosystem, size, "DAE top --interval 500ms")
        else {
            return;
        };
        // The first measurement is there.
        terminal.until_shows(" CPU ");
        terminal.until_shows("~0.0%");
        let screen = terminal.until_shows("Dae listens");
        let words: Vec<&str> = screen[2].split_whitespace().collect();
        assert_eq!(words.join(" "), heading, "{screen:#?}");
        assert!(screen[0].starts_with(" Dae  port "), "{screen:#?}");
        assert!(screen[0].contains("  6 daemons  "), "{screen:#?}");
        assert_eq!(
            screen[1],
            " 1 in crash-loop: `Loops`; 1 in backoff: `Waits`"
        );
        for (name, state) in STATES {
            assert_eq!(row(&screen, name)[1], state, "{screen:#?}");
        }
        assert!(
            screen
                .iter()
                .any(|line| line.starts_with(" ? help  / filter"))
        );
        terminal.press(&["End", "Up"]);
        terminal.until_shows(" backoff: its `run` failed");
        terminal.press(&["q"]);
        terminal.is_given_back("ended with 0");
    }
}

#[test]
fn a_key_changes_a_daemon_once_it_is_confirmed() {
    let ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Counter", "counter", &[]);
    let Some(terminal) = Terminal::run(&ecosystem, (80, 24), "DAE top") else {
        return;
    };
    terminal.until_shows(" Counter");
    terminal.press(&["/", "c", "o", "u", "Enter"]);
    terminal.until_gone(" Dae          ready");
    terminal.press(&["x"]);
    terminal.until_shows("stop Counter?");
    terminal.press(&["n"]);
    terminal.until_gone("stop Counter?");
    assert_eq!(ecosystem.status("Counter")["state"], "ready");
    for (key, question, result) in [
        ("x", "stop Counter?", "Counter is stopped"),
        ("s", "start Counter?", "Counter is ready"),
        ("i", "isolate Counter?", "Counter is ready"),
        (
            "R",
            "reload Counter?",
            "Counter: version 0.1.0 answers as generation",
        ),
        ("b", "rollback Counter?", "Counter: "),
    ] {
        terminal.press(&[key]);
        terminal.until_shows(question);
        terminal.press(&["y"]);
        terminal.until_shows(result);
    }
    assert_eq!(ecosystem.status("Counter")["mode"], "subprocess");
    terminal.press(&["2"]);
    terminal.until_shows("Counter  stopped");
    terminal.press(&["3"]);
    terminal.until_shows("increment(by?: integer from 0)");
    terminal.press(&["C-c"]);
    terminal.is_given_back("ended with 0");
}

#[test]
fn a_host_that_ends_and_comes_back_is_found_again() {
    let mut ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Counter", "counter", &[]);
    let Some(terminal) = Terminal::run(&ecosystem, (80, 24), "DAE top --interval 200ms") else {
        return;
    };
    terminal.until_shows(" Counter");
    // Dae itself can't be changed.
    terminal.press(&["x"]);
    terminal.until_shows("Dae is the host itself");
    terminal.press(&["Down"]);
    terminal.until_shows("counting from here");
    ecosystem.stop();
    let screen = terminal.until_shows("no host runs; it is shown again once one runs");
    assert_eq!(row(&screen, "Counter")[1], "ready", "the last answer stays");
    ecosystem.wake(&[]);
    terminal.until_shows(" Dae  port ");
    terminal.press(&["2", "Home"]);
    terminal.until_shows("Dae  host ");
    process::signal(terminal.pid(), Signal::TERM);
    terminal.is_given_back("ended with 143");
}

#[test]
fn any_size_is_drawn_and_colours_may_be_refused() {
    let ecosystem = Ecosystem::start();
    let coloured = |terminal: &Terminal| {
        terminal.until_shows(" ready ");
        let text = terminal.tmux(&["capture-pane", "-p", "-e"]);
        ["[32m", "38;5;2m"].iter().any(|green| text.contains(green))
    };
    let Some(terminal) = Terminal::run(&ecosystem, (80, 24), "DAE top") else {
        return;
    };
    assert!(coloured(&terminal));
    for (width, height, part) in [
        (60, 15, " Dae  port "),
        (30, 8, "too small"),
        (140, 40, "RESTARTS"),
    ] {
        let size = ["-x", &width.to_string(), "-y", &height.to_string()].map(str::to_owned);
        let words = [&["resize-window"][..], &size.each_ref().map(String::as_str)].concat();
        let _ = terminal.tmux(&words);
        terminal.until_shows(part);
    }
    drop(terminal);
    let plain = Terminal::run(&ecosystem, (80, 24), "NO_COLOR=1; export NO_COLOR; DAE top");
    assert!(!coloured(&plain.expect("tmux was there")));
}

#[test]
fn without_a_terminal_that_can_be_drawn_on_there_is_one_clear_error() {
    let mut ecosystem = Ecosystem::start();
    for (words, part) in [
        (&["top"][..], "top needs a terminal"),
        (&["top", "--json"], "list --wide --json"),
        (&["top", "--interval", "1ms"], "at least 100ms"),
        (&["top", "--sort", "colour"], "possible values"),
    ] {
        let output = ecosystem.cli(words).code(2);
        assert!(
            output.stderr.contains(part) && output.stdout.is_empty(),
            "{output:?}"
        );
    }
    let Some(terminal) = Terminal::run(&ecosystem, (80, 24), "TERM=dumb; export TERM; DAE top")
    else {
        return;
    };
    terminal.until_shows("(TERM=dumb)");
    terminal.is_given_back("ended with 2");
    drop(terminal);
    ecosystem.stop();
    let terminal = Terminal::run(&ecosystem, (80, 24), "DAE top").expect("tmux was there");
    terminal.until_shows("no host runs for the home");
    terminal.is_given_back("ended with 7");
}

#[test]
fn a_watched_list_is_drawn_in_place_until_a_key_or_a_signal() {
    let ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Counter", "counter", &[]);
    for (key, end) in [("q", "ended with 0"), ("C-c", "ended with 130")] {
        let Some(terminal) = Terminal::run(&ecosystem, (80, 12), "DAE list --watch") else {
            return;
        };
        terminal.until_shows("Counter ");
        let _ = ecosystem.cli(&["stop", "Counter"]).ok();
        let screen = terminal.until_shows(" stopped ");
        let headings = screen.iter().filter(|line| line.starts_with("NAME"));
        assert_eq!(headings.count(), 1, "{screen:#?}");
        let _ = ecosystem.cli(&["start", "Counter"]).ok();
        terminal.press(&[key]);
        terminal.is_given_back(end);
    }
}
