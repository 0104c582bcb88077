//! Compares the commands of a client with those of a daemon, as `help` and `options` show them.
//!
//! A daemon of this version shows schemas. An older one shows names and signatures, and a daemon of another make perhaps
//! the numbers of arguments, or nothing. As much is compared as is known.

use serde::Deserialize;
use serde_json::Value;

use super::fit::{self, Gap};
use super::{ClientCalls, LateSchemas};
use crate::{Error, Result};

/// The most faults that one error names. It is one line.
const FAULTS_MAX: usize = 3;

/// The answers of a daemon that describe its commands; `None` for one that it does not give.
#[derive(Debug, Default)]
pub struct Descriptions {
    pub help: Option<Value>,
    pub options: Option<Value>,
}

/// A command of a client.
#[derive(Debug, Deserialize)]
struct ClientCall {
    name: String,
    arguments: Vec<CallArgument>,
    result: Value,
}

/// An argument of a command, of a client or of a daemon.
#[derive(Debug, Deserialize)]
struct CallArgument {
    name: String,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    rest: bool,
    schema: Value,
}

/// The schema of a command of a daemon.
#[derive(Debug, Deserialize)]
struct DaemonCall {
    arguments: Vec<CallArgument>,
    #[serde(default)]
    result: Value,
}

/// Compares the commands of a client with those of a daemon.
///
/// # Errors
/// At least one doesn't fit.
pub fn check(daemon: &str, calls: ClientCalls, described: &Descriptions) -> Result<()> {
    let ClientCalls { constant, late } = calls;
    let mut calls: Vec<ClientCall> = serde_json::from_slice(constant)?;
    // Only `help` has schemas to compare them with.
    if let Some(late) = late.filter(|_| described.help.is_some()) {
        add_late(&mut calls, late);
    }
    let faults: Vec<String> = calls
        .iter()
        .filter_map(|call| fault_of(call, described))
        .collect();
    if faults.is_empty() {
        return Ok(());
    }
    let more = match faults.len().saturating_sub(FAULTS_MAX) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let faults = faults[..faults.len().min(FAULTS_MAX)].join("; ");
    Err(Error::new(format!(
        "{daemon} does not fit this client: {faults}{more}; change the client, or let `dae-host client {daemon}` write \
         another"
    )))
}

/// Puts the schemas that only run time knows in the place of `true`.
fn add_late(calls: &mut [ClientCall], late: &LateSchemas) {
    let schemas = calls.iter_mut().flat_map(|call| {
        let arguments = call.arguments.iter_mut().map(|one| &mut one.schema);
        arguments.chain([&mut call.result])
    });
    for (schema, made) in schemas.zip(late.made()) {
        if let Some(made) = made {
            schema.clone_from(made);
        }
    }
}

fn fault_of(call: &ClientCall, described: &Descriptions) -> Option<String> {
    let help = described.help.as_ref().and_then(Value::as_object);
    let options = described.options.as_ref().and_then(Value::as_object);
    let name = &call.name;
    let known = [help, options]
        .into_iter()
        .flatten()
        .find(|all| !all.is_empty())?;
    if !known.contains_key(name) {
        return Some(format!("it has no command `{name}`"));
    }
    let of = help.and_then(|all| all.get(name));
    let schema = of.and_then(|of| DaemonCall::deserialize(of.get("schema")?).ok());
    match schema {
        Some(daemon) => differs(call, &daemon).map(|fault| format!("`{name}`, {fault}")),
        None => {
            // Only the signature of an older daemon shows that a command takes any number of arguments.
            let takes_rest = of.is_some_and(|of| {
                of["signature"]
                    .as_str()
                    .is_some_and(|text| text.contains("..."))
            });
            let count = options?.get(name)?.as_u64().filter(|_| !takes_rest)?;
            surplus(call, count).map(|fault| format!("`{name}`, {fault}"))
        }
    }
}

/// Returns the argument that is too many for a daemon that shows nothing but their number.
fn surplus(call: &ClientCall, count: u64) -> Option<String> {
    let index = usize::try_from(count).ok()?;
    let argument = call.arguments.get(index)?;
    Some(one_too_many(index, argument, index))
}

/// Returns the first difference between a command of the client and that of the daemon.
fn differs(call: &ClientCall, daemon: &DaemonCall) -> Option<String> {
    let count = call.arguments.len().max(daemon.arguments.len());
    let argument = (0..count).find_map(|index| argument_differs(index, call, daemon));
    argument.or_else(|| {
        let gap = fit::fits(&daemon.result, &call.result).err()?;
        let Gap { path, given, taken } = &gap;
        Some(format!(
            "result{}: the daemon returns {given}, and the client reads {taken}",
            at(path)
        ))
    })
}

fn argument_differs(index: usize, call: &ClientCall, daemon: &DaemonCall) -> Option<String> {
    let sent = at_or_rest(&call.arguments, index);
    match (sent, at_or_rest(&daemon.arguments, index)) {
        (Some(sent), Some(taken)) => pair_differs(index, sent, taken),
        (Some(sent), None) => Some(one_too_many(index, sent, daemon.arguments.len())),
        (None, Some(taken)) => match taken.optional || taken.rest {
            true => None,
            false => Some(format!(
                "{}: the daemon requires it, and the client does not send it",
                spoken(index, taken)
            )),
        },
        (None, None) => None,
    }
}

fn pair_differs(index: usize, sent: &CallArgument, taken: &CallArgument) -> Option<String> {
    if sent.rest && !taken.rest && !taken.optional {
        return Some(format!(
            "{}: the client may leave it out, and the daemon requires it",
            spoken(index, taken)
        ));
    }
    if sent.rest && !taken.rest {
        return Some(format!(
            "{}: the client sends any number of arguments, and the daemon takes one here",
            spoken(index, sent)
        ));
    }
    if sent.optional && !taken.optional && !taken.rest {
        return Some(format!(
            "{}: the client may leave it out, and the daemon requires it",
            spoken(index, sent)
        ));
    }
    let gap = fit::fits(&sent.schema, &taken.schema).err()?;
    // Where `None` is left out, `null` is sent only if another argument follows.
    let Gap { path, given, taken } = &gap;
    Some(format!(
        "{}{}: the client sends {given}, and the daemon takes {taken}",
        spoken(index, sent),
        at(path)
    ))
}

/// Returns the argument at that place, or the last one if it takes all that are left.
fn at_or_rest(arguments: &[CallArgument], index: usize) -> Option<&CallArgument> {
    let rest = || arguments.last().filter(|last| last.rest);
    arguments.get(index).or_else(rest)
}

fn one_too_many(index: usize, sent: &CallArgument, count: usize) -> String {
    let takes = match count {
        0 => "no argument".to_owned(),
        1 => "1 argument".to_owned(),
        count => format!("{count} arguments"),
    };
    let spoken = spoken(index, sent);
    format!("{spoken}: the client sends it, and the daemon takes {takes}")
}

fn spoken(index: usize, argument: &CallArgument) -> String {
    format!("argument {} (`{}`)", index + 1, argument.name)
}

fn at(path: &str) -> String {
    match path.is_empty() {
        true => String::new(),
        false => format!(" at {path}"),
    }
}
