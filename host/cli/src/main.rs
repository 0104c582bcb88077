//! The command line: its commands and the dispatch to the code that runs them.
//!
//! The program is a guest of the host, not a part of it. Only `run` and `dev` become the host. `new` and `check` need
//! none. Every other command that needs a host talks to a running one over its control socket (see `client`) and ends.
//! `install` and `uninstall` also work without a host, on the store itself, under the home's lock.
//!
//! Each group of commands has one file: `run`, `shutdown`, `new`, `dev`, `change`, `list`, `top`, `query`, `call`, `logs`,
//! `events`. They share a
//! [`Session`] and nothing else. All of them print through `show` and end through `exit`.

mod apply;
mod call;
mod caller_check;
mod change;
mod check;
mod client;
mod client_trait;
mod completions;
mod config;
mod connect;
mod content_hash;
mod detach;
mod dev;
mod doctor;
mod document;
mod events;
mod examples;
mod exit;
mod explain;
mod follow;
mod graph;
mod guest;
mod history;
mod incoming;
mod interrupted;
mod json_object;
mod list;
mod listen;
mod log_level;
mod logs;
mod man;
mod metrics;
mod moment;
mod names;
mod new;
mod offline;
#[cfg(feature = "otlp")]
mod otlp;
mod otlp_variables;
mod past;
mod progress;
mod query;
mod run;
mod service;
mod show;
mod shutdown;
mod signatures;
mod source;
mod suggest;
mod table;
mod time_span;
mod top;
mod traces;
mod upgrade;
mod watchdog;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use dae_runtime::os::wording::HOME_DEFAULT;
use dae_runtime::os::{first_process, signals, terminal};
use dae_store::home::Home;
use exit::Fault;
use show::Out;

/// Runs daemons: compiled plugins that share one host, each with a name and a Common TCP port of its own.
#[derive(Debug, Parser)]
#[command(name = "dae-host", version, after_long_help = exit::HELP, max_term_width = 100)]
struct Line {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// The heading of the options of every command in a help text: those of the command itself stand apart.
const EVERYWHERE: &str = "Options of every command";

/// The options of every command.
#[derive(Debug, clap::Args)]
struct Global {
    // Read by hand: clap would show the variable's value in each usage text.
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "DIR", help = home_help())]
    home: Option<PathBuf>,
    /// Print JSON: one document, or one per line for an endless stream; an error is an object on standard error
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    json: bool,
    /// Print no confirmations and no hints
    #[arg(long, short, global = true, help_heading = EVERYWHERE)]
    quiet: bool,
    /// Log more of the host's own events (`run`, `dev`), twice for all of them; show types (`options`)
    #[arg(long, short, global = true, help_heading = EVERYWHERE, action = clap::ArgAction::Count)]
    verbose: u8,
}

fn home_help() -> String {
    format!("The home directory [default: {HOME_DEFAULT}; `dev` has its own]")
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the host of this home, until SIGTERM, Ctrl-C or `shutdown`
    Run(run::Args),
    /// End the host of this home in order, as SIGTERM does, and wait until it has ended
    Shutdown,
    /// Make a plugin crate that builds and runs at once
    New(new::Args),
    /// Build plugin crates, run them in a separate home, rebuild on every save; Ctrl-C ends it
    Dev(dev::Args),
    /// Install a compiled plugin as a daemon, and wait until it answers
    #[command(override_usage = "dae-host install [OPTIONS] [NAME] <FILE>")]
    Install(change::InstallArgs),
    /// Stop and remove daemons; their states and logs are kept for a week
    Uninstall(change::UninstallArgs),
    /// Start stopped daemons
    Start(names::Names),
    /// Stop daemons; they stay installed and stay stopped
    Stop(names::Names),
    /// Replace running daemons by new instances of the same code; connections stay
    Restart(names::Names),
    /// Replace a daemon's code by its file as it is now; connections stay, no command is lost
    Reload(change::ReloadArgs),
    /// Give daemons new files, batch by batch, and stop at the first that fails
    Upgrade(upgrade::Args),
    /// Go back to the code before, or to any stored version (`--list`, `--to`)
    Rollback(change::RollbackArgs),
    /// Make the daemons as a file declares them (`dae.toml`)
    Apply(apply::Args),
    /// Write the file that declares the daemons as the host has them
    Export(apply::ExportArgs),
    /// Show the values that a daemon runs with, or change them
    Config(config::Args),
    /// Print a daemon's state as JSON, or list the archived states
    State(history::Args),
    /// Move daemons to subprocesses; connections stay, no command is lost
    Isolate(names::Names),
    /// Move daemons from subprocesses into the host's process; connections stay, no command is lost
    Embed(names::Names),
    /// List all daemons, Dae first
    List(list::Args),
    /// Show all daemons on a screen that follows them, with logs, and keys that change them
    Top(top::Args),
    /// Look for daemons of other hosts and programs of this user, and show them
    Scan,
    /// Show one daemon in full
    Status(query::Name),
    /// Show a daemon's commands; with -v also their time limits and the types of their arguments and results
    Options(query::Name),
    /// Run a daemon's command and print its result as JSON on one line
    Call(call::CallArgs),
    /// Print the events of a daemon or a topic as they come
    Listen(listen::Args),
    /// Talk to a daemon: a prompt with completion and its events, or in a pipe a command a line
    Connect(connect::Args),
    /// Write the source of a client with types: the daemon's commands as a Rust trait
    Client(client_trait::ClientArgs),
    /// Show the level of a daemon's log, or change it until the host ends
    Log(log_level::Args),
    /// Show the daemons' log
    Logs(logs::Args),
    /// Show who calls whom, how often, and how long the calls take
    Graph(graph::Args),
    /// Explain a daemon's state: the host's decisions, when they fell, and by which rule
    Explain(explain::Args),
    /// Show what has happened to the daemons and the host: starts, reloads, crashes, refusals
    Events(events::Args),
    /// Inspect a plugin's file without running any of it
    Check(check::CheckArgs),
    /// Run the host as a service of systemd, of this user or of the machine
    Service(service::Args),
    /// Look for what keeps the host from its work, and say how to cure it
    Doctor(doctor::Args),
    /// Print the script with which a shell completes command lines, names of daemons and their commands
    Completions(completions::Args),
    /// Write the manual pages, one for the program and one for each command
    Man(man::Args),
}

/// One run of the program: its home and its manner of output.
#[derive(Debug, Clone)]
struct Session {
    home: Home,
    /// True if the home was given explicitly, so that a command line for another terminal must name it too.
    home_named: bool,
    out: Out,
    verbose: u8,
}

impl Session {
    fn new(global: Global) -> Result<Session> {
        let Global {
            home,
            json,
            quiet,
            verbose,
        } = global;
        let home = home.or_else(|| std::env::var_os("DAE_HOME").map(PathBuf::from));
        // As with the XDG variables, an empty one counts as none.
        let home_named = home.as_ref().is_some_and(|dir| !dir.as_os_str().is_empty());
        let home = Home::from_environment(home)?;
        home.check_paths()?;
        Ok(Session {
            home,
            home_named,
            out: Out::new(json, quiet),
            verbose,
        })
    }

    /// Returns a command line of this program for the same home, ready to be pasted.
    fn command_line(&self, command: &str) -> String {
        if !self.home_named {
            return format!("dae-host {command}");
        }
        let home = self.home.data.to_string_lossy();
        format!("dae-host --home {} {command}", words::shell_word(&home))
    }

    fn no_host(&self) -> Fault {
        let home = self.home.data.clone();
        Fault::NoHost {
            home,
            start: self.command_line("run"),
        }
    }
}

fn main() -> ExitCode {
    // The process of one daemon, and one that stands for the compiler in a build of `dev`, need nothing of the rest.
    let other = dae_host::worker::become_worker().or_else(dev::become_compiler);
    let other = other.or_else(completions::answer);
    other.unwrap_or_else(command_line)
}

/// Returns the definition of the command line with all that its help texts show.
fn definition() -> clap::Command {
    examples::add(Line::command())
}

/// Reads the command line. Wrong usage, or a help text, ends the program with the exit code.
fn line() -> Result<Line, ExitCode> {
    let read = definition().try_get_matches();
    let read = read.and_then(|mut matches| Line::from_arg_matches_mut(&mut matches));
    read.map_err(|error| exit::end_usage(&error, asks_for_json()))
}

/// Returns whether a command line that clap has refused asks for JSON. What follows a `--` is no option.
fn asks_for_json() -> bool {
    let mut words = std::env::args_os().skip(1).take_while(|word| word != "--");
    words.any(|word| word == "--json")
}

/// Reads the command line, runs its command and returns the exit code.
fn command_line() -> ExitCode {
    signals::start_clean_holding_back();
    terminal::allow_escapes();
    let Line { global, command } = match line() {
        Ok(line) => line,
        Err(code) => return code,
    };
    let is_json = global.json;
    if matches!(command, Command::Run(_) | Command::Dev(_)) && first_process::is_first() {
        return first_process::run().unwrap_or_else(|error| exit::end(Err(error), is_json));
    }
    if !matches!(command, Command::Run(_) | Command::New(_)) {
        // A host lets the signals through once it handles them, and `new` once its crate is whole.
        signals::let_through();
    }
    exit::end(
        Session::new(global).and_then(|session| dispatch(session, command)),
        is_json,
    )
}

fn dispatch(session: Session, command: Command) -> Result<()> {
    match command {
        Command::Run(args) => run::run(&session, &args),
        Command::Shutdown => shutdown::shutdown(&session),
        Command::New(args) => new::new(&session, &args),
        Command::Dev(args) => dev::dev(session, args),
        Command::Install(args) => change::install(&session, args),
        Command::Uninstall(args) => change::uninstall(&session, &args),
        Command::Start(names) => change::change(&session, "start", &names),
        Command::Stop(names) => change::change(&session, "stop", &names),
        Command::Restart(names) => change::change(&session, "restart", &names),
        Command::Reload(args) => change::reload(&session, &args),
        Command::Upgrade(args) => upgrade::upgrade(&session, &args),
        Command::Rollback(args) => change::rollback(&session, args),
        Command::Apply(args) => apply::apply(&session, &args),
        Command::Export(args) => apply::export(&session, &args),
        Command::Config(args) => config::config(&session, &args),
        Command::State(args) => history::state(&session, &args),
        Command::Isolate(names) => change::change(&session, "isolate", &names),
        Command::Embed(names) => change::change(&session, "embed", &names),
        Command::List(args) => list::list(&session, &args),
        Command::Top(args) => top::top(session, &args),
        Command::Scan => query::scan(&session),
        Command::Status(name) => query::status(&session, &name),
        Command::Options(name) => query::options(&session, &name),
        Command::Call(args) => call::call(&session, &args),
        Command::Listen(args) => listen::listen(&session, &args),
        Command::Connect(args) => connect::connect(&session, &args),
        Command::Client(args) => client_trait::client(&session, &args),
        Command::Log(args) => log_level::log(&session, &args),
        Command::Logs(args) => logs::logs(&session, &args),
        Command::Graph(args) => graph::graph(&session, &args),
        Command::Explain(args) => explain::explain(&session, &args),
        Command::Events(args) => events::events(&session, &args),
        Command::Check(args) => check::check(&session, &args),
        Command::Service(args) => service::service(&session, &args),
        Command::Doctor(args) => doctor::doctor(&session, &args),
        Command::Completions(args) => completions::completions(&session, &args),
        Command::Man(args) => man::man(&session, &args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        Line::command().debug_assert();
    }

    #[test]
    fn the_long_help_lists_the_exit_codes() {
        let help = Line::command().render_long_help().to_string();
        assert!(help.contains("7  no host runs"), "{help}");
    }

    #[test]
    fn usage_is_checked_before_anything_is_done() {
        let wrong: [&[&str]; 8] = [
            &[],
            &["uninstall"],
            &["start"],
            &["install", "Sample", "f.so", "--port", "0"],
            &["install", "Sample", "f.so", "--port", "70000"],
            &["call", "Sample"],
            &["dev"],
            &["reload", "Sample", "--strict=maybe"],
        ];
        for words in wrong {
            let words = std::iter::once(&"dae-host").chain(words);
            let error = Line::try_parse_from(words.clone()).expect_err("wrong usage");
            // Clap shows the help for no words at all, with the same code.
            assert_eq!(error.exit_code(), exit::Code::Usage as i32, "{words:?}");
        }
    }

    #[test]
    fn options_may_stand_before_and_after_the_command() {
        for words in [
            ["dae-host", "--json", "list"],
            ["dae-host", "list", "--json"],
        ] {
            let line = Line::try_parse_from(words).expect("right usage");
            assert!(line.global.json, "{words:?}");
        }
    }
}
