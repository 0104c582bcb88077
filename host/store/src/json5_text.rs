//! Converts JSON5, which people type more easily, to strict JSON.
//!
//! It is called only after strict JSON has failed. The `json5` crate decides whether a text is JSON5. The text is then
//! rewritten token by token instead of being read into values, so that numbers keep their digits: `-0` keeps its sign,
//! and an integer keeps all digits. The private module `misread` explains errors to the author of the text.
//!
//! The `json5` reader recurses for each nesting level. The nesting is therefore limited before the reader sees the
//! text, so that no guest's line can overflow the host's stack.

mod misread;
mod tokens;

use std::borrow::Cow;

use dae_plugin_api::{exact, misfit};
use serde::de::IgnoredAny;
use serde_json::Value;

use tokens::{Token, tokens};

/// The deepest nesting of arrays and objects. It is serde_json's own limit, so that JSON and JSON5 allow the same.
const DEPTH_MAX: usize = 127;

/// The longest part of a text that a message shows, in characters.
const SHOWN_CHARS_MAX: usize = 60;

/// Returns the arguments of a command as strict JSON.
///
/// # Errors
/// A text for the guest that says what is wrong, and where.
pub fn to_strict(arguments: &str) -> Result<String, String> {
    check_depth(arguments)?;
    // A text that is empty or only has comments means no arguments.
    if tokens(arguments).next().is_none() {
        return Ok("[]".to_owned());
    }
    match json5::from_str::<IgnoredAny>(arguments) {
        Ok(IgnoredAny) => strict(arguments).map_err(|number| number.in_arguments()),
        Err(error) => Err(misread::in_arguments(arguments, &error)),
    }
}

/// Returns a JSON5 document as strict JSON.
///
/// # Errors
/// A text that says what is wrong with the document, and where.
pub fn document_to_strict(document: &str) -> Result<String, String> {
    check_document(document)?;
    strict(document).map_err(|number| number.in_document())
}

/// Checks that a document is JSON5.
///
/// # Errors
/// A text that says what is wrong with the document, and where.
pub fn check_document(document: &str) -> Result<(), String> {
    check_depth(document)?;
    json5::from_str::<IgnoredAny>(document)
        .map(drop)
        .map_err(|error| misread::in_document(document, &error))
}

/// Checks that a text doesn't nest too deep for a recursive reader.
///
/// # Errors
/// The text nests too deep.
pub fn check_depth(text: &str) -> Result<(), String> {
    match depth(text) > DEPTH_MAX {
        true => Err(format!(
            "arrays and objects nest deeper than {DEPTH_MAX} levels"
        )),
        false => Ok(()),
    }
}

/// Checks that a JSON5 document holds no number that would change silently: NaN or an infinity, which would become
/// `null`, or an integer beyond 64 bits, which would be rounded.
///
/// # Errors
/// A text that names the number and its place.
pub fn check_numbers(document: &str) -> Result<(), String> {
    let strict = strict(document).map_err(|number| number.in_document())?;
    match exact::from_str::<Value>(&strict) {
        Err(error) if error.is_data() => Err(misfit::explain(&error, &strict)),
        // Other errors are reported when the document is read.
        _ => Ok(()),
    }
}

fn shown(text: &str) -> Cow<'_, str> {
    misfit::shortened(text, SHOWN_CHARS_MAX)
}

/// Returns the deepest nesting of arrays and objects.
fn depth(arguments: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for token in tokens(arguments) {
        match token {
            Token::Open(_) => depth += 1,
            Token::Close(_) => depth = depth.saturating_sub(1),
            _ => continue,
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Rewrites a text that is valid JSON5.
fn strict(arguments: &str) -> Result<String, NoNumber<'_>> {
    let mut json = StrictJson::default();
    for token in tokens(arguments) {
        match token {
            Token::Comma => {
                json.end_word()?;
                json.has_comma = true;
            }
            Token::Close(bracket) => {
                json.end_word()?;
                // The comma was a trailing comma after the last element.
                json.has_comma = false;
                json.text.push(bracket);
            }
            Token::Colon => json.end_key(),
            Token::Open(bracket) => json.next().push(bracket),
            Token::Text(quoted) => {
                let text: String = json5::from_str(quoted).unwrap_or_default();
                write_string(json.next(), &text);
            }
            Token::Word(word) => {
                json.next();
                json.word = word;
            }
            // Can't occur: the JSON5 reader rejects an unclosed comment.
            Token::Unclosed => {}
        }
    }
    json.end_word()?;
    Ok(json.text)
}

/// The strict JSON written so far.
#[derive(Default)]
struct StrictJson<'t> {
    text: String,
    /// True if a comma has been read whose next element hasn't.
    has_comma: bool,
    /// A key or a value; the next token shows which. Empty for none.
    word: &'t str,
}

impl<'t> StrictJson<'t> {
    /// Returns the text, ready for the next element.
    fn next(&mut self) -> &mut String {
        if std::mem::take(&mut self.has_comma) {
            self.text.push(',');
        }
        &mut self.text
    }

    fn end_key(&mut self) {
        match std::mem::take(&mut self.word) {
            // The key was in quotes and is already written.
            "" => {}
            name => write_string(&mut self.text, &unescaped(name)),
        }
        self.text.push(':');
    }

    fn end_word(&mut self) -> Result<(), NoNumber<'t>> {
        match std::mem::take(&mut self.word) {
            "" => Ok(()),
            word @ ("true" | "false" | "null") => {
                self.text.push_str(word);
                Ok(())
            }
            word => match number(word) {
                Some(number) => {
                    self.text.push_str(&number);
                    Ok(())
                }
                None => Err(self.refuse(word)),
            },
        }
    }

    fn refuse(&mut self, word: &'t str) -> NoNumber<'t> {
        NoNumber {
            word,
            before: std::mem::take(&mut self.text),
        }
    }
}

/// A word that JSON can't represent as a number, and the JSON before it.
struct NoNumber<'t> {
    word: &'t str,
    before: String,
}

impl NoNumber<'_> {
    fn in_arguments(&self) -> String {
        let path = self.path();
        let index = path.strip_prefix('[').and_then(|path| path.split_once(']'));
        let number: usize = index.map_or(0, |(index, _)| index.parse().unwrap_or(0));
        let at = misfit::inside_argument(&path, &self.before);
        format!("argument {}{at}: {}", number + 1, self.reason())
    }

    fn in_document(&self) -> String {
        format!("at {}: {}", self.path(), self.reason())
    }

    fn path(&self) -> String {
        misfit::locate(&self.before, self.before.len()).path()
    }

    fn reason(&self) -> String {
        let word = shown(self.word);
        format!(
            "expected a number that JSON has, got {word}; NaN, infinities and what is too large for a floating-point number \
             are refused"
        )
    }
}

/// Appends a text as a JSON string.
fn write_string(out: &mut String, text: &str) {
    out.push_str(&Value::from(text).to_string());
}

/// Returns the name that an unquoted key represents.
fn unescaped(name: &str) -> String {
    // Escapes have the same meaning in names and in strings. A name has no other characters that a string must escape.
    match name.contains('\\') {
        true => json5::from_str(&format!("\"{name}\"")).unwrap_or_default(),
        false => name.to_owned(),
    }
}

/// Converts a JSON5 number to a JSON number without changing its digits. Returns `None` if JSON has no such number.
fn number(word: &str) -> Option<String> {
    let (sign, digits) = match word.as_bytes().first()? {
        b'-' => ("-", &word[1..]),
        b'+' => ("", &word[1..]),
        _ => ("", word),
    };
    let hex = digits.strip_prefix("0x").or(digits.strip_prefix("0X"));
    if let Some(hex) = hex {
        let value = u128::from_str_radix(hex, 16).ok()?;
        return Some(format!("{sign}{value}"));
    }
    // The value is not finite, or the word is a name such as NaN.
    if !digits.starts_with(['.', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
        || !digits.parse::<f64>().is_ok_and(f64::is_finite)
    {
        return None;
    }
    let (mantissa, exponent) = match digits.find(['e', 'E']) {
        Some(at) => digits.split_at(at),
        None => (digits, ""),
    };
    // JSON requires a digit on both sides of the point.
    let before = if mantissa.starts_with('.') { "0" } else { "" };
    let behind = if mantissa.ends_with('.') { "0" } else { "" };
    Some(format!("{sign}{before}{mantissa}{behind}{exponent}"))
}

#[cfg(test)]
mod tests;
