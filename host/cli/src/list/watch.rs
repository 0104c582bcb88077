//! `list --watch`: the table again and again.
//!
//! At a terminal the table is drawn in place, and the last one stays. A pipe gets one table after another, with an empty
//! line between them. A host that ends is waited for. The terminal gets its mode back at any end of the program.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::{Args, Listed, attention, documents, rows};
use crate::Session;
use crate::client::Client;
use crate::exit::{Code, code};
use crate::show::Out;
use dae_runtime::os::control_client::ControlClient;
use dae_runtime::os::interrupt::{Interruption, Interruptions};
use dae_runtime::os::terminal::KeyMode;

/// The time between two tables: short enough to follow a change, long enough to read.
const INTERVAL: Duration = Duration::from_secs(2);

/// The line that stands for the table while no host runs.
const NO_HOST: &str = "the host has ended; the table is shown again once one runs";

/// Shows the table until the reader has had enough.
pub(super) fn watch(session: &Session, args: &Args) -> Result<()> {
    // Without a host at the start, the command fails as `list` does.
    let mut host = Some(Client::control(session)?);
    let keyboard = Keyboard::begin(session.out.can_redraw());
    let mut sheet = Sheet::default();
    loop {
        let out = Out::new(session.out.json, session.out.quiet);
        let look = look(session, args, &mut host)?;
        sheet.show((session, args), &out, look)?;
        match keyboard.wait(INTERVAL) {
            None => {}
            Some(Wake::Quit) => return Ok(()),
            Some(Wake::Interrupted(interruption)) => {
                drop(keyboard);
                interruption.take_effect();
                return Ok(());
            }
        }
    }
}

/// The content of one table.
enum Look {
    Rows(Vec<Listed>),
    NoHost,
}

/// Asks the host, or looks for a new one.
fn look(session: &Session, args: &Args, host: &mut Option<Client<ControlClient>>) -> Result<Look> {
    let mut client = match host.take() {
        Some(client) => client,
        None => match Client::control(session) {
            Ok(client) => client,
            Err(error) if matches!(code(&error), Code::NoHost | Code::HomeHeld) => {
                return Ok(Look::NoHost);
            }
            Err(error) => return Err(error),
        },
    };
    let looked = rows(&mut client, args).map(Look::Rows);
    // A host that ends closes the connection. Any other fault shows at the next connection.
    let Ok(looked) = looked else {
        return Ok(Look::NoHost);
    };
    *host = Some(client);
    Ok(looked)
}

/// The tables that were shown before.
#[derive(Default)]
struct Sheet {
    tables: u64,
    is_without_host: bool,
    remark: Option<String>,
}

impl Sheet {
    fn show(&mut self, (session, args): (&Session, &Args), out: &Out, look: Look) -> Result<()> {
        let was_without_host = self.is_without_host;
        self.is_without_host = matches!(look, Look::NoHost);
        match look {
            Look::NoHost if out.can_redraw() && !out.json => out.redraw("", NO_HOST),
            Look::NoHost => {
                if !was_without_host {
                    out.note(NO_HOST);
                }
                Ok(())
            }
            Look::Rows(rows) if out.json => out.document(&documents(&rows, args)),
            Look::Rows(rows) => {
                let remark = attention::remark(&rows, |command| session.command_line(command));
                self.show_rows(out, &rows, remark)
            }
        }
    }

    fn show_rows(&mut self, out: &Out, rows: &[Listed], remark: Option<String>) -> Result<()> {
        self.tables += 1;
        if out.can_redraw() {
            let remark = remark.filter(|_| !out.quiet);
            return out.redraw(&out.table(rows), &remark.unwrap_or_default());
        }
        if self.tables > 1 {
            out.line("")?;
        }
        out.list(rows)?;
        // A pipe's reader gets a remark once, and again when it changes.
        if let Some(text) = remark
            .as_ref()
            .filter(|text| Some(*text) != self.remark.as_ref())
        {
            out.note(text);
        }
        self.remark = remark;
        Ok(())
    }
}

/// The reason to show no further table.
enum Wake {
    Quit,
    Interrupted(Interruption),
}

/// The keys and signals that end the command. The terminal's earlier mode comes back when this is dropped.
struct Keyboard {
    wakes: Receiver<Wake>,
    /// Keeps the channel open if nothing else does.
    _sender: Sender<Wake>,
    _mode: Option<KeyMode>,
}

impl Keyboard {
    /// Reads keys one by one if this is wanted and standard input is a terminal. Otherwise signals have their usual
    /// effect.
    fn begin(is_wanted: bool) -> Self {
        let (sender, wakes) = channel();
        let mode = is_wanted
            .then(|| hear_signals(&sender))
            .flatten()
            .and_then(|()| KeyMode::begin());
        if mode.is_some() {
            read_keys(sender.clone());
        }
        Keyboard {
            wakes,
            _sender: sender,
            _mode: mode,
        }
    }

    fn wait(&self, limit: Duration) -> Option<Wake> {
        self.wakes.recv_timeout(limit).ok()
    }
}

/// Passes signals on, so that the terminal gets its mode back before they take effect. Returns `None` if the system
/// allows no thread or handler for it.
fn hear_signals(sender: &Sender<Wake>) -> Option<()> {
    let mut interruptions = Interruptions::begin().ok()?;
    let sender = sender.clone();
    let wait = move || {
        while let Some(interruption) = interruptions.wait() {
            // The command may have ended already.
            let _ = sender.send(Wake::Interrupted(interruption));
        }
    };
    let thread = thread::Builder::new().name("signals".to_owned());
    thread.spawn(wait).ok().map(drop)
}

fn read_keys(sender: Sender<Wake>) {
    use std::io::Read as _;
    let read = move || {
        let keys = std::io::stdin().lock().bytes().map_while(Result::ok);
        if { keys }.any(|key| key == b'q') {
            let _ = sender.send(Wake::Quit);
        }
    };
    // Without the thread only signals end the command.
    let _ = thread::Builder::new().name("keys".to_owned()).spawn(read);
}
