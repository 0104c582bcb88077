//! Reports what becomes of a change when a signal ends the program before the host answers.
//!
//! The program ends by the signal's default effect, and its caller sees which signal that was. Before that, it prints
//! what becomes of the change: the host drops a change that it has not begun, and completes one that it has.
//!
//! A signal that the program's starter ignores stays ignored. Absent: aborting the change itself, since half a change
//! would be worse than either.

use std::io::{self, Write as _};
use std::thread;

use anyhow::Result;

use super::Session;
use super::client::Client;
use super::exit::{self, ErrorObject};
use dae_runtime::os::control_client::ControlClient;
use dae_runtime::os::interrupt::Interruptions;

/// Connects to the host of the session's home for a change.
///
/// # Errors
/// The errors of [`Client::control`].
pub(super) fn client(session: &Session) -> Result<Client<ControlClient>> {
    let client = Client::control(session)?;
    say_before_the_end(session.command_line("list"), session.out.json);
    Ok(client)
}

/// Prints what becomes of the change if a signal ends the program. If the handlers can't be set up, the signal ends it
/// silently.
fn say_before_the_end(list: String, is_json: bool) {
    let Ok(mut interruptions) = Interruptions::begin() else {
        return;
    };
    let wait = move || {
        let Some(interruption) = interruptions.wait() else {
            return;
        };
        let name = interruption.name();
        let message = format!(
            "{name} has ended this command before the host answered; the host drops the change if it has not begun with \
             it, and carries it through otherwise"
        );
        let hint = format!("`{list}` shows what has come of it");
        if is_json {
            exit::write_object(ErrorObject::interrupted(&message, hint));
            return interruption.take_effect();
        }
        // Standard error may be closed.
        let _ = writeln!(io::stderr(), "dae-host: {message}: {hint}");
        interruption.take_effect();
    };
    let _ = thread::Builder::new()
        .name("interrupted".to_owned())
        .spawn(wait);
}
