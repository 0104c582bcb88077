//! Suggestions for the word that is being typed behind a daemon's name: commands, names of arguments, and values.
//!
//! They come from what the daemon publishes about its commands, and nothing is asked or read here. The shells'
//! completions and the prompt of `connect` share them.
//!
//! A daemon of any make can publish any name. Only names without characters that a shell interprets are suggested, so
//! that a completed word is never more than a word.

use std::collections::BTreeSet;

use serde_json::Value;

use super::call::is_boolean;
use super::signatures::{CommandSchema, Commands, Parameter};

/// The deepest nesting of schemas whose values are suggested. It bounds the stack and the work.
const DEPTH_MAX: u32 = 6;

/// The most values that are suggested for one argument: more fit no screen.
const VALUES_MAX: usize = 200;

/// A word that may follow.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Suggestion {
    /// The whole word.
    pub(super) word: String,
    /// Its meaning in a few words; empty for none.
    pub(super) about: String,
}

impl Suggestion {
    fn new(word: impl Into<String>, about: impl Into<String>) -> Self {
        Suggestion {
            word: word.into(),
            about: about.into(),
        }
    }
}

/// Returns the words that may stand where `current` is being typed. `before` are the command's name and the words
/// between it and `current`.
pub(super) fn words(commands: &Commands, before: &[&str], current: &str) -> Vec<Suggestion> {
    let mut all = match before.split_first() {
        None => {
            let names = commands.iter();
            names
                .map(|(name, help)| Suggestion::new(name, help.summary()))
                .collect()
        }
        Some((&"help", [])) => commands
            .keys()
            .map(|name| Suggestion::new(name, ""))
            .collect(),
        Some((command, words)) => {
            let help = commands.get(*command);
            let schema = help.and_then(|help| help.schema.as_ref());
            schema.map_or_else(Vec::new, |schema| arguments(schema, words, current))
        }
    };
    all.retain(|one| one.word.starts_with(current) && is_plain(&one.word));
    all
}

/// Returns whether a shell takes the word as it is.
pub(super) fn is_plain(word: &str) -> bool {
    let is_harmless = |c: char| c.is_alphanumeric() || "_-.=+:/@,".contains(c);
    !word.is_empty() && word.chars().all(is_harmless)
}

fn arguments(schema: &CommandSchema, words: &[&str], current: &str) -> Vec<Suggestion> {
    let typed = TypedWords::read(schema, words);
    if let Some(parameter) = typed.awaits {
        return values(parameter, "");
    }
    let option = current.strip_prefix("--");
    if let Some((name, _)) = option.and_then(|option| option.split_once('=')) {
        let parameter = named(schema, name);
        return parameter.map_or_else(Vec::new, |one| values(one, &format!("--{name}=")));
    }
    let mut all = Vec::new();
    if option.is_none() {
        let here = typed.is_at(schema);
        all.extend(here.map(|one| values(one, "")).unwrap_or_default());
    }
    let free = (0..).zip(&schema.arguments).filter(|(at, one)| {
        one.rest || *at >= typed.positions && !typed.names.contains(one.name.as_str())
    });
    for (_, one) in free {
        all.push(Suggestion::new(format!("--{}", one.name), &one.description));
        if is_boolean(&one.schema) {
            all.push(Suggestion::new(format!("--no-{}", one.name), ""));
        }
    }
    all
}

fn named<'a>(schema: &'a CommandSchema, name: &str) -> Option<&'a Parameter> {
    let with_name = |name: &str| schema.arguments.iter().find(|one| one.name == name);
    with_name(name).or_else(|| with_name(&name.replace('-', "_")))
}

/// The complete words behind a command's name.
struct TypedWords<'a> {
    /// The number of words without a name.
    positions: usize,
    /// The arguments that were given by their names.
    names: BTreeSet<&'a str>,
    /// The argument whose name was the last word, and whose value follows.
    awaits: Option<&'a Parameter>,
}

impl<'a> TypedWords<'a> {
    fn read(schema: &'a CommandSchema, words: &[&str]) -> Self {
        let mut typed = TypedWords {
            positions: 0,
            names: BTreeSet::new(),
            awaits: None,
        };
        for word in words {
            let Some(option) = word.strip_prefix("--") else {
                typed.positions += usize::from(typed.awaits.take().is_none());
                continue;
            };
            let (name, has_value) = match option.split_once('=') {
                Some((name, _)) => (name, true),
                None => (option, false),
            };
            let one = named(schema, name);
            typed.names.extend(one.map(|one| one.name.as_str()));
            typed.awaits = one.filter(|one| !has_value && !is_boolean(&one.schema));
        }
        typed
    }

    /// Returns the argument that the next word without a name gives.
    fn is_at(&self, schema: &'a CommandSchema) -> Option<&'a Parameter> {
        let last = schema.arguments.last().filter(|one| one.rest);
        schema.arguments.get(self.positions).or(last)
    }
}

fn values(parameter: &Parameter, prefix: &str) -> Vec<Suggestion> {
    let mut found = Vec::new();
    collect(&parameter.schema, &parameter.schema, DEPTH_MAX, &mut found);
    let values = found.into_iter();
    values
        .map(|value| Suggestion::new(format!("{prefix}{value}"), ""))
        .collect()
}

/// Collects the values that a schema lists: of `enum` and `const`, and both booleans.
fn collect(root: &Value, schema: &Value, depth: u32, found: &mut Vec<String>) {
    let Some(members) = schema.as_object() else {
        return;
    };
    let mut add = |value: &Value| {
        let text = match value {
            Value::Null => return,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if found.len() < VALUES_MAX && !found.contains(&text) {
            found.push(text);
        }
    };
    let listed = members.get("enum").and_then(Value::as_array);
    listed.into_iter().flatten().for_each(&mut add);
    members.get("const").into_iter().for_each(&mut add);
    if members.get("type").is_some_and(|name| name == "boolean") {
        [true, false].map(Value::Bool).iter().for_each(&mut add);
    }
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    let parts = ["anyOf", "oneOf", "allOf"].map(|keyword| members.get(keyword));
    for part in parts.into_iter().flatten().filter_map(Value::as_array) {
        let parts = part.iter().take(VALUES_MAX);
        parts.for_each(|part| collect(root, part, depth, found));
    }
    let path = members.get("$ref").and_then(Value::as_str);
    let path = path.and_then(|path| path.strip_prefix('#'));
    if let Some(referred) = path.and_then(|path| root.pointer(path)) {
        collect(root, referred, depth, found);
    }
}

#[cfg(test)]
mod tests {
    use super::super::signatures;
    use super::*;
    use serde_json::json;
    use serde_json::value::to_raw_value;

    fn commands() -> Commands {
        let colour = json!({
            "$ref": "#/$defs/Colour",
            "$defs": {"Colour": {"oneOf": [{"const": "red"}, {"enum": ["green", "dark blue"]}]}},
        });
        let answer = json!({
            "paint": {
                "signature": "paint(colour: Colour, loud: boolean, coats?: integer)",
                "doc": "Paints it.\nTwice.",
                "schema": {"arguments": [
                    {"name": "colour", "schema": colour, "description": "the colour"},
                    {"name": "loud", "schema": {"type": "boolean"}},
                    {"name": "at_most", "schema": {"type": ["integer", "null"], "enum": [1, 2, null]}, "optional": true},
                ]},
            },
            "print": {"signature": "print()"},
            "$(reboot)": {"signature": "x()"},
        });
        signatures::commands(&to_raw_value(&answer).expect("JSON")).expect("commands")
    }

    fn check(cases: &[(&[&str], &str, &[&str])]) {
        let commands = commands();
        for (before, current, expected) in cases {
            let found = words(&commands, before, current);
            let found: Vec<&str> = found.iter().map(|one| one.word.as_str()).collect();
            assert_eq!(found, *expected, "{before:?} {current:?}");
        }
    }

    #[test]
    fn a_commands_name_comes_first() {
        check(&[
            (&[], "", &["paint", "print"]),
            (&[], "pa", &["paint"]),
            (&["help"], "pr", &["print"]),
            (&["nothing"], "", &[]),
            (&["print"], "", &[]),
        ]);
        let about = words(&commands(), &[], "pai").remove(0).about;
        assert_eq!(about, "Paints it.");
    }

    #[test]
    fn each_argument_has_its_values_and_each_free_one_its_name() {
        let all = ["--colour", "--loud", "--no-loud", "--at_most"];
        let first = [&["red", "green"], &all[..]].concat();
        check(&[
            (&["paint"], "r", &["red"]),
            (&["paint"], "", &first),
            (&["paint"], "--", &all),
            (&["paint"], "--colour=g", &["--colour=green"]),
            (&["paint", "--colour"], "", &["red", "green"]),
            (&["paint", "--at-most"], "", &["1", "2"]),
            (&["paint", "red"], "t", &["true"]),
            (&["paint", "red"], "--c", &[]),
            (&["paint", "--colour=red"], "--", &all[1..]),
            (&["paint", "red", "true", "1"], "", &[]),
            (&["paint", "--loud", "red", "true"], "-", &["--at_most"]),
        ]);
    }

    #[test]
    fn a_schema_that_refers_to_itself_has_an_end() {
        let schema = json!({"anyOf": [{"$ref": "#"}, {"$ref": "#"}, {"const": 1}]});
        let mut found = Vec::new();
        collect(&schema, &schema, DEPTH_MAX, &mut found);
        assert_eq!(found, ["1"]);
    }
}
