//! The comparison of a command's arguments. Callers send them by position or by name, so both count.

use serde_json::{Value, json};

use std::collections::HashMap;

use super::{Direction, Effect, Findings, by_name, difference_of_values, value};
use crate::manifest::Argument;

impl Findings {
    pub(super) fn compare_arguments(&mut self, command: &str, old: &[Argument], new: &[Argument]) {
        let lists = Lists::new(old, new);
        for (position, argument) in old.iter().enumerate() {
            let name = &argument.name;
            if lists.new.position(name).is_none() && !lists.is_renamed(position) {
                self.note(format!("{command}: {name} was removed"), Effect::Breaks);
            }
        }
        for (position, argument) in new.iter().enumerate() {
            let name = &argument.name;
            match lists.old.position(name) {
                Some(before) => {
                    if lists.is_moved(before, position) {
                        self.note(format!("{command}: {name} has moved"), Effect::Breaks);
                    }
                    self.compare_argument(command, &old[before], argument);
                }
                None if lists.is_renamed(position) => {
                    let old = &old[position];
                    let sentence = format!("{command}: {} is now called {name}", old.name);
                    self.note(sentence, Effect::Breaks);
                    self.compare_argument(command, old, argument);
                }
                None => self.note_added(command, argument, lists.new.next_common(position)),
            }
        }
    }

    /// Notes a new argument, with the next one behind it that the command had before.
    fn note_added(&mut self, command: &str, added: &Argument, next: Option<&str>) {
        let Argument {
            name,
            optional,
            rest,
            ..
        } = added;
        let (sentence, effect) = match next {
            Some(next) => (format!("{name} was added before {next}"), Effect::Breaks),
            None if *rest => (
                format!("{name} was added and takes all further arguments"),
                Effect::None,
            ),
            None if *optional => (format!("{name} was added and is optional"), Effect::None),
            None => (format!("{name} was added and is required"), Effect::Breaks),
        };
        self.note(format!("{command}: {sentence}"), effect);
    }

    fn compare_argument(&mut self, command: &str, old: &Argument, new: &Argument) {
        let what = format!("{command}: {}", new.name);
        match (old.rest, new.rest) {
            (true, false) => {
                let sentence = format!("{what} takes only one argument now");
                return self.note(sentence, Effect::Breaks);
            }
            (false, true) => {
                let sentence = format!("{what} takes all further arguments now");
                self.note(sentence, Effect::None);
            }
            _ => {}
        }
        match (old.optional, new.optional || new.rest) {
            (true, false) => self.note(format!("{what} became required"), Effect::Breaks),
            (false, true) if !new.rest && !old.rest => {
                self.note(format!("{what} became optional"), Effect::None);
            }
            _ => {}
        }
        self.compare_types(&what, old, new);
    }

    fn compare_types(&mut self, what: &str, old: &Argument, new: &Argument) {
        if !(old.schema.is_known() || new.schema.is_known()) {
            // Types of the author have a name at least.
            let (was, is) = (&old.type_name, &new.type_name);
            if was != is {
                self.note(format!("{what} was {was}, is {is}"), Effect::None);
            }
            return;
        }
        if !(old.schema.is_known() && new.schema.is_known()) {
            return self.compare(what, (&old.schema, &new.schema), Direction::In);
        }
        if let (Some(was), Some(is)) = (sent(old), sent(new)) {
            if was == is {
                return;
            }
            let difference = difference_of_values(what, (&was, &is), Direction::In, &self.budget);
            if let Some((sentence, effect)) = difference {
                self.note(sentence, effect);
            }
        }
    }
}

/// Returns the schema of the values that a caller sends. An optional argument may be `null`, which is left out: that it
/// is optional has its own sentence.
fn sent(argument: &Argument) -> Option<Value> {
    let schema = value(&argument.schema)?;
    match argument.optional {
        true => Some(without_null(schema)),
        false => Some(schema),
    }
}

fn without_null(mut schema: Value) -> Value {
    let null = json!("null");
    if let Some(types) = schema.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|one| *one != null);
    }
    if let Some(branches) = schema.get_mut("anyOf").and_then(Value::as_array_mut) {
        branches.retain(|branch| branch.get("type") != Some(&null));
    }
    schema
}

/// The arguments of a command in two files. What is asked for each argument is found in one pass over all.
struct Lists<'a> {
    old: List<'a>,
    new: List<'a>,
}

impl<'a> Lists<'a> {
    fn new(old: &'a [Argument], new: &'a [Argument]) -> Self {
        let [old_positions, new_positions] =
            [old, new].map(|all| by_name(all, |argument| &argument.name));
        let [common_in_old, common_in_new] =
            [common(old, &new_positions), common(new, &old_positions)];
        Lists {
            old: List {
                all: old,
                positions: old_positions,
                common: common_in_old,
            },
            new: List {
                all: new,
                positions: new_positions,
                common: common_in_new,
            },
        }
    }

    /// Returns whether the argument at a position has another name and is the same for the rest.
    fn is_renamed(&self, position: usize) -> bool {
        let (Some(one), Some(other)) = (self.old.all.get(position), self.new.all.get(position))
        else {
            return false;
        };
        let is_gone = self.new.position(&one.name).is_none();
        let is_new = self.old.position(&other.name).is_none();
        is_gone && is_new && one.type_name == other.type_name && one.rest == other.rest
    }

    /// Returns whether an argument stands behind others than before, of those that both have.
    fn is_moved(&self, before: usize, after: usize) -> bool {
        self.old.common_before(before) != self.new.common_before(after)
    }
}

/// The arguments of one file.
struct List<'a> {
    all: &'a [Argument],
    positions: HashMap<&'a str, usize>,
    /// The positions of the arguments whose names are in the other file too, in ascending order.
    common: Vec<usize>,
}

impl<'a> List<'a> {
    fn position(&self, name: &str) -> Option<usize> {
        self.positions.get(name).copied()
    }

    /// Returns the number of common arguments before a position.
    fn common_before(&self, position: usize) -> usize {
        self.common.partition_point(|common| *common < position)
    }

    /// Returns the name of the first common argument behind a position.
    fn next_common(&self, position: usize) -> Option<&'a str> {
        let next = self.common.get(self.common_before(position + 1))?;
        Some(&self.all[*next].name)
    }
}

/// Returns the positions of the arguments that another file has too.
fn common(all: &[Argument], others: &HashMap<&str, usize>) -> Vec<usize> {
    let positions = all.iter().enumerate();
    let common = positions.filter(|(_, one)| others.contains_key(one.name.as_str()));
    common.map(|(position, _)| position).collect()
}
