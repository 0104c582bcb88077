//! Short descriptions of schemas for people: `string`, `array of integer`, `string or null`.

use std::collections::HashSet;
use std::io;

use serde_json::Value;

use super::kinds::{self, Kind};
use super::parts::{Keywords, Parts, SchemaAt};

/// The deepest nesting that is described.
const DEPTH_MAX: usize = 4;

/// The most alternatives or values that are listed.
const LISTED_MAX: usize = 4;

/// The description of a schema that takes more work than the budget has.
const TOO_LARGE: &str = "schema with too many parts";

/// The most characters of a listed value.
const VALUE_CHARS_MAX: usize = 40;

/// Returns a short description of a schema.
pub(in crate::manifest) fn spoken(schema: SchemaAt<'_>) -> String {
    schema.budget.start_description();
    let described = of_parts(&schema.parts());
    match schema.budget.is_used_up() {
        true => TOO_LARGE.to_owned(),
        false => described,
    }
}

/// Returns a short description of a schema by its parts, within the budget of the present comparison.
pub(super) fn of_parts(parts: &Parts<'_>) -> String {
    at_depth(parts, 0)
}

/// Returns a short description of the keywords of one object.
pub(super) fn of_keywords(keywords: Keywords<'_>) -> String {
    of_parts(&keywords.alone())
}

/// Returns a short description of alternatives.
pub(super) fn of_alternatives(branches: &[Parts<'_>]) -> String {
    joined(branches.iter().map(of_parts))
}

/// Returns a value as JSON, cut short.
pub(super) fn of_value(value: &Value) -> String {
    let mut start = Start::default();
    // It ends with an error where the start is full.
    let _ = serde_json::to_writer(&mut start, value);
    let text = String::from_utf8_lossy(&start.bytes);
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

/// The start of a text. A listed value may be long, and no more of it is shown.
#[derive(Default)]
struct Start {
    bytes: Vec<u8>,
}

impl io::Write for Start {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        /// Room for one character more than is shown. None has more than four bytes.
        const BYTES_MAX: usize = 4 * (VALUE_CHARS_MAX + 1);
        let taken = bytes.len().min(BYTES_MAX - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn at_depth(parts: &Parts<'_>, depth: usize) -> String {
    if parts.is_false {
        return "nothing".to_owned();
    }
    if !parts.budget.take(parts.weight) {
        return TOO_LARGE.to_owned();
    }
    if parts.is_open {
        return "a schema that can't be read".to_owned();
    }
    if let Some(listed) = parts.listed() {
        return match listed.len() {
            0 => "nothing".to_owned(),
            count if count > LISTED_MAX => format!("one of {count} values"),
            _ => joined(listed.iter().map(of_value)),
        };
    }
    match parts.split().filter(|_| depth < DEPTH_MAX) {
        Some(cases) => joined(cases.map(|case| at_depth(&case, depth + 1))),
        None => of_kinds(parts, depth),
    }
}

fn of_kinds(parts: &Parts<'_>, depth: usize) -> String {
    let kinds = kinds::of_parts(parts);
    let is_any = [Kind::Null, Kind::Text, Kind::Array, Kind::Object];
    if is_any.iter().all(|kind| kinds.contains(kind)) {
        return "any".to_owned();
    }
    let is_number = kinds.contains(&Kind::Fraction);
    let words = kinds
        .iter()
        .filter(|kind| **kind != Kind::Integer || !is_number);
    joined(words.map(|kind| of_kind(*kind, parts, depth)))
}

fn of_kind(kind: Kind, parts: &Parts<'_>, depth: usize) -> String {
    let inner = match kind {
        Kind::Array => parts
            .objects
            .iter()
            .find_map(|object| object.schema("items")),
        Kind::Object if parts.objects.iter().all(|one| one.names().next().is_none()) => {
            let mut objects = parts.objects.iter();
            objects.find_map(|object| object.schema("additionalProperties"))
        }
        _ => None,
    };
    let inner = inner.filter(|schema| depth < DEPTH_MAX && schema.at.is_object());
    match inner {
        Some(schema) => format!(
            "{} of {}",
            kind.name(),
            at_depth(&schema.parts(), depth + 1)
        ),
        None => kind.name().to_owned(),
    }
}

fn joined(words: impl Iterator<Item = String>) -> String {
    let mut first: Vec<String> = Vec::new();
    let mut distinct: HashSet<String> = HashSet::new();
    for word in words {
        if first.len() < LISTED_MAX && !distinct.contains(&word) {
            first.push(word.clone());
        }
        distinct.insert(word);
    }
    match distinct.len() {
        0 => "nothing".to_owned(),
        count if count > LISTED_MAX => format!("one of {count} forms"),
        _ => first.join(" or "),
    }
}
