//! A daemon's command table: name to index, made once when its code is loaded.
//!
//! The commands that every daemon answers (`dae`, `options`, `help`, `stats`) are in the same table, so that no author
//! can forget them and no lookup asks twice. What never changes in the life of an instance is written out here, once.

use std::collections::HashMap;

use dae_common_tcp::Opening;
use foldhash::fast::FixedState;
use serde_json::{Map, Value, json};

use dae_store::manifest::Manifest;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandEntry {
    /// The daemon's own, by its index in the manifest.
    Own {
        /// Index into the manifest's commands.
        index: u32,
        /// Where it may run.
        runs: RunsOn,
    },
    /// The host answers for the daemon.
    Host(HostCommand),
}

/// Where a command may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunsOn {
    /// Where it was read: it answers on the spot.
    Here,
    /// On a thread that may block.
    Blocking,
    /// As a future of the guest's task.
    Later,
    /// On the spot, but in the daemon's own process: those that stand together go there together.
    There,
}

/// The commands that the host answers for every daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostCommand {
    /// The credential.
    Dae,
    /// Each command's name and number of arguments.
    Options,
    /// Each command's signature and doc.
    Help,
    /// Calls, errors and latencies.
    Stats,
}

const HOST_COMMANDS: [(&str, HostCommand, &str); 4] = [
    ("dae", HostCommand::Dae, "Who this daemon is."),
    (
        "options",
        HostCommand::Options,
        "Each command's name and number of arguments.",
    ),
    (
        "help",
        HostCommand::Help,
        "Each command's signature and what it does.",
    ),
    (
        "stats",
        HostCommand::Stats,
        "Calls, errors and latencies of this daemon.",
    ),
];

/// A name that stands for something.
#[derive(Debug)]
pub struct ResolvedCommand {
    /// For what.
    pub entry: CommandEntry,
    /// How a reply to it begins.
    pub opening: Option<Opening>,
}

impl ResolvedCommand {
    /// With the command's index, where it answers on the spot.
    #[inline]
    pub fn here(&self) -> Option<(u32, &Self)> {
        match self.entry {
            CommandEntry::Own {
                index,
                runs: RunsOn::Here,
            } => Some((index, self)),
            _ => None,
        }
    }
}

/// See the file's head.
#[derive(Debug)]
pub struct CommandTable {
    // Fixed seed: the names are the author's, not the guests', so nobody can choose them to collide.
    by_name: HashMap<Box<str>, ResolvedCommand, FixedState>,
    options: String,
    help: String,
}

impl CommandTable {
    /// The table of a plugin.
    #[must_use]
    pub fn of(manifest: &Manifest) -> Self {
        let mut by_name: HashMap<Box<str>, ResolvedCommand, FixedState> = HashMap::default();
        let mut add = |name: &str, entry| {
            let opening = Opening::of(name);
            by_name.insert(name.into(), ResolvedCommand { entry, opening });
        };
        let mut options = Map::new();
        let mut help = Map::new();
        for (name, command, doc) in HOST_COMMANDS {
            add(name, CommandEntry::Host(command));
            options.insert(name.to_owned(), 0.into());
            help.insert(
                name.to_owned(),
                json!({"signature": format!("{name}()"), "doc": doc}),
            );
        }
        for (index, command) in (0..).zip(&manifest.commands) {
            let runs = match command.kind.as_str() {
                "async" => RunsOn::Later,
                "blocking" => RunsOn::Blocking,
                _ => RunsOn::Here,
            };
            add(&command.name, CommandEntry::Own { index, runs });
            options.insert(command.name.clone(), command.arity().into());
            let line = json!({"signature": command.signature(), "doc": command.doc});
            help.insert(command.name.clone(), line);
        }
        CommandTable {
            by_name,
            options: Value::Object(options).to_string(),
            help: Value::Object(help).to_string(),
        }
    }

    /// The table of the same daemon in a process of its own, where none of its commands runs here.
    #[must_use]
    pub fn elsewhere(mut self) -> Self {
        for known in self.by_name.values_mut() {
            if let CommandEntry::Own { runs, .. } = &mut known.entry {
                *runs = match runs {
                    RunsOn::Here | RunsOn::There => RunsOn::There,
                    RunsOn::Blocking | RunsOn::Later => RunsOn::Later,
                };
            }
        }
        self
    }

    /// What `name` stands for.
    #[inline]
    #[must_use]
    pub fn find(&self, name: &str) -> Option<CommandEntry> {
        self.known(name).map(|known| known.entry)
    }

    /// All that is known of `name`.
    #[inline]
    #[must_use]
    pub fn known(&self, name: &str) -> Option<&ResolvedCommand> {
        self.by_name.get(name)
    }

    /// Every name, for a hint.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(|name| &**name)
    }

    /// The answer to `options`, JSON.
    #[must_use]
    pub fn options(&self) -> &str {
        &self.options
    }

    /// The answer to `help`, JSON.
    #[must_use]
    pub fn help(&self) -> &str {
        &self.help
    }
}

/// What was looked up last: the commands of a batch are often the same.
#[derive(Default)]
pub struct CachedLookup<'a> {
    name: &'a str,
    known: Option<&'a ResolvedCommand>,
    is_guarded: bool,
}

impl<'a> CachedLookup<'a> {
    /// Looks a name up. `guards` returns whether the command of that index needs a reservation before its code runs.
    #[inline(always)]
    pub fn known(
        &mut self,
        commands: &'a CommandTable,
        name: &'a str,
        guards: impl FnOnce(u32) -> bool,
    ) -> Option<&'a ResolvedCommand> {
        // In a run of lines of one name they are mostly one slice. Before the first it is empty, which is no name.
        if !std::ptr::eq(name, self.name) {
            self.known = commands.known(name);
            self.name = name;
            self.is_guarded = match self.known.map(|known| known.entry) {
                Some(CommandEntry::Own { index, .. }) => guards(index),
                Some(CommandEntry::Host(_)) | None => false,
            };
        }
        self.known
    }

    /// Returns whether the command that was looked up last needs a reservation before its code runs.
    #[inline(always)]
    pub(crate) fn is_guarded(&self) -> bool {
        self.is_guarded
    }
}
