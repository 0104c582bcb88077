//! Makes untrusted text safe for a terminal. This is the only file that escapes and cuts such text.
//!
//! Names, reasons, log messages and replies come from plugins, from peers and from files. A terminal executes control
//! characters in them, some characters reverse the reading order, and endless text pushes earlier output off the
//! screen. Control characters are therefore shown as escapes, and long text is cut where a person reads it. JSON
//! documents keep their exact value: the same characters become JSON escapes.

use std::borrow::Cow;

/// The longest untrusted value shown to a person, in characters. A typical reason has a few hundred.
pub(crate) const TEXT_CHARS_MAX: usize = 4096;

/// The longest log record shown to a person, in characters. `logs --json` shows the whole record.
pub(crate) const RECORD_CHARS_MAX: usize = 64 << 10;

/// The longest untrusted label of a metric, in characters. A monitoring system keeps each label for weeks.
const LABEL_CHARS_MAX: usize = 128;

/// Returns the beginning of the text as one line, with an ellipsis if there is more. A text may have megabytes, and only
/// its beginning is looked at.
pub fn label(text: &str) -> Cow<'_, str> {
    let is_one = |c| is_harmful(c) || c == '\n';
    match text.char_indices().nth(LABEL_CHARS_MAX) {
        None => escaped(text, is_one),
        Some((end, _)) => Cow::Owned(format!("{}…", escaped(&text[..end], is_one))),
    }
}

/// Returns the text as one line of at most [`TEXT_CHARS_MAX`] characters. Line ends are escaped too.
pub fn one_line(text: &str) -> Cow<'_, str> {
    one_line_of(text, TEXT_CHARS_MAX)
}

/// Returns the text as one line of at most `chars_max` characters.
pub(crate) fn one_line_of(text: &str, chars_max: usize) -> Cow<'_, str> {
    cut(escaped(text, |c| is_harmful(c) || c == '\n'), chars_max)
}

/// Returns the text with its line ends, cut to [`TEXT_CHARS_MAX`] characters. For messages of several lines.
pub fn message(text: &str) -> Cow<'_, str> {
    cut(lines(text), TEXT_CHARS_MAX)
}

/// Returns the whole text with its line ends.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, is_harmful)
}

/// Returns a JSON document of the same value without characters that control a terminal. They can only occur in
/// strings.
pub fn json(document: &str) -> Cow<'_, str> {
    if !document.chars().any(is_harmful) {
        return Cow::Borrowed(document);
    }
    let mut out = String::with_capacity(document.len() + 8);
    let mut units = [0; 2];
    for c in document.chars() {
        match is_harmful(c) && !matches!(c, '\t' | '\r') {
            true => {
                let units = c.encode_utf16(&mut units);
                out.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
            }
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match is_escaped(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Returns whether a terminal does more than display the character. A line end doesn't count.
fn is_harmful(c: char) -> bool {
    (c.is_control() && c != '\n') || is_invisible(c)
}

/// Returns whether the character is a direction mark, a line separator or invisible. Joiners of words and emoji are not
/// counted, since text needs them.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Cuts the text to `chars_max` characters and appends the number of characters left out.
fn cut(text: Cow<'_, str>, chars_max: usize) -> Cow<'_, str> {
    // The byte length is an upper bound of the character count.
    if text.len() <= chars_max {
        return text;
    }
    let Some((end, _)) = text.char_indices().nth(chars_max) else {
        return text;
    };
    let left_out = text[end..].chars().count();
    Cow::Owned(format!("{}… ({left_out} more characters)", &text[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_drives_a_terminal_comes_through() {
        let cases = [
            ("plain é 👩\u{200d}🚀", "plain é 👩\u{200d}🚀"),
            ("a\u{1b}[2Jb\n\u{9b}c", "a\\u{1b}[2Jb\\n\\u{9b}c"),
            (
                "x\u{202e}y\u{2028}z\u{7f}\r",
                "x\\u{202e}y\\u{2028}z\\u{7f}\\r",
            ),
            ("\u{e0041}", "\\u{e0041}"),
        ];
        for (text, expected) in cases {
            assert_eq!(one_line(text), expected);
        }
        assert_eq!(lines("a\n\u{1b}b"), "a\n\\u{1b}b");
        assert_eq!(message("a\nb"), "a\nb");
    }

    #[test]
    fn long_text_is_cut_and_the_rest_is_counted() {
        let text = "é".repeat(70_000);
        let expected = format!("{}… (65904 more characters)", "é".repeat(4096));
        assert_eq!(one_line(&text), expected);
        assert_eq!(message(&text), expected);
        assert_eq!(lines(&text), text);
        assert_eq!(one_line(&"é".repeat(4096)), "é".repeat(4096));
    }

    #[test]
    fn a_json_document_keeps_its_value() {
        let value = serde_json::json!({"a\u{9b}": ["\u{7f}\u{202e}\u{e0041}", "\n\u{1b}é", 1.50]});
        for document in [
            value.to_string(),
            serde_json::to_string_pretty(&value).unwrap(),
        ] {
            let safe = json(&document);
            assert!(!safe.chars().any(is_harmful), "{safe}");
            let read: serde_json::Value = serde_json::from_str(&safe).unwrap();
            assert_eq!(read, value);
        }
        assert_eq!(json(r#"{"a": 1.50}"#), r#"{"a": 1.50}"#);
    }
}
