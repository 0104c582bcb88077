//! The report on a failed history: the panic, the host's log, the history, and the command that runs it again.

use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::sync::{Mutex, PoisonError};

use crate::model::Step;

/// The last panic. Shrinking causes many, and the last one belongs to the shortest failing history.
static LAST: Mutex<String> = Mutex::new(String::new());

/// The number of shown lines of the host's log. The cause of a failure is at its end.
const HOST_LINES_MAX: usize = 60;

/// Stores panics instead of printing them.
pub fn keep_panics() {
    std::panic::set_hook(Box::new(|panic: &PanicHookInfo<'_>| {
        *LAST.lock().unwrap_or_else(PoisonError::into_inner) = panic.to_string();
    }));
}

/// Takes the message of the last panic.
pub fn last_panic() -> String {
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut *last)
}

/// The record of the last history that failed.
#[derive(Debug, Default)]
pub struct FailureReport {
    failure: RefCell<Failure>,
}

#[derive(Debug, Default, Clone)]
struct Failure {
    panic: String,
    host: String,
}

impl FailureReport {
    /// Stores the panic that ended a history, and the end of its host's standard error.
    pub fn keep(&self, panic: String, host: &str) {
        let lines: Vec<&str> = host.lines().collect();
        let first = lines.len().saturating_sub(HOST_LINES_MAX);
        *self.failure.borrow_mut() = Failure {
            panic,
            host: lines[first..].join("\n"),
        };
    }

    /// Prints everything known about the shortest failing history.
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
