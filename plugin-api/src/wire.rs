//! Lines and numbers in the form that crosses the boundary, and the conversion of a line's JSON to and from an author's
//! types.
//!
//! The arguments of a line are always an array. An author may read all of it, as a tuple or a `Vec`, or its single
//! element. A type doesn't show which of the two it means, so the readers try both.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::reply::write_json;
use crate::{Error, Result, exact, misfit};

/// The longest name (bytes, by Common TCP).
const NAME_BYTES_MAX: usize = 128;
/// The most that an error shows of the arguments, and of serde's message (characters each).
const SHOWN_CHARS_MAX: usize = 120;

/// Returns the line: `name`, and `arguments` as an array after it.
pub fn line(name: &str, arguments: impl Serialize) -> Result<Vec<u8>> {
    check_name(name)?;
    let mut line = Vec::with_capacity(name.len() + 16);
    line.extend_from_slice(name.as_bytes());
    line.push(b' ');
    let start = line.len();
    write_json(&mut line, &arguments)?;
    match &line[start..] {
        b"null" => line.splice(start.., *b"[]").for_each(drop),
        [b'[', ..] => {}
        _ => {
            line.insert(start, b'[');
            line.push(b']');
        }
    }
    Ok(line)
}

/// Refuses a name that would break the line.
pub fn check_name(name: &str) -> Result<()> {
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
    if fits && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
        return Ok(());
    }
    Err(Error::new(format!(
        "{name:?} is no name for a command, an event or a topic: 1 to {NAME_BYTES_MAX} bytes without white space, \
         control characters or `#`"
    )))
}

/// Returns a request: `number` as a little-endian `u64`, then `rest`.
pub fn numbered(number: u64, rest: &[u8]) -> Vec<u8> {
    let mut request = Vec::with_capacity(8 + rest.len());
    request.extend_from_slice(&number.to_le_bytes());
    request.extend_from_slice(rest);
    request
}

/// Returns the number at the start of an answer, and the rest.
pub fn number_of(answer: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = answer.split_first_chunk()?;
    Some((u64::from_le_bytes(*number), rest))
}

/// Returns the name of a line, and its arguments.
pub fn parted(line: &str) -> (&str, &str) {
    match line.split_once(' ') {
        Some((name, arguments)) => (name, arguments),
        None => (line, "[]"),
    }
}

/// Reads the arguments of an event: all of them as one `T`, or, if they don't fit, the single one. `()` and `Option`
/// also take an empty list.
pub fn read_event<T: DeserializeOwned>(arguments: &str) -> Result<T, String> {
    let whole = match exact::from_str(arguments) {
        Ok(read) => return Ok(read),
        Err(error) => misfit::explain(&error, arguments),
    };
    let elements = elements(arguments);
    let reason = match elements.as_deref() {
        Some([]) => match exact::from_str("null") {
            Ok(read) => return Ok(read),
            Err(_) => whole,
        },
        Some([one]) => match exact::from_str(one.get()) {
            Ok(read) => return Ok(read),
            // `T` isn't a list, so report why the single element doesn't fit.
            Err(error) if is_about_the_list(&whole) => misfit::explain(&error, one.get()),
            Err(_) => whole,
        },
        _ => whole,
    };
    Err(misfit(arguments, &reason))
}

/// Reads the result in a reply: its single argument, `null` if there is none, or the list if there are several.
pub fn read_reply<T: DeserializeOwned>(arguments: &[u8]) -> Result<T, String> {
    // Nearly every reply has one argument that fits, and is read in one pass.
    if let Ok((read,)) = exact::from_slice::<(T,)>(arguments) {
        return Ok(read);
    }
    let text = String::from_utf8_lossy(arguments);
    let elements = elements(&text);
    let result = match elements.as_deref() {
        Some([]) => "null",
        Some([one]) => one.get(),
        _ => &text,
    };
    exact::from_str(result).map_err(|error| misfit(&text, &misfit::explain(&error, result)))
}

fn elements(arguments: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(arguments).ok()
}

fn is_about_the_list(reason: &str) -> bool {
    reason.ends_with(", got an array")
}

fn misfit(arguments: &str, reason: &str) -> String {
    format!(
        "{}; the arguments were {}",
        misfit::shortened(reason, SHOWN_CHARS_MAX),
        misfit::shortened(arguments, SHOWN_CHARS_MAX)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn text(name: &str, arguments: impl Serialize) -> String {
        match line(name, &arguments) {
            Ok(line) => String::from_utf8(line).unwrap(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn arguments_are_always_an_array() {
        assert_eq!(text("tick", (7,)), "tick [7]");
        assert_eq!(text("tick", ()), "tick []");
        assert_eq!(text("tick", 7), "tick [7]");
        assert_eq!(text("tick", "a"), "tick [\"a\"]");
        assert_eq!(text("tick", vec![1, 2]), "tick [1,2]");
    }

    #[test]
    fn a_name_that_would_break_the_line_is_refused() {
        for name in ["", "a b", "a\nb", "a#b", &"x".repeat(129)] {
            assert!(text(name, ()).contains("is no name"), "{name:?}");
        }
    }

    #[test]
    fn an_event_is_read_as_the_list_or_as_its_only_element() {
        assert_eq!(read_event::<(u64,)>("[7]"), Ok((7,)));
        assert_eq!(
            read_event::<(u64, String)>(r#"[7,"a"]"#),
            Ok((7, "a".into()))
        );
        assert_eq!(read_event::<Vec<u64>>("[7,8]"), Ok(vec![7, 8]));
        assert_eq!(read_event::<u64>("[7]"), Ok(7));
        assert_eq!(read_event::<Option<u64>>("[7]"), Ok(Some(7)));
        assert_eq!(read_event::<Vec<u64>>("[[7,8]]"), Ok(vec![7, 8]));
        assert_eq!(read_event::<()>("[]"), Ok(()));
        assert_eq!(read_event::<Option<u64>>("[]"), Ok(None));
    }

    #[test]
    fn what_does_not_fit_says_what_was_expected_and_what_came() {
        for (said, expected) in [
            (
                read_event::<f64>(r#"["x"]"#).unwrap_err(),
                r#"expected a number, got the string "x"; the arguments were ["x"]"#,
            ),
            (
                read_event::<(f64,)>(r#"["x"]"#).unwrap_err(),
                r#"at [0]: expected a number, got the string "x"; the arguments were ["x"]"#,
            ),
            (
                read_event::<()>("[1]").unwrap_err(),
                "expected null, got 1; the arguments were [1]",
            ),
            (
                read_event::<(u64, u64)>("[1]").unwrap_err(),
                "expected an array of 2 elements, got 1 of them; the arguments were [1]",
            ),
            (
                read_event::<Value>("[{\"a\":18446744073709551616}]").unwrap_err(),
                "at [0].a: the integer 18446744073709551616 has more than 64 bits and would be rounded; send it as a \
                 string; the arguments were [{\"a\":18446744073709551616}]",
            ),
        ] {
            assert_eq!(said, expected);
        }
        let long = read_event::<u64>(&format!("[\"{}\"]", "ü".repeat(500))).unwrap_err();
        assert!(long.chars().count() < 300 && long.contains('…'), "{long}");
    }

    #[test]
    fn a_reply_is_its_one_argument_null_for_none_and_the_list_for_several() {
        assert_eq!(read_reply::<u64>(b"[3]"), Ok(3));
        assert_eq!(read_reply::<Vec<u64>>(b"[[1,2]]"), Ok(vec![1, 2]));
        assert_eq!(read_reply::<()>(b"[]"), Ok(()));
        assert_eq!(read_reply::<Option<u64>>(b"[]"), Ok(None));
        assert_eq!(read_reply::<Option<u64>>(b"[null]"), Ok(None));
        assert_eq!(read_reply::<(u64, u64)>(b"[1,2]"), Ok((1, 2)));
        assert_eq!(read_reply::<Value>(b"[]"), Ok(Value::Null));
        let said = read_reply::<f64>(b"[\"x\"]").unwrap_err();
        assert_eq!(
            said,
            r#"expected a number, got the string "x"; the arguments were ["x"]"#
        );
        assert_eq!(read_reply::<u128>(b"[18446744073709551616]"), Ok(1 << 64));
        assert!(read_reply::<f64>(b"[9007199254740993]").is_err());
    }

    #[test]
    fn numbers_stand_before_the_rest() {
        let request = numbered(258, b"tick");
        assert_eq!(request, b"\x02\x01\0\0\0\0\0\0tick");
        assert_eq!(number_of(&request), Some((258, &b"tick"[..])));
        assert_eq!(number_of(b"short"), None);
    }
}
