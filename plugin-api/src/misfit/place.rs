//! The place of an error in a JSON text: the keys and indices that lead to it.
//!
//! The text is read again from its start once an error is known. So nothing is recorded while values are read.

use std::fmt::Write as _;

use crate::exact::{number_end, string_end};

/// The longest path in a message (characters).
const PATH_CHARS_MAX: usize = 80;

/// A place in a text.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct JsonPath<'t> {
    steps: Vec<Step<'t>>,
    /// The string, number or word that ends there; empty after a bracket.
    pub last: &'t str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step<'t> {
    Index(usize),
    /// A key as it is written, with its quotes; empty before the first.
    Key(&'t str),
}

impl<'t> JsonPath<'t> {
    /// Removes the last step.
    pub fn leave(&mut self) {
        self.steps.pop();
    }

    /// Returns the steps as text, such as `.list[3].x`; empty for the whole text.
    #[must_use]
    pub fn path(&self) -> String {
        let mut path = String::new();
        for step in &self.steps {
            // Writing to a String never fails.
            let _ = match step {
                Step::Index(index) => write!(path, "[{index}]"),
                Step::Key("") => Ok(()),
                Step::Key(key) if is_plain(key) => write!(path, ".{}", &key[1..key.len() - 1]),
                Step::Key(key) => write!(path, "[{key}]"),
            };
        }
        super::shortened(&path, PATH_CHARS_MAX).into_owned()
    }
}

/// Returns whether a key, in its quotes, can follow a dot.
fn is_plain(key: &str) -> bool {
    let inside = key.strip_prefix('"').and_then(|key| key.strip_suffix('"'));
    inside.is_some_and(|name| {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        !name.is_empty() && name.bytes().all(is_word)
    })
}

/// Finds the place of the byte before `end`.
#[must_use]
pub fn locate(text: &str, end: usize) -> JsonPath<'_> {
    let bytes = text.as_bytes();
    let end = end.min(bytes.len());
    let mut place = JsonPath::default();
    let mut at = 0;
    while at < end {
        let start = at;
        at = match bytes[at] {
            b'"' => string_end(bytes, at),
            b'-' | b'0'..=b'9' => number_end(bytes, at),
            byte => {
                follow(&mut place, byte);
                at += 1;
                continue;
            }
        };
        place.last = text.get(start..at).unwrap_or_default();
        let is_key = place.last.starts_with('"') && next_is_colon(&bytes[at..]);
        if let (true, Some(Step::Key(key))) = (is_key, place.steps.last_mut()) {
            *key = place.last;
        }
    }
    place
}

fn follow(place: &mut JsonPath<'_>, byte: u8) {
    match byte {
        b'[' => place.steps.push(Step::Index(0)),
        b'{' => place.steps.push(Step::Key("")),
        b']' | b'}' => drop(place.steps.pop()),
        b',' => match place.steps.last_mut() {
            Some(Step::Index(index)) => *index += 1,
            Some(Step::Key(key)) => *key = "",
            None => {}
        },
        b':' | b' ' | b'\t' | b'\r' | b'\n' => return,
        // A letter of `true`, `false` or `null`.
        _ => {}
    }
    place.last = "";
}

fn next_is_colon(rest: &[u8]) -> bool {
    let next = rest.iter().find(|byte| !byte.is_ascii_whitespace());
    next == Some(&b':')
}
