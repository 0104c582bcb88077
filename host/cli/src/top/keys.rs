//! The keys of `top`: what each does to the state, and what it asks of the host.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::state::{HostAction, Overlay, PaneKind, TopState};
use crate::list::Listed;
use dae_store::registry::DAE_NAME;

/// The consequence of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing but another screen.
    Draw,
    /// A change of the named daemon.
    Act(HostAction, String),
    /// The end.
    Quit,
}

/// The rows by which a key goes far.
const FAR: isize = 10;

/// The keys and their meanings, as the help shows them.
pub(super) const HELP: [(&str, &str); 19] = [
    ("↑ ↓  k j", "select a daemon"),
    ("← →", "select ten rows further up or down"),
    ("Home End", "select the first or the last"),
    ("/", "show only names that contain a text"),
    ("o", "sort by the next column"),
    ("Tab  1 2 3", "next pane; log, events, commands"),
    ("PgUp PgDn", "scroll the log"),
    ("n", "follow the newest record of the log"),
    ("f", "show only records that contain a text"),
    ("w", "break long records over several lines"),
    ("r", "restart the daemon"),
    ("R", "reload its file"),
    ("b", "roll back to the code before"),
    ("s", "start it"),
    ("x", "stop it"),
    ("i", "isolate it in a subprocess"),
    ("e", "embed it in the host's process"),
    ("?", "this help"),
    ("q  Ctrl-C", "quit"),
];

/// Takes a key.
pub(super) fn press(state: &mut TopState, key: KeyEvent) -> Effect {
    if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
        return Effect::Quit;
    }
    state.notice = None;
    match std::mem::take(&mut state.overlay) {
        Overlay::None => plain(state, key.code),
        Overlay::Help => Effect::Draw,
        Overlay::Confirm(action, name) => match key.code {
            KeyCode::Char('y' | 'Y') => Effect::Act(action, name),
            _ => Effect::Draw,
        },
        typing @ (Overlay::FilterTable | Overlay::FilterLog) => {
            let text = match typing {
                Overlay::FilterTable => &mut state.table.filter,
                _ => &mut state.panes.log.filter,
            };
            if is_typed_on(text, key.code) {
                state.overlay = typing;
            }
            Effect::Draw
        }
    }
}

/// Changes a text by a key. Returns false once it is finished.
fn is_typed_on(text: &mut String, key: KeyCode) -> bool {
    match key {
        KeyCode::Char(letter) => text.push(letter),
        KeyCode::Backspace => drop(text.pop()),
        KeyCode::Esc => {
            text.clear();
            return false;
        }
        KeyCode::Enter => return false,
        _ => {}
    }
    true
}

fn plain(state: &mut TopState, key: KeyCode) -> Effect {
    match key {
        KeyCode::Char('q') => return Effect::Quit,
        KeyCode::Char('?' | 'h') => state.overlay = Overlay::Help,
        KeyCode::Char('/') => state.overlay = Overlay::FilterTable,
        KeyCode::Char('f') => {
            state.panes.kind = PaneKind::Log;
            state.overlay = Overlay::FilterLog;
        }
        KeyCode::Char('o') => state.table.sort_by_next(),
        KeyCode::Up | KeyCode::Char('k') => state.table.step(-1),
        KeyCode::Down | KeyCode::Char('j') => state.table.step(1),
        KeyCode::Left => state.table.step(-FAR),
        KeyCode::Right => state.table.step(FAR),
        KeyCode::Home => state.table.select_end(false),
        KeyCode::End => state.table.select_end(true),
        KeyCode::Tab => state.panes.kind = state.panes.kind.step(1),
        KeyCode::BackTab => state.panes.kind = state.panes.kind.step(2),
        KeyCode::Char('1') => state.panes.kind = PaneKind::Log,
        KeyCode::Char('2') => state.panes.kind = PaneKind::Events,
        KeyCode::Char('3') => state.panes.kind = PaneKind::Commands,
        KeyCode::PageUp => state.panes.log.back(),
        KeyCode::PageDown => state.panes.log.forth(),
        KeyCode::Char('n') => state.panes.log.newest(),
        KeyCode::Char('w') => state.panes.log.wraps = !state.panes.log.wraps,
        KeyCode::Esc => {
            state.table.filter.clear();
            state.panes.log.filter.clear();
        }
        KeyCode::Char(letter) => ask(state, letter),
        _ => {}
    }
    Effect::Draw
}

/// Asks for the confirmation of a change, or says why there can be none.
fn ask(state: &mut TopState, letter: char) {
    let Some(action) = HostAction::of(letter) else {
        return;
    };
    let Some(selected) = state.table.selected() else {
        return;
    };
    let name = selected.status.name.clone();
    let refusal = match &selected.status {
        _ if state.no_host.is_some() => Some("no host runs that could do it".to_owned()),
        _ if name == DAE_NAME => Some(format!(
            "{DAE_NAME} is the host itself: `dae-host shutdown` ends it"
        )),
        status if status.foreign => Some(format!(
            "{name} is a foreign daemon, which this host can't change"
        )),
        _ => None,
    };
    match refusal {
        Some(refusal) => state.notice = Some(Err(refusal)),
        None => state.overlay = Overlay::Confirm(action, name),
    }
}

impl HostAction {
    fn of(letter: char) -> Option<Self> {
        Some(match letter {
            'r' => HostAction::Restart,
            'R' => HostAction::Reload,
            'b' => HostAction::RollBack,
            's' => HostAction::Start,
            'x' => HostAction::Stop,
            'i' => HostAction::Isolate,
            'e' => HostAction::Embed,
            _ => return None,
        })
    }

    /// Returns the command on the control socket.
    pub(super) fn command(self) -> &'static str {
        match self {
            HostAction::Restart => "restart",
            HostAction::Reload => "reload",
            HostAction::RollBack => "rollback",
            HostAction::Start => "start",
            HostAction::Stop => "stop",
            HostAction::Isolate => "isolate",
            HostAction::Embed => "embed",
        }
    }

    /// Returns the effect on a daemon, for its confirmation.
    pub(super) fn effect(self, row: &Listed) -> String {
        let guests = match row.status.guests {
            0 => "It has no guests.".to_owned(),
            1 => "Its guest is disconnected.".to_owned(),
            count => format!("Its {count} guests are disconnected."),
        };
        match self {
            HostAction::Restart => "A new instance of the same code takes over, and a crash loop ends. Connections stay, \
                no command is lost."
                .to_owned(),
            HostAction::Reload => "The code of its file, as it is now, takes over. Connections stay, no command is lost. \
                If the new code does not start, the present one runs on."
                .to_owned(),
            HostAction::RollBack => "The code before the present one takes over. Connections stay, no command is lost."
                .to_owned(),
            HostAction::Start => "It starts, and its port opens.".to_owned(),
            HostAction::Stop => format!(
                "Its state is saved and its port closes, until it is started again, also over restarts of the host. \
                 {guests}"
            ),
            HostAction::Isolate => "It moves into a subprocess, where a crash ends nothing else. Connections stay, no \
                command is lost."
                .to_owned(),
            HostAction::Embed => "It moves into the host's process, where calls are fastest, but a crash ends the host and \
                all its daemons. Connections stay, no command is lost."
                .to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::SortColumn;
    use crate::top::state::Message;
    use dae_store::report::Status;

    fn state() -> TopState {
        let mut state = TopState::new(SortColumn::Name, false);
        let row = |name: &str, foreign| {
            Listed::from(Status {
                name: name.to_owned(),
                foreign,
                ..Status::default()
            })
        };
        let rows = vec![row("Dae", false), row("A", false), row("Far", true)];
        let is_measured = true;
        state.take(Message::Seen { rows, is_measured });
        state
    }

    /// Presses keys, and returns the consequence of the last one.
    fn type_in(state: &mut TopState, letters: &str) -> Effect {
        let mut effect = Effect::Draw;
        for letter in letters.chars() {
            let code = match letter {
                '\n' => KeyCode::Enter,
                '\u{1b}' => KeyCode::Esc,
                letter => KeyCode::Char(letter),
            };
            effect = press(state, KeyEvent::from(code));
        }
        effect
    }

    #[test]
    fn a_change_needs_a_confirmation_and_any_other_key_withdraws_it() {
        let mut state = state();
        assert_eq!(type_in(&mut state, "jx"), Effect::Draw);
        let asked = Overlay::Confirm(HostAction::Stop, "A".to_owned());
        assert_eq!(state.overlay, asked);
        for key in ["n", "q", "\n", "\u{1b}"] {
            assert_eq!(type_in(&mut state, key), Effect::Draw, "{key:?}");
            assert_eq!(state.overlay, Overlay::None);
            assert_eq!(type_in(&mut state, "x"), Effect::Draw);
        }
        let act = Effect::Act(HostAction::Stop, "A".to_owned());
        assert_eq!(type_in(&mut state, "y"), act);
    }

    #[test]
    fn nothing_that_can_not_be_is_asked_for() {
        let mut state = state();
        for (keys, part) in [("kkx", "the host itself"), ("jjr", "a foreign daemon")] {
            type_in(&mut state, keys);
            assert_eq!(state.overlay, Overlay::None, "{keys}");
            let notice = state.notice.as_ref().expect("a notice");
            let text = notice.as_ref().expect_err("a refusal");
            assert!(text.contains(part), "{text}");
        }
        type_in(&mut state, "k");
        assert!(state.notice.is_none(), "the next key clears it");
        state.take(Message::NoHost("it has ended".to_owned()));
        type_in(&mut state, "r");
        assert!(state.notice.is_some());
    }

    #[test]
    fn a_filter_takes_all_letters_until_enter_and_escape_clears_it() {
        let mut state = state();
        assert_eq!(type_in(&mut state, "/qx"), Effect::Draw);
        assert_eq!(state.table.filter, "qx");
        assert_eq!(type_in(&mut state, "\u{1b}q"), Effect::Quit);
        assert_eq!(state.table.filter, "");
        type_in(&mut state, "/fa\nx");
        assert_eq!(state.table.filter, "fa");
        let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        type_in(&mut state, "f");
        assert_eq!(press(&mut state, control), Effect::Quit);
    }

    #[test]
    fn the_help_names_every_key_of_a_change() {
        for letter in "rRbsxie".chars() {
            assert!(HostAction::of(letter).is_some(), "{letter}");
            let named = HELP.iter().any(|(keys, _)| *keys == letter.to_string());
            assert!(named, "{letter}");
        }
    }
}
