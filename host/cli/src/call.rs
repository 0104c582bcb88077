//! `call`: runs one command of a daemon and prints its result.
//!
//! Words become arguments by the schema that the daemon publishes: `arrange` finds the parameter of each word, and
//! `word` the JSON that it stands for. The daemon always gets an array. Without arguments nothing is asked before.
//!
//! The result is printed as JSON on one line, at a terminal too: a string in quotes can't be mistaken for a number, and
//! a script gets the same output as a person. The exceptions are `--raw`, and `help` at a terminal. Events that come before
//! the result are shown on standard error. `--repeat` measures instead.

mod arrange;
mod fits;
mod repeat;
mod standard_input;
mod trace;
mod word;

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Result;
use dae_common_tcp::{NAME_BYTES_MAX, is_name, nearest};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::Session;
use super::client::{Client, ReplyPart};
use super::exit::Fault;
use super::guest::DaemonAddress;
use super::interrupted::{self, EndMessage};
use super::signatures::{self, CommandHelp};
use super::time_span;
use arrange::{Argument, Called, STANDARD_INPUT};
use dae_runtime::peers::reset::reset_at_close;
pub(super) use fits::is_boolean;
use repeat::Load;

/// The command that describes the others.
const HELP: &str = "help";

/// The arguments of `call`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "dae-host call [OPTIONS] <NAME> <COMMAND> [ARG]...",
    after_help = "Behind COMMAND every --option is the daemon's: `--who Ada` and `--who=Ada` give the argument `who` by \
its name, `--loud` and `--no-loud` a boolean. `--` ends them. An argument is JSON of its parameter's type, else text; `-` \
reads it from standard input. `dae-host options -v NAME` shows the types.\n\nThe result is printed as JSON on one line, a \
string in its quotes, `null` for no result."
)]
pub(super) struct CallArgs {
    /// The longest wait for the result, such as 5s or 500ms [default: as long as the daemon's host lets a command run]
    #[arg(long, value_name = "TIME", value_parser = time_span::parse)]
    timeout: Option<Duration>,
    /// Print a result that is a string as it is, without quotes
    #[arg(long)]
    raw: bool,
    /// Let the call belong to a trace, and print the trace's id on standard error [default: the trace of the environment
    /// variable TRACEPARENT, if it is set]
    #[arg(long, conflicts_with = "repeat")]
    trace: bool,
    /// Make N calls and print their latencies instead of the results
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "raw")]
    repeat: Option<u64>,
    /// Make the calls of --repeat over M connections at once [default: 1]
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u64).range(1..=10_000), requires = "repeat")]
    concurrency: Option<u64>,
    /// The daemon's name
    name: String,
    /// The command's name, and its arguments by position or by name
    #[arg(value_name = "COMMAND", num_args = 1.., required = true, trailing_var_arg = true)]
    words: Vec<String>,
}

impl CallArgs {
    /// Returns the number of connections: no more than there are calls.
    fn concurrency(&self) -> u64 {
        let calls = self.repeat.unwrap_or(1);
        self.concurrency.unwrap_or(1).min(calls)
    }
}

/// `call`: runs one command of a daemon and prints its result.
pub(super) fn call(session: &Session, args: &CallArgs) -> Result<()> {
    let Some((command, words)) = args.words.split_first() else {
        return Err(Fault::Usage("call takes a command's name".to_owned()).into());
    };
    check_command(command)?;
    check_answered(command, !words.is_empty())?;
    if args.raw && session.out.json {
        let text = "--raw and --json exclude each other: one prints a string without quotes, the other with them";
        return Err(Fault::Usage(text.to_owned()).into());
    }
    let daemon = DaemonAddress::find(session, &args.name)?;
    let mut client = daemon.connect()?;
    if let Some(limit) = args.timeout {
        client.wait_at_most(limit);
    }
    let arguments = match words.is_empty() {
        true => Vec::new(),
        false => typed(&daemon, &mut client, command, words)?,
    };
    if args.repeat.is_some() {
        let load = Load {
            daemon: &daemon,
            command,
            arguments: &arguments,
            args,
        };
        return load.run(session);
    }
    let called = AnsweredCall {
        session,
        args,
        command,
        arguments: &arguments,
    };
    called.run(&daemon, &mut client)
}

/// A call whose result is printed.
struct AnsweredCall<'a> {
    session: &'a Session,
    args: &'a CallArgs,
    command: &'a str,
    arguments: &'a [Box<RawValue>],
}

impl AnsweredCall<'_> {
    fn run(&self, daemon: &DaemonAddress, client: &mut Client<TcpStream>) -> Result<()> {
        let (session, args, command) = (self.session, self.args, self.command);
        if session.out.remarks() {
            client.show_events();
        }
        let (message, ending) = (end_message(daemon, command), client.handle());
        interrupted::before_the_end(session, move || {
            // At the end of the process.
            ending.iter().for_each(reset_at_close);
            message
        });
        if let Some(parent) = trace::of_call(args.trace) {
            if args.trace {
                session
                    .out
                    .note(&format!("trace {:032x}", parent.trace_id()));
            }
            client.trace_next(parent);
        }
        let result = match daemon.is_foreign {
            // It may not know of tags, which parts need.
            true => client.call(command, &self.arguments).map(Some),
            false => {
                let show = &mut |part| show(session, args, part);
                client.call_in_parts(command, &self.arguments, show)
            }
        };
        // After a timeout, or an output that nobody reads, nobody waits for the command any more.
        let result = result.inspect_err(|_| client.reset_at_close())?;
        match result {
            Some(result) => print(session, args, command, &result),
            // The items were the result.
            None => Ok(()),
        }
    }
}

/// Returns the message of a call that a signal ends.
fn end_message(daemon: &DaemonAddress, command: &str) -> EndMessage {
    let name = &daemon.name;
    let fate = match daemon.is_foreign {
        true => format!("{name} may carry it out all the same"),
        false => "the command is cancelled, and may have run, in part or as a whole".to_owned(),
    };
    EndMessage {
        text: format!("has ended this command before {name} answered {command}; {fate}"),
        hint: None,
        has_code: true,
    }
}

/// Prints a part of a reply: an item on a line of its own, a report of progress on standard error.
fn show(session: &Session, args: &CallArgs, part: ReplyPart) -> Result<()> {
    match (part.progress, args.raw) {
        (true, _) => {
            session.out.progress(&part.item);
            Ok(())
        }
        (false, true) => session.out.unquoted(&part.item),
        (false, false) => session.out.document(&part.item),
    }
}

/// Returns the JSON of the words, by the types that the daemon publishes.
pub(super) fn typed(
    daemon: &DaemonAddress,
    client: &mut Client<TcpStream>,
    command: &str,
    words: &[String],
) -> Result<Vec<Box<RawValue>>> {
    let help = daemon.help(client, &[command])?;
    // A host that knows no schemas describes all commands, whatever it is asked.
    let commands = help.and_then(|help| signatures::commands(&help));
    let help = commands.and_then(|mut commands| commands.remove(command));
    let schema = help.as_ref().and_then(|help| help.schema.as_ref());
    if schema.is_none() && words.iter().any(|word| arrange::is_option(word)) {
        check_known(daemon, client, command)?;
    }
    let called = Called {
        daemon: &daemon.name,
        command,
        signature: help.as_ref().map(|help| help.signature.as_str()),
        schema,
    };
    json_of(called, words, || {
        standard_input::read(std::io::stdin().lock())
    })
}

/// Returns the JSON of words that were not given on the command line, where `-` has no standard input to stand for.
///
/// # Errors
/// The command or the words are wrong.
pub(super) fn arguments(
    daemon: &str,
    command: &str,
    help: Option<&CommandHelp>,
    words: &[String],
) -> Result<Vec<Box<RawValue>>> {
    check_command(command)?;
    check_answered(command, !words.is_empty())?;
    let called = Called {
        daemon,
        command,
        signature: help.map(|help| help.signature.as_str()),
        schema: help.and_then(|help| help.schema.as_ref()),
    };
    json_of(called, words, || {
        let text =
            "`-` stands for standard input, which has the commands here; `'\"-\"'` is the text";
        Err(Fault::Usage(text.to_owned()).into())
    })
}

fn json_of(
    called: Called<'_>,
    words: &[String],
    input: impl Fn() -> Result<Box<RawValue>>,
) -> Result<Vec<Box<RawValue>>> {
    let arguments = arrange::arrange(called, words)?;
    let numbered = (1..).zip(&arguments);
    numbered
        .map(|(number, argument)| match argument {
            Argument::Word(STANDARD_INPUT, _) => input(),
            argument => json(called, number, argument),
        })
        .collect()
}

/// Checks that a daemon has a command, before its arguments are found wrong.
fn check_known(
    daemon: &DaemonAddress,
    client: &mut Client<TcpStream>,
    command: &str,
) -> Result<(), Fault> {
    let Some(options) = daemon.options(client) else {
        return Ok(());
    };
    let Ok(commands) = serde_json::from_str::<BTreeMap<String, IgnoredAny>>(options.get()) else {
        return Ok(());
    };
    if commands.is_empty() || commands.contains_key(command) {
        return Ok(());
    }
    let name = &daemon.name;
    let hint = nearest(command, commands.keys().map(String::as_str));
    let hint = hint.map_or_else(String::new, |near| format!("did you mean {near}? "));
    Err(Fault::Refused {
        code: "unknown-command".to_owned(),
        message: format!(
            "{name} has no command {command}; {hint}`dae-host options {name}` lists all"
        ),
    })
}

fn json(called: Called<'_>, number: usize, argument: &Argument<'_>) -> Result<Box<RawValue>> {
    let raw = |json: &str| RawValue::from_string(json.to_owned());
    match argument {
        Argument::Flag(value) => Ok(raw(&value.to_string())?),
        Argument::Absent => Ok(raw("null")?),
        Argument::Word(word, schema) => word::read(word, schema).map_err(|reason| {
            Fault::Usage(format!(
                "argument {number} of {called} is not JSON: {reason}"
            ))
            .into()
        }),
    }
}

/// Prints the result of a command: `help` in words at a terminal, any other as JSON.
fn print(session: &Session, args: &CallArgs, command: &str, result: &RawValue) -> Result<()> {
    let out = &session.out;
    if args.raw {
        return out.unquoted(result);
    }
    let width = out.table_width().filter(|_| command == HELP);
    let described = width.and_then(|width| Some((width, signatures::commands(result)?)));
    match described {
        // A person who names a command wants all of it.
        Some((_, commands)) if args.words.len() == 2 && commands.len() == 1 => {
            let shown: Vec<String> = commands.values().map(signatures::details).collect();
            out.line(&shown.concat())
        }
        Some((width, commands)) => out.line(&signatures::table(&commands, width)),
        None => out.document(&result),
    }
}

/// Refuses a name with characters that end it early: the line would then hold another command.
fn check_command(command: &str) -> Result<(), Fault> {
    if is_name(command) {
        return Ok(());
    }
    Err(Fault::Usage(format!(
        "a command's name has 1 to {NAME_BYTES_MAX} bytes, without blanks and `#`; got {command:?}"
    )))
}

/// Refuses commands that the protocol leaves unanswered, so that two daemons don't answer each other forever.
fn check_answered(command: &str, has_arguments: bool) -> Result<(), Fault> {
    let advice = match command {
        "dae" | "options" if has_arguments => "send it without arguments",
        "error" => "it is what a failed command is answered with",
        _ => return Ok(()),
    };
    let what = if has_arguments { " with arguments" } else { "" };
    Err(Fault::Usage(format!(
        "no daemon answers {command}{what}; {advice}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Line;
    use clap::{CommandFactory as _, Parser as _};

    fn parsed(words: &[&str]) -> Result<Line, clap::Error> {
        Line::try_parse_from([&["dae-host"], words].concat())
    }

    #[test]
    fn an_option_behind_the_command_is_the_daemons() {
        for words in [
            &[
                "call", "Sample", "greet", "--json", "-q", "--help", "--", "--raw", "-7",
            ][..],
            &[
                "--home",
                "/h",
                "call",
                "--timeout",
                "5s",
                "Sample",
                "greet",
                "--timeout",
                "7",
            ],
            &["call", "Sample", "--raw", "greet", "--raw", "--version"],
        ] {
            let line = parsed(words).expect("right usage");
            assert!(!line.global.json && !line.global.quiet, "{words:?}");
            let crate::Command::Call(args) = line.command else {
                panic!("{words:?}");
            };
            let at = words.iter().position(|word| *word == "greet");
            assert_eq!(args.words, words[at.expect("it is there")..], "{words:?}");
        }
        for words in [
            &["call"][..],
            &["call", "Sample"],
            &["call", "--nothing", "Sample", "greet"],
            &["call", "Sample", "--nothing", "greet"],
            &["call", "--timeout", "0", "Sample", "greet"],
            &["call", "--timeout", "soon", "Sample", "greet"],
        ] {
            let error = parsed(words).expect_err("wrong usage");
            assert_eq!(error.exit_code(), 2, "{words:?}");
        }
    }

    #[test]
    fn all_options_of_the_program_are_hinted_at() {
        let mut line = Line::command();
        line.build();
        let call = line.find_subcommand("call").expect("call");
        let mut options: Vec<_> = call
            .get_arguments()
            .filter_map(|one| one.get_long())
            .collect();
        options.sort_unstable();
        assert_eq!(options, arrange::OWN_OPTIONS);
    }

    #[test]
    fn what_no_daemon_answers_is_not_sent() {
        for (command, has_arguments, is_sent) in [
            ("dae", false, true),
            ("dae", true, false),
            ("options", false, true),
            ("options", true, false),
            ("error", false, false),
            ("error", true, false),
            ("help", true, true),
        ] {
            let checked = check_answered(command, has_arguments);
            assert_eq!(checked.is_ok(), is_sent, "{command} {has_arguments}");
        }
    }

    #[test]
    fn a_command_cannot_smuggle_in_another_line() {
        for wrong in ["", "a b", "a\nb", "a#b", "a\u{7f}", &"x".repeat(129)] {
            assert!(check_command(wrong).is_err(), "{wrong:?}");
        }
        for right in ["greet", "größe", "a.b-c_d", &"x".repeat(128)] {
            assert!(check_command(right).is_ok(), "{right:?}");
        }
    }
}
