//! A command in full, for a person: signature, doc comment, marks, and the schemas of its arguments and result.

use dae_store::printable::{lines, one_line};
use serde_json::value::RawValue;

use super::{CommandHelp, CommandSchema, Parameter};

/// The longest schema on the line of its argument (bytes). A longer one gets lines of its own.
const INLINE_BYTES_MAX: usize = 60;

/// The blanks before each level of a schema.
const INDENT: &str = "  ";

/// Returns the description of one command, over several lines.
pub(crate) fn details(command: &CommandHelp) -> String {
    let mut text = one_line(&command.signature).into_owned();
    for line in command.doc.trim().lines() {
        add(&mut text, line);
    }
    if let Some(limit) = command.limit {
        add(&mut text, &format!("ends after {} s", limit.as_secs_f64()));
    }
    match &command.schema {
        Some(schema) => add_schema(&mut text, schema),
        None => add(&mut text, "publishes no schema"),
    }
    text
}

fn add(text: &mut String, line: &str) {
    *text += format!("\n{INDENT}{}", one_line(line)).trim_end_matches(' ');
}

fn add_schema(text: &mut String, schema: &CommandSchema) {
    let marks = [
        (schema.read_only, "read-only"),
        (schema.destructive, "destructive"),
        (schema.idempotent, "idempotent"),
    ];
    let marks: Vec<&str> = marks
        .iter()
        .filter_map(|(is_set, mark)| is_set.then_some(*mark))
        .collect();
    if !marks.is_empty() {
        add(text, &marks.join(", "));
    }
    for parameter in &schema.arguments {
        let shown = shown(parameter.text.as_deref());
        *text += &format!("\n{INDENT}{}: {shown}", title(parameter));
        let description = parameter.description.trim().lines();
        description.for_each(|line| add(text, &format!("{INDENT}{line}")));
    }
    *text += &format!("\n{INDENT}result: {}", shown(schema.result.as_deref()));
}

/// Returns the parameter's place in a call: `--who`, `--limit (optional)`, `--tags (any number)`.
fn title(parameter: &Parameter) -> String {
    let name = one_line(&parameter.name);
    match (parameter.rest, parameter.optional) {
        (true, _) => format!("--{name} (any number)"),
        (false, true) => format!("--{name} (optional)"),
        (false, false) => format!("--{name}"),
    }
}

/// Returns a schema on one line or, if it is long, on several.
fn shown(schema: Option<&RawValue>) -> String {
    let text = schema.map_or("true", RawValue::get);
    match text {
        "true" => "any value".to_owned(),
        text if text.len() <= INLINE_BYTES_MAX => lines(text).replace('\n', " "),
        text => lines(&indented(text)).into_owned(),
    }
}

/// Puts each member and element of a JSON text on a line of its own. Its values are copied, so that numbers keep their
/// digits.
fn indented(json: &str) -> String {
    let (mut out, mut depth) = (String::new(), 1);
    let (mut in_string, mut is_escaped) = (false, false);
    let mut before = ' ';
    for c in json.chars() {
        if in_string {
            out.push(c);
            in_string = is_escaped || c != '"';
            is_escaped = c == '\\' && !is_escaped;
            before = c;
            continue;
        }
        if c.is_whitespace() {
            continue;
        }
        let is_end = matches!(c, '}' | ']');
        depth -= usize::from(is_end);
        let is_empty = is_end && matches!(before, '{' | '[');
        if (is_end && !is_empty) || (!is_end && matches!(before, '{' | '[' | ',')) {
            out.push('\n');
            out.push_str(&INDENT.repeat(depth));
        }
        out.push(c);
        if c == ':' {
            out.push(' ');
        }
        depth += usize::from(matches!(c, '{' | '['));
        in_string = c == '"';
        before = c;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown_of(answer: &str) -> String {
        let answer = RawValue::from_string(answer.to_owned()).expect("JSON");
        let commands = super::super::commands(&answer).expect("a command");
        details(&commands["greet"])
    }

    #[test]
    fn a_command_is_shown_with_its_schemas() {
        let answer = json!({"greet": {
            "signature": "greet(who: string, loud?: boolean, ...tags: string)",
            "doc": "Greets `who`.\n\nIn words.",
            "timeout_ms": 1500,
            "schema": {
                "arguments": [
                    {"name": "who", "schema": {"type": "string"}, "description": "the person"},
                    {"name": "loud", "schema": {"type": ["boolean", "null"]}, "optional": true},
                    {"name": "tags", "schema": true, "rest": true},
                ],
                "result": {"type": "null"},
                "read_only": true,
                "idempotent": true,
            },
        }});
        let expected = r#"greet(who: string, loud?: boolean, ...tags: string)
  Greets `who`.

  In words.
  ends after 1.5 s
  read-only, idempotent
  --who: {"type":"string"}
    the person
  --loud (optional): {"type":["boolean","null"]}
  --tags (any number): any value
  result: {"type":"null"}"#;
        assert_eq!(shown_of(&answer.to_string()), expected);
    }

    #[test]
    fn a_long_schema_has_lines_of_its_own_and_keeps_its_digits() {
        let answer = r#"{"greet": {"signature": "greet()", "schema": {"arguments": [], "result":
            {"maximum":340282366920938463463374607431768211455,"enum":[],"a\"{":"[\\","type":["integer"]}}}}"#;
        let expected = r#"greet()
  result: {
    "maximum": 340282366920938463463374607431768211455,
    "enum": [],
    "a\"{": "[\\",
    "type": [
      "integer"
    ]
  }"#;
        assert_eq!(shown_of(answer), expected);
    }

    #[test]
    fn text_of_others_is_escaped() {
        let harmful = "\u{1b}[2J\u{202e}\u{9b}";
        let long = format!("{harmful}{}", "x".repeat(100));
        let answer = json!({"greet": {
            "signature": harmful,
            "doc": harmful,
            "schema": {
                "arguments": [
                    {"name": harmful, "schema": {"const": harmful}, "description": harmful},
                    {"name": "long", "schema": {"const": long}},
                ],
                "result": harmful,
            },
        }});
        let shown = shown_of(&answer.to_string());
        assert!(!shown.contains(['\u{1b}', '\u{202e}', '\u{9b}']), "{shown}");
        assert_eq!(
            shown_of(r#"{"greet": {"signature": "greet()"}}"#),
            "greet()\n  publishes no schema"
        );
    }
}
