//! Events: lines that a daemon sends by itself.

use std::collections::VecDeque;
use std::io::Write as _;

use anyhow::Result;

use super::{Client, Stream};
use crate::incoming::Incoming;
use dae_store::printable;

/// The fate of the events that come during a call.
#[derive(Debug, Default)]
pub(super) enum DuringCall {
    /// Nobody waits for them.
    #[default]
    Ignored,
    /// They are shown on standard error, as lines of the protocol.
    Shown,
    /// They wait for [`Client::next_event`].
    Kept(VecDeque<Incoming>),
}

impl DuringCall {
    pub(super) fn take(&mut self, line: Incoming) {
        match self {
            DuringCall::Ignored => {}
            DuringCall::Shown => show(&line),
            DuringCall::Kept(kept) => kept.push_back(line),
        }
    }
}

impl<S: Stream> Client<S> {
    /// Shows the events that come during a call on standard error.
    pub(crate) fn show_events(&mut self) {
        self.during_call = DuringCall::Shown;
    }

    /// Keeps the events that come during a call for [`Client::next_event`].
    pub(crate) fn keep_events(&mut self) {
        self.during_call = DuringCall::Kept(VecDeque::new());
    }

    /// Returns the next line that is no question to this side; `None` when the peer has closed. There is no limit for it.
    pub(crate) fn next_event(&mut self) -> Result<Option<Incoming>> {
        if let DuringCall::Kept(kept) = &mut self.during_call
            && let Some(line) = kept.pop_front()
        {
            return Ok(Some(line));
        }
        self.deadline = None;
        while let Some(line) = self.line()? {
            match line.asks_us() {
                true => self.answer(&line)?,
                false => return Ok(Some(line)),
            }
        }
        Ok(None)
    }
}

fn show(line: &Incoming) {
    let text = format!("{} {}", line.name, line.arguments);
    // If standard error is closed, nobody reads the event.
    let _ = writeln!(
        std::io::stderr(),
        "{}",
        printable::one_line(text.trim_end())
    );
}
