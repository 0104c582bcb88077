//! A daemon's answer to `help`: the signature, doc comment and schema of each command.
//!
//! A daemon of another make may answer anything. A command without a signature is left out, and a schema of another
//! shape counts as none.

mod details;
mod table;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

pub(super) use details::details;
pub(super) use table::table;

/// The commands of a daemon by name.
pub(super) type Commands = BTreeMap<String, CommandHelp>;

/// The description of one command.
#[derive(Debug)]
pub(super) struct CommandHelp {
    /// The call in readable form: `add(a: number, b: number)`.
    pub(super) signature: String,
    /// The author's doc comment; empty for none.
    doc: String,
    /// The time limit that its author set.
    limit: Option<Duration>,
    /// `None` if the daemon publishes none.
    pub(super) schema: Option<CommandSchema>,
}

/// The types of a command's arguments and result.
#[derive(Debug, Deserialize)]
pub(super) struct CommandSchema {
    pub(super) arguments: Vec<Parameter>,
    /// The schema of the result as it was sent, so that its numbers keep their digits.
    result: Option<Box<RawValue>>,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    destructive: bool,
    #[serde(default)]
    idempotent: bool,
}

/// A parameter of a command.
#[derive(Debug, Deserialize)]
#[serde(from = "SentParameter")]
pub(super) struct Parameter {
    pub(super) name: String,
    /// The schema of the argument, or of one element if it takes the rest; `true` for an unknown type.
    pub(super) schema: Value,
    /// The schema as it was sent.
    text: Option<Box<RawValue>>,
    pub(super) optional: bool,
    /// True if it takes all arguments that are left.
    pub(super) rest: bool,
    pub(super) description: String,
}

/// A parameter as a daemon sends it.
#[derive(Deserialize)]
struct SentParameter {
    name: String,
    schema: Option<Box<RawValue>>,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    rest: bool,
    description: Option<String>,
}

impl From<SentParameter> for Parameter {
    fn from(sent: SentParameter) -> Self {
        let schema = sent.schema.as_ref();
        let schema = schema.and_then(|text| serde_json::from_str(text.get()).ok());
        Parameter {
            name: sent.name,
            schema: schema.unwrap_or(Value::Bool(true)),
            text: sent.schema,
            optional: sent.optional,
            rest: sent.rest,
            description: sent.description.unwrap_or_default(),
        }
    }
}

/// Returns the commands in an answer to `help`; `None` if it describes none.
pub(super) fn commands(answer: &RawValue) -> Option<Commands> {
    let sent: BTreeMap<String, Box<RawValue>> = serde_json::from_str(answer.get()).ok()?;
    let described = sent
        .into_iter()
        .filter_map(|(name, sent)| Some((name, CommandHelp::of(&sent)?)));
    let commands: Commands = described.collect();
    (!commands.is_empty()).then_some(commands)
}

impl CommandHelp {
    fn of(sent: &RawValue) -> Option<Self> {
        let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(sent.get()).ok()?;
        let limit: Option<u64> = read(&members, "timeout_ms");
        Some(CommandHelp {
            signature: read(&members, "signature")?,
            doc: read(&members, "doc").unwrap_or_default(),
            limit: limit.map(Duration::from_millis),
            schema: read(&members, "schema"),
        })
    }

    /// Returns the first line of the doc comment.
    pub(super) fn summary(&self) -> &str {
        self.doc.trim().lines().next().unwrap_or_default()
    }
}

fn read<T: for<'t> Deserialize<'t>>(
    members: &BTreeMap<String, Box<RawValue>>,
    name: &str,
) -> Option<T> {
    serde_json::from_str(members.get(name)?.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(answer: &Value) -> Option<Commands> {
        let answer = RawValue::from_string(answer.to_string()).expect("JSON");
        commands(&answer)
    }

    #[test]
    fn a_command_has_its_schema() {
        let answer = json!({"greet": {
            "signature": "greet(who: string)",
            "doc": "Greets `who`.\nTwice.",
            "timeout_ms": 5000,
            "schema": {
                "arguments": [
                    {"name": "who", "schema": {"type": "string"}, "description": "the person"},
                    {"name": "more", "schema": true, "optional": true},
                    {"name": "tags", "rest": true},
                ],
                "result": {"type": "string"},
                "read_only": true,
            },
        }});
        let commands = read(&answer).expect("commands");
        let greet = &commands["greet"];
        assert_eq!(greet.summary(), "Greets `who`.");
        assert_eq!(greet.limit, Some(Duration::from_secs(5)));
        let schema = greet.schema.as_ref().expect("a schema");
        let arguments = schema.arguments.iter();
        let arguments: Vec<_> = arguments
            .map(|one| (&*one.name, one.schema.clone(), one.optional, one.rest))
            .collect();
        let expected = [
            ("who", json!({"type": "string"}), false, false),
            ("more", json!(true), true, false),
            ("tags", json!(true), false, true),
        ];
        assert_eq!(arguments, expected);
        assert!(schema.read_only && !schema.destructive && !schema.idempotent);
    }

    #[test]
    fn an_answer_of_another_shape_describes_nothing() {
        for answer in [
            json!(null),
            json!("help"),
            json!([1, 2]),
            json!({}),
            json!({"greet": 1, "add": {"doc": "x"}, "sub": {"signature": 7}}),
        ] {
            assert!(read(&answer).is_none(), "{answer}");
        }
        for schema in [
            json!(7),
            json!({"result": true}),
            json!({"arguments": [{"name": 1}]}),
        ] {
            let answer = json!({"greet": {"signature": "greet()", "doc": null, "schema": schema}});
            let commands = read(&answer).expect("a command");
            assert!(commands["greet"].schema.is_none(), "{answer}");
            assert_eq!(commands["greet"].summary(), "");
        }
    }
}
