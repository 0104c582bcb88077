//! The start of a command, from which its time limit runs, and the withdrawal of a command that has not begun.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::process::subprocess::CallStart;

/// The effect of cancelling a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelPolicy {
    /// Its future is dropped.
    Cancelled,
    /// It holds a thread, which nothing can end.
    GoesOn,
}

/// The known progress of a command's start.
pub enum StartProgress {
    /// It has begun already.
    Begun,
    /// It begins when there is a thread for it.
    Thread(std::sync::Arc<BeginFlag>),
    /// It is in a subprocess, which begins one command after the other.
    Child(CallStart),
}

/// The result of withdrawing a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithdrawResult {
    /// No effect: it had begun.
    Begun,
    /// It never begins.
    NotBegun,
    /// It never begins and its caller has got an answer that says so, or it has ended before.
    Answered,
}

impl StartProgress {
    /// Completes when the command has run past its limit, counted from its start.
    pub(crate) async fn too_long(&self, limit: Duration) {
        match self {
            StartProgress::Begun => sleep(limit).await,
            StartProgress::Thread(begin) => {
                begin.begun().await;
                sleep(limit).await;
            }
            StartProgress::Child(start) => start.too_long(limit).await,
        }
    }

    /// Keeps the command from beginning if it has not begun yet.
    pub(crate) fn withdraw(&self) -> WithdrawResult {
        match self {
            StartProgress::Begun => WithdrawResult::Begun,
            StartProgress::Thread(begin) if begin.withdraw() => WithdrawResult::NotBegun,
            StartProgress::Thread(_) => WithdrawResult::Begun,
            StartProgress::Child(start) if start.withdraw() => WithdrawResult::Answered,
            StartProgress::Child(_) => WithdrawResult::Begun,
        }
    }
}

const WAITS: u8 = 0;
const BEGUN: u8 = 1;
const WITHDRAWN: u8 = 2;

/// A flag for a command that waits for a thread. One atomic step decides whether it begins or never will.
#[derive(Debug, Default)]
pub struct BeginFlag {
    state: AtomicU8,
    has_begun: Notify,
}

impl BeginFlag {
    /// Begins the command. Returns false if it was withdrawn.
    pub(super) fn begin(&self) -> bool {
        let begins = self.step(BEGUN);
        if begins {
            self.has_begun.notify_one();
        }
        begins
    }

    /// Withdraws the command. Returns false if it has begun.
    pub(super) fn withdraw(&self) -> bool {
        self.step(WITHDRAWN) || self.state.load(Ordering::Acquire) == WITHDRAWN
    }

    fn step(&self, to: u8) -> bool {
        let (set, failed) = (Ordering::AcqRel, Ordering::Acquire);
        self.state.compare_exchange(WAITS, to, set, failed).is_ok()
    }

    async fn begun(&self) {
        while self.state.load(Ordering::Acquire) != BEGUN {
            self.has_begun.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_begins_or_is_withdrawn() {
        let begin = BeginFlag::default();
        assert!(begin.withdraw() && begin.withdraw() && !begin.begin());
        let begin = BeginFlag::default();
        assert!(begin.begin() && !begin.withdraw());
    }
}
