//! A daemon's command table: the command behind each name, built once when the daemon's code is loaded.
//!
//! The commands that every daemon answers (`dae`, `options`, `help`, `stats`) are in the same table, so that no author
//! can omit them and one lookup is enough. Answers that never change in the life of an instance are written here, once.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::time::Duration;

use dae_common_tcp::Opening;
use foldhash::fast::FixedState;
use serde::Serialize;
use serde_json::{Map, Value};

use dae_store::durations;
use dae_store::manifest::{Argument, Command, Manifest, Schema};

/// The command behind a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandEntry {
    /// A command of the daemon, by its index in the manifest.
    Own {
        /// The index into the manifest's commands.
        index: u32,
        /// The place where it may run.
        runs: RunsOn,
    },
    /// A command that the host answers for the daemon.
    Host(HostCommand),
}

/// A command of a daemon, as [`CommandEntry::Own`] has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnCommand {
    /// The index into the manifest's commands.
    pub index: u32,
    /// The place where it may run.
    pub runs: RunsOn,
}

/// The place where a command may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunsOn {
    /// On the thread that read the line. The command is immediate: it ends within the call.
    Here,
    /// On a thread that may block.
    Blocking,
    /// In a future of the guest's task.
    Later,
    /// Immediately, but in the daemon's own process. Consecutive commands are sent there together.
    There,
}

/// A command that the host answers for every daemon.
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

/// A name's command, with what its replies need.
#[derive(Debug)]
pub struct ResolvedCommand {
    /// The command itself.
    pub entry: CommandEntry,
    /// The beginning of an untagged reply to it.
    pub opening: Option<Opening>,
}

impl ResolvedCommand {
    /// Returns the index of the command; `None` if the host answers it.
    #[inline]
    pub fn index(&self) -> Option<u32> {
        match self.entry {
            CommandEntry::Own { index, .. } => Some(index),
            CommandEntry::Host(_) => None,
        }
    }

    /// Returns the command with its index, if it is immediate and runs in this process.
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

/// The commands of a daemon by name, with the answers that depend on them alone.
#[derive(Debug)]
pub struct CommandTable {
    // Fixed seed: the author chooses the names, not the guests, so nobody can make them collide.
    by_name: HashMap<Box<str>, ResolvedCommand, FixedState>,
    /// The time limits that the author set, by the command's index.
    limits: Vec<Option<Duration>>,
    /// Whether the command sends parts before its reply, by its index.
    sends_parts: Vec<bool>,
    options: String,
    help: String,
    /// The place of each command's entry in `help`, without the braces around it.
    help_of: HashMap<Box<str>, Range<usize>, FixedState>,
}

impl CommandTable {
    /// Builds the table of a plugin.
    #[must_use]
    pub fn of(manifest: &Manifest) -> Self {
        let mut by_name: HashMap<Box<str>, ResolvedCommand, FixedState> = HashMap::default();
        let mut add = |name: &str, entry| {
            let opening = Opening::of(name);
            by_name.insert(name.into(), ResolvedCommand { entry, opening });
        };
        let mut options = Map::new();
        let mut help = BTreeMap::new();
        let of_host: Vec<Command> = HOST_COMMANDS.iter().map(described).collect();
        for ((name, command, _), own) in HOST_COMMANDS.into_iter().zip(&of_host) {
            add(name, CommandEntry::Host(command));
            options.insert(name.to_owned(), 0.into());
            help.insert(name, CommandHelp::of(own));
        }
        for (index, command) in (0..).zip(&manifest.commands) {
            let runs = runs_on(command);
            add(&command.name, CommandEntry::Own { index, runs });
            options.insert(command.name.clone(), command.arity().into());
            help.insert(&command.name, CommandHelp::of(command));
        }
        let (help, help_of) = joined(&help);
        let limits = manifest.commands.iter();
        let sends_parts = manifest.commands.iter();
        CommandTable {
            by_name,
            limits: limits
                .map(|command| command.timeout_ms.map(durations::ms))
                .collect(),
            sends_parts: sends_parts.map(|one| one.parts.is_some()).collect(),
            options: Value::Object(options).to_string(),
            help,
            help_of,
        }
    }

    /// Returns the table of the same daemon in a process of its own, where none of its commands runs in this process.
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

    /// Returns whether the author has given the command a time limit of its own.
    fn has_limit(&self, index: u32) -> bool {
        let limit = self.limits.get(index as usize);
        limit.is_some_and(Option::is_some)
    }

    /// Returns the index of a command that may end within its first call, so that a guest's thread may start it: one that
    /// ends there in any case, or a future without parts and without a limit of its own, which may not have to wait.
    #[inline]
    pub(crate) fn may_end_at_once<'c>(
        &self,
        known: &'c ResolvedCommand,
    ) -> Option<(u32, &'c ResolvedCommand)> {
        match known.entry {
            CommandEntry::Own {
                index,
                runs: RunsOn::Here,
            } => Some((index, known)),
            CommandEntry::Own {
                index,
                runs: RunsOn::Later,
            } if !self.sends_parts(index) && !self.has_limit(index) => Some((index, known)),
            _ => None,
        }
    }

    /// Returns the command behind `name`.
    #[inline]
    #[must_use]
    pub fn find(&self, name: &str) -> Option<CommandEntry> {
        self.known(name).map(|known| known.entry)
    }

    /// Returns the command behind `name`, with what its replies need.
    #[inline]
    #[must_use]
    pub fn known(&self, name: &str) -> Option<&ResolvedCommand> {
        self.by_name.get(name)
    }

    /// Returns the time limit of the command with that index: its own, or otherwise `general`.
    #[must_use]
    pub fn limit(&self, index: u32, general: Duration) -> Duration {
        let own = self.limits.get(index as usize).copied().flatten();
        own.unwrap_or(general)
    }

    /// Returns whether the command with that index sends parts before its reply, to a caller that asks for them.
    #[must_use]
    pub fn sends_parts(&self, index: u32) -> bool {
        self.sends_parts.get(index as usize).copied() == Some(true)
    }

    /// Returns every name, for a hint.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(|name| &**name)
    }

    /// Returns the answer to `options`, as JSON.
    #[must_use]
    pub fn options(&self) -> &str {
        &self.options
    }

    /// Returns the answer to `help`, as JSON.
    #[must_use]
    pub fn help(&self) -> &str {
        &self.help
    }

    /// Returns the part of [`CommandTable::help`] for one command. Returns `None` if there is no such command.
    #[must_use]
    pub fn help_of(&self, name: &str) -> Option<String> {
        let entry = self.help.get(self.help_of.get(name)?.clone())?;
        Some(format!("{{{entry}}}"))
    }
}

/// Returns the JSON object of all entries, and the place of each.
fn joined(
    entries: &BTreeMap<&str, CommandHelp<'_>>,
) -> (String, HashMap<Box<str>, Range<usize>, FixedState>) {
    let mut help = String::from("{");
    let mut places = HashMap::default();
    for (name, entry) in entries {
        if help.len() > 1 {
            help.push(',');
        }
        let start = help.len();
        let alone = BTreeMap::from([(name, entry)]);
        let alone = serde_json::to_string(&alone).unwrap_or_else(|_| "{}".to_owned());
        help.push_str(&alone[1..alone.len() - 1]);
        places.insert((*name).into(), start..help.len());
    }
    help.push('}');
    (help, places)
}

fn runs_on(command: &Command) -> RunsOn {
    match command.kind.as_str() {
        "async" => RunsOn::Later,
        "blocking" => RunsOn::Blocking,
        // A command that runs on its guest's thread can't be given up: nothing else happens there meanwhile.
        _ if command.timeout_ms.is_some() => RunsOn::Blocking,
        _ => RunsOn::Here,
    }
}

/// Returns the description of a command that the host answers.
fn described((name, command, doc): &(&str, HostCommand, &str)) -> Command {
    let argument = Argument {
        name: "command".to_owned(),
        type_name: "string".to_owned(),
        optional: true,
        schema: schema(r#"{"type":["string","null"]}"#),
        ..Argument::default()
    };
    Command {
        name: (*name).to_owned(),
        doc: (*doc).to_owned(),
        read_only: true,
        arguments: match command {
            HostCommand::Help => vec![argument],
            _ => Vec::new(),
        },
        result: schema(r#"{"type":"object"}"#),
        ..Command::default()
    }
}

fn schema(text: &str) -> Schema {
    Schema::new(text).unwrap_or_default()
}

/// The help for one command.
#[derive(Serialize)]
struct CommandHelp<'c> {
    doc: &'c str,
    schema: CommandSchema<'c>,
    signature: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parts: Option<&'c str>,
}

/// The schema of a command: that of each argument and of its result, and its marks.
#[derive(Serialize)]
struct CommandSchema<'c> {
    arguments: Vec<ArgumentSchema<'c>>,
    #[serde(skip_serializing_if = "is_false")]
    destructive: bool,
    #[serde(skip_serializing_if = "is_false")]
    idempotent: bool,
    #[serde(skip_serializing_if = "is_false")]
    read_only: bool,
    result: &'c Schema,
}

#[derive(Serialize)]
struct ArgumentSchema<'c> {
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'c str,
    name: &'c str,
    #[serde(skip_serializing_if = "is_false")]
    optional: bool,
    #[serde(skip_serializing_if = "is_false")]
    rest: bool,
    schema: &'c Schema,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(mark: &bool) -> bool {
    !mark
}

impl<'c> CommandHelp<'c> {
    fn of(command: &'c Command) -> Self {
        let arguments = command.arguments.iter().map(|argument| ArgumentSchema {
            description: &argument.description,
            name: &argument.name,
            optional: argument.optional,
            rest: argument.rest,
            schema: &argument.schema,
        });
        CommandHelp {
            doc: &command.doc,
            schema: CommandSchema {
                arguments: arguments.collect(),
                destructive: command.destructive,
                idempotent: command.idempotent,
                read_only: command.read_only,
                result: &command.result,
            },
            signature: command.signature(),
            timeout_ms: command.timeout_ms,
            parts: command.parts.as_deref(),
        }
    }
}

/// The result of the last lookup: the commands of a batch are often the same.
#[derive(Default)]
pub struct CachedLookup<'a> {
    name: &'a str,
    known: Option<&'a ResolvedCommand>,
    is_guarded: bool,
}

impl<'a> CachedLookup<'a> {
    /// Looks a name up. `turns` is told when the command is another than before, with its index if it is the daemon's own,
    /// and returns whether that command needs a reservation before its code runs.
    #[inline(always)]
    pub fn known(
        &mut self,
        commands: &'a CommandTable,
        name: &'a str,
        turns: impl FnOnce(Option<u32>) -> bool,
    ) -> Option<&'a ResolvedCommand> {
        // Consecutive lines with the same name mostly share one slice. Before the first line it is empty, which is no
        // name.
        if !std::ptr::eq(name, self.name) {
            self.known = commands.known(name);
            self.name = name;
            self.is_guarded = turns(self.known.and_then(ResolvedCommand::index));
        }
        self.known
    }

    /// Returns whether the command that was looked up last needs a reservation before its code runs.
    #[inline(always)]
    pub(crate) fn is_guarded(&self) -> bool {
        self.is_guarded
    }
}
