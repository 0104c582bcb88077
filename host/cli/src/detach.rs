//! `run --detach`: starts the host in the background, and returns once it is ready or has failed.
//!
//! Two processes share the work. The first one starts this program again with `--detached`, waits, and ends. The second
//! one leaves the terminal, becomes the host, prints one document when it is ready, and lets go of its streams. Until
//! then its standard output and standard error are pipes to the first one, which shows why a start has failed.
//!
//! The host's log goes to the home's files alone. A signal that ends the first process doesn't end the second: the
//! start goes on, and `shutdown` ends the host.

use std::io::{BufRead as _, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::Session;
use super::exit::{Code, Fault};
use super::interrupted::{self, EndMessage};
use super::metrics::MetricsArgs;
use dae_runtime::os::{background, own_program, signals};

/// The most that is kept of the host's standard error (bytes). Its one message is far shorter; the rest is of plugins.
const REASON_BYTES_MAX: u64 = 64 << 10;

/// The start of each message of this program on standard error.
const PREFIX: &str = "dae-host: ";

/// The document of a host that listens.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Announcement {
    pub(super) name: String,
    pub(super) pid: u32,
    pub(super) port: u16,
    pub(super) home: PathBuf,
}

impl Announcement {
    /// Returns the announcement as a sentence.
    pub(super) fn sentence(&self) -> String {
        format!(
            "{} listens on 127.0.0.1:{}, home {}",
            self.name,
            self.port,
            self.home.display()
        )
    }
}

/// Starts the host in the background, and waits until it is ready.
///
/// # Errors
/// The reason of a host that has ended instead, with its exit code.
pub(super) fn start(session: &Session, metrics: &MetricsArgs) -> Result<()> {
    if let Some(instead) = background::INSTEAD {
        let text = format!("--detach doesn't work on this system; use {instead}");
        return Err(Fault::Usage(text).into());
    }
    // This process is no host, and Ctrl-C ends its wait.
    signals::let_through();
    let mut child = command(session, metrics)?
        .spawn()
        .context("cannot start the host")?;
    let text = "has ended this wait; the start of the host goes on";
    let end = format!("`{}` ends the host", session.command_line("shutdown"));
    interrupted::before_the_end(session, || EndMessage::of_signal(text, Some(end)));
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let (Some(output), Some(errors)) = (output, errors) else {
        bail!("the host was started without its pipes");
    };
    // Read all the time, so that a plugin that writes much doesn't wait for a reader.
    let reason = thread::spawn(move || beginning(errors));
    let lines = BufReader::new(output).lines().map_while(Result::ok);
    // A plugin in the host's process may print lines too.
    let announced = lines.filter_map(|line| serde_json::from_str::<Announcement>(&line).ok());
    match { announced }.next() {
        Some(host) => {
            let sentence = format!("{}, pid {}", host.sentence(), host.pid);
            session.out.done(&host, &sentence)
        }
        None => {
            let reason = reason.join().unwrap_or_default();
            Err(ended(session, &mut child, &reason).into())
        }
    }
}

fn command(session: &Session, metrics: &MetricsArgs) -> Result<Command> {
    // By its own name, under which tools such as pgrep find it, unless the file was replaced.
    let named = std::env::current_exe().ok().filter(|path| path.exists());
    let program = named.map_or_else(own_program::path, Ok)?;
    let mut command = Command::new(program);
    if session.home_named {
        command.arg("--home").arg(&session.home.data);
    }
    command.args((0..session.verbose).map(|_| "-v"));
    command.args(session.out.quiet.then_some("-q"));
    command
        .args(["run", "--detached"])
        .args(metrics.words())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command)
}

/// Reads to the end, and returns the beginning.
fn beginning(mut errors: impl Read) -> String {
    let mut text = Vec::new();
    // After an error, the part before it counts.
    let _ = (&mut errors).take(REASON_BYTES_MAX).read_to_end(&mut text);
    let _ = std::io::copy(&mut errors, &mut std::io::sink());
    String::from_utf8_lossy(&text).into_owned()
}

/// Returns the fault for a host that has ended before it was ready.
fn ended(session: &Session, child: &mut Child, reason: &str) -> Fault {
    let status = child.wait();
    let code = match status.as_ref().ok().and_then(|status| status.code()) {
        Some(code) if code == Code::HomeHeld as i32 => Code::HomeHeld,
        _ => Code::Failed,
    };
    let reason = reason.trim_end();
    let reason = match reason.strip_prefix(PREFIX).unwrap_or(reason) {
        "" => {
            let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            let logs = session.command_line("logs Dae");
            format!("the host has ended before it was ready ({status}); `{logs}` shows its log")
        }
        reason => reason.to_owned(),
    };
    Fault::Ended { code, reason }
}
