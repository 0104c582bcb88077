//! `top`: all daemons on a screen that follows them, with the log, the events and the commands of one, and keys that
//! change it.
//!
//! One thread owns the screen and the state. All others send messages to it: one reads the keys, one hears of signals,
//! one asks the host for the table, one follows the log, and each change runs on one of its own ([`host`]). The state
//! is plain data ([`state`]), and drawing is a pure function of it ([`draw`]). So the screen is drawn only after a
//! message, and a slow terminal or a slow host delays nothing else.
//!
//! The terminal gets back what it was at any end: a key, a signal, an error, a panic.

mod draw;
mod host;
mod keys;
mod log_pane;
mod screen;
mod state;
mod table_view;

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Session;
use super::client::Client;
use super::exit::Fault;
use super::list::SortColumn;
use super::{show, time_span};
use dae_runtime::os::interrupt::Interruption;
use host::Host;
use keys::Effect;
use screen::Screen;
use state::{Message, TopState};

/// The shortest interval: a shorter one would measure noise.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// The shortest time between two drawings, unless a key asks for one: a log that floods must not flood the terminal too.
const DRAWING_PAUSE: Duration = Duration::from_millis(50);

/// The messages that may wait. A thread that has more to say waits for room.
const MESSAGES_MAX: usize = 1_024;

/// The arguments of `top`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The time between two measurements, such as 500ms or 5s
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Sort by this column; the key `o` changes it
    #[arg(long, value_name = "COLUMN", default_value = "name")]
    sort: SortColumn,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = time_span::parse(text)?;
    match interval < INTERVAL_MIN {
        true => Err(format!("expected at least {INTERVAL_MIN:?}")),
        false => Ok(interval),
    }
}

/// Shows the screen until the reader has had enough.
pub(super) fn top(session: Session, args: &Args) -> Result<()> {
    check_terminal(&session)?;
    // Without a host at the start, the command fails as `list` does.
    drop(Client::control(&session)?);
    let mut state = TopState::new(args.sort, show::colours_allowed());
    let (sender, messages) = sync_channel(MESSAGES_MAX);
    let mut host = Host::begin(Arc::new(session), args.interval, sender.clone())?;
    screen::hear_signals(sender.clone())?;
    let mut screen = Screen::begin().context("cannot draw on this terminal")?;
    screen::read_keys(sender)?;
    let end = follow(&mut state, &mut screen, &mut host, &messages);
    drop(screen);
    if let Some(interruption) = end? {
        interruption.take_effect();
    }
    Ok(())
}

/// Checks that there is a terminal that can be drawn on.
fn check_terminal(session: &Session) -> Result<(), Fault> {
    let other = |words: &str| session.command_line(words);
    let wrong = match () {
        () if session.out.json => format!(
            "top draws on a terminal and prints no JSON; `{}` does",
            other("list --wide --json")
        ),
        () if !io::stdin().is_terminal() || !io::stdout().is_terminal() => format!(
            "top needs a terminal for its input and its output; `{}` prints into a pipe",
            other("list --watch --wide")
        ),
        () if show::is_dumb() => format!(
            "top can't draw on this terminal (TERM=dumb); `{}` prints one table after another",
            other("list --watch --wide")
        ),
        () => return Ok(()),
    };
    Err(Fault::Usage(wrong))
}

/// Draws the state whenever it has changed, until the end. Returns the signal that is the end, if it is one.
fn follow(
    state: &mut TopState,
    screen: &mut Screen,
    host: &mut Host,
    messages: &Receiver<Message>,
) -> Result<Option<Interruption>> {
    loop {
        screen.draw(state)?;
        let drawn = Instant::now();
        // An error means that all threads have ended; the one of the signals never does.
        let mut next = messages.recv().ok();
        let began = Instant::now();
        while let Some(message) = next.take() {
            let is_urgent = matches!(message, Message::Key(_) | Message::Resized);
            match message {
                Message::Key(key) => match keys::press(state, key) {
                    Effect::Quit => return Ok(None),
                    Effect::Act(action, name) => host.act(action, name),
                    Effect::Draw => {}
                },
                Message::Interrupted(interruption) => return Ok(Some(interruption)),
                Message::InputEnded => return Ok(None),
                message => state.take(message),
            }
            host.follow(state.wanted_log());
            host.describe(state.wanted_commands());
            if is_urgent || began.elapsed() > DRAWING_PAUSE {
                break;
            }
            next = messages
                .recv_timeout(DRAWING_PAUSE.saturating_sub(drawn.elapsed()))
                .ok();
        }
    }
}
