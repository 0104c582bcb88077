//! The words of `call` in the order of the command's parameters.
//!
//! The daemon gets an array, however the arguments were given, so names are resolved here. The n-th word without a name
//! is the n-th argument, wherever names stand between. Everything is decided on the text: nothing is read or sent.
//!
//! Errors: [`Fault::Usage`] for wrong words, and `bad-arguments`, as a daemon answers it, for an argument that is
//! missing beside named ones. Without names, the daemon itself judges the number of arguments.

use std::fmt;

use dae_common_tcp::nearest;
use serde_json::Value;

use super::super::exit::Fault;
use super::super::signatures::{CommandSchema, Parameter};
use super::fits::is_boolean;

/// The program's own options that stand before the daemon's name. Behind the command they are hinted at.
pub(super) const OWN_OPTIONS: [&str; 10] = [
    "concurrency",
    "help",
    "home",
    "json",
    "quiet",
    "raw",
    "repeat",
    "timeout",
    "trace",
    "verbose",
];

/// The word that stands for standard input.
pub(super) const STANDARD_INPUT: &str = "-";

/// The schema of a parameter that is not known.
const ANYTHING: &Value = &Value::Bool(true);

/// A command with what its daemon publishes about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Called<'a> {
    /// The daemon's name.
    pub(super) daemon: &'a str,
    /// The command's name.
    pub(super) command: &'a str,
    /// Its signature, if that is known.
    pub(super) signature: Option<&'a str>,
    /// Its schema, if that is known.
    pub(super) schema: Option<&'a CommandSchema>,
}

/// One argument before its word is read.
#[derive(Debug, PartialEq)]
pub(super) enum Argument<'a> {
    /// A word, and the schema of its parameter.
    Word(&'a str, &'a Value),
    /// A boolean that was given as `--name` or `--no-name`.
    Flag(bool),
    /// An optional argument that was left out before a later one.
    Absent,
}

/// Returns the arguments in the order of the parameters.
pub(super) fn arrange<'a>(
    called: Called<'a>,
    words: &'a [String],
) -> Result<Vec<Argument<'a>>, Fault> {
    let mut given = Given::none(called);
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        match word.strip_prefix("--") {
            Some("") => break,
            Some(option) => {
                let (name, value) = match option.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (option, words.next_if(|next| called.is_value(option, next))),
                };
                given.add_named(name, value)?;
            }
            None => {
                check_dash(word)?;
                given.add(word)?;
            }
        }
    }
    // Behind `--` no word is an option.
    words.try_for_each(|word| given.add(word))?;
    let arguments = given.in_order()?;
    check_input(called, &arguments)?;
    Ok(arguments)
}

/// Returns whether a word is an option of the daemon, and none that ends the options.
pub(super) fn is_option(word: &str) -> bool {
    word.len() > 2 && word.starts_with("--")
}

/// Refuses a word such as `-q`, which is probably meant for the program.
fn check_dash(word: &str) -> Result<(), Fault> {
    let behind = word.strip_prefix('-').and_then(|rest| rest.chars().next());
    match behind {
        Some(first) if !first.is_ascii_digit() && first != '.' => Err(Fault::Usage(format!(
            "{word} is no argument; options of the program stand before the daemon's name, and an argument that begins \
             with a dash stands behind `--`"
        ))),
        _ => Ok(()),
    }
}

/// Refuses to read standard input for two arguments.
fn check_input(called: Called<'_>, arguments: &[Argument<'_>]) -> Result<(), Fault> {
    let is_input = |one: &&Argument| matches!(one, Argument::Word(STANDARD_INPUT, _));
    match arguments.iter().filter(is_input).count() {
        0 | 1 => Ok(()),
        count => Err(Fault::Usage(format!(
            "{count} arguments of {called} are `-`, but standard input holds one value; `'\"-\"'` is the text"
        ))),
    }
}

impl<'a> Called<'a> {
    /// Returns the parameter of that name. A dash may stand for `_`.
    fn parameter(self, name: &str) -> Option<(usize, &'a Parameter)> {
        let parameters = &self.schema?.arguments;
        let at = |name: &str| parameters.iter().position(|one| one.name == name);
        let at = at(name).or_else(|| at(&name.replace('-', "_")))?;
        Some((at, &parameters[at]))
    }

    /// Returns whether the word behind an option without `=` is its value.
    fn is_value(self, option: &str, next: &str) -> bool {
        match self.parameter(option) {
            Some((_, one)) if is_boolean(&one.schema) => matches!(next, "true" | "false"),
            Some(_) => !next.starts_with("--"),
            None => false,
        }
    }

    /// Returns the parameter that `--no-name` sets to false. A parameter of the whole name goes first.
    fn negated(self, name: &str) -> Option<(usize, &'a Parameter)> {
        let found = self.parameter(name.strip_prefix("no-")?)?;
        is_boolean(&found.1.schema).then_some(found)
    }

    fn unknown(self, option: &str) -> Fault {
        let Called {
            daemon, command, ..
        } = self;
        if option == "help" {
            return Fault::Usage(format!(
                "{self} has no argument --help; `dae-host call {daemon} help {command}` describes the command"
            ));
        }
        if OWN_OPTIONS.contains(&option) {
            return Fault::Usage(format!(
                "{self} has no argument --{option}; options of the program stand before the daemon's name: `dae-host \
                 call --{option} … {daemon} {command}`"
            ));
        }
        let Some(schema) = self.schema else {
            return Fault::Usage(format!(
                "--{option} names no argument: {daemon} doesn't publish the names of {command}'s; give arguments by \
                 position, and one that begins with dashes behind `--`"
            ));
        };
        let names = schema.arguments.iter().map(|one| one.name.as_str());
        let hint = nearest(option, names).map(|near| format!(". Did you mean --{near}?"));
        Fault::Usage(format!(
            "{self} has no argument --{option}{}{}",
            self.in_full(),
            hint.unwrap_or_default()
        ))
    }

    /// Returns the signature as the end of a sentence.
    fn in_full(self) -> String {
        self.signature
            .map_or_else(String::new, |signature| format!("; it is {signature}"))
    }
}

/// Shows the name of the command after the daemon's.
impl fmt::Display for Called<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.daemon, self.command)
    }
}

/// The arguments that were given for each parameter.
struct Given<'a> {
    called: Called<'a>,
    slots: Vec<Slot<'a>>,
    /// The words beyond the last parameter.
    beyond: Vec<Argument<'a>>,
    /// The number of words without a name.
    positions: usize,
    has_names: bool,
}

/// One parameter, and its arguments: at most one, unless it takes the rest.
struct Slot<'a> {
    parameter: &'a Parameter,
    arguments: Vec<Argument<'a>>,
    is_named: bool,
}

impl<'a> Given<'a> {
    fn none(called: Called<'a>) -> Self {
        let parameters = called.schema.map_or(&[][..], |schema| &schema.arguments);
        let slot = |parameter| Slot {
            parameter,
            arguments: Vec::new(),
            is_named: false,
        };
        Given {
            called,
            slots: parameters.iter().map(slot).collect(),
            beyond: Vec::new(),
            positions: 0,
            has_names: false,
        }
    }

    /// Adds a word without a name.
    fn add(&mut self, word: &'a str) -> Result<(), Fault> {
        let rest = self.slots.iter().position(|slot| slot.parameter.rest);
        let at = rest.map_or(self.positions, |rest| rest.min(self.positions));
        self.positions += 1;
        match self.slots.get(at) {
            Some(slot) => {
                let schema = &slot.parameter.schema;
                self.put(at, Argument::Word(word, schema), false)
            }
            None => {
                self.beyond.push(Argument::Word(word, ANYTHING));
                Ok(())
            }
        }
    }

    /// Adds `--name`, with the value that stands behind it or behind its `=`.
    fn add_named(&mut self, name: &str, value: Option<&'a str>) -> Result<(), Fault> {
        self.has_names = true;
        let called = self.called;
        if let Some((at, parameter)) = called.parameter(name) {
            let argument = match value {
                Some(word) => Argument::Word(word, &parameter.schema),
                None if is_boolean(&parameter.schema) => Argument::Flag(true),
                None => {
                    return Err(Fault::Usage(format!(
                        "--{name} of {called} takes a value, and none follows; write --{name}=VALUE"
                    )));
                }
            };
            return self.put(at, argument, true);
        }
        match (called.negated(name), value) {
            (Some((at, _)), None) => self.put(at, Argument::Flag(false), true),
            (Some(_), Some(_)) => Err(Fault::Usage(format!(
                "--{name} of {called} takes no value: it means false"
            ))),
            (None, _) => Err(called.unknown(name)),
        }
    }

    fn put(&mut self, at: usize, argument: Argument<'a>, is_named: bool) -> Result<(), Fault> {
        let slot = &mut self.slots[at];
        if !slot.arguments.is_empty() && !slot.parameter.rest {
            let how = match (slot.is_named, is_named) {
                (true, true) => "by its name",
                _ => "by its position and by its name",
            };
            return Err(Fault::Usage(format!(
                "the argument {} of {} is given twice, {how}; give it once{}",
                slot.parameter.name,
                self.called,
                self.called.in_full()
            )));
        }
        slot.arguments.push(argument);
        slot.is_named = is_named;
        Ok(())
    }

    fn in_order(self) -> Result<Vec<Argument<'a>>, Fault> {
        if self.has_names {
            self.check_none_is_missing()?;
        }
        let is_given = |slot: &Slot| !slot.arguments.is_empty();
        let end = self.slots.iter().rposition(is_given).map_or(0, |at| at + 1);
        let mut arguments = Vec::new();
        for slot in self.slots.into_iter().take(end) {
            if slot.arguments.is_empty() && !slot.parameter.rest {
                arguments.push(Argument::Absent);
            }
            arguments.extend(slot.arguments);
        }
        arguments.extend(self.beyond);
        Ok(arguments)
    }

    /// Checks that each required argument is there. A daemon would take `null` in its place for a wrong type.
    fn check_none_is_missing(&self) -> Result<(), Fault> {
        let is_missing = |slot: &&Slot| {
            let Parameter { optional, rest, .. } = slot.parameter;
            slot.arguments.is_empty() && !optional && !rest
        };
        let Some(missing) = self.slots.iter().find(is_missing) else {
            return Ok(());
        };
        let (called, name) = (self.called, &missing.parameter.name);
        Err(Fault::Refused {
            code: "bad-arguments".to_owned(),
            message: format!(
                "{called}: the argument {name} is missing{}",
                called.in_full()
            ),
        })
    }
}

#[cfg(test)]
mod tests;
