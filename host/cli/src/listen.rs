//! `listen`: prints the events of a daemon or of a topic as they come.
//!
//! A daemon's connection lasts over its reloads and crashes. If it ends all the same, since the daemon was stopped or the
//! host has ended, `listen` waits for the daemon to come back. The first connection needs a daemon that listens.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use jiff::Timestamp;
use serde_json::json;

use super::Session;
use super::call;
use super::client::Client;
use super::exit::Fault;
use super::guest::DaemonAddress;
use super::incoming::{Incoming, Refusal, array};
use dae_store::json_form;
use dae_store::registry::DAE_NAME;

/// The command of Dae that sends the events of a topic.
const SUBSCRIBE: &str = "subscribe";

/// The interval for checking whether the daemon is back.
const BACK_POLL: Duration = Duration::from_millis(200);

/// The arguments of `listen`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "dae-host listen [OPTIONS] <NAME|TOPIC> [COMMAND [ARG]...]",
    after_help = "Some daemons send events only to those who ask: COMMAND is run first, on the same connection.\n
Examples:
  dae-host listen Clock subscribe     the ticks of a daemon, which its command `subscribe` starts
  dae-host listen weather             the events that daemons publish to a topic"
)]
pub(super) struct Args {
    /// The daemon's name, or a topic if no daemon has that name
    name: String,
    /// A command of the daemon that is run first, with its arguments as for `call`
    #[arg(value_name = "COMMAND", num_args = 0.., trailing_var_arg = true)]
    words: Vec<String>,
    /// Take NAME for a topic in any case
    #[arg(long)]
    topic: bool,
}

/// The origin of the events.
struct EventSource<'a> {
    session: &'a Session,
    args: &'a Args,
    is_topic: bool,
}

/// Prints events until Ctrl-C.
pub(super) fn listen(session: &Session, args: &Args) -> Result<()> {
    let source = EventSource {
        session,
        args,
        is_topic: is_topic(session, args)?,
    };
    let mut client = source.connect()?;
    loop {
        // A connection that was cut off is as good as one that was closed.
        match source.print(&mut client) {
            Err(error) if error.is::<Fault>() => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let name = source.peer();
        let note = |text: String| session.out.note(&text);
        note(format!("{name} has gone; waiting for it (Ctrl-C ends)"));
        client = source.again();
        note(format!("{name} is back"));
    }
}

/// Returns whether the name stands for a topic.
fn is_topic(session: &Session, args: &Args) -> Result<bool> {
    if args.topic && !args.words.is_empty() {
        let text = "a topic has no commands; leave out --topic, or the words behind the topic";
        return Err(Fault::Usage(text.to_owned()).into());
    }
    if args.topic || args.name == DAE_NAME {
        return Ok(args.topic);
    }
    match DaemonAddress::find(session, &args.name) {
        Ok(_) => Ok(false),
        Err(error) => match error.downcast_ref() {
            Some(Fault::Refused { code, message }) if code == "unknown-daemon" => {
                if !args.words.is_empty() {
                    return Err(error);
                }
                let text = format!("{message}; listening for the topic {}", args.name);
                session.out.note(&text);
                Ok(true)
            }
            _ => Err(error),
        },
    }
}

impl EventSource<'_> {
    /// Returns the name of the daemon that sends the events.
    fn peer(&self) -> &str {
        match self.is_topic {
            true => DAE_NAME,
            false => &self.args.name,
        }
    }

    fn connect(&self) -> Result<Client<TcpStream>> {
        let daemon = DaemonAddress::find(self.session, self.peer())?;
        daemon.check_here("listen")?;
        let mut client = daemon.connect()?;
        client.keep_events();
        match (self.is_topic, self.args.words.split_first()) {
            (true, _) => drop(client.call(SUBSCRIBE, &[&self.args.name])?),
            (false, Some((command, words))) => {
                let arguments = call::typed(&daemon, &mut client, command, words)?;
                client.call(command, &arguments)?;
            }
            (false, None) => {}
        }
        Ok(client)
    }

    /// Waits until the daemon listens again.
    fn again(&self) -> Client<TcpStream> {
        loop {
            match self.connect() {
                Ok(client) => return client,
                // It is stopped or starting, or there is no host.
                Err(_) => thread::sleep(BACK_POLL),
            }
        }
    }

    /// Prints the events of one connection until it ends.
    fn print(&self, client: &mut Client<TcpStream>) -> Result<()> {
        while let Some(line) = client.next_event()? {
            if line.name == "error" {
                self.report(&line)?;
                continue;
            }
            let arguments = array(&line.arguments)?;
            let document = json!({
                "time": json_form::time_text(Timestamp::now()),
                "event": line.name,
                "arguments": arguments,
            });
            let text = format!("{} {}", line.name, line.arguments);
            self.session.out.received(&document, text.trim_end())?;
        }
        Ok(())
    }

    /// Reports an error that the daemon has sent by itself, such as its reason for closing the connection.
    fn report(&self, line: &Incoming) -> Result<()> {
        let arguments = array(&line.arguments)?;
        let refusal = arguments.first().map(|first| first.get());
        let Some(refusal) = refusal.and_then(|text| serde_json::from_str::<Refusal>(text).ok())
        else {
            bail!(
                "{} sent an error that cannot be read: {}",
                self.peer(),
                line.arguments
            );
        };
        let text = format!("{}: {} ({})", self.peer(), refusal.text(), refusal.code);
        self.session.out.note(&text);
        Ok(())
    }
}
