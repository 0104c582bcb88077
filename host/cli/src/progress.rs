//! The progress of a command that takes longer than a moment: a bar on standard error, which is gone when the work ends.
//!
//! It is drawn at a terminal alone, and neither with `--json` nor with `--quiet`. Work that ends at once shows none: a
//! thread of its own waits for that moment, so that also the first step of the work has its bar.
//!
//! The bar leaves some cells of its line free. A terminal writes `^C` behind it, and must not begin a new line for that: the
//! bar could then not be taken away.

use std::io::{self, Write as _};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dae_store::lock::lock;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use super::Session;

/// The time after which a bar is drawn: a person notices a longer wait.
const DELAY: Duration = Duration::from_millis(300);

/// The time between two looks at work that others do, and between two drawings of the time that has passed.
const LOOK: Duration = Duration::from_millis(100);

/// The most drawings in a second.
const DRAWINGS_PER_S: u8 = 20;

/// The cells that stay free at the end of the line, for a key that the terminal shows.
const FREE_CELLS: u16 = 4;

/// The width if the terminal does not report one (cells).
const WIDTH_DEFAULT: u16 = 80;

/// The progress of some work. Dropping it takes the bar away.
pub(super) struct Progress {
    bar: ProgressBar,
    /// The thread that begins to draw; `None` once it has ended, or if nothing is drawn.
    drawing: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

impl Progress {
    /// Begins work of so many steps.
    pub(super) fn of(session: &Session, steps: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::hidden());
        Progress::begin(
            session,
            bar,
            "{bar:24} {human_pos}/{human_len} {msg} {elapsed}",
        )
    }

    /// Begins work of one step, of which only the time is known that it takes.
    pub(super) fn waiting(session: &Session, what: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_message(what.to_owned());
        Progress::begin(session, bar, "{spinner} {msg} {elapsed}")
    }

    fn begin(session: &Session, bar: ProgressBar, template: &str) -> Self {
        // A template is wrong only if its text is.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let drawing = session.out.may_draw().then(|| draw_later(bar.clone()));
        Progress {
            bar,
            drawing: Mutex::new(drawing.flatten()),
        }
    }

    /// Shows how many steps are done until nobody holds the other end of the channel.
    pub(super) fn follow(&self, what: &str, ended: &Receiver<()>, done: impl Fn() -> u64) {
        while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            self.show(done(), what);
        }
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        let drawing = lock(&self.drawing).take();
        if let Some((stop, thread)) = drawing {
            drop(stop);
            // It has nothing to tell.
            let _ = thread.join();
        }
        self.bar.finish_and_clear();
    }

    /// Shows that so many steps are done, and what comes next.
    pub(super) fn show(&self, done: u64, next: &str) {
        if !self.bar.is_finished() {
            self.bar.set_message(next.to_owned());
            self.bar.set_position(done);
        }
    }

    /// Prints something while the bar is away.
    pub(super) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

/// Begins to draw the bar unless the work ends at once. Returns `None` if the system allows no thread; then nothing is drawn.
fn draw_later(bar: ProgressBar) -> Option<(Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = channel::<()>();
    let wait = move || {
        if stopped.recv_timeout(DELAY) == Err(RecvTimeoutError::Timeout) {
            let line = Box::new(StderrLine);
            bar.set_draw_target(ProgressDrawTarget::term_like_with_hz(line, DRAWINGS_PER_S));
            bar.enable_steady_tick(LOOK);
        }
    };
    let thread = thread::Builder::new().name("progress".to_owned());
    Some((stop, thread.spawn(wait).ok()?))
}

/// The line of standard error on which a bar is drawn.
#[derive(Debug)]
struct StderrLine;

impl StderrLine {
    /// Moves the cursor by a sequence that takes a number of cells or lines.
    fn move_by(count: usize, direction: char) -> io::Result<()> {
        match count {
            0 => Ok(()),
            count => write!(io::stderr(), "\u{1b}[{count}{direction}"),
        }
    }
}

impl TermLike for StderrLine {
    fn width(&self) -> u16 {
        let size = ratatui::crossterm::terminal::size();
        let width = size.map_or(WIDTH_DEFAULT, |(width, _)| width);
        width.saturating_sub(FREE_CELLS).max(1)
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        StderrLine::move_by(lines, 'A')
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        StderrLine::move_by(lines, 'B')
    }

    fn move_cursor_right(&self, cells: usize) -> io::Result<()> {
        StderrLine::move_by(cells, 'C')
    }

    fn move_cursor_left(&self, cells: usize) -> io::Result<()> {
        StderrLine::move_by(cells, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        writeln!(io::stderr(), "{text}")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        write!(io::stderr(), "{text}")
    }

    fn clear_line(&self) -> io::Result<()> {
        write!(io::stderr(), "\r\u{1b}[2K")
    }

    fn flush(&self) -> io::Result<()> {
        io::stderr().flush()
    }
}
