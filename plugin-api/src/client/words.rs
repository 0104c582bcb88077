//! A schema in a few words, for the error of a client that doesn't fit.

use std::fmt::Write as _;

use serde_json::Value;

/// The most alternatives that are named. An error is one line.
pub const NAMED_MAX: usize = 4;
/// The depth to which the parts of a schema are named.
const DEPTH_MAX: usize = 3;

/// Returns the values that a schema describes, by its alternatives: `an integer from 0 to 255`, `a string or null`. Each
/// alternative is the schemas that hold at once in it.
pub fn of<'v>(alternatives: impl Iterator<Item = &'v [&'v Value]>) -> String {
    let mut alternatives = alternatives.peekable();
    match alternatives.peek() {
        Some(_) => any_of(alternatives, at_once),
        None => "no value".to_owned(),
    }
}

/// Describes the schemas that hold at once by the first that says something. An object has the members of all of them.
fn at_once(parts: &[&Value]) -> String {
    let says = |part: &&&Value| {
        ["enum", "const", "type"]
            .iter()
            .any(|key| part.get(key).is_some())
    };
    let Some(first) = parts.iter().find(says) else {
        return "any value".to_owned();
    };
    match first["type"] == "object" {
        true => object(parts),
        false => without_union(first, 0),
    }
}

fn at_depth(schema: &Value, depth: usize) -> String {
    if depth > DEPTH_MAX {
        return "a value".to_owned();
    }
    for union in ["anyOf", "oneOf"] {
        if let Some(all) = schema[union].as_array() {
            return any_of(all.iter(), |one| at_depth(one, depth + 1));
        }
    }
    without_union(schema, depth)
}

fn without_union(schema: &Value, depth: usize) -> String {
    if let Some(values) = schema["enum"].as_array() {
        return any_of(values.iter(), Value::to_string);
    }
    if !schema["const"].is_null() {
        return schema["const"].to_string();
    }
    match &schema["type"] {
        Value::String(name) => of_type(name, schema, depth),
        Value::Array(names) if names.len() < 6 => {
            let names = names.iter().filter_map(Value::as_str);
            any_of(names, |name| of_type(name, schema, depth))
        }
        _ => "any value".to_owned(),
    }
}

/// Names the first alternatives. No word is made for the others, which may be very many.
fn any_of<T>(mut all: impl Iterator<Item = T>, word: impl Fn(T) -> String) -> String {
    let mut named: Vec<String> = all.by_ref().take(NAMED_MAX + 1).map(word).collect();
    named.dedup();
    let more = named.len() > NAMED_MAX || all.next().is_some();
    named.truncate(NAMED_MAX);
    let mut text = named.join(" or ");
    if more {
        text.push_str(" or …");
    }
    text
}

fn of_type(name: &str, schema: &Value, depth: usize) -> String {
    match name {
        "null" => "null".to_owned(),
        "boolean" => "true or false".to_owned(),
        "integer" => format!("an integer{}", range(schema, "minimum", "maximum", "")),
        "number" => format!("a number{}", range(schema, "minimum", "maximum", "")),
        "string" => {
            let range = range(schema, "minLength", "maxLength", " characters");
            match schema["contentEncoding"].as_str() {
                Some(encoding) => format!("a string in {encoding}{range}"),
                None => format!("a string{range}"),
            }
        }
        "array" => array(schema, depth),
        "object" => object(&[schema]),
        other => other.to_owned(),
    }
}

fn range(schema: &Value, least: &str, most: &str, unit: &str) -> String {
    match (&schema[least], &schema[most]) {
        (Value::Null, Value::Null) => String::new(),
        (least, Value::Null) => format!(" from {least}{unit}"),
        (Value::Null, most) => format!(" up to {most}{unit}"),
        (least, most) if least == most => {
            let unit = if *least == 1 {
                unit.trim_end_matches('s')
            } else {
                unit
            };
            format!(" of {least}{unit}")
        }
        (least, most) => format!(" from {least} to {most}{unit}"),
    }
}

fn array(schema: &Value, depth: usize) -> String {
    let range = range(schema, "minItems", "maxItems", " elements");
    match &schema["items"] {
        Value::Object(_) => {
            let of = at_depth(&schema["items"], depth + 1);
            format!("an array{range}, each {of}")
        }
        _ => format!("an array{range}"),
    }
}

fn object(parts: &[&Value]) -> String {
    let members = parts
        .iter()
        .filter_map(|part| part["properties"].as_object());
    let mut names: Vec<&String> = Vec::new();
    for name in members.flat_map(|all| all.keys().take(NAMED_MAX + 1)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut text = "an object".to_owned();
    for (index, name) in names.iter().take(NAMED_MAX).enumerate() {
        let _ = write!(text, "{}`{name}`", if index == 0 { " with " } else { ", " });
    }
    if names.len() > NAMED_MAX {
        text.push('…');
    }
    text
}
