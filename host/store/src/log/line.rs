//! A record as one line for people, whatever it contains.
//!
//! A daemon's message may include text from its guests, so it is escaped and cut (see [`crate::printable`]).

use std::fmt::Write as _;

use super::Record;
use crate::printable::{RECORD_CHARS_MAX, one_line_of};

const COLOURS_OFF: &str = "\u{1b}[0m";

/// The colours of daemons on a terminal, as numbers of its palette: those that stand out on a light and on a dark ground.
const DAEMON_COLOURS: [u8; 6] = [36, 34, 35, 33, 32, 96];

/// The longest level shown, in characters. Valid levels have up to five letters; a file edited by hand may contain
/// anything.
const LEVEL_CHARS_MAX: usize = 16;

impl Record {
    /// Returns time, level, daemon with generation, message and fields, without LF. If `ansi` is true, the level has a
    /// colour.
    #[must_use]
    pub fn line(&self, ansi: bool) -> String {
        let time = self.time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
        let level = self.level.to_uppercase();
        let level = one_line_of(&level, LEVEL_CHARS_MAX);
        let mut line = format!("{time} ");
        match ansi {
            true => {
                let colour = colour(&self.level);
                push(&mut line, format_args!("{colour}{level:>5}{COLOURS_OFF}"));
            }
            false => push(&mut line, format_args!("{level:>5}")),
        }
        let said = self.said();
        let said = one_line_of(&said, RECORD_CHARS_MAX);
        push(&mut line, format_args!(" {said}"));
        line
    }

    /// Returns the record as one line for a terminal, behind a time that the caller has formatted: level, daemon with
    /// generation, message and fields. With `ansi` the level has a colour, and so has each daemon, always the same one.
    #[must_use]
    pub fn terminal_line(&self, time: &str, ansi: bool) -> String {
        let level = self.level.to_uppercase();
        let level = one_line_of(&level, LEVEL_CHARS_MAX);
        let said = self.said();
        let said = one_line_of(&said, RECORD_CHARS_MAX);
        if !ansi {
            return format!("{time} {level:>5} {said}");
        }
        let name = one_line_of(&self.daemon, RECORD_CHARS_MAX);
        let rest = said.strip_prefix(&*name).unwrap_or(&said);
        let (of_level, of_daemon) = (colour(&self.level), daemon_colour(&self.daemon));
        format!(
            "{time} {of_level}{level:>5}{COLOURS_OFF} \u{1b}[{of_daemon}m{name}{COLOURS_OFF}{rest}"
        )
    }

    /// Returns daemon with generation, message and fields, unescaped.
    pub(super) fn said(&self) -> String {
        let mut said = self.daemon.clone();
        if let Some(generation) = self.generation {
            push(&mut said, format_args!("#{generation}"));
        }
        push(&mut said, format_args!(": {}", self.message));
        for (key, value) in &self.fields {
            push(&mut said, format_args!(" {key}={value}"));
        }
        said
    }
}

fn push(line: &mut String, part: std::fmt::Arguments<'_>) {
    // Writing to a `String` can't fail.
    let _ = line.write_fmt(part);
}

/// Returns the number of a daemon's colour. The name alone decides, so that it is the same in each run.
fn daemon_colour(name: &str) -> u8 {
    // FNV-1a (RFC 9923): spreads names that differ in one letter.
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    DAEMON_COLOURS[hash as usize % DAEMON_COLOURS.len()]
}

/// Returns the escape sequence for a level, in upper or lower case: a file edited by hand may contain either.
fn colour(level: &str) -> &'static str {
    let is = |name: &str| level.eq_ignore_ascii_case(name);
    match level {
        _ if is("error") => "\u{1b}[31m",
        _ if is("warn") => "\u{1b}[33m",
        _ if is("info") => "\u{1b}[32m",
        _ => "\u{1b}[2m",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_record_is_one_line_that_cannot_drive_a_terminal() {
        let record: Record = serde_json::from_value(json!({
            "time": "2026-01-02T03:04:05.678901Z", "daemon": "Sample", "generation": 3, "level": "warn",
            "target": "sample", "message": "two\nlines \u{1b}[2J é", "fields": {"n": 1, "who": "Ada"},
        }))
        .unwrap();
        let rest = r#" Sample#3: two\nlines \u{1b}[2J é n=1 who="Ada""#;
        let plain = format!("2026-01-02T03:04:05.678Z  WARN{rest}");
        assert_eq!(record.line(false), plain);
        let coloured = format!("2026-01-02T03:04:05.678Z \u{1b}[33m WARN\u{1b}[0m{rest}");
        assert_eq!(record.line(true), coloured);
        let shouted = Record {
            level: "WARN".to_owned(),
            ..record
        };
        assert_eq!(shouted.line(true), coloured);
    }

    #[test]
    fn a_daemon_has_one_colour_on_a_terminal() {
        let record = Record::about("Sorter", Some(3), "warn", "two\nlines");
        assert_eq!(
            record.terminal_line("12:00", false),
            r"12:00  WARN Sorter#3: two\nlines"
        );
        let line = record.terminal_line("12:00", true);
        let colour = daemon_colour("Sorter");
        let expected = format!(
            "12:00 \u{1b}[33m WARN\u{1b}[0m \u{1b}[{colour}mSorter\u{1b}[0m#3: two\\nlines"
        );
        assert_eq!(line, expected);
        let colours = ["A", "B", "C", "D"].map(daemon_colour);
        assert!(
            colours.iter().any(|other| *other != colours[0]),
            "{colours:?}"
        );
    }

    #[test]
    fn what_a_record_does_not_have_is_not_shown_or_kept() {
        let text = r#"{"time":"2026-01-02T03:04:05Z","daemon":"Dae","level":"info","target":"t","message":"m"}"#;
        let record: Record = serde_json::from_str(text).unwrap();
        assert_eq!(record.line(false), "2026-01-02T03:04:05.000Z  INFO Dae: m");
        let written = text.replace(":05Z", ":05.000000000Z");
        assert_eq!(serde_json::to_string(&record).unwrap(), written);
    }
}
