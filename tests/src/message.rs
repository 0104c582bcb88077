//! A line that came, read strictly: what a host sends is a name, a space and a JSON array, or the test fails.
//!
//! This is a reader of its own, and not the codec's: what judges the codec must not be the codec.

use serde_json::{Number, Value};

/// One line, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The name before the tag.
    pub name: String,
    /// The tag, if there is one.
    pub tag: Option<String>,
    /// The arguments, always an array.
    pub arguments: Vec<Value>,
}

/// What an `error` line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The command it is about.
    pub command: String,
    /// The code, as the protocol lists them.
    pub code: String,
    /// The words for a person.
    pub message: String,
}

impl Message {
    /// Reads a line as the protocol says that lines go out.
    ///
    /// # Panics
    /// When it is anything else than `name[#tag] [ ... ]` with strict JSON.
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

    /// The one argument, null if there is none; or what the `error` line says.
    ///
    /// # Errors
    /// For an `error` line.
    ///
    /// # Panics
    /// When there is more than one argument.
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

/// JSON has one kind of number: `3.0` and `3` are the same value, which serde_json alone tells apart.
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
    // Past 2^53 a float has no neighbours that are whole numbers too, and is left as it came.
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
        }
    }
}
