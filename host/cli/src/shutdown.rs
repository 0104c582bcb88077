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
use super::interrupted::{self, EndMessage};
use dae_store::home::HomeBusy;
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
    let before = session.home.holder();
    let host = match (ask(session), before) {
        (Ok(pid), before) => of_greeting(session, pid, before),
        (Err(error), Some(host)) if host.pid.is_some() && !is_refusal(&error) => {
            if !leaves(session, &host, Instant::now() + LAST_MOMENTS) {
                return Err(error);
            }
            host
        }
        (Err(error), _) => return Err(error),
    };
    let pid = host.pid.unwrap_or(0);
    if !leaves(session, &host, began + ENDED_MAX) {
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
    let text = format!(
        "has ended this wait; the host with pid {} goes on ending",
        host.pid
    );
    let again = format!("`{}` waits on", session.command_line("shutdown"));
    interrupted::before_the_end(session, move || EndMessage::of_signal(&text, Some(again)));
    client.until_closed(Instant::now() + ENDED_MAX);
    Ok(host.pid)
}

fn is_refusal(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Fault::Refused { .. }))
}

/// Returns the host that has answered. It may not be the one that was there before.
fn of_greeting(session: &Session, pid: u32, before: Option<HomeBusy>) -> HomeBusy {
    let is_it = |host: &HomeBusy| host.pid == Some(pid);
    before.filter(is_it).unwrap_or_else(|| HomeBusy {
        home: session.home.data.clone(),
        pid: Some(pid),
        since: None,
    })
}

/// Waits until the host has left the home. Returns false if it has not by then.
fn leaves(session: &Session, host: &HomeBusy, until: Instant) -> bool {
    // A host that follows may have the home already.
    let is_there = || {
        session
            .home
            .holder()
            .is_some_and(|holder| holder.may_be(host))
    };
    while is_there() {
        if Instant::now() > until {
            return false;
        }
        thread::sleep(LEFT_POLL);
    }
    true
}
