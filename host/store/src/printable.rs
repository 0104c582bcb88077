//! Text of others, made safe for a terminal: the one place that escapes and cuts it.
//!
//! Names, reasons, log messages and replies come from plugins, from peers and from files. A terminal obeys control
//! characters in them, some characters turn the order of what is read, and text without end hides what stands before it.
//! Control characters are shown as escapes, and long text is cut where a person reads it. Documents in JSON keep their exact
//! value: there the same characters become JSON's own escapes.

use std::borrow::Cow;

/// The longest value of others that is shown to a person, in characters; a reason has a few hundred.
pub(crate) const TEXT_CHARS_MAX: usize = 4096;

/// The longest log record that is shown to a person, in characters. `logs --json` has the whole one.
pub(crate) const RECORD_CHARS_MAX: usize = 64 << 10;

/// The text as one line of at most [`TEXT_CHARS_MAX`] characters: line ends are escaped, too.
pub fn one_line(text: &str) -> Cow<'_, str> {
    one_line_of(text, TEXT_CHARS_MAX)
}

/// The same with another limit.
pub(crate) fn one_line_of(text: &str, chars_max: usize) -> Cow<'_, str> {
    cut(escaped(text, |c| is_harmful(c) || c == '\n'), chars_max)
}

/// The text with its line ends, at most [`TEXT_CHARS_MAX`] characters: for messages that may have several lines.
pub fn message(text: &str) -> Cow<'_, str> {
    cut(lines(text), TEXT_CHARS_MAX)
}

/// The text with its line ends and whole.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, is_harmful)
}

/// A JSON document of the same value in which no character can drive a terminal. Such characters only stand in strings.
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

/// Whether a terminal does something else with it than to show it; a line end is not counted.
fn is_harmful(c: char) -> bool {
    (c.is_control() && c != '\n') || is_invisible(c)
}

/// Marks of direction, separators of lines, and characters that show nothing. The joiners of words and emoji stay.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The text cut to so many characters, with the number of those that were left out.
fn cut(text: Cow<'_, str>, chars_max: usize) -> Cow<'_, str> {
    // A text has no more characters than bytes.
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
