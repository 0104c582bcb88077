//! The terminal of `top`: taken at the start, given back as it was at any end, and the threads that listen to it.

use std::sync::mpsc::SyncSender;
use std::thread;

use anyhow::{Context as _, Result};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use super::draw;
use super::state::{Message, TopState};
use dae_runtime::os::interrupt::Interruptions;

/// The whole screen, in which keys come one by one. The terminal is as before once this is dropped, or the program
/// panics.
pub(super) struct Screen(DefaultTerminal);

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// The terminal's error; the terminal is as before then.
    pub(super) fn begin() -> std::io::Result<Self> {
        let terminal = ratatui::try_init();
        if terminal.is_err() {
            let _ = ratatui::try_restore();
        }
        terminal.map(Screen)
    }

    /// Draws the state. Only cells that have changed are written.
    pub(super) fn draw(&mut self, state: &TopState) -> Result<()> {
        let drawn = self.0.draw(|frame| {
            let area = frame.area();
            draw::draw(state, area, frame.buffer_mut());
        });
        drawn.map(drop).context("cannot write to the terminal")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = ratatui::try_restore();
    }
}

/// Reads keys and changes of size until the program ends.
///
/// # Errors
/// The system gives no thread for it.
pub(super) fn read_keys(sender: SyncSender<Message>) -> Result<()> {
    let read = move || {
        loop {
            let message = match event::read() {
                Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => Message::Key(key),
                Ok(Event::Resize(..)) => Message::Resized,
                Ok(_) => continue,
                Err(_) => Message::InputEnded,
            };
            let is_last = matches!(message, Message::InputEnded);
            if sender.send(message).is_err() || is_last {
                return;
            }
        }
    };
    start("keys", read)
}

/// Passes signals on, so that the terminal is given back before they take effect.
///
/// # Errors
/// The system allows no handler or no thread for it.
pub(super) fn hear_signals(sender: SyncSender<Message>) -> Result<()> {
    let mut interruptions = Interruptions::begin().context("cannot handle signals")?;
    let wait = move || {
        while let Some(interruption) = interruptions.wait() {
            // The program may be at its end already.
            let _ = sender.send(Message::Interrupted(interruption));
        }
    };
    start("signals", wait)
}

/// Starts a thread that runs until the program ends.
///
/// # Errors
/// The system gives no thread.
pub(super) fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map(drop).context("cannot start a thread")
}
