//! All that `top` shows, as plain data, and the messages that change it.

use std::collections::VecDeque;

use ratatui::crossterm::event::KeyEvent;

use super::log_pane::LogPane;
use super::table_view::TableView;
use crate::list::{Listed, SortColumn};
use dae_runtime::os::interrupt::Interruption;
use dae_store::event::DaeEvent;
use dae_store::log::Record;

/// The events that are held: some hours of a usual ecosystem.
pub(super) const EVENTS_MAX: usize = 1_000;

/// A message to the thread that owns the screen.
#[derive(Debug)]
pub(super) enum Message {
    /// A key was pressed.
    Key(KeyEvent),
    /// The terminal has another size.
    Resized,
    /// There will be no further key: the terminal is gone.
    InputEnded,
    /// A signal asks for the end.
    Interrupted(Interruption),
    /// The host has answered.
    Seen {
        /// The daemons.
        rows: Vec<Listed>,
        /// True if their usage was measured.
        is_measured: bool,
    },
    /// These events have happened since the last message of this kind.
    Happened(Vec<DaeEvent>),
    /// No host answers, with the reason.
    NoHost(String),
    /// The log with that number begins with these records.
    LogBegins(u64, Vec<Record>),
    /// The log goes on.
    LogGoesOn(u64, Vec<Record>),
    /// The commands of a daemon.
    Described(Described),
    /// A change has ended: its result, or its fault.
    Ended(Result<String, String>),
}

/// The instance of a daemon whose commands are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DescribedInstance {
    pub(super) name: String,
    pub(super) generation: u64,
}

/// The commands of an instance, each as its signature and a description, or the reason why they can't be shown.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) instance: DescribedInstance,
    pub(super) commands: Result<Vec<(String, String)>, String>,
}

/// The lower pane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PaneKind {
    Log,
    Events,
    Commands,
}

impl PaneKind {
    /// All panes with their names, in the order of the keys.
    pub(super) const ALL: [(PaneKind, &str); 3] = [
        (PaneKind::Log, "log"),
        (PaneKind::Events, "events"),
        (PaneKind::Commands, "commands"),
    ];

    /// Returns the pane so many places further.
    pub(super) fn step(self, places: usize) -> Self {
        let at = PaneKind::ALL.iter().position(|(kind, _)| *kind == self);
        PaneKind::ALL[(at.unwrap_or(0) + places) % PaneKind::ALL.len()].0
    }
}

/// A change that a key may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostAction {
    Restart,
    Reload,
    RollBack,
    Stop,
    Start,
    Isolate,
    Embed,
}

/// The use of the keys, other than for the table and the pane.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Overlay {
    #[default]
    None,
    Help,
    /// A change of the named daemon waits for a confirmation.
    Confirm(HostAction, String),
    /// Text is being typed: the filter of the table.
    FilterTable,
    /// Text is being typed: the filter of the log.
    FilterLog,
}

/// The lower panes.
#[derive(Debug)]
pub(super) struct Panes {
    pub(super) kind: PaneKind,
    pub(super) log: LogPane,
    /// The last events, the newest last.
    pub(super) events: VecDeque<DaeEvent>,
    pub(super) described: Option<Described>,
}

impl Panes {
    fn take_events(&mut self, events: Vec<DaeEvent>) {
        self.events.extend(events);
        let surplus = self.events.len().saturating_sub(EVENTS_MAX);
        drop(self.events.drain(..surplus));
    }
}

/// All that is shown.
#[derive(Debug)]
pub(super) struct TopState {
    pub(super) table: TableView,
    pub(super) panes: Panes,
    pub(super) overlay: Overlay,
    /// The reason why no host answers.
    pub(super) no_host: Option<String>,
    /// The result of the last change, until the next key.
    pub(super) notice: Option<Result<String, String>>,
    /// True if colours may be used.
    pub(super) colours: bool,
}

impl TopState {
    pub(super) fn new(sort: SortColumn, colours: bool) -> Self {
        TopState {
            table: TableView::new(sort),
            panes: Panes {
                kind: PaneKind::Log,
                log: LogPane::default(),
                events: VecDeque::new(),
                described: None,
            },
            overlay: Overlay::None,
            no_host: None,
            notice: None,
            colours,
        }
    }

    /// Takes a message that is neither a key nor the end.
    pub(super) fn take(&mut self, message: Message) {
        match message {
            Message::Seen { rows, is_measured } => self.see(rows, is_measured),
            Message::Happened(events) => self.panes.take_events(events),
            Message::NoHost(reason) => self.no_host = Some(reason),
            Message::LogBegins(follow, records) => self.panes.log.begin(follow, records),
            Message::LogGoesOn(follow, records) => self.panes.log.add(follow, records),
            Message::Described(described) => self.panes.described = Some(described),
            Message::Ended(result) => self.notice = Some(result),
            Message::Key(_) | Message::Resized => {}
            Message::InputEnded | Message::Interrupted(_) => {}
        }
    }

    fn see(&mut self, rows: Vec<Listed>, is_measured: bool) {
        self.no_host = None;
        self.table.take(rows, is_measured);
    }

    /// Returns the daemon whose log is to be followed, if it is shown.
    pub(super) fn wanted_log(&self) -> Option<&str> {
        let selected = self.table.selected().filter(|row| !row.status.foreign);
        let is_shown = self.panes.kind == PaneKind::Log;
        selected
            .filter(|_| is_shown)
            .map(|row| row.status.name.as_str())
    }

    /// Returns the instance whose commands are to be asked for, if they are shown.
    pub(super) fn wanted_commands(&self) -> Option<DescribedInstance> {
        let selected = self.table.selected()?;
        let is_shown = self.panes.kind == PaneKind::Commands && self.no_host.is_none();
        is_shown.then(|| DescribedInstance {
            name: selected.status.name.clone(),
            generation: selected.status.generation,
        })
    }
}
