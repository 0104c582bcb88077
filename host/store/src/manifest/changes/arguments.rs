//! The comparison of a command's arguments. Callers send them by position or by name, so both count.

use serde_json::{Value, json};

use super::{Direction, Effect, Findings, difference_of_values, value};
use crate::manifest::Argument;

impl Findings {
    pub(super) fn compare_arguments(&mut self, command: &str, old: &[Argument], new: &[Argument]) {
        let renamed = |position: usize| is_renamed((old, new), position);
        for (position, argument) in old.iter().enumerate() {
            let name = &argument.name;
            if position_of(new, name).is_none() && !renamed(position) {
                self.note(format!("{command}: {name} was removed"), Effect::Breaks);
            }
        }
        for (position, argument) in new.iter().enumerate() {
            let name = &argument.name;
            match position_of(old, name) {
                Some(before) => {
                    if is_moved((old, new), (before, position)) {
                        self.note(format!("{command}: {name} has moved"), Effect::Breaks);
                    }
                    self.compare_argument(command, &old[before], argument);
                }
                None if renamed(position) => {
                    let old = &old[position];
                    let sentence = format!("{command}: {} is now called {name}", old.name);
                    self.note(sentence, Effect::Breaks);
                    self.compare_argument(command, old, argument);
                }
                None => self.note_added(command, (old, new), position),
            }
        }
    }

    fn note_added(&mut self, command: &str, (old, new): (&[Argument], &[Argument]), at: usize) {
        let Argument {
            name,
            optional,
            rest,
            ..
        } = &new[at];
        let after = new[at + 1..].iter();
        let next = after
            .map(|one| &one.name)
            .find(|one| position_of(old, one).is_some());
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
            if let Some((sentence, effect)) = difference_of_values(what, (&was, &is), Direction::In)
            {
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

fn position_of(arguments: &[Argument], name: &str) -> Option<usize> {
    arguments.iter().position(|argument| argument.name == name)
}

/// Returns whether the argument at a position has another name and is the same for the rest.
fn is_renamed((old, new): (&[Argument], &[Argument]), position: usize) -> bool {
    let (Some(one), Some(other)) = (old.get(position), new.get(position)) else {
        return false;
    };
    let is_gone = position_of(new, &one.name).is_none() && position_of(old, &other.name).is_none();
    let is_same = one.type_name == other.type_name && one.rest == other.rest;
    is_gone && is_same
}

/// Returns whether an argument stands behind others than before, of those that both have.
fn is_moved((old, new): (&[Argument], &[Argument]), (before, after): (usize, usize)) -> bool {
    let common = |all: &[Argument], others: &[Argument]| -> usize {
        let is_common = |one: &&Argument| position_of(others, &one.name).is_some();
        all.iter().filter(is_common).count()
    };
    common(&old[..before], new) != common(&new[..after], old)
}
