//! Splits a JSON5 text into tokens: brackets, commas, colons, strings and words. Comments and white space are skipped.
//!
//! Any text has tokens; the JSON5 reader decides whether they are valid.

/// A token of JSON5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'t> {
    /// `[` or `{`.
    Open(char),
    /// `]` or `}`.
    Close(char),
    Comma,
    Colon,
    /// A string, including its quotes.
    Text(&'t str),
    /// A number, a name, or one of `true`, `false` and `null`.
    Word(&'t str),
    /// The beginning of an unclosed comment.
    Unclosed,
}

/// Returns the tokens of a text.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = Token<'_>> {
    tokens_at(text).map(|(_, token)| token)
}

/// Returns the tokens of a text, each with the offset at which it begins (bytes).
pub(super) fn tokens_at(text: &str) -> impl Iterator<Item = (usize, Token<'_>)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_start_matches(is_blank);
            match comment_bytes(rest) {
                Some(0) => break,
                Some(bytes) => rest = &rest[bytes..],
                None => {
                    let at = text.len() - rest.len();
                    rest = "";
                    return Some((at, Token::Unclosed));
                }
            }
        }
        let at = text.len() - rest.len();
        let (token, bytes) = first(rest)?;
        rest = &rest[bytes..];
        Some((at, token))
    })
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() || c == '\u{feff}'
}

/// Returns the length of the comment at the beginning of a text, 0 if there is none, or `None` if the comment is
/// unclosed.
fn comment_bytes(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        let line_end = text.find(['\n', '\r', '\u{2028}', '\u{2029}']);
        return Some(line_end.unwrap_or(text.len()));
    }
    match text.strip_prefix("/*") {
        Some(comment) => comment.find("*/").map(|at| at + 4),
        None => Some(0),
    }
}

/// Returns the first token of a text and its length (bytes).
fn first(text: &str) -> Option<(Token<'_>, usize)> {
    Some(match text.chars().next()? {
        bracket @ ('[' | '{') => (Token::Open(bracket), 1),
        bracket @ (']' | '}') => (Token::Close(bracket), 1),
        ',' => (Token::Comma, 1),
        ':' => (Token::Colon, 1),
        quote @ ('"' | '\'') => {
            let bytes = string_bytes(text, quote);
            (Token::Text(&text[..bytes]), bytes)
        }
        first => {
            // A slash that begins no comment becomes a token of its own, so that the iteration always advances.
            let behind = &text[first.len_utf8()..];
            let end = behind.find(is_word_end).unwrap_or(behind.len());
            let bytes = first.len_utf8() + end;
            (Token::Word(&text[..bytes]), bytes)
        }
    })
}

fn is_word_end(c: char) -> bool {
    is_blank(c) || matches!(c, '[' | '{' | ']' | '}' | ',' | ':' | '"' | '\'' | '/')
}

/// Returns the length of the string at the beginning of a text, including quotes (bytes).
fn string_bytes(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}
