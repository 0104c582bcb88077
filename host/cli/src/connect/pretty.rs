//! JSON for a person: on one line if it fits, else one member or element a line, in colours where these are allowed.
//!
//! The text is passed on as it was written, down to the digits of a number; only blanks between the parts change.

/// The indentation of each level.
const INDENT: &str = "  ";

/// A part of a JSON text.
#[derive(Clone, Copy)]
enum Token<'a> {
    Open(char),
    Close(char),
    Comma,
    Colon,
    Text(&'a str),
    Other(&'a str),
}

/// Returns a JSON text that fits the width (cells) or takes several lines.
pub(super) fn pretty(json: &str, width: usize, ansi: bool) -> String {
    let tokens = tokens(json);
    let compact = Layout::default().write(&tokens);
    let fits = compact.chars().count() <= width;
    let layout = Layout {
        is_broken: !fits,
        ansi,
        ..Layout::default()
    };
    layout.write(&tokens)
}

fn tokens(json: &str) -> Vec<Token<'_>> {
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(c) = json[at..].chars().next() {
        let rest = &json[at..];
        let (token, length) = match c {
            '{' | '[' => (Some(Token::Open(c)), 1),
            '}' | ']' => (Some(Token::Close(c)), 1),
            ',' => (Some(Token::Comma), 1),
            ':' => (Some(Token::Colon), 1),
            '"' => {
                let length = string_length(rest);
                (Some(Token::Text(&rest[..length])), length)
            }
            c if c.is_whitespace() => (None, c.len_utf8()),
            _ => {
                let is_end = |c: char| c.is_whitespace() || "{}[],:\"".contains(c);
                let length = rest.find(is_end).unwrap_or(rest.len());
                (Some(Token::Other(&rest[..length])), length)
            }
        };
        tokens.extend(token);
        at += length;
    }
    tokens
}

/// Returns the length of the string that the text begins with, its quotes included.
fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[derive(Default)]
struct Layout {
    text: String,
    depth: usize,
    is_broken: bool,
    ansi: bool,
}

impl Layout {
    fn write(mut self, tokens: &[Token<'_>]) -> String {
        for (at, token) in tokens.iter().enumerate() {
            let next = tokens.get(at + 1);
            match *token {
                Token::Open(bracket) => {
                    self.text.push(bracket);
                    self.depth += 1;
                    if !matches!(next, Some(Token::Close(_))) {
                        self.end_line();
                    }
                }
                Token::Close(bracket) => {
                    self.depth = self.depth.saturating_sub(1);
                    if !matches!(at.checked_sub(1).map(|at| tokens[at]), Some(Token::Open(_))) {
                        self.end_line();
                    }
                    self.text.push(bracket);
                }
                Token::Comma => {
                    self.text.push(',');
                    match self.is_broken {
                        true => self.end_line(),
                        false => self.text.push(' '),
                    }
                }
                Token::Colon => self.text.push_str(": "),
                Token::Text(text) => match next {
                    Some(Token::Colon) => self.coloured(text, "34"),
                    _ => self.coloured(text, "32"),
                },
                Token::Other(text) if text.starts_with(['t', 'f', 'n']) => {
                    self.coloured(text, "35");
                }
                Token::Other(text) => self.coloured(text, "33"),
            }
        }
        self.text
    }

    fn end_line(&mut self) {
        if self.is_broken {
            self.text.push('\n');
            self.text.push_str(&INDENT.repeat(self.depth));
        }
    }

    fn coloured(&mut self, text: &str, colour: &str) {
        match self.ansi {
            true => self.text += &format!("\u{1b}[{colour}m{text}\u{1b}[0m"),
            false => self.text.push_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_value_stays_on_its_line_as_it_was_written() {
        for (json, expected) in [
            ("1.50e400", "1.50e400"),
            ("\"a: [b, \\\"c\"", "\"a: [b, \\\"c\""),
            ("{\"a\":[1,2],\"b\":{}}", "{\"a\": [1, 2], \"b\": {}}"),
            (" [ ] ", "[]"),
        ] {
            assert_eq!(pretty(json, 80, false), expected);
        }
    }

    #[test]
    fn a_long_value_has_a_line_for_each_part() {
        let expected = "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": null\n}";
        assert_eq!(pretty("{\"a\":[1,{}],\"b\":null}", 10, false), expected);
    }

    #[test]
    fn colours_tell_keys_texts_numbers_and_words_apart() {
        let text = pretty("{\"a\":\"b\",\"c\":[1,true]}", 80, true);
        for part in ["[34m\"a\"", "[32m\"b\"", "[33m1", "[35mtrue"] {
            assert!(text.contains(part), "{text:?}");
        }
    }
}
