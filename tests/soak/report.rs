//! What a person reads of a history that failed: what went wrong, what the host wrote, the history, and how to run it again.

use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::sync::{Mutex, PoisonError};

use crate::model::Step;

/// The last panic: shrinking makes many, of which the last but those that passed belongs to the shortest history.
static LAST: Mutex<String> = Mutex::new(String::new());

/// Lines of the host's log that are shown: what led to a failure is at its end.
const HOST_LINES_MAX: usize = 60;

/// Keeps panics instead of printing them.
pub fn keep_panics() {
    std::panic::set_hook(Box::new(|panic: &PanicHookInfo<'_>| {
        *LAST.lock().unwrap_or_else(PoisonError::into_inner) = panic.to_string();
    }));
}

/// What the last panic said.
pub fn last_panic() -> String {
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut *last)
}

/// What was seen of the last history that failed.
#[derive(Debug, Default)]
pub struct Seen {
    failure: RefCell<Failure>,
}

#[derive(Debug, Default, Clone)]
struct Failure {
    panic: String,
    host: String,
}

impl Seen {
    /// Keeps the panic that ended a history, and what its host had written by then.
    pub fn keep(&self, panic: String, host: &str) {
        let lines: Vec<&str> = host.lines().collect();
        let first = lines.len().saturating_sub(HOST_LINES_MAX);
        *self.failure.borrow_mut() = Failure {
            panic,
            host: lines[first..].join("\n"),
        };
    }

    /// Prints all that is known of the shortest history that failed.
    pub fn print(&self, seed: u64, history: &[Step]) {
        let Failure { panic, host } = &*self.failure.borrow();
        eprintln!("--- the host's last lines:\n{host}");
        eprintln!("--- what went wrong:\n{panic}");
        eprintln!("--- the shortest history found that goes wrong (seed {seed}):");
        for (number, step) in (1..).zip(history) {
            eprintln!("{number:4}. {step:?}");
        }
        eprintln!("--- to run it again: cargo test -p dae-tests --test soak -- --seed {seed}");
    }
}
