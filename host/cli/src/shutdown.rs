//! `shutdown`: ends the host of the home in order, and waits until it has ended.
//!
//! It does what SIGTERM does, on each system in the same way: Windows has no such signal. The host accepts the request
//! and then closes the connection at its end. Its lock on the home counts as the last sign of it, so that another host can
//! start once this command has ended. A repetition joins the wait, and never cuts the end short as a second signal does.
//!
//! An end takes as long as it makes progress, so the wait may reach its limit first. The host then goes on ending.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::json;

use super::Session;
use super::client::Client;
use dae_store::report::Greeting;

/// The longest wait for the end of the host. With a daemon that hangs, a host with the default settings ends in half of
/// this time.
const ENDED_MAX: Duration = Duration::from_secs(60);

/// The interval for checking whether the host has left the home, once it has closed its connections.
const LEFT_POLL: Duration = Duration::from_millis(20);

/// Asks the host of the session's home to end, and waits until it has.
pub(super) fn shutdown(session: &Session) -> Result<()> {
    let began = Instant::now();
    let mut client = Client::control(session)?;
    let host: Greeting = client.ask("shutdown", &json!([]))?;
    let until = Instant::now() + ENDED_MAX;
    client.until_closed(until);
    while holds_home(session, host.pid) {
        if Instant::now() > until {
            bail!(
                "the host with pid {} is ending, and has not ended within {} s; its log says what it waits for, and \
                 `{}` waits on",
                host.pid,
                ENDED_MAX.as_secs(),
                session.command_line("shutdown")
            );
        }
        thread::sleep(LEFT_POLL);
    }
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let document = json!({"home": host.path, "pid": host.pid, "ms": ms});
    let sentence = format!("the host with pid {} has ended ({ms} ms)", host.pid);
    session.out.done(&document, &sentence)
}

/// Returns whether the home is held, and not by another process. A host that follows may have it already.
fn holds_home(session: &Session, pid: u32) -> bool {
    let holder = session.home.holder();
    holder.is_some_and(|holder| holder.pid.is_none_or(|holder| holder == pid))
}
