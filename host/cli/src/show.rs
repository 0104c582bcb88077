//! The output of the command line: data on standard output, remarks on standard error.
//!
//! A terminal gets a table that fits its width. A pipe gets the same columns aligned, whole and without colours.
//! `--json` gives the answer as a document; see `document`. Only this file depends on the terminal: `table` and `words` are pure and take
//! the width as a value. No output can control the terminal: it passes [`dae_store::printable`], except for rows that
//! were escaped before they got colours.
//!
//! Errors: a reader that has gone away is `Fault::ReaderGone`, which ends the program quietly.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::value::RawValue;

use super::document::{EventDocument, RecordDocument};
use super::exit::Fault;
use super::list::Listed;
use super::{moment, table};
use dae_store::event::{DaeEvent, EventWeight};
use dae_store::log::Record;
use dae_store::printable;

/// The width if the terminal does not report one (cells).
const WIDTH_DEFAULT: u16 = 80;

/// The height if the terminal does not report one (lines).
const HEIGHT_DEFAULT: u16 = 24;

/// The manner in which this run of the program prints.
#[derive(Debug, Clone, Copy)]
pub(super) struct Out {
    /// `--json`: documents for programs instead of text for people.
    pub(super) json: bool,
    /// `--quiet`: no confirmations and no notes.
    pub(super) quiet: bool,
    /// The terminal's width in cells; `None` if standard output is no terminal.
    width: Option<u16>,
    /// True to use colours on standard output.
    ansi: bool,
}

impl Out {
    pub(super) fn new(json: bool, quiet: bool) -> Out {
        let terminal = io::stdout().is_terminal();
        let width = terminal.then(|| comfy_table::Table::new().width().unwrap_or(WIDTH_DEFAULT));
        let ansi = terminal && colours_allowed();
        Out {
            json,
            quiet,
            width,
            ansi,
        }
    }

    /// Prints text, of one line or several.
    pub(super) fn line(&self, text: &str) -> Result<()> {
        self.styled(&printable::lines(text))
    }

    /// Prints text whose parts were escaped before they got colours.
    pub(super) fn styled(&self, text: &str) -> Result<()> {
        let mut stdout = io::stdout().lock();
        // One write, so that no line of a log gets between its lines.
        stdout
            .write_all(format!("{text}\n").as_bytes())
            .and_then(|()| stdout.flush())
            .map_err(output_fault)
    }

    /// Prints one JSON document on a line of its own. A pipe gets it as it is. At a terminal, JSON escapes replace the
    /// characters that could control it.
    pub(super) fn document(&self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(value).context("cannot write the answer as JSON")?;
        match self.width {
            Some(_) => self.styled(&printable::json(&text)),
            None => self.styled(&text),
        }
    }

    /// Prints a report of a command's progress on standard error, if that is a terminal.
    pub(super) fn progress(&self, report: &impl Serialize) {
        if self.remarks()
            && io::stderr().is_terminal()
            && let Ok(text) = serde_json::to_string(report)
        {
            // If standard error is closed, nobody reads the report.
            let _ = writeln!(io::stderr(), "{}", printable::json(&text));
        }
    }

    /// Prints a string without its quotes and escapes, and any other value as a document.
    pub(super) fn unquoted(&self, value: &RawValue) -> Result<()> {
        match (serde_json::from_str::<String>(value.get()), self.width) {
            (Ok(text), Some(_)) => self.line(&text),
            (Ok(text), None) => self.styled(&text),
            (Err(_), _) => self.document(&value),
        }
    }

    /// Returns whether standard output may have colours.
    pub(super) fn ansi(&self) -> bool {
        self.ansi
    }

    /// Returns the width of a table for a person (cells); `None` if a pipe or a program gets the output.
    pub(super) fn table_width(&self) -> Option<u16> {
        self.width.filter(|_| !self.json)
    }

    /// Reports something done: a document with `--json`, else a sentence, which `--quiet` omits.
    pub(super) fn done(&self, value: &impl Serialize, sentence: &str) -> Result<()> {
        match (self.json, self.quiet) {
            (true, _) => self.document(value),
            (false, true) => Ok(()),
            (false, false) => self.styled(&printable::message(sentence)),
        }
    }

    /// Reports a change with several lines: a document with `--json`, else the text, which `--quiet` omits.
    pub(super) fn changes(&self, value: &impl Serialize, text: &str) -> Result<()> {
        match (self.json, self.quiet) {
            (true, _) => self.document(value),
            (false, true) => Ok(()),
            (false, false) => self.line(text),
        }
    }

    /// Returns whether standard error has remarks for a person. With `--json` a program reads it, and it has nothing but
    /// the error.
    pub(super) fn remarks(&self) -> bool {
        !self.quiet && !self.json
    }

    /// Returns whether a person watches standard error at a terminal that can redraw a line.
    pub(super) fn may_draw(&self) -> bool {
        self.remarks() && io::stderr().is_terminal() && !is_dumb()
    }

    /// Prints a remark for a person on standard error.
    pub(super) fn note(&self, text: &str) {
        if self.remarks() {
            // If standard error is closed, nobody reads the remark.
            let _ = writeln!(io::stderr(), "dae-host: {}", printable::message(text));
        }
    }

    /// Prints why a signal ends the program, in place of what the line shows at a terminal: a bar of progress, or the key.
    pub(super) fn end_message(&self, text: &str) {
        let start = match io::stderr().is_terminal() && !is_dumb() {
            true => "\r\u{1b}[K",
            false => "",
        };
        // Standard error may be closed.
        let _ = writeln!(
            io::stderr(),
            "{start}dae-host: {}",
            printable::message(text)
        );
    }

    /// Prints the table of `list`.
    pub(super) fn list(&self, rows: &[Listed]) -> Result<()> {
        self.styled(&self.table(rows))
    }

    /// Returns the table of `list`, which [`Out::redraw`] may print.
    pub(super) fn table(&self, rows: &[Listed]) -> String {
        match self.width {
            Some(width) => table::fitted(rows, width, self.ansi),
            None => table::whole(rows),
        }
    }

    /// Returns a table of texts under a heading.
    pub(super) fn texts(&self, rows: &[Vec<String>]) -> String {
        table::texts(rows, self.width, self.ansi)
    }

    /// Returns whether standard output is a terminal on which a text can be drawn in place.
    pub(super) fn can_redraw(&self) -> bool {
        self.width.is_some() && !self.json && !is_dumb()
    }

    /// Draws a table, whose cells were escaped before, and a remark in place of what the screen shows. Rows that the
    /// screen has no room for are left out.
    pub(super) fn redraw(&self, table: &str, remark: &str) -> Result<()> {
        let (_, height) = ratatui::crossterm::terminal::size().unwrap_or((0, HEIGHT_DEFAULT));
        let width = usize::from(self.width.unwrap_or(WIDTH_DEFAULT)).max(1);
        // The cursor stands in a line of its own.
        let room = usize::from(height).saturating_sub(1 + remark.chars().count().div_ceil(width));
        let count = table.lines().count();
        let mut shown: Vec<&str> = table.lines().take(room).collect();
        let more = format!("… {} more", count.saturating_sub(room) + 1);
        if count > room
            && let Some(last) = shown.last_mut()
        {
            *last = &more;
        }
        shown.extend(Some(remark).filter(|remark| !remark.is_empty()));
        let body = shown.join("\x1b[K\n");
        self.styled(&format!("\x1b[H{body}\x1b[K\n\x1b[J\x1b[A"))
    }

    /// Prints an event on a line of its own.
    pub(super) fn event(&self, event: &DaeEvent) -> Result<()> {
        if self.json {
            return self.document(&EventDocument::from(event));
        }
        let text = printable::one_line(&event.to_string()).into_owned();
        self.styled(&match self.width {
            Some(_) => {
                let time = moment::short(event.time, &TimeZone::system());
                format!("{time}  {}", self.weighted(&text, event.kind.weight()))
            }
            None => format!("{} {text}", moment::long(event.time)),
        })
    }

    /// Prints a line that a daemon has sent, at a terminal behind the local time.
    pub(super) fn received(&self, document: &impl Serialize, line: &str) -> Result<()> {
        if self.json {
            return self.document(document);
        }
        let line = printable::one_line(line);
        match self.width {
            Some(_) => {
                let time = moment::precise(Timestamp::now(), &TimeZone::system());
                self.styled(&format!("{time}  {line}"))
            }
            None => self.styled(&line),
        }
    }

    /// Returns an escaped text in the colour of its weight.
    fn weighted(&self, text: &str, weight: EventWeight) -> String {
        let colour = match weight {
            _ if !self.ansi => return text.to_owned(),
            EventWeight::Usual => "\u{1b}[2m",
            EventWeight::Change => return text.to_owned(),
            EventWeight::Warning => "\u{1b}[33m",
            EventWeight::Error => "\u{1b}[31m",
        };
        format!("{colour}{text}\u{1b}[0m")
    }

    /// Prints a log record on a line of its own.
    pub(super) fn record(&self, record: &Record) -> Result<()> {
        match self.json {
            true => self.document(&RecordDocument::from(record)),
            false if self.width.is_some() => {
                let time = moment::precise(record.time, &TimeZone::system());
                self.styled(&record.terminal_line(&time, self.ansi))
            }
            false => self.styled(&record.line(self.ansi)),
        }
    }
}

/// Returns whether standard error, where `run` and `dev` show the log, is a terminal that may be coloured.
pub(super) fn stderr_ansi() -> bool {
    io::stderr().is_terminal() && colours_allowed()
}

/// Returns whether colours are allowed: NO_COLOR is unset or empty (no-color.org), and the terminal isn't dumb.
pub(super) fn colours_allowed() -> bool {
    let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !is_refused && !is_dumb()
}

/// Returns whether the terminal can do no more than show one line after another.
pub(super) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb")
}

fn output_fault(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Fault::ReaderGone.into(),
        _ => anyhow::Error::new(error).context("cannot write to standard output"),
    }
}
