//! The JSON that one word of `call` stands for.
//!
//! A word that is JSON of its parameter's type is taken as JSON, and any other as text: `12` is the text `"12"` for a
//! parameter that is a string. Without a known type, whatever is JSON is taken as JSON. A word that begins with `{` or
//! `[` may be JSON5.
//!
//! JSON is passed on as it was written, down to the digits of a number.

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::fits::permits;
use dae_store::json5_text;
use dae_store::text_file;

/// Returns the JSON of a word for a parameter with that schema; `true` is the schema of an unknown type.
///
/// # Errors
/// The word begins like an array or object, is none, and can't be text either. The error is the reason.
pub(super) fn read(word: &str, schema: &Value) -> Result<Box<RawValue>, String> {
    let text = to_raw_value(word).expect("a string is always JSON");
    match json(word) {
        Ok(json) if permits(schema, json.get()) => Ok(json),
        // A value of a wrong type goes as it is, if text is wrong too: the daemon then names the type that it got.
        Ok(json) if !permits(schema, text.get()) => Ok(json),
        Err(Some(reason)) if !permits(schema, text.get()) => Err(reason),
        Ok(_) | Err(_) => Ok(text),
    }
}

/// Returns the word if it is JSON or, for an array or object, JSON5. The error of the latter has a reason.
fn json(word: &str) -> Result<Box<RawValue>, Option<String>> {
    let word = text_file::without_mark(word);
    if let Ok(json) = serde_json::from_str(word) {
        return Ok(json);
    }
    match word.trim_start().starts_with(['{', '[']) {
        true => {
            let strict = json5_text::document_to_strict(word).map_err(Some)?;
            serde_json::from_str(&strict).map_err(|error| Some(error.to_string()))
        }
        false => Err(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn without_a_type_all_json_is_json() {
        let cases = [
            ("Ada", r#""Ada""#),
            (r#""Ada""#, r#""Ada""#),
            ("1", "1"),
            ("-1.50", "-1.50"),
            ("18446744073709551616", "18446744073709551616"),
            ("true", "true"),
            ("null", "null"),
            ("[1, 2]", "[1, 2]"),
            (r#"{"b": 1, "a": 2}"#, r#"{"b": 1, "a": 2}"#),
            ("{x: 1}", r#"{"x":1}"#),
            (" ['a', +1.50,] // b", r#"["a",1.50]"#),
            ("{x: NaN}", r#""{x: NaN}""#),
            ("[a", r#""[a""#),
            ("'a'", r#""'a'""#),
            ("01", r#""01""#),
            ("", r#""""#),
            ("\u{feff}1", "1"),
            ("two words\n", r#""two words\n""#),
            (r#"a "quote""#, r#""a \"quote\"""#),
        ];
        for (word, expected) in cases {
            let read = read(word, &Value::Bool(true)).expect(word);
            assert_eq!(read.get(), expected, "{word:?}");
        }
    }

    #[test]
    fn the_type_of_the_parameter_decides() {
        let (string, number) = (json!({"type": "string"}), json!({"type": "number"}));
        let maybe = json!({"type": ["string", "null"]});
        let list = json!({"type": "array"});
        let either = json!({"anyOf": [{"type": "integer"}, {"type": "string"}]});
        let cases = [
            ("12", &string, r#""12""#),
            (" 12", &string, r#"" 12""#),
            (r#""12""#, &string, r#""12""#),
            (r#""12"#, &string, r#""\"12""#),
            ("true", &string, r#""true""#),
            ("null", &string, r#""null""#),
            ("[1]", &string, r#""[1]""#),
            ("{x: 1}", &string, r#""{x: 1}""#),
            ("{x: 1", &string, r#""{x: 1""#),
            ("null", &maybe, "null"),
            (r#""null""#, &maybe, r#""null""#),
            ("12", &number, "12"),
            ("1.50", &number, "1.50"),
            ("abc", &number, r#""abc""#),
            ("true", &number, "true"),
            ("[a: 1]", &json!(["odd"]), r#""[a: 1]""#),
            ("[a,]", &string, r#""[a,]""#),
            ("['a',]", &list, r#"["a"]"#),
            ("12", &either, "12"),
            ("1.5", &either, r#""1.5""#),
        ];
        for (word, schema, expected) in cases {
            let read = read(word, schema).expect(word);
            assert_eq!(read.get(), expected, "{word:?} {schema}");
        }
    }

    #[test]
    fn a_broken_array_is_an_error_where_no_text_fits() {
        let list = json!({"anyOf": [{"type": "array"}, {"type": "null"}]});
        for word in ["[1, 2", "[a]", "{x: }", "[NaN]", &"[".repeat(100_000)] {
            let reason = read(word, &list).expect_err("no JSON5");
            assert!(!reason.is_empty(), "{word:.9}");
        }
        assert_eq!(read("abc", &list).expect("text").get(), r#""abc""#);
    }
}
