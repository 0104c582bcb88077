//! The keys of `dev` at a terminal: `r` builds again, `c` clears the screen, `q` ends.
//!
//! The terminal keeps its signals and its output: only its waiting for whole lines and its echo are turned off, until the
//! program ends. A program in the background, and one whose standard input is no terminal, leaves it alone.

use std::io::{self, Read as _};
use std::sync::mpsc::Sender;
use std::thread;

use super::rebuild::Event;
use dae_runtime::os::interrupt;
use dae_runtime::os::terminal::KeyMode;

/// Clears a terminal, and what has scrolled out of it.
const CLEAR: &str = "\x1b[2J\x1b[3J\x1b[H";

/// The terminal's earlier mode, which comes back when this is dropped.
pub(super) struct Keys(KeyMode);

impl Keys {
    /// Reads keys until the program ends. Returns `None` if there is no terminal to read from.
    pub(super) fn read(builds: Vec<Sender<Event>>) -> Option<Self> {
        let keys = Keys(KeyMode::begin()?);
        let reading = thread::Builder::new().name("keys".to_owned());
        // Without the thread the keys do nothing.
        reading.spawn(move || heed(&builds)).ok()?;
        Some(keys)
    }

    /// Brings the terminal's earlier mode back, before the process ends at once.
    pub(super) fn restore(&self) {
        self.0.restore();
    }
}

/// Returns the keys in words.
pub(super) const HELP: &str = "keys: r builds again, c clears the screen, q ends";

/// Clears the screen of a terminal.
pub(super) fn clear() {
    eprint!("{CLEAR}");
}

fn heed(builds: &[Sender<Event>]) {
    for key in io::stdin().lock().bytes() {
        match key {
            Ok(b'r') => {
                for build in builds {
                    // A crate's loop lives as long as the process.
                    let _ = build.send(Event::Asked);
                }
            }
            Ok(b'c') => clear(),
            Ok(b'q') => {
                // The same end as by Ctrl-C.
                interrupt::interrupt_this_process();
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}
