//! Reports what becomes of a command's work when a signal ends the program before its answer has come.
//!
//! A change ends by the signal's default effect, and its caller sees which signal that was. Before that, the program prints
//! what becomes of the change: the host drops a change that it has not begun, and completes one that it has. `call` ends
//! with the exit code that a shell shows for such an end.
//!
//! A signal that the program's starter ignores stays ignored. Absent: aborting the change itself, since half a change
//! would be worse than either. Commands that only read have nothing to say.

use std::thread;

use anyhow::Result;

use super::Session;
use super::client::Client;
use super::exit::{self, ErrorObject};
use dae_runtime::os::control_client::ControlClient;
use dae_runtime::os::interrupt::{Interruption, Interruptions};
use dae_runtime::plugin::library;

/// The message of a command that a signal ends.
pub(super) struct EndMessage {
    /// The sentence behind the signal's name.
    pub(super) text: String,
    /// The advice.
    pub(super) hint: Option<String>,
    /// True if the process ends with an exit code, and not by the signal.
    pub(super) has_code: bool,
}

impl EndMessage {
    /// Returns the message of a command whose process ends by the signal.
    pub(super) fn of_signal(text: &str, hint: Option<String>) -> Self {
        EndMessage {
            text: text.to_owned(),
            hint,
            has_code: false,
        }
    }

    /// Prints the message, and ends the process.
    pub(super) fn say(self, session: &Session, interruption: Interruption) {
        let code = self.has_code.then(|| interruption.exit_code());
        let message = format!("{} {}", interruption.name(), self.text);
        match session.out.json {
            true => exit::write_object(ErrorObject::interrupted(&message, self.hint, code)),
            false => {
                let hint = self
                    .hint
                    .map_or_else(String::new, |hint| format!(": {hint}"));
                session.out.end_message(&format!("{message}{hint}"));
            }
        }
        match code {
            Some(code) => library::exit(code.into()),
            None => interruption.take_effect(),
        }
    }
}

/// Connects to the host of the session's home for a change.
///
/// # Errors
/// The errors of [`Client::control`].
pub(super) fn client(session: &Session) -> Result<Client<ControlClient>> {
    let client = Client::control(session)?;
    let list = session.command_line("list");
    let text = "has ended this command before it was done; the host drops the change that it was asked for last if it has \
                not begun with it, and carries it through otherwise";
    let hint = format!("`{list}` shows what has come of it");
    before_the_end(session, || EndMessage::of_signal(text, Some(hint)));
    Ok(client)
}

/// Has a signal that ends the program print this message first. A program does this once. If the handlers can't be set up,
/// the signal ends it silently.
pub(super) fn before_the_end(
    session: &Session,
    message: impl FnOnce() -> EndMessage + Send + 'static,
) {
    let Ok(mut interruptions) = Interruptions::begin() else {
        return;
    };
    let session = session.clone();
    let wait = move || {
        if let Some(interruption) = interruptions.wait() {
            message().say(&session, interruption);
        }
    };
    let _ = thread::Builder::new()
        .name("interrupted".to_owned())
        .spawn(wait);
}
