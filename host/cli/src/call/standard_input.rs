//! The argument `-` of `call`: one JSON value from standard input.

use std::io::Read;

use anyhow::{Context as _, Result, anyhow};
use serde_json::value::RawValue;

use dae_store::json5_text;
use dae_store::text_file;

/// The longest text that is read (bytes). It is far above the protocol's limit for a line, and keeps an endless input
/// from taking all memory.
const INPUT_BYTES_MAX: usize = 64 << 20;

/// Reads one value, in JSON or JSON5.
///
/// # Errors
/// The input can't be read, is too long, or holds no value or more than one.
pub(super) fn read(input: impl Read) -> Result<Box<RawValue>> {
    read_at_most(input, INPUT_BYTES_MAX)
}

fn read_at_most(input: impl Read, bytes_max: usize) -> Result<Box<RawValue>> {
    let mut bytes = Vec::new();
    input
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut bytes)
        .context("cannot read the argument `-` from standard input")?;
    let wrong = |reason: String| {
        anyhow!("the argument `-` takes one JSON value from standard input; {reason}")
    };
    if bytes.len() > bytes_max {
        return Err(wrong(format!("got more than {bytes_max} bytes")));
    }
    let text = text_file::of_file(bytes).map_err(&wrong)?;
    if text.trim().is_empty() {
        return Err(wrong("got nothing".to_owned()));
    }
    if let Ok(json) = serde_json::from_str(&text) {
        return Ok(json);
    }
    let strict = json5_text::document_to_strict(&text)
        .map_err(|reason| wrong(format!("this is not JSON: {reason}")))?;
    serde_json::from_str(&strict).map_err(|error| wrong(format!("this is not JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_read() {
        for (input, expected) in [
            ("1.50\n", "1.50"),
            ("{\"a\":\n [1]}\n", "{\"a\":\n [1]}"),
            ("\u{feff}\"Ada\"", "\"Ada\""),
            ("{a: 'b',} // c", r#"{"a":"b"}"#),
        ] {
            let read = read(input.as_bytes()).expect(input);
            assert_eq!(read.get(), expected);
        }
    }

    #[test]
    fn other_input_has_its_own_message() {
        let cases: [(&[u8], &str); 7] = [
            (b"", "got nothing"),
            (b" \n", "got nothing"),
            (b"1 2", "this is not JSON"),
            (b"Ada", "this is not JSON"),
            (b"{\"a\":", "this is not JSON"),
            (b"\"\xff\"", "it is not UTF-8"),
            (b"[11,12,13,14,15]", "more than 12 bytes"),
        ];
        for (input, expected) in cases {
            let error = read_at_most(input, 12).expect_err("no value").to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.contains("from standard input"), "{error}");
        }
    }
}
