//! Explains to a person why a text is not JSON5: what was expected, what was found, where, and what to write instead.
//!
//! The `json5` crate's errors name the failed part of its reader ("EOF parsing null" for the letter `n`), and have no
//! position if the text ends too early. The tokens of the text are therefore examined once more.

use json5::{Error, ErrorCode, Position};
use serde::de::IgnoredAny;

use super::tokens::{Token, tokens_at};
use super::{number, shown, write_string};

/// The example arguments in a message if the text doesn't suggest any.
const EXAMPLE: &str = r#"["text", 5]"#;

/// The words that are JSON values.
const WORDS: [&str; 3] = ["true", "false", "null"];

/// Describes the error in a command's arguments.
pub(super) fn in_arguments(arguments: &str, error: &Error) -> String {
    let example = in_quotes(arguments);
    let example = example.as_deref().unwrap_or(EXAMPLE);
    let what = in_document(arguments, error);
    format!(
        "expected JSON arguments such as {example}, got {}: {what}",
        shown(arguments)
    )
}

/// Describes the error in a document, and where it is.
pub(super) fn in_document(text: &str, error: &Error) -> String {
    if error.code().is_some_and(is_end) {
        return at_end(text);
    }
    let Some(position) = error.position() else {
        return error.to_string();
    };
    let at = offset_of(text, position);
    if error.code() == Some(ErrorCode::OverflowParsingNumber) {
        return format!("the number {} is too large", place(text, at));
    }
    if let Some((start, word)) = wrong_word(text, at) {
        return no_value(word, &place(text, start));
    }
    match error.code().and_then(expected) {
        Some(expected) => format!("expected {expected} {}", place(text, at)),
        None => error.to_string(),
    }
}

/// Describes what is missing in a text that ends too early.
fn at_end(text: &str) -> String {
    if tokens_at(text).next().is_none() {
        return "it is empty".to_owned();
    }
    let end = text.trim_end().len();
    if let Some((start, word)) = wrong_word(text, end) {
        return no_value(word, &place(text, start));
    }
    match unclosed(text) {
        Some((what, at)) => format!("the {what} that begins {} is not closed", place(text, at)),
        None => format!("it ends {}, where more is expected", place(text, end)),
    }
}

/// Returns whether the reader reached the end of the text. Its error then has no position.
fn is_end(code: ErrorCode) -> bool {
    use ErrorCode as Code;
    matches!(
        code,
        Code::EofParsingArray
            | Code::EofParsingBool
            | Code::EofParsingComment
            | Code::EofParsingEscapeSequence
            | Code::EofParsingIdentifier
            | Code::EofParsingNull
            | Code::EofParsingNumber
            | Code::EofParsingObject
            | Code::EofParsingString
            | Code::EofParsingValue
    )
}

/// Returns what the reader expected, for errors whose own text describes the reader's code.
fn expected(code: ErrorCode) -> Option<&'static str> {
    use ErrorCode as Code;
    Some(match code {
        Code::ExpectedClosingBrace => "a comma or }",
        Code::ExpectedClosingBracket => "a comma or ]",
        Code::ExpectedColon => "a colon",
        Code::ExpectedComma => "a comma",
        Code::ExpectedComment => "a comment, which begins with // or /*,",
        Code::ExpectedIdentifier | Code::InvalidKey => "the name of a member",
        Code::TrailingCharacters => "nothing more",
        Code::LineTerminatorInString => "the quote that closes the string",
        Code::ExpectedBool
        | Code::ExpectedNull
        | Code::ExpectedNumber
        | Code::ExpectedString
        | Code::ExpectedStringOrObject
        | Code::ExpectedValue => "a value",
        _ => return None,
    })
}

/// Returns the last comment, string, array or object that has no end, and where it begins.
fn unclosed(text: &str) -> Option<(&'static str, usize)> {
    let mut open = Vec::new();
    for (at, token) in tokens_at(text) {
        match token {
            Token::Open('[') => open.push(("array", at)),
            Token::Open(_) => open.push(("object", at)),
            // The `json5` reader reports closing brackets that match nothing or the wrong bracket.
            Token::Close(_) => drop(open.pop()?),
            Token::Text(string) if !is_closed(string) => {
                return Some(("string", at));
            }
            Token::Unclosed => return Some(("comment", at)),
            _ => {}
        }
    }
    open.pop()
}

fn is_closed(string: &str) -> bool {
    let is_string = json5::from_str::<IgnoredAny>(string);
    !is_string.is_err_and(|error| error.code().is_some_and(is_end))
}

/// Returns the word at or ending at that place, if it is neither a value nor a member's name.
fn wrong_word(text: &str, at: usize) -> Option<(usize, &str)> {
    let mut all = tokens_at(text).peekable();
    while let Some((start, token)) = all.next() {
        let is_name = matches!(all.peek(), Some((_, Token::Colon)));
        if let Token::Word(word) = token
            && (start..=start + word.len()).contains(&at)
            && !is_value(word)
            && !is_name
        {
            return Some((start, word));
        }
    }
    None
}

fn is_value(word: &str) -> bool {
    WORDS.contains(&word) || number(word).is_some()
}

fn no_value(word: &str, place: &str) -> String {
    let near = dae_common_tcp::nearest(word, WORDS.into_iter());
    let near = near
        .filter(|_| word.len() > 1)
        .map(|near| format!("did you mean {near}? "));
    let near = near.unwrap_or_default();
    format!(
        "{} {place} is no value; {near}a text stands in quotes",
        shown(word)
    )
}

/// Returns the arguments with quotes around every text and with all brackets closed. Returns `None` if that isn't JSON
/// or is too long to show.
fn in_quotes(arguments: &str) -> Option<String> {
    let arguments = arguments.trim();
    if arguments.is_empty() || shown(arguments) != arguments {
        return None;
    }
    let mut json = String::new();
    if arguments.contains(['[', ']', '{', '}', '"', '\'', ',']) {
        json = completed(arguments)?;
    } else {
        write_string(&mut json, arguments);
    }
    if !json.starts_with('[') {
        json = format!("[{json}]");
    }
    let is_json = serde_json::from_str::<IgnoredAny>(&json).is_ok();
    is_json.then_some(json)
}

/// Writes the tokens of a text as JSON. Adjacent words become one text.
fn completed(text: &str) -> Option<String> {
    let (mut json, mut open) = (String::new(), Vec::new());
    let mut all = tokens_at(text).peekable();
    while let Some((at, token)) = all.next() {
        match token {
            Token::Open(bracket) => {
                open.push(if bracket == '[' { ']' } else { '}' });
                json.push(bracket);
            }
            Token::Close(bracket) => {
                open.pop()?;
                json.push(bracket);
            }
            Token::Comma => json.push_str(", "),
            Token::Colon => json.push_str(": "),
            Token::Text(string) => {
                let string: String = json5::from_str(string).ok()?;
                write_string(&mut json, &string);
            }
            Token::Word(word) => {
                let mut end = at + word.len();
                while let Some((next, Token::Word(more))) = all.peek() {
                    end = next + more.len();
                    all.next();
                }
                let is_name = matches!(all.peek(), Some((_, Token::Colon)));
                match is_value(&text[at..end]) && !is_name {
                    true => json.push_str(&number(word).unwrap_or_else(|| word.to_owned())),
                    false => write_string(&mut json, &text[at..end]),
                }
            }
            Token::Unclosed => return None,
        }
    }
    json.extend(open.into_iter().rev());
    Some(json)
}

/// Returns the place as text; the line is included only if there are several.
fn place(text: &str, at: usize) -> String {
    let position = Position::from_offset(at, text);
    match text.trim_end().contains(['\n', '\r']) {
        true => format!("at {position}"),
        false => format!("at column {}", position.column + 1),
    }
}

/// Returns the byte offset of a position in the text.
fn offset_of(text: &str, position: Position) -> usize {
    let (mut line, mut column) = (0, 0);
    let mut before = '\0';
    for (at, c) in text.char_indices() {
        // CR and LF together end one line, as in the reader.
        let is_second = before == '\r' && c == '\n';
        if (line, column) == (position.line, position.column) && !is_second {
            return at;
        }
        match c {
            '\n' if is_second => {}
            '\n' | '\r' | '\u{2028}' | '\u{2029}' => (line, column) = (line + 1, 0),
            _ => column += 1,
        }
        before = c;
    }
    text.len()
}
