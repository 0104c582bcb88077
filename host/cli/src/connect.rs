//! `connect`: talks to one daemon, a command a line: a prompt at a terminal, and a filter in a pipe.
//!
//! The words of a line become arguments by the daemon's schema, as those of `call` do. One connection serves all
//! commands, so the daemon sees one guest, and its events come. A daemon or a host that ends and comes back is told in
//! one line.
//!
//! In a pipe standard output has one answer a line, standard error everything else, and the exit code is that of the
//! last answer. Deliberately absent: several commands at a time.

mod line;
mod link;
mod news;
mod pretty;
mod prompt;

use std::io::{self, BufRead as _, IsTerminal as _};
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result};
use dae_common_tcp::nearest;
use reedline::{ExternalPrinter, Signal};
use serde_json::value::RawValue;

use super::Session;
use super::call;
use super::client::ReplyPart;
use super::exit::{self, Code, Fault};
use super::interrupted::{self, EndMessage};
use super::signatures;
use dae_runtime::os::interrupt::Interruptions;
use dae_store::printable;
use line::{OWN, Typed};
use link::{Link, SentMessage};
use news::News;
use prompt::{DaemonPrompt, Words};

/// The news that wait for the editor to show them.
const NEWS_MAX: usize = 1000;

/// The width of tables in a pipe (cells).
const WIDTH_DEFAULT: u16 = 100;

/// The arguments of `connect`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The daemon's name
    name: String,
}

/// `connect`: talks to a daemon.
pub(super) fn connect(session: &Session, args: &Args) -> Result<()> {
    let is_prompt = io::stdin().is_terminal() && session.out.table_width().is_some();
    match is_prompt {
        true => at_terminal(session, &args.name),
        false => in_pipe(session, &args.name),
    }
}

fn at_terminal(session: &Session, name: &str) -> Result<()> {
    let printer = ExternalPrinter::new(NEWS_MAX);
    let news = Arc::new(News::new(session.out, Some(printer.sender())));
    let link = Link::open(session, name, Arc::clone(&news))?;
    cancel_by_key(link.canceller());
    let completer = Box::new(Words(link.commands()));
    let mut editor = prompt::editor(session, name, completer, printer)?;
    session.out.note(&format!(
        "connected to {name}; Tab completes, .help shows more, Ctrl-D ends"
    ));
    let mut talk = Talk {
        session,
        name,
        link,
        is_raw: false,
    };
    loop {
        let prompt = DaemonPrompt {
            daemon: name,
            is_raw: talk.is_raw,
        };
        news.set_editing(true);
        let read = editor.read_line(&prompt);
        news.set_editing(false);
        match read.context("cannot read from the terminal")? {
            Signal::Success(line) => match talk.take(&line) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => {
                    let _ = exit::report(&check_reader(error)?, session.out.json);
                }
            },
            Signal::CtrlD => return Ok(()),
            // Drops the line that was being typed.
            _ => {}
        }
    }
}

/// Lets Ctrl-C cancel the command that runs, and go back to the prompt. While a line is typed it is a key of the editor. If
/// the handlers can't be set up, it ends the program.
fn cancel_by_key(cancel: impl Fn() -> bool + Send + 'static) {
    let Ok(mut interruptions) = Interruptions::begin() else {
        return;
    };
    let wait = move || {
        while let Some(interruption) = interruptions.wait() {
            match interruption.is_key() {
                // Between two commands there is nothing to cancel.
                true => drop(cancel()),
                false => interruption.take_effect(),
            }
        }
    };
    let _ = thread::Builder::new().name("keys".to_owned()).spawn(wait);
}

fn in_pipe(session: &Session, name: &str) -> Result<()> {
    let news = Arc::new(News::new(session.out, None));
    let mut talk = Talk {
        session,
        name,
        link: Link::open(session, name, news)?,
        is_raw: false,
    };
    let text = format!(
        "has ended this conversation with {name}; a command that runs is cancelled, and may have run in part"
    );
    let end = talk.link.at_the_end();
    interrupted::before_the_end(session, move || {
        end();
        EndMessage::of_signal(&text, None)
    });
    let mut last = Code::Done;
    for line in io::stdin().lock().lines() {
        let line = line.context("cannot read from standard input")?;
        last = match talk.take(&line) {
            Ok(true) if line.trim().is_empty() => last,
            Ok(true) => Code::Done,
            Ok(false) => break,
            Err(error) => exit::report(&check_reader(error)?, session.out.json),
        };
    }
    match last {
        Code::Done => Ok(()),
        code => Err(Fault::Reported(code).into()),
    }
}

/// Returns an error that is about one line, and fails with one that ends the conversation: nobody reads the output.
fn check_reader(error: anyhow::Error) -> Result<anyhow::Error> {
    match error.downcast_ref() {
        Some(Fault::ReaderGone) => Err(error),
        _ => Ok(error),
    }
}

/// A conversation with a daemon.
struct Talk<'a> {
    session: &'a Session,
    name: &'a str,
    link: Link,
    is_raw: bool,
}

impl Talk<'_> {
    /// Runs a line. Returns whether the conversation goes on.
    fn take(&mut self, line: &str) -> Result<bool> {
        match line::read(line) {
            Typed::Nothing => {}
            Typed::Quit => return Ok(false),
            Typed::Raw => {
                self.is_raw = !self.is_raw;
                let text = match self.is_raw {
                    true => "lines are sent as they are typed: NAME[#TAG] [JSON]",
                    false => "lines are words again",
                };
                self.session.out.note(text);
            }
            Typed::Options => self.options()?,
            Typed::Help(command) => self.help(command.as_deref())?,
            Typed::Unknown(word) => return Err(unknown(&word).into()),
            Typed::Command(..) if self.is_raw => self.raw(line)?,
            Typed::Command(command, words) => self.command(&command, &words)?,
        }
        Ok(true)
    }

    fn options(&self) -> Result<()> {
        let commands = self.link.commands()();
        let width = self.session.out.table_width().unwrap_or(WIDTH_DEFAULT);
        match commands.is_empty() {
            true => {
                let text = "the daemon doesn't describe its commands; the command `options` has their names";
                self.session.out.note(text);
                Ok(())
            }
            false => self.session.out.line(&signatures::table(&commands, width)),
        }
    }

    fn help(&self, command: Option<&str>) -> Result<()> {
        let Some(command) = command else {
            return self.session.out.line(line::HELP);
        };
        let commands = self.link.commands()();
        match commands.get(command) {
            Some(help) => self.session.out.line(&signatures::details(help)),
            None => {
                let near = nearest(command, commands.keys().map(String::as_str));
                let near = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
                let name = self.name;
                let text = format!("{name} describes no command {command}{near}");
                Err(Fault::Usage(text).into())
            }
        }
    }

    fn command(&self, command: &str, words: &[String]) -> Result<()> {
        let commands = self.link.commands()();
        let arguments = call::arguments(self.name, command, commands.get(command), words)?;
        let arguments = serde_json::to_string(&arguments)?;
        let message = SentMessage {
            command,
            tag: None,
            arguments: &arguments,
        };
        let result = self.link.call(&message, &mut |part| self.part(&part))?;
        result.map_or(Ok(()), |result| self.answer(&result))
    }

    /// Sends a line of Common TCP as it is, and prints its answer in the same form.
    fn raw(&self, line: &str) -> Result<()> {
        let (command, tag, arguments) = line::of_protocol(line);
        let message = SentMessage {
            command,
            tag: Some(tag),
            arguments,
        };
        let result = self.link.call(&message, &mut |part| self.part(&part))?;
        let result = result.map_or_else(String::new, |result| result.get().to_owned());
        let tag = tag.map_or_else(String::new, |tag| format!("#{tag}"));
        self.session.out.line(&format!("{command}{tag} [{result}]"))
    }

    fn part(&self, part: &ReplyPart) -> Result<()> {
        match part.progress {
            true => {
                self.session.out.progress(&part.item);
                Ok(())
            }
            false => self.answer(&part.item),
        }
    }

    /// Prints an answer: in colours at a terminal, and on one line otherwise.
    fn answer(&self, result: &RawValue) -> Result<()> {
        let out = self.session.out;
        match out.table_width() {
            None => out.document(&result),
            Some(width) => {
                let json = printable::json(result.get());
                out.styled(&pretty::pretty(&json, usize::from(width), out.ansi()))
            }
        }
    }
}

fn unknown(word: &str) -> Fault {
    let near = nearest(word, OWN.into_iter());
    let near = near.map_or_else(String::new, |near| format!("did you mean {near}? "));
    Fault::Usage(format!("there is no {word}; {near}`.help` shows all"))
}
