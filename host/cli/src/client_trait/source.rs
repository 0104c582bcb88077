//! Writes the source of a client: the trait, and the types of its arguments and results.

use std::fmt::Write as _;

use super::names::{self, Taken};
use super::types::{Side, Types};
use super::{ArgumentShape, CommandShape, Interface};

/// The longest line that rustfmt leaves alone (characters).
const LINE_CHARS_MAX: usize = 100;

/// The methods that every client has. A command of that name gets another method.
const OWN_METHODS: [&str; 3] = ["at", "named", "guest"];

/// Returns the source of the client `name`.
pub(super) fn of(interface: &Interface, name: &str) -> String {
    let Interface {
        daemon,
        about,
        commands,
    } = interface;
    let mut types = Types::new(name);
    let mut methods = Taken::from(OWN_METHODS);
    let functions: Vec<String> = commands
        .iter()
        .map(|command| function(command, &mut types, &mut methods))
        .collect();
    let mut source = format!(
        "//! The daemon `{}` for its callers, as `dae-host client` has written it.\n//! It needs the feature `client` of dae-plugin-api.\n\nuse dae_plugin_api::prelude::*;\n\n",
        commented(daemon)
    );
    let about = match about.is_empty() {
        true => format!("A client of the daemon `{daemon}`."),
        false => about.clone(),
    };
    source.push_str(&doc(&about, ""));
    match name == daemon {
        true => source.push_str("#[daemon_client]\n"),
        false => {
            let _ = writeln!(source, "#[daemon_client(name = {daemon:?})]");
        }
    }
    let _ = writeln!(source, "pub trait {name} {{\n{}}}", functions.join("\n"));
    for item in types.items() {
        let _ = write!(source, "\n{item}");
    }
    source
}

/// Returns a function of the trait, with its doc comment.
fn function(command: &CommandShape, types: &mut Types, methods: &mut Taken) -> String {
    let method = names::unique(names::snake(&command.name, "command"), "_", methods);
    let mut text = doc(&documented(command), "    ");
    if method.trim_start_matches("r#") != command.name {
        let _ = writeln!(text, "    #[command(name = {:?})]", command.name);
    }
    let mut taken = Taken::default();
    let parameters: Vec<String> = command
        .arguments
        .iter()
        .map(|argument| parameter(command, argument, types, &mut taken))
        .collect();
    let hint = format!("{} result", command.name);
    let result = types.of(&command.result, &hint, Side::Daemon);
    let mut line = format!("    async fn {method}(&self");
    for parameter in &parameters {
        let _ = write!(line, ", {parameter}");
    }
    let _ = write!(line, ") -> Result<{result}>;");
    if line.chars().count() > LINE_CHARS_MAX {
        line = format!("    async fn {method}(\n        &self,\n");
        for parameter in &parameters {
            let _ = writeln!(line, "        {parameter},");
        }
        line.push_str(&long_result(&result));
    }
    text.push_str(&line);
    text.push('\n');
    text
}

/// Returns the last line of a long function. A tuple that is too long for it has a line for each element.
fn long_result(result: &str) -> String {
    let line = format!("    ) -> Result<{result}>;");
    let tuple = result
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'));
    let Some(tuple) = tuple.filter(|_| line.chars().count() > LINE_CHARS_MAX) else {
        return line;
    };
    let mut lines = "    ) -> Result<(\n        ".to_owned();
    let mut depth = 0;
    for c in tuple.chars() {
        match c {
            '(' | '<' | '[' => depth += 1,
            ')' | '>' | ']' => depth -= 1,
            ' ' if depth == 0 && lines.ends_with(',') => {
                lines.push_str("\n        ");
                continue;
            }
            _ => {}
        }
        lines.push(c);
    }
    lines.push_str(",\n    )>;");
    lines
}

/// Returns the doc comment of a command, with a line for each argument that has a description.
fn documented(command: &CommandShape) -> String {
    let mut text = command.doc.clone();
    let described = command
        .arguments
        .iter()
        .filter(|one| !one.description.is_empty());
    for (index, argument) in described.enumerate() {
        if index == 0 && !text.is_empty() {
            text.push('\n');
        }
        let description = argument.description.replace('\n', " ");
        let _ = write!(text, "\n- `{}`: {description}", argument.name);
    }
    text
}

fn parameter(
    command: &CommandShape,
    argument: &ArgumentShape,
    types: &mut Types,
    taken: &mut Taken,
) -> String {
    let name = names::unique(names::snake(&argument.name, "argument"), "_", taken);
    let hint = format!("{} {}", command.name, argument.name);
    let ty = types.of(&argument.schema, &hint, Side::Caller);
    if argument.rest {
        return format!("#[rest] {name}: Vec<{ty}>");
    }
    let ty = match argument.optional && !ty.starts_with("Option<") {
        true => format!("Option<{ty}>"),
        false => ty,
    };
    // The caller often has a text that it doesn't own.
    let ty = match ty.as_str() {
        "String" => "&str",
        "Option<String>" => "Option<&str>",
        ty => ty,
    };
    format!("{name}: {ty}")
}

/// Returns a doc comment, or nothing for an empty text.
pub(super) fn doc(text: &str, indent: &str) -> String {
    let mut doc = String::new();
    for line in text.trim().lines() {
        let line = format!("{indent}/// {}", commented(line));
        let _ = writeln!(doc, "{}", line.trim_end());
    }
    doc
}

/// Returns a line of a doc comment, with a blank for each character that the compiler refuses there: a carriage return,
/// and those that change the direction of the text.
fn commented(line: &str) -> String {
    line.replace(
        |c| matches!(c, '\r' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'),
        " ",
    )
}
