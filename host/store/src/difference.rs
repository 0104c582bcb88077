//! The differences between two JSON values, by path: what a change of settings changes.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The most characters of a value in a sentence or a table.
const VALUE_CHARS_MAX: usize = 80;

/// A place at which two values differ. In JSON the values are `from` and `to`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The names of the members that lead to the place, with dots between them, such as `settings.restart.burst_max`.
    pub path: String,
    /// The value before; `None` if there was none.
    #[serde(rename = "from")]
    pub before: Option<Value>,
    /// The value now; `None` if there is none.
    #[serde(rename = "to")]
    pub now: Option<Value>,
}

/// Formats the path, and both values: `settings.restart.burst_max: 5 → 10`.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<Value>| match value {
            Some(value) => shortened(&value.to_string()),
            None => "-".to_owned(),
        };
        write!(
            f,
            "{}: {} → {}",
            self.path,
            text(&self.before),
            text(&self.now)
        )
    }
}

/// Returns a value for a person, cut behind a number of characters.
#[must_use]
pub fn shortened(text: &str) -> String {
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Returns the places at which two values differ, in the order of their paths. Objects are compared member by member;
/// everything else, arrays too, is compared as a whole.
#[must_use]
pub fn differences(path: &str, before: &Value, now: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(path, Some(before), Some(now), &mut found);
    found
}

fn compare(path: &str, before: Option<&Value>, now: Option<&Value>, found: &mut Vec<Difference>) {
    let empty = Map::new();
    match (before, now) {
        (before, now) if before == now => {}
        (Some(Value::Object(before)), Some(Value::Object(now))) => {
            members(path, before, now, found);
        }
        // The members of an object that is new or gone are named one by one, too.
        (None, Some(Value::Object(now))) if !now.is_empty() => members(path, &empty, now, found),
        (Some(Value::Object(before)), None) if !before.is_empty() => {
            members(path, before, &empty, found);
        }
        (before, now) => found.push(Difference {
            path: path.to_owned(),
            before: before.cloned(),
            now: now.cloned(),
        }),
    }
}

fn members(
    path: &str,
    before: &Map<String, Value>,
    now: &Map<String, Value>,
    found: &mut Vec<Difference>,
) {
    let mut names: Vec<&String> = before.keys().chain(now.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let inner = match path {
            "" => name.clone(),
            path => format!("{path}.{name}"),
        };
        compare(&inner, before.get(name), now.get(name), found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(before: &Value, now: &Value) -> Vec<String> {
        let found = differences("settings", before, now);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn differences_are_named_by_their_paths() {
        let before = json!({"a": 1, "b": {"c": [1], "d": 2}, "e": {"f": 1}});
        let now = json!({"a": 1, "b": {"c": [2], "d": 2}, "g": {"h": "x"}});
        assert_eq!(
            texts(&before, &now),
            [
                "settings.b.c: [1] → [2]",
                "settings.e.f: 1 → -",
                r#"settings.g.h: - → "x""#,
            ]
        );
        assert!(texts(&before, &before).is_empty());
    }

    #[test]
    fn a_long_value_is_cut() {
        let long = "x".repeat(500);
        let text = texts(&json!({}), &json!({"a": long})).remove(0);
        assert!(text.chars().count() < 120 && text.ends_with('…'), "{text}");
    }
}
