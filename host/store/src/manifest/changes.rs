//! Compares two plugin files, to report what changes for callers. Pure functions.
//!
//! A caller sends arguments by position or by name, reads results, and hears events. So an argument may become wider and a
//! result narrower; anything else breaks a caller. Doc comments, the kind of a command and its time limit don't count.

use super::compatibility::{self, Budget, SchemaAt, Unlisted};
use super::{Command, Event, Manifest, Schema};
use crate::report::CommandChanges;
use crate::settings::Settings;
use std::collections::HashMap;

mod arguments;

/// Returns the changes from `before` to `after`. Each list is in the order of its file.
#[must_use]
pub fn changes(before: &Manifest, after: &Manifest) -> CommandChanges {
    let mut found = Findings::default();
    found.compare_names(&before.commands, &after.commands);
    found.are_schemas_new = knows_schemas(before) != knows_schemas(after);
    if found.are_schemas_new {
        let word = if knows_schemas(after) {
            "now"
        } else {
            "no longer"
        };
        found.note(format!("its schemas are {word} known"), Effect::None);
    }
    let old = by_name(&before.commands, |one| &one.name);
    for new in &after.commands {
        if let Some(old) = old.get(new.name.as_str()) {
            found.compare_commands(&before.commands[*old], new);
        }
    }
    found.compare_events(&before.events, &after.events);
    found.compare_configs(before.config.as_ref(), after.config.as_ref());
    found.changes
}

/// Refuses changes that break a caller, if the request or else the daemon's settings say so.
///
/// # Errors
/// Each change that breaks a caller, and the ways out.
pub fn check_strict(
    changes: &CommandChanges,
    asked: Option<bool>,
    settings: &Settings,
) -> Result<(), String> {
    if changes.breaks.is_empty() || !asked.unwrap_or(settings.strict) {
        return Ok(());
    }
    Err(format!(
        "it breaks callers, which `strict` refuses: {}; change the code, or repeat this with `strict` false",
        changes.breaks.join("; ")
    ))
}

/// Returns the positions by name. Of several with one name, the first counts.
fn by_name<T>(all: &[T], name: impl Fn(&T) -> &String) -> HashMap<&str, usize> {
    let mut positions = HashMap::with_capacity(all.len());
    for (position, one) in all.iter().enumerate() {
        positions.entry(name(one).as_str()).or_insert(position);
    }
    positions
}

/// Returns whether the file has any schema. One that was built before there were schemas has none.
fn knows_schemas(manifest: &Manifest) -> bool {
    let arguments = |command: &Command| command.arguments.iter().any(|a| a.schema.is_known());
    let mut commands = manifest.commands.iter();
    manifest.commands.is_empty() || commands.any(|one| one.result.is_known() || arguments(one))
}

/// The effect of a change on callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    None,
    Breaks,
}

/// The direction in which values of a schema go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// From callers to the daemon.
    In,
    /// From the daemon to callers.
    Out,
}

/// The changes found so far.
#[derive(Default)]
struct Findings {
    changes: CommandChanges,
    /// True if only one of the files has schemas. That is reported once.
    are_schemas_new: bool,
    /// The budget of all comparisons of schemas.
    budget: Budget,
}

impl Findings {
    fn note(&mut self, sentence: String, effect: Effect) {
        if effect == Effect::Breaks {
            self.changes.breaks.push(sentence.clone());
        }
        self.changes.callers.push(sentence);
    }

    /// Finds the commands that came and went, and those with another signature.
    fn compare_names(&mut self, before: &[Command], after: &[Command]) {
        let [old, new] = [before, after].map(|all| by_name(all, |one| &one.name));
        for command in after {
            let signature = command.signature();
            let old = old.get(command.name.as_str());
            match old.map(|position| before[*position].signature()) {
                None => {
                    self.note(format!("added {signature}"), Effect::None);
                    self.changes.added.push(signature);
                }
                Some(old) if old != signature => {
                    let changed = format!("{signature}, before {old}");
                    self.changes.changed.push(changed);
                }
                Some(_) => {}
            }
        }
        for command in before {
            if !new.contains_key(command.name.as_str()) {
                let signature = command.signature();
                self.note(format!("removed {signature}"), Effect::Breaks);
                self.changes.removed.push(signature);
            }
        }
    }

    fn compare_commands(&mut self, old: &Command, new: &Command) {
        self.compare_arguments(&new.name, &old.arguments, &new.arguments);
        let result = format!("{}: result", new.name);
        self.compare(&result, (&old.result, &new.result), Direction::Out);
        for (mark, was, is, lost) in [
            ("read-only", old.read_only, new.read_only, Effect::Breaks),
            ("idempotent", old.idempotent, new.idempotent, Effect::Breaks),
            (
                "destructive",
                old.destructive,
                new.destructive,
                Effect::None,
            ),
        ] {
            // To destroy something is new for callers when it comes, any other mark when it goes.
            let gained = match lost {
                Effect::Breaks => Effect::None,
                Effect::None => Effect::Breaks,
            };
            match (was, is) {
                (true, false) => self.note(format!("{}: is no longer {mark}", new.name), lost),
                (false, true) => self.note(format!("{}: is now {mark}", new.name), gained),
                _ => {}
            }
        }
    }

    fn compare_events(&mut self, before: &[Event], after: &[Event]) {
        let [old_events, new_events] = [before, after].map(|all| by_name(all, |one| &one.name));
        for new in after {
            let name = &new.name;
            let old = old_events.get(name.as_str());
            let Some(old) = old.map(|position| &before[*position]) else {
                self.note(format!("added the event {name}"), Effect::None);
                continue;
            };
            let (was, is) = (old.arguments.len(), new.arguments.len());
            if was != is {
                let sentence = format!("event {name}: had {was} arguments, has {is}");
                self.note(sentence, Effect::Breaks);
                continue;
            }
            for (old, new) in old.arguments.iter().zip(&new.arguments) {
                let what = format!("event {name}: {}", new.name);
                self.compare(&what, (&old.schema, &new.schema), Direction::Out);
            }
        }
        for old in before {
            if !new_events.contains_key(old.name.as_str()) {
                self.note(format!("removed the event {}", old.name), Effect::Breaks);
            }
        }
    }

    /// Compares configs. A config that the new code refuses ends the reload, so no change of it breaks a caller.
    fn compare_configs(&mut self, old: Option<&Schema>, new: Option<&Schema>) {
        let difference = match (old, new) {
            (Some(old), Some(new)) => self.difference("config", (old, new), Direction::In),
            (None, Some(_)) => Some(("added a config".to_owned(), Effect::None)),
            (Some(_), None) => Some(("removed its config".to_owned(), Effect::None)),
            (None, None) => None,
        };
        if let Some((sentence, _)) = difference {
            self.note(sentence, Effect::None);
        }
    }

    fn compare(&mut self, what: &str, schemas: (&Schema, &Schema), direction: Direction) {
        if let Some((sentence, effect)) = self.difference(what, schemas, direction) {
            self.note(sentence, effect);
        }
    }

    /// Returns the difference of two schemas as a sentence, with its effect.
    fn difference(
        &self,
        what: &str,
        (old, new): (&Schema, &Schema),
        direction: Direction,
    ) -> Option<(String, Effect)> {
        if old == new {
            return None;
        }
        match (old.is_known(), new.is_known()) {
            (true, true) => {}
            _ if self.are_schemas_new => return None,
            (false, _) => {
                let is = words(&value(new)?, &self.budget);
                return Some((format!("{what} was unknown, is {is}"), Effect::None));
            }
            (true, false) => {
                let was = words(&value(old)?, &self.budget);
                return Some((format!("{what} was {was}, is unknown"), Effect::None));
            }
        }
        let schemas = (&value(old)?, &value(new)?);
        difference_of_values(what, schemas, direction, &self.budget)
    }
}

fn words(schema: &serde_json::Value, budget: &Budget) -> String {
    compatibility::spoken(SchemaAt::whole(schema, budget))
}

/// Returns a schema as JSON. A schema is always JSON.
fn value(schema: &Schema) -> Option<serde_json::Value> {
    serde_json::from_str(schema.text()).ok()
}

/// Returns the difference of two schemas, of which neither is unknown.
fn difference_of_values(
    what: &str,
    (old, new): (&serde_json::Value, &serde_json::Value),
    direction: Direction,
    budget: &Budget,
) -> Option<(String, Effect)> {
    let [old, new] = [old, new].map(|schema| SchemaAt::whole(schema, budget));
    let breaking = match direction {
        Direction::In => compatibility::accepts(new, old, Unlisted::Differ),
        Direction::Out => compatibility::accepts(old, new, Unlisted::Ignored),
    };
    let in_words = |mismatch: &compatibility::Mismatch, is_new_wide: bool| {
        if mismatch.path.is_empty() && !mismatch.is_open {
            let [was, is] = [old, new].map(compatibility::spoken);
            if was != is {
                return format!("{what} was {was}, is {is}");
            }
        }
        sentence(what, mismatch, is_new_wide)
    };
    if let Err(mismatch) = breaking {
        let sentence = in_words(&mismatch, direction == Direction::In);
        return Some((sentence, Effect::Breaks));
    }
    // Nothing breaks, so each difference is one that callers need not know.
    [(new, old, true), (old, new, false)]
        .into_iter()
        .find_map(|(wide, narrow, is_new_wide)| {
            let mismatch = compatibility::accepts(wide, narrow, Unlisted::Differ).err()?;
            Some((in_words(&mismatch, is_new_wide), Effect::None))
        })
}

/// Returns a difference in words: `result.zip was string, is integer`.
fn sentence(what: &str, mismatch: &compatibility::Mismatch, is_new_wide: bool) -> String {
    let (old, new) = match is_new_wide {
        true => (&mismatch.narrow, &mismatch.wide),
        false => (&mismatch.wide, &mismatch.narrow),
    };
    let place = format!("{what}{}", mismatch.path);
    let changed = match old == new {
        true => format!("{place} is another {new}"),
        false => format!("{place} was {old}, is {new}"),
    };
    match mismatch.is_open {
        true => format!("{changed}, which can't be compared"),
        false => changed,
    }
}

#[cfg(test)]
mod tests;
