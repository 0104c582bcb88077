//! The end of the program by a signal, while the host carries out a change that it was asked for.
//!
//! The program ends as the signal means it to, and its caller sees which signal that was. Before that, a sentence says what
//! becomes of the change: the host abandons one that it has not begun, and carries through one that it has.
//!
//! A signal that the program's starter has ignored stays ignored. Absent: an end of the change itself; half of one would be
//! worse than either.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::thread;

use anyhow::Result;
use signal_hook::low_level;

use super::Session;
use super::client::Client;
use dae_runtime::process::signals;

/// Connects to the host of the session's home to have something changed.
///
/// # Errors
/// As of [`Client::control`].
pub(super) fn client(session: &Session) -> Result<Client<UnixStream>> {
    let client = Client::control(session)?;
    say_before_the_end(session.command_line("list"));
    Ok(client)
}

/// Says what becomes of the change, should a signal end the program. Where that can't be had, the signal ends it silently.
fn say_before_the_end(list: String) {
    let Ok(mut signals) = signals::ending_a_command() else {
        return;
    };
    let wait = move || {
        let Some(signal) = signals.forever().next() else {
            return;
        };
        let name = low_level::signal_name(signal).unwrap_or("a signal");
        // Nobody may be there to read it.
        let _ = writeln!(
            io::stderr(),
            "dae-host: {name} has ended this command before the host answered; the host drops the change if it has not \
             begun with it, and carries it through otherwise: `{list}` shows what has come of it"
        );
        let _ = low_level::emulate_default_handler(signal);
    };
    let _ = thread::Builder::new()
        .name("interrupted".to_owned())
        .spawn(wait);
}
