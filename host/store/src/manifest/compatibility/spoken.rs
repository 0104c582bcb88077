//! Short descriptions of schemas for people: `string`, `array of integer`, `string or null`.

use serde_json::Value;

use super::kinds::{self, Kind};
use super::parts::{Keywords, Parts, SchemaAt};

/// The deepest nesting that is described.
const DEPTH_MAX: usize = 4;

/// The most alternatives or values that are listed.
const LISTED_MAX: usize = 4;

/// The most characters of a listed value.
const VALUE_CHARS_MAX: usize = 40;

/// Returns a short description of a schema.
pub(in crate::manifest) fn spoken(schema: SchemaAt<'_>) -> String {
    of_parts(&schema.parts())
}

/// Returns a short description of a schema by its parts.
pub(super) fn of_parts(parts: &Parts<'_>) -> String {
    at_depth(parts, 0)
}

/// Returns a short description of the keywords of one object.
pub(super) fn of_keywords(keywords: Keywords<'_>) -> String {
    let parts = Parts {
        objects: vec![keywords],
        ..Parts::default()
    };
    of_parts(&parts)
}

/// Returns a short description of alternatives.
pub(super) fn of_alternatives(branches: &[Parts<'_>]) -> String {
    joined(branches.iter().map(of_parts).collect())
}

/// Returns a value as JSON, cut short.
pub(super) fn of_value(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn at_depth(parts: &Parts<'_>, depth: usize) -> String {
    if parts.is_false {
        return "nothing".to_owned();
    }
    if parts.is_open {
        return "a schema that can't be read".to_owned();
    }
    if let Some(listed) = parts.listed() {
        return match listed.len() {
            0 => "nothing".to_owned(),
            count if count > LISTED_MAX => format!("one of {count} values"),
            _ => joined(listed.into_iter().map(of_value).collect()),
        };
    }
    match parts.split().filter(|_| depth < DEPTH_MAX) {
        Some(cases) => joined(cases.iter().map(|case| at_depth(case, depth + 1)).collect()),
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
    joined(words.map(|kind| of_kind(*kind, parts, depth)).collect())
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

fn joined(words: Vec<String>) -> String {
    let mut distinct: Vec<String> = Vec::new();
    for word in words {
        if !distinct.contains(&word) {
            distinct.push(word);
        }
    }
    match distinct.len() {
        0 => "nothing".to_owned(),
        count if count > LISTED_MAX => format!("one of {count} forms"),
        _ => distinct.join(" or "),
    }
}
