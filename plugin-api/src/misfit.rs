//! Error messages for JSON that a type doesn't take, in the terms of JSON and with the place.
//!
//! serde uses Rust's terms ("invalid type: map, expected u8"), which the reader of the message may not know. This
//! module translates the finished message, because serde gives a type's expectation only as text. An unknown message
//! stays as it is.

mod place;

use std::borrow::Cow;

pub use place::{JsonPath, locate};

/// The message of serde_json for a text that nests too deep.
const TOO_DEEP: &str = "recursion limit exceeded";

/// Explains why a type didn't take `text`: the place, what was expected and what came.
#[must_use]
pub fn explain(error: &serde_json::Error, text: &str) -> String {
    let (path, what) = parts(error, text);
    match path.is_empty() {
        true => what,
        false => format!("at {path}: {what}"),
    }
}

/// Returns the first `chars_max` characters of a text, and a sign that more follow.
#[must_use]
pub fn shortened(text: &str, chars_max: usize) -> Cow<'_, str> {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// Returns the path to the error, such as `.list[3].x`, and the explanation.
#[must_use]
pub fn parts(error: &serde_json::Error, text: &str) -> (String, String) {
    let mut place = locate(text, offset_of(error, text));
    let message = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    let message = message.strip_suffix(&position).unwrap_or(&message);
    // Such an array is refused behind its bracket.
    if message.starts_with("invalid type: sequence, expected struct ") {
        place.leave();
    }
    // A path of 127 steps doesn't help a reader.
    let path = if message == TOO_DEEP {
        String::new()
    } else {
        place.path()
    };
    (path, translated(message, place.last))
}

/// Translates a message of serde into the terms of JSON, without a place.
#[must_use]
pub fn say(message: &str) -> String {
    translated(message, "")
}

/// Translates a message of the `json5` crate, which ends with its position, into the terms of JSON.
#[must_use]
pub fn say_of_json5(message: &str) -> String {
    match message.rsplit_once(" at line ") {
        Some((what, position)) => format!("{} at line {position}", translated(what, "")),
        None => translated(message, ""),
    }
}

/// Converts a path in a command's arguments to a path in one of them, such as `, at .x`, to follow its number.
///
/// If the arguments are an array, the path begins with the argument's index.
#[must_use]
pub fn inside_argument(path: &str, arguments: &str) -> String {
    let inside = match arguments.starts_with('[') {
        true => path.split_once(']').map_or("", |(_, inside)| inside),
        false => path,
    };
    match inside {
        "" => String::new(),
        inside => format!(", at {inside}"),
    }
}

/// Returns the error's position in the text, in bytes.
fn offset_of(error: &serde_json::Error, text: &str) -> usize {
    let lines_before = error.line().saturating_sub(1);
    let lines = text.split_inclusive('\n').take(lines_before);
    let start: usize = lines.map(str::len).sum();
    (start + error.column()).min(text.len())
}

/// Translates a message. `last` is the value that it is about, or empty if that isn't known.
fn translated(message: &str, last: &str) -> String {
    let rest = |start: &str| message.strip_prefix(start);
    if let Some((got, expected)) = rest("invalid type: ")
        .or(rest("invalid value: "))
        .and_then(|both| both.rsplit_once(", expected "))
    {
        return format!("expected {}, got {}", wanted(expected), came(got, last));
    }
    if let Some((length, expected)) =
        rest("invalid length ").and_then(|both| both.split_once(", expected "))
    {
        return format!("expected {}, got {length} of them", wanted(expected));
    }
    if let Some(name) = rest("missing field ") {
        return format!("the member {name} is missing");
    }
    if let Some(name) = rest("duplicate field ") {
        return format!("the member {name} is there twice");
    }
    if let Some((name, known)) = rest("unknown field ").and_then(|both| both.split_once(", ")) {
        let known = known.replace("there are no fields", "there are none");
        return format!("the member {name} is not known; {known}");
    }
    if let Some((name, known)) = rest("unknown variant ").and_then(|both| both.split_once(", ")) {
        let known = known.replace("there are no variants", "nothing is");
        return format!("the name {name} is not known here; {known}");
    }
    if message.starts_with("data did not match any variant") {
        return "it has none of the forms that are taken here".to_owned();
    }
    syntax(message).unwrap_or(message).to_owned()
}

/// Returns the explanation for a message of serde_json's reader about valid JSON that it doesn't take.
fn syntax(message: &str) -> Option<&'static str> {
    Some(match message {
        TOO_DEEP => "arrays and objects nest deeper than 127 levels",
        "number out of range" => "the number is too large for what is taken here",
        "trailing characters" => "there are more elements than are taken here",
        "expected value" => {
            "expected one of the known names, as a string or as an object's only member"
        }
        "lone leading surrogate in hex escape" | "unexpected end of hex escape" => {
            "a string holds half a surrogate pair, such as \\ud800, which is no character"
        }
        "EOF while parsing a value" => "it is empty",
        _ => return None,
    })
}

/// Returns the expectation of a type in the terms of JSON.
fn wanted(expected: &str) -> Cow<'_, str> {
    if let Some(range) = range(expected) {
        return format!("a number, whole and {range}").into();
    }
    if let Some(range) = expected.strip_prefix("a nonzero ").and_then(range) {
        return format!("a number, whole, other than 0 and {range}").into();
    }
    let elements = ["a tuple of size ", "an array of length "];
    if let Some(count) = elements
        .iter()
        .find_map(|start| expected.strip_prefix(start))
    {
        return elements_of(count);
    }
    let first_words = |count: usize| {
        let words: Vec<_> = expected.split(' ').take(count).collect();
        words.join(" ")
    };
    match (first_words(1).as_str(), first_words(2).as_str()) {
        (_, "tuple struct" | "tuple variant") => match expected.split_once(" with ") {
            Some((_, count)) => elements_of(count.split(' ').next().unwrap_or(count)),
            None => "an array".into(),
        },
        ("struct", _) => "an object".into(),
        (_, "unit struct") => "null".into(),
        (_, "newtype struct" | "newtype variant") => {
            "an object whose only member is the value's name".into()
        }
        ("enum", _) => "one of the known names, as a string or as an object's only member".into(),
        _ => of_one_word(expected).map_or(expected.into(), Cow::Borrowed),
    }
}

fn elements_of(count: &str) -> Cow<'_, str> {
    let plural = if count == "1" { "" } else { "s" };
    format!("an array of {count} element{plural}").into()
}

fn of_one_word(expected: &str) -> Option<&'static str> {
    Some(match expected {
        "f32" | "f64" => "a number",
        "a string" | "a borrowed string" | "str" | "string" => "a string",
        "a character" | "char" => "a string of one character",
        "a boolean" | "bool" => "true or false",
        "unit" | "()" => "null",
        "option" => "a value or null",
        "a sequence" | "sequence" => "an array",
        "a map" | "map" => "an object",
        "string or map" => "a string or an object",
        "unit variant" => "the name alone, as a string",
        "variant identifier" => "one of the known names",
        "field identifier" => "the name of a member",
        "any value" | "any valid JSON value" => "any value",
        "a byte array" | "byte array" | "bytes" | "borrowed bytes" => {
            "an array of numbers from 0 to 255"
        }
        _ => return None,
    })
}

/// Returns the range of an integer type.
fn range(name: &str) -> Option<String> {
    let (low, high) = match name {
        "u8" => (0, u128::from(u8::MAX)),
        "u16" => (0, u128::from(u16::MAX)),
        "u32" => (0, u128::from(u32::MAX)),
        "u64" | "usize" => (0, u128::from(u64::MAX)),
        "u128" => (0, u128::MAX),
        "i8" => (i128::from(i8::MIN), i8::MAX as u128),
        "i16" => (i128::from(i16::MIN), i16::MAX as u128),
        "i32" => (i128::from(i32::MIN), i32::MAX as u128),
        "i64" | "isize" => (i128::from(i64::MIN), i64::MAX as u128),
        "i128" => (i128::MIN, i128::MAX as u128),
        _ => return None,
    };
    Some(format!("from {low} to {high}"))
}

/// Returns the received value in the terms of JSON.
fn came(got: &str, last: &str) -> String {
    let quoted = |kind: &str| got.strip_prefix(kind)?.strip_prefix('`')?.strip_suffix('`');
    if let Some(number) = quoted("integer ").or(quoted("floating point ")) {
        // The text has the number without the reader's rounding.
        let is_number = last.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        return if is_number { last } else { number }.to_owned();
    }
    if let Some(word) = quoted("boolean ") {
        return word.to_owned();
    }
    if got.starts_with("string ") {
        return format!("the {got}");
    }
    match got {
        "sequence" => "an array",
        "map" => "an object",
        "unit value" | "null" | "Option value" => "null",
        "unit variant" => "a name alone",
        "newtype variant" | "struct variant" | "tuple variant" => "a name with a value",
        other => other,
    }
    .to_owned()
}

#[cfg(test)]
mod tests;
