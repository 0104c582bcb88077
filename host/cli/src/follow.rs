//! Follows what a host sends, over the end of that host: `events -f`, `logs -f`.
//!
//! The first connection needs a host. From then on a host that ends is waited for, since an operator who watches a
//! restart wants to see all of it.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use dae_runtime::os::control_client::ControlClient;

use super::Session;
use super::client::Client;
use super::exit::Fault;

/// The interval for checking whether another host has started.
const HOST_POLL: Duration = Duration::from_millis(200);

/// The number of failures in a row after which a host that is there counts as broken: 2 s.
const FAILURES_MAX: u32 = 10;

/// Calls `follow` with a connection to the host, and again with one to each host that comes after it. `follow` returns
/// when its connection ends.
///
/// # Errors
/// No host runs at first, the host refuses the request, the reader of the output has gone, or `follow` fails twice in a
/// row: a host that was killed may cut off a line, and the next one doesn't.
pub(super) fn over_restarts(
    session: &Session,
    mut follow: impl FnMut(&mut Client<ControlClient>) -> Result<()>,
) -> Result<()> {
    let mut client = Client::control(session)?;
    let mut has_failed = false;
    loop {
        match follow(&mut client) {
            Ok(()) => has_failed = false,
            Err(error) if has_failed || fault_of(&error).is_some() => return Err(error),
            Err(_) => has_failed = true,
        }
        session
            .out
            .note("the host has ended; waiting for the next one (Ctrl-C ends)");
        client = next(session)?;
        session.out.note("a host runs again");
    }
}

fn fault_of(error: &anyhow::Error) -> Option<&Fault> {
    error.downcast_ref()
}

/// Waits for a host, and connects to it.
///
/// # Errors
/// A host is there, and no connection to it lasts.
fn next(session: &Session) -> Result<Client<ControlClient>> {
    let mut failures = 0;
    loop {
        match Client::control(session) {
            Ok(client) => return Ok(client),
            // It is starting or ending, or not there yet.
            Err(error) if is_absence(&error) => failures = 0,
            // It may have ended meanwhile.
            Err(error) if failures == FAILURES_MAX => return Err(error),
            Err(_) => failures += 1,
        }
        thread::sleep(HOST_POLL);
    }
}

fn is_absence(error: &anyhow::Error) -> bool {
    matches!(
        fault_of(error),
        Some(Fault::NoHost { .. } | Fault::NotListening { .. })
    )
}
