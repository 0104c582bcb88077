//! `shutdown`: ends the host of the home in order, and waits until it has ended.
//!
//! It does what SIGTERM does, on each system in the same way: Windows has no such signal. The host accepts the request
//! and then closes the connection at its end. It has ended once its lock on the home is free, so that another host can
//! start once this command has ended. A repetition joins the wait, and never cuts the end short as a second signal does.
//! That holds to the last moment of the end, in which the host accepts no request any more.
//!
//! An end has no time limit while it makes progress, so the wait may reach its limit first. The host then goes on ending.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::json;

use super::Session;
use super::client::Client;
use super::exit::Fault;
use dae_store::report::Greeting;

/// The longest wait for the end of the host. With a daemon that hangs, a host with the default settings ends in half of
/// this time.
const ENDED_MAX: Duration = Duration::from_secs(60);

/// The interval for checking whether the host has left the home, once it has closed its connections.
const LEFT_POLL: Duration = Duration::from_millis(20);

/// The longest wait for a host that answers no more. At its end it closes the control socket first, and its connections
/// take at most 2 s after that.
const LAST_MOMENTS: Duration = Duration::from_secs(5);

/// Asks the host of the session's home to end, and waits until it has.
pub(super) fn shutdown(session: &Session) -> Result<()> {
    let began = Instant::now();
    let before = session.home.holder().and_then(|held| held.pid);
    let pid = match (ask(session), before) {
        (Ok(pid), _) => pid,
        (Err(error), Some(pid)) if !is_refusal(&error) => {
            if !leaves(session, pid, Instant::now() + LAST_MOMENTS) {
                return Err(error);
            }
            pid
        }
        (Err(error), _) => return Err(error),
    };
    if !leaves(session, pid, began + ENDED_MAX) {
        bail!(
            "the host with pid {pid} is ending, and has not ended within {} s; its log says what it waits for, and \
             `{}` waits on",
            ENDED_MAX.as_secs(),
            session.command_line("shutdown")
        );
    }
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let document = json!({"home": session.home.data, "pid": pid, "ms": ms});
    let sentence = format!("the host with pid {pid} has ended ({ms} ms)");
    session.out.done(&document, &sentence)
}

/// Asks the host to end, waits until it closes the connection, and returns its process id.
fn ask(session: &Session) -> Result<u32> {
    let mut client = Client::control(session)?;
    let host: Greeting = client.ask("shutdown", &json!([]))?;
    client.until_closed(Instant::now() + ENDED_MAX);
    Ok(host.pid)
}

fn is_refusal(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Fault::Refused { .. }))
}

/// Waits until the host has left the home. Returns false if it has not by then.
fn leaves(session: &Session, pid: u32, until: Instant) -> bool {
    while holds_home(session, pid) {
        if Instant::now() > until {
            return false;
        }
        thread::sleep(LEFT_POLL);
    }
    true
}

/// Returns whether the home is held, and not by another process. A host that follows may have it already.
fn holds_home(session: &Session, pid: u32) -> bool {
    let holder = session.home.holder();
    holder.is_some_and(|holder| holder.pid.is_none_or(|holder| holder == pid))
}
