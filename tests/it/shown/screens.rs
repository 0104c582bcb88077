//! The screens of the commands that draw on a terminal, in two sizes: each is captured when it shows what a key leads to.

use dae_tests::{LIMIT, until_some};

use super::neutral::Neutral;
use super::scene::Scene;
use crate::dev;
use crate::top::Terminal;

/// The sizes of a terminal: the smallest that is usual, and a large one.
const SIZES: [(u16, u16); 2] = [(80, 24), (140, 40)];

/// The highest process id with which the table of `list` fits 80 columns.
const PID_MAX: u32 = 999_999;

/// The screens of one command.
struct Screens<'s> {
    scene: &'s Scene,
    terminal: Terminal,
    text: String,
}

impl<'s> Screens<'s> {
    /// Runs a command in a terminal. Returns `None` where tmux is not installed.
    fn of(scene: &'s Scene, size: (u16, u16), line: &str) -> Option<Self> {
        let terminal = Terminal::run(&scene.ecosystem, size, line)?;
        Some(Screens {
            scene,
            terminal,
            text: String::new(),
        })
    }

    /// Presses keys, waits until the screen shows each part, and keeps it.
    #[track_caller]
    fn press(&mut self, keys: &[&str], parts: &[&str]) {
        let shows = |screen: &[String], part: &str| screen.iter().any(|line| line.contains(part));
        self.press_until(keys, &|screen| parts.iter().all(|part| shows(screen, part)));
    }

    /// Presses keys, waits until the screen is as expected, and keeps it.
    #[track_caller]
    fn press_until(&mut self, keys: &[&str], is_expected: &dyn Fn(&[String]) -> bool) {
        if !keys.is_empty() {
            self.terminal.press(keys);
        }
        // A program draws in steps: a screen is whole if it stays.
        let mut before = Vec::new();
        let shown = until_some(LIMIT, &format!("the screen behind {keys:?}"), || {
            let shown = self.terminal.screen();
            let is_whole = is_expected(&shown) && shown == before;
            before.clone_from(&shown);
            is_whole.then_some(shown)
        });
        let neutral = Neutral::of(self.scene).screen(&shown);
        let keys = match keys {
            [] => "no key".to_owned(),
            keys => keys.join(" "),
        };
        self.text += &format!("# {keys}\n\n{}\n\n", neutral.trim_end());
    }

    /// Compares the screens with the stored ones. Returns the name of those that differ.
    fn differ(self, name: &str, (width, height): (u16, u16)) -> Option<String> {
        super::differs(&format!("{name}-{width}x{height}"), &self.text)
    }
}

/// Leads `top` through its panes and windows.
fn top(scene: &Scene, size: (u16, u16)) -> Option<String> {
    let mut screens = Screens::of(scene, size, "DAE top --interval 500ms")?;
    // The first measurement is there.
    screens.terminal.until_shows(" CPU ");
    screens.terminal.until_shows("~0.0%");
    let down = ["Down", "Down", "Down"];
    screens.press(&down, &["Counter#1: ready"]);
    screens.press(&["2"], &["Counter  installed"]);
    screens.press(&["3"], &["stats()"]);
    screens.press(&["?"], &["Ctrl-C   quit", "└──"]);
    screens.terminal.press(&["Escape"]);
    screens.terminal.until_gone("this help");
    screens.press(&["x"], &["stop Counter?"]);
    screens.terminal.press(&["n"]);
    screens.terminal.until_gone("stop Counter?");
    screens.press(
        &["1", "End", "Up", "Up"],
        &["crash-loop: its", "ERROR Sorter#3: crash-loop"],
    );
    screens.terminal.press(&["/"]);
    screens.terminal.until_shows("names with: _");
    screens.press(&["w", "e"], &["names with: we_", "is not kept here"]);
    screens.differ("top", size)
}

/// Talks to a daemon: completion, a result, a description, and an error.
fn connect(scene: &Scene, size: (u16, u16)) -> Option<String> {
    let mut screens = Screens::of(scene, size, "DAE connect Counter")?;
    screens.terminal.until_shows("Counter>");
    screens.press(&["Tab"], &["increment", "stats"]);
    screens.terminal.press(&["C-c"]);
    screens.terminal.until_gone("stats");
    screens.terminal.press(&["count", "Enter"]);
    screens.terminal.until_shows("5");
    let words = [".help count", "Enter", "counts", "Enter"];
    screens.press_until(&words, &|screen| {
        let text = screen.join("\n");
        text.contains("did you mean") && text.trim_end().ends_with("\nCounter>")
    });
    screens.differ("connect", size)
}

fn watched_list(scene: &Scene, size: (u16, u16)) -> Option<String> {
    let host = scene.ecosystem.pid();
    if size.0 < 100 && host > PID_MAX {
        eprintln!("SKIPPED: with process ids above {PID_MAX} the table has fewer columns");
        return None;
    }
    let mut screens = Screens::of(scene, size, "DAE list --watch -q")?;
    screens.press(&[], &["Weather"]);
    screens.differ("list-watch", size)
}

/// Builds a crate at the start and by a key, and ends by another. A script stands in for cargo. The lines are those of a
/// large terminal: a small one breaks them by the length of the test's paths.
#[test]
fn dev_draws_the_screens_that_are_stored() {
    let (ecosystem, line) = dev::line_of_shell();
    let scene = Scene::over(ecosystem);
    let [_, size] = SIZES;
    let Some(mut screens) = Screens::of(&scene, size, &line) else {
        return;
    };
    screens.press(&[], &["listens on", "keys: "]);
    screens.press(&["r"], &["took over"]);
    screens.press(&["q"], &["ended with 0"]);
    // The log is left out: another thread writes it, so its lines stand anywhere between the others.
    let is_record = |line: &&str| line.starts_with("20");
    let lines = screens.text.lines().filter(|line| !is_record(line));
    screens.text = lines.map(|line| format!("{line}\n")).collect();
    assert_eq!(screens.differ("dev", size), None);
}

#[test]
fn commands_draw_the_screens_that_are_stored() {
    let Some(scene) = Scene::start() else { return };
    // The calls of a conversation would be counted in the other screens.
    let all = [watched_list, top, connect];
    let differ: Vec<String> = all
        .iter()
        .flat_map(|draw| SIZES.iter().filter_map(|size| draw(&scene, *size)))
        .collect();
    assert!(differ.is_empty(), "{differ:?} differ from the stored texts");
}
