//! A selection of log records: by daemon, time, level and text.

use jiff::Timestamp;
use regex_lite::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use super::{LEVELS, Record};

/// The most memory of a compiled pattern (bytes), the default of the crate. It bounds what a pattern of a client can cost.
const PATTERN_BYTES_MAX: usize = 10 << 20;

/// A selection of log records. As JSON it is the request of `logs`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LogQuery {
    /// The daemons; empty for all.
    pub names: Vec<String>,
    /// The highest number of records; the last ones are returned.
    pub lines: usize,
    /// Only records of this time or later.
    pub since: Option<Timestamp>,
    /// Only records of this time or earlier.
    pub until: Option<Timestamp>,
    /// Only records that are at least as severe: `error`, `warn`, `info`, `debug` or `trace`.
    pub level: Option<String>,
    /// Only records whose message or fields match.
    pub grep: Option<Pattern>,
}

/// A regular expression that is compiled once.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(Regex);

impl TryFrom<String> for Pattern {
    type Error = String;

    /// Compiles a pattern. A pattern without capital letters ignores case.
    fn try_from(text: String) -> Result<Self, String> {
        let compiled = RegexBuilder::new(&text)
            .case_insensitive(!text.chars().any(char::is_uppercase))
            .size_limit(PATTERN_BYTES_MAX)
            .build();
        compiled
            .map(Pattern)
            .map_err(|error| format!("expected a regular expression: {error}"))
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0.as_str().to_owned()
    }
}

impl LogQuery {
    /// Returns a selection of the last `lines` records of one daemon or of all.
    #[must_use]
    pub fn last(daemon: Option<&str>, lines: usize) -> Self {
        LogQuery {
            names: daemon.map(str::to_owned).into_iter().collect(),
            lines,
            ..LogQuery::default()
        }
    }

    /// Returns whether the query selects the record.
    #[must_use]
    pub fn selects(&self, record: &Record) -> bool {
        let is_named = self.names.is_empty() || self.names.contains(&record.daemon);
        is_named
            && !self.is_before(record)
            && self.until.is_none_or(|until| record.time <= until)
            && self.is_severe(record)
            && self.grep.as_ref().is_none_or(|grep| grep.matches(record))
    }

    /// Returns whether the record is too old, and so are those before it.
    pub(super) fn is_before(&self, record: &Record) -> bool {
        self.since.is_some_and(|since| record.time < since)
    }

    fn is_severe(&self, record: &Record) -> bool {
        let Some(least) = &self.level else {
            return true;
        };
        let rank = |level: &str| LEVELS.iter().position(|known| *known == level);
        // An unknown level counts as severe: it is better shown.
        rank(&record.level) <= rank(least)
    }
}

impl Pattern {
    fn matches(&self, record: &Record) -> bool {
        let Pattern(regex) = self;
        let has_field = || {
            let fields = record.fields.iter();
            fields
                .map(|(name, value)| format!("{name}={value}"))
                .any(|field| regex.is_match(&field))
        };
        regex.is_match(&record.message) || has_field()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(level: &str, message: &str) -> Record {
        Record {
            fields: json!({"port": 7}).as_object().cloned().unwrap_or_default(),
            ..Record::about("A", None, level, message)
        }
    }

    fn selects(query: &serde_json::Value, record: &Record) -> bool {
        let query: LogQuery = serde_json::from_value(query.clone()).unwrap();
        query.selects(record)
    }

    #[test]
    fn each_part_of_a_query_selects() {
        let warned = record("warn", "Disk is full");
        for (query, expected) in [
            (json!({}), true),
            (json!({"names": ["A", "B"]}), true),
            (json!({"names": ["B"]}), false),
            (json!({"level": "warn"}), true),
            (json!({"level": "error"}), false),
            (json!({"level": "debug"}), true),
            (json!({"grep": "disk .* full"}), true),
            (json!({"grep": "DISK"}), false),
            (json!({"grep": "port=7"}), true),
            (json!({"grep": "empty"}), false),
            (json!({"since": "2026-01-01T00:00:00Z"}), true),
            (json!({"until": "2026-01-01T00:00:00Z"}), false),
        ] {
            assert_eq!(selects(&query, &warned), expected, "{query}");
        }
        assert!(selects(&json!({"level": "error"}), &record("fatal", "x")));
    }

    #[test]
    fn a_pattern_that_makes_no_sense_is_an_error() {
        let error = Pattern::try_from("(".to_owned()).unwrap_err();
        assert!(error.contains("regular expression"), "{error}");
    }
}
