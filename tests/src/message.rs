//! A strict parser of received lines: a host sends a name, a space and a JSON array, or the test fails.
//!
//! This parser is separate from the codec, because the codec must not be tested with the codec.

use serde_json::{Number, Value};

/// A parsed line.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The name before the tag.
    pub name: String,
    /// The tag, if there is one.
    pub tag: Option<String>,
    /// The arguments, always an array.
    pub arguments: Vec<Value>,
}

/// The content of an `error` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The command that failed.
    pub command: String,
    /// The error code: one from the protocol's list, or the daemon's own.
    pub code: String,
    /// The message for people.
    pub message: String,
    /// The data for programs, if there are any.
    pub data: Option<Value>,
}

impl Message {
    /// Parses a line, in the form that the protocol prescribes for output.
    ///
    /// # Panics
    /// Panics if the line is not `name[#tag] [ ... ]` with strict JSON.
    #[track_caller]
    #[must_use]
    pub fn read(line: &str) -> Self {
        let (command, arguments) = line
            .split_once(' ')
            .unwrap_or_else(|| panic!("a line with no arguments: {line}"));
        let (name, tag) = match command.split_once('#') {
            Some((name, tag)) => (name, Some(tag.to_owned())),
            None => (command, None),
        };
        let arguments: Vec<Value> = serde_json::from_str(arguments).unwrap_or_else(|error| {
            panic!("the arguments are no strict JSON array ({error}): {line}")
        });
        let arguments = arguments.into_iter().map(plain_numbers).collect();
        Message {
            name: name.to_owned(),
            tag,
            arguments,
        }
    }

    /// Returns the only argument, or null if there is none.
    ///
    /// # Errors
    /// Returns the content of an `error` line.
    ///
    /// # Panics
    /// Panics if there is more than one argument.
    #[track_caller]
    pub fn result(self) -> Result<Value, Fault> {
        assert!(
            self.arguments.len() <= 1,
            "a reply has one argument at most: {self:?}"
        );
        let value = self.arguments.into_iter().next().unwrap_or(Value::Null);
        if self.name == "error" {
            Err(Fault::read(&value))
        } else {
            Ok(value)
        }
    }
}

/// Turns floats without a fraction into integers. JSON does not distinguish `3.0` from `3`, but `serde_json` does.
fn plain_numbers(value: Value) -> Value {
    match value {
        Value::Array(values) => values.into_iter().map(plain_numbers).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(key, value)| (key, plain_numbers(value)))
            .collect(),
        Value::Number(number) => whole(&number).map_or(Value::Number(number), Value::from),
        other => other,
    }
}

fn whole(number: &Number) -> Option<i64> {
    let float = number
        .as_f64()
        .filter(|float| number.is_f64() && float.fract() == 0.0)?;
    // From 2^53 on a float can no longer represent every integer, so it stays unchanged.
    (float.abs() < 9_007_199_254_740_992.0).then_some(float as i64)
}

impl Fault {
    #[track_caller]
    fn read(value: &Value) -> Self {
        let text = |key: &str| match &value[key] {
            Value::String(text) => text.clone(),
            other => panic!("an error's {key} is a string, not {other}: {value}"),
        };
        Fault {
            command: text("command"),
            code: text("code"),
            message: text("message"),
            data: value.get("data").cloned(),
        }
    }
}
