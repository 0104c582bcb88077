//! The host as `top` sees it: connections that are made again when they end, each on a thread of its own.
//!
//! The table comes over one connection and the log over another, so that a long measurement holds no record up. Each
//! change, and each look at a daemon's commands, has its own connection, and the screen goes on meanwhile. A thread ends
//! when nobody takes its messages any more.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::json;

use super::screen::start;
use super::state::{Described, DescribedInstance, EVENTS_MAX, HostAction, Message};
use crate::Session;
use crate::change::is_asleep;
use crate::client::{Client, EventWait};
use crate::exit::{Code, code};
use crate::guest::DaemonAddress;
use crate::list::{Listed, joined};
use crate::signatures;
use dae_runtime::os::control_client::ControlClient;
use dae_store::event::DaeEvent;
use dae_store::log::Record;
use dae_store::report::{Changed, Installed, Status};
use dae_store::usage::{Usage, UsageRequest, WINDOW_MS, WINDOW_MS_MAX};

/// The pause before the next attempt to find a host.
const RETRY: Duration = Duration::from_millis(500);

/// The records with which a log begins.
const LOG_RECORDS: u32 = 500;

/// The longest wait for a record before the thread looks whether another log is wanted. Short enough not to be felt.
const LOG_LOOK: Duration = Duration::from_millis(100);

/// The threads that ask the host.
pub(super) struct Host {
    session: Arc<Session>,
    messages: SyncSender<Message>,
    logs: Sender<LogWish>,
    /// The last wish for a log, and its number.
    log: (u64, Option<String>),
    described: Option<DescribedInstance>,
}

/// The wish to follow a daemon's log, or none.
#[derive(Debug, Clone)]
struct LogWish {
    follow: u64,
    name: Option<String>,
}

impl Host {
    /// Begins to ask for the table.
    ///
    /// # Errors
    /// The system gives no threads.
    pub(super) fn begin(
        session: Arc<Session>,
        interval: Duration,
        messages: SyncSender<Message>,
    ) -> Result<Self> {
        let (logs, wishes) = channel();
        let (asker, to_screen) = (Arc::clone(&session), messages.clone());
        start("table", move || ask_for_ever(&asker, interval, &to_screen))?;
        let (follower, to_screen) = (Arc::clone(&session), messages.clone());
        start("log", move || follow_logs(&follower, &wishes, &to_screen))?;
        Ok(Host {
            session,
            messages,
            logs,
            log: (0, None),
            described: None,
        })
    }

    /// Follows the log of that daemon and no other.
    pub(super) fn follow(&mut self, name: Option<&str>) {
        if self.log.1.as_deref() == name {
            return;
        }
        self.log = (self.log.0 + 1, name.map(str::to_owned));
        // An error means that the thread has panicked; then no log is shown.
        let _ = self.logs.send(LogWish {
            follow: self.log.0,
            name: self.log.1.clone(),
        });
    }

    /// Asks for the commands of an instance, unless they are the last that were asked for.
    pub(super) fn describe(&mut self, instance: Option<DescribedInstance>) {
        if self.described == instance {
            return;
        }
        self.described.clone_from(&instance);
        let Some(instance) = instance else { return };
        self.aside(move |session, messages| {
            let commands = commands(session, &instance.name);
            let commands = commands.map_err(|error| format!("{error:#}"));
            let described = Described { instance, commands };
            // An error means that `top` has ended.
            let _ = messages.send(Message::Described(described));
        });
    }

    /// Has the host make a change, and shows the table as it is then.
    pub(super) fn act(&mut self, action: HostAction, name: String) {
        self.aside(move |session, messages| {
            let done = carry_out(session, action, &name);
            let done = done.map_err(|error| format!("{name}: {error:#}"));
            let _ = messages.send(Message::Ended(done));
            let rows = Client::control(session).and_then(|mut host| table(&mut host, Vec::new()));
            // If that fails, the table shows the change with the next measurement.
            if let Ok(rows) = rows {
                let is_measured = false;
                let _ = messages.send(Message::Seen { rows, is_measured });
            }
        });
    }

    /// Does something on a thread of its own.
    fn aside(&self, work: impl FnOnce(&Session, &SyncSender<Message>) + Send + 'static) {
        let (session, messages) = (Arc::clone(&self.session), self.messages.clone());
        let thread = start("aside", move || work(&session, &messages));
        if let Err(error) = thread {
            let ended = Message::Ended(Err(format!("{error:#}")));
            let _ = self.messages.try_send(ended);
        }
    }
}

/// Asks for the table.
fn table(host: &mut Client<ControlClient>, usages: Vec<Usage>) -> Result<Vec<Listed>> {
    let daemons: Vec<Status> = host.ask("list", &json!([]))?;
    Ok(joined(daemons, usages))
}

fn carry_out(session: &Session, action: HostAction, name: &str) -> Result<String> {
    let mut host = Client::control(session)?;
    if matches!(action, HostAction::Reload | HostAction::RollBack) {
        let request = json!([{ "name": name }]);
        let installed: Installed = host.ask(action.command(), &request)?;
        return Ok(match installed.waits {
            true => format!("{name}: the code waits for the next start"),
            false if is_asleep(&installed) => {
                format!("{name}: the code waits for the next command")
            }
            false => format!(
                "{name}: version {} answers as generation {}",
                installed.version, installed.generation
            ),
        });
    }
    let Changed {
        state, ms, note, ..
    } = host.ask(action.command(), &[name])?;
    let note = if note.is_empty() {
        note
    } else {
        format!("; {note}")
    };
    Ok(format!("{name} is {state} ({ms} ms){note}"))
}

/// Returns the signatures and descriptions of a daemon's commands. One that describes none has only names.
fn commands(session: &Session, name: &str) -> Result<Vec<(String, String)>> {
    let daemon = DaemonAddress::find(session, name)?;
    let help = daemon.help(&mut daemon.connect()?, &[])?;
    if let Some(commands) = help.and_then(|help| signatures::commands(&help)) {
        let line =
            |one: &signatures::CommandHelp| (one.signature.clone(), one.summary().to_owned());
        return Ok(commands.values().map(line).collect());
    }
    let options = daemon.options(&mut daemon.connect()?);
    let names: std::collections::BTreeMap<String, serde_json::Value> = match options {
        Some(options) => serde_json::from_str(options.get())?,
        None => Default::default(),
    };
    Ok(names
        .into_keys()
        .map(|name| (name, String::new()))
        .collect())
}

/// Asks for the table again and again.
fn ask_for_ever(session: &Session, interval: Duration, messages: &SyncSender<Message>) {
    let mut last_event = None;
    loop {
        let asked = Client::control(session);
        let asked = asked.and_then(|mut host| {
            let asking = (&mut host, &mut last_event);
            ask_one_host(asking, interval, messages)
        });
        let lost = match asked {
            // Nobody takes messages any more.
            Ok(()) => return,
            Err(error) => match code(&error) {
                Code::NoHost => "no host runs".to_owned(),
                Code::HomeHeld => "a host starts or ends".to_owned(),
                _ => format!("{error:#}"),
            },
        };
        if messages.send(Message::NoHost(lost)).is_err() {
            return;
        }
        thread::sleep(RETRY);
    }
}

/// Asks a host until it ends, which is an error. Returns once nobody takes messages any more. `last_event` is the id of the
/// last event that was shown, of this host or one before.
fn ask_one_host(
    (host, last_event): (&mut Client<ControlClient>, &mut Option<u64>),
    interval: Duration,
    messages: &SyncSender<Message>,
) -> Result<()> {
    let mut window_ms = None;
    loop {
        let began = Instant::now();
        // The first table comes at once, and the first measurement is short.
        let usages: Vec<Usage> = match window_ms {
            None => Vec::new(),
            Some(window_ms) => host.ask("usage", &[UsageRequest { window_ms }])?,
        };
        let seen = Message::Seen {
            rows: table(host, usages)?,
            is_measured: window_ms.is_some(),
        };
        let request = json!([{"lines": EVENTS_MAX, "after": *last_event}]);
        let events: Vec<DaeEvent> = host.ask("events", &request)?;
        *last_event = events.last().map(|event| event.id).or(*last_event);
        if messages.send(seen).is_err() || messages.send(Message::Happened(events)).is_err() {
            return Ok(());
        }
        let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        window_ms = match window_ms {
            None => Some(interval_ms.min(WINDOW_MS)),
            Some(_) => {
                // The window is the interval, unless that is longer than a window may be.
                thread::sleep(interval.saturating_sub(began.elapsed()));
                Some(interval_ms.min(WINDOW_MS_MAX))
            }
        };
    }
}

/// Follows the log that is wanted last, and looks for a host again and again.
fn follow_logs(session: &Session, wishes: &Receiver<LogWish>, messages: &SyncSender<Message>) {
    let Ok(mut wish) = wishes.recv() else { return };
    loop {
        let next = match &wish.name {
            None => wishes.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(name) => match follow_log(session, wishes, (wish.follow, name), messages) {
                Ok(next) => Ok(next),
                // The table says that no host runs.
                Err(_) => wishes.recv_timeout(RETRY),
            },
        };
        wish = match next {
            Ok(next) => next,
            Err(RecvTimeoutError::Timeout) => wish,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        wish = wishes.try_iter().last().unwrap_or(wish);
    }
}

/// Follows the log of a daemon until another one is wanted, which is returned.
fn follow_log(
    session: &Session,
    wishes: &Receiver<LogWish>,
    (follow, name): (u64, &str),
    messages: &SyncSender<Message>,
) -> Result<LogWish> {
    let mut host = Client::control(session)?;
    let request = json!([{"name": name, "lines": LOG_RECORDS, "follow": true}]);
    let past: Vec<Record> = host.ask("logs", &request)?;
    messages.send(Message::LogBegins(follow, past))?;
    loop {
        if let Some(next) = wishes.try_iter().last() {
            return Ok(next);
        }
        match host.event_before("log", Instant::now() + LOG_LOOK)? {
            EventWait::Event(arguments) => {
                let records = arguments.iter().map(|one| serde_json::from_str(one.get()));
                let records: Result<Vec<Record>, _> = records.collect();
                messages.send(Message::LogGoesOn(follow, records?))?;
            }
            EventWait::None => {}
            EventWait::Closed => bail!("the host has closed the connection"),
        }
    }
}
