//! `completions`: the script with which a shell completes the command line, and the answers that it asks for.
//!
//! The script is short. For each completion it runs this program again, with the variable [`VARIABLE`] set, so that the
//! names of daemons and of their commands come from the host that runs. Such a run prints candidates and nothing else:
//! a host that is not there, or doesn't answer in time, makes no noise and no wait that a person notices.
//!
//! The home is that of the typed line (`--home`), else that of the environment.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Arg, Command};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};
use serde_json::json;

use super::client::Client;
use super::guest::DaemonAddress;
use super::signatures;
use super::suggest::{self, Suggestion};
use super::{Global, Session};
use dae_store::report::Status;

/// The variable that turns a run of the program into an answer for a shell. Its value is the shell's name.
const VARIABLE: &str = "DAE_HOST_COMPLETE";

/// The name of the program, as shells find it.
const PROGRAM: &str = "dae-host";

/// The longest wait for the host's and the daemon's answers. A person takes a longer pause for a fault.
const ANSWER_MAX: Duration = Duration::from_millis(700);

/// The arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Shell::Bash => "bash",
            Shell::Zsh => "zsh",
            Shell::Fish => "fish",
        }
    }
}

/// `completions`: prints the script for a shell.
pub(super) fn completions(session: &Session, args: &Args) -> Result<()> {
    let shells = Shells::builtins();
    let shell = args.shell.name();
    let completer = shells
        .completer(shell)
        .with_context(|| format!("no completions are known for {shell}"))?;
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script)?;
    let script = String::from_utf8(script)?;
    let script = script.trim_matches('\n');
    match session.out.json {
        true => session
            .out
            .document(&json!({"shell": shell, "script": script})),
        false => session.out.line(script),
    }
}

/// Answers a shell, if one has started this process for that. Otherwise returns `None`.
pub(super) fn answer() -> Option<ExitCode> {
    std::env::var_os(VARIABLE)?;
    let directory = std::env::current_dir().ok();
    let is_behind_command = typed_line().is_behind_command();
    let definition = || match is_behind_command {
        true => of_daemon(),
        false => with_candidates(super::definition()),
    };
    let answered = CompleteEnv::with_factory(definition)
        .var(VARIABLE)
        .bin(PROGRAM)
        .try_complete(std::env::args_os(), directory.as_deref());
    match answered {
        Ok(true) => Some(ExitCode::SUCCESS),
        Ok(false) => None,
        // The line can't be completed, and a message would stand in the middle of it.
        Err(_) => Some(ExitCode::FAILURE),
    }
}

/// Gives every argument that is a daemon's name, and the words of `call`, their candidates.
fn with_candidates(program: Command) -> Command {
    program.mut_subcommands(|command| match command.get_name() {
        "new" => command,
        _ => command.mut_args(|argument| match argument.get_id().as_str() {
            "name" | "names" | "target" if argument.is_positional() => {
                argument.add(ArgValueCandidates::new(|| in_time(daemons)))
            }
            "words" => argument.add(ArgValueCandidates::new(|| in_time(words_of_call))),
            _ => argument,
        }),
    })
}

/// Returns the definition of a `call` behind its COMMAND, where every option is the daemon's.
fn of_daemon() -> Command {
    let words = Arg::new("words").num_args(1..);
    let call = Command::new("call")
        .arg(Arg::new("name").required(true))
        .arg(words.add(ArgValueCandidates::new(|| in_time(words_of_call))));
    let call = call.disable_help_flag(true);
    Command::new(PROGRAM)
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .subcommand(call)
}

/// Returns what `ask` finds in time; nothing if it fails or takes too long.
fn in_time(ask: fn() -> Result<Vec<Suggestion>>) -> Vec<CompletionCandidate> {
    let (answers, answer) = mpsc::channel();
    // If it takes too long, it ends with the process.
    thread::spawn(move || answers.send(ask()));
    let found = answer.recv_timeout(ANSWER_MAX);
    let found = found.map_or_else(|_| Vec::new(), Result::unwrap_or_default);
    let candidate = |one: Suggestion| {
        let about = Some(one.about).filter(|about| !about.is_empty());
        CompletionCandidate::new(one.word).help(about.map(Into::into))
    };
    found.into_iter().map(candidate).collect()
}

/// Returns the names of all daemons, each with its state.
fn daemons() -> Result<Vec<Suggestion>> {
    let session = typed_line().session()?;
    let all: Vec<Status> = Client::control(&session)?.ask("list", &json!([]))?;
    let plain = all.into_iter().filter(|one| suggest::is_plain(&one.name));
    let named = plain.map(|one| Suggestion {
        word: one.name,
        about: one.state,
    });
    Ok(named.collect())
}

/// Returns the words that may follow behind the daemon's name of a `call`.
fn words_of_call() -> Result<Vec<Suggestion>> {
    let line = typed_line();
    let Some((name, before)) = line.called() else {
        return Ok(Vec::new());
    };
    let daemon = DaemonAddress::find(&line.session()?, name)?;
    let mut client = daemon.connect()?;
    let help = daemon.help(&mut client, &[])?;
    if let Some(commands) = help.and_then(|help| signatures::commands(&help)) {
        return Ok(suggest::words(&commands, &before, &line.current));
    }
    let names = daemon.options(&mut client);
    let names = names.and_then(|names| serde_json::from_str(names.get()).ok());
    let names: serde_json::Map<String, serde_json::Value> = names.unwrap_or_default();
    let plain = names
        .into_iter()
        .filter(|(name, _)| suggest::is_plain(name));
    let named = plain.map(|(word, _)| Suggestion {
        word,
        about: String::new(),
    });
    Ok(named.filter(|_| before.is_empty()).collect())
}

/// The line that is being completed.
struct TypedLine {
    /// The words before the one that is being typed, without the program's name.
    before: Vec<String>,
    current: String,
}

/// Returns the options whose value is the next word, and that may stand before a daemon's name.
fn options_with_value() -> Vec<String> {
    let program = super::definition();
    let call = program.find_subcommand("call");
    let all = call.into_iter().flat_map(Command::get_arguments);
    let all = all.chain(program.get_arguments());
    let with_value = all.filter(|one| one.get_action().takes_values());
    with_value
        .filter_map(|one| Some(format!("--{}", one.get_long()?)))
        .collect()
}

/// Returns the line that the shell's script has passed on behind `--`.
fn typed_line() -> TypedLine {
    let words = std::env::args_os().skip_while(|word| word != "--").skip(1);
    // Bash and zsh send the whole line, and say which word is meant. Fish sends no words behind it.
    let index = std::env::var("_CLAP_COMPLETE_INDEX");
    TypedLine::read(words, index.ok().and_then(|index| index.parse().ok()))
}

impl TypedLine {
    fn read(words: impl Iterator<Item = OsString>, index: Option<usize>) -> Self {
        let text = |word: OsString| word.to_string_lossy().into_owned();
        let mut before: Vec<String> = words.map(text).collect();
        let last = before.len().saturating_sub(1);
        let mut tail = before.split_off(index.unwrap_or(last).min(last));
        let current = match tail.is_empty() {
            true => String::new(),
            false => tail.swap_remove(0),
        };
        if !before.is_empty() {
            before.remove(0);
        }
        TypedLine { before, current }
    }

    /// Returns the home that the line names. Bash splits `--home=DIR` into three words.
    fn home(&self) -> Option<PathBuf> {
        let mut words = self.before.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let home = match word.strip_prefix("--home") {
                Some("") => words.find(|word| *word != "="),
                Some(rest) => rest.strip_prefix('='),
                None => None,
            };
            if let Some(home) = home {
                return Some(PathBuf::from(home));
            }
        }
        None
    }

    /// Returns a session for the home of the line.
    fn session(&self) -> Result<Session> {
        Session::new(Global {
            home: self.home(),
            json: false,
            quiet: true,
            verbose: 0,
        })
    }

    /// Returns the daemon's name of a `call`, and the words behind it.
    fn called(&self) -> Option<(&str, Vec<&str>)> {
        let words = self.before.iter().map(String::as_str);
        let mut words = words.skip_while(|word| *word != "call").skip(1);
        let with_value = options_with_value();
        while let Some(word) = words.next() {
            if with_value.iter().any(|option| option == word) {
                words.find(|word| *word != "=")?;
            } else if !word.starts_with('-') {
                return Some((word, words.collect()));
            }
        }
        None
    }

    fn is_behind_command(&self) -> bool {
        self.called().is_some_and(|(_, words)| !words.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str, index: Option<usize>) -> TypedLine {
        TypedLine::read(line.split(' ').map(OsString::from), index)
    }

    #[test]
    fn a_line_has_its_home_and_its_daemon() {
        let cases = [
            (
                "dae-host call Sample gr",
                None,
                None,
                Some(("Sample", vec![])),
            ),
            (
                "dae-host --home /h call --timeout 5s Sample greet --who ",
                None,
                Some("/h"),
                Some(("Sample", vec!["greet", "--who"])),
            ),
            (
                "dae-host call --home = /h Sample greet A",
                None,
                Some("/h"),
                Some(("Sample", vec!["greet"])),
            ),
            ("dae-host --home=/h start S", None, Some("/h"), None),
            (
                "dae-host call --repeat 20 Sample gr",
                None,
                None,
                Some(("Sample", vec![])),
            ),
            ("dae-host call Sa", None, None, None),
        ];
        for (line, index, home, called) in cases {
            let read = typed(line, index);
            assert_eq!(read.home(), home.map(PathBuf::from), "{line}");
            assert_eq!(read.called(), called, "{line}");
        }
    }

    #[test]
    fn the_shell_says_which_word_is_typed() {
        let read = typed("dae-host call --raw Sample greet Ada more", Some(4));
        assert_eq!(read.called(), Some(("Sample", vec![])));
        assert_eq!(read.current, "greet");
        assert_eq!(typed("dae-host", Some(7)).called(), None);
    }

    #[test]
    fn every_name_of_a_daemon_has_candidates() {
        let program = with_candidates(super::super::definition());
        let with_none = program.get_subcommands().flat_map(|command| {
            let positional = command.get_positionals().filter(|one| {
                matches!(one.get_id().as_str(), "name" | "names" | "words")
                    && one.get::<ArgValueCandidates>().is_none()
            });
            positional.map(|_| command.get_name().to_owned())
        });
        assert_eq!(with_none.collect::<Vec<_>>(), [""; 0]);
        program.debug_assert();
    }
}
