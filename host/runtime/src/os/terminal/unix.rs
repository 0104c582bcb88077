//! Terminals by termios(3).

use std::io::{self, IsTerminal as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};

#[derive(Debug)]
pub(super) struct Mode(Termios);

impl Mode {
    pub(super) fn begin() -> Option<Self> {
        let stdin = io::stdin();
        let is_in_front = tcgetpgrp(&stdin).is_ok_and(|group| group == rustix::process::getpgrp());
        if !stdin.is_terminal() || !is_in_front {
            return None;
        }
        let before = tcgetattr(&stdin).ok()?;
        let mut now = before.clone();
        now.local_modes
            .remove(LocalModes::ICANON | LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Now, &now).ok()?;
        Some(Mode(before))
    }

    pub(super) fn restore(&self) {
        // The terminal may be gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Does nothing: terminals of this system read escape sequences.
pub fn allow_escapes() {}
