//! JSON objects as arguments of the command line: as text, or as `@` and the name of a file. JSON5 is read, too.

use std::borrow::Cow;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use dae_plugin_api::{exact, misfit};
use serde::de::IgnoredAny;
use serde_json::Value;

use super::exit::Fault;
use dae_store::json5_text;
use dae_store::text_file;

/// The largest config that is read from a file (bytes). A config is typed by hand or generated; a larger file is the
/// wrong one.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Reads the argument of `--config`, if it is given.
pub(super) fn config(text: Option<&str>) -> Result<Option<Value>> {
    text.map(|text| read("config", text)).transpose()
}

/// Reads the argument of `--config` or `--settings`: JSON, or `@` and the name of a file with JSON.
pub(super) fn read(what: &str, text: &str) -> Result<Value> {
    let Some(path) = text.strip_prefix('@') else {
        return Ok(object(what, text)?);
    };
    let text = text_file::read(Path::new(path), CONFIG_BYTES_MAX)
        .with_context(|| format!("cannot read the {what} {path}"))?;
    object(what, &text).map_err(|fault| anyhow!("{path}: {fault}"))
}

fn object(what: &str, text: &str) -> Result<Value, Fault> {
    let wrong = |got: String| {
        Fault::Usage(format!(
            "--{what} takes a JSON object, like {{\"key\": 1}}; {got}"
        ))
    };
    // Text that isn't strict JSON is tried as JSON5, as it is everywhere else.
    let strict = match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(Cow::Borrowed(text)),
        Err(_) => json5_text::document_to_strict(text).map(Cow::Owned),
    };
    let strict = strict.map_err(|reason| wrong(format!("this is not JSON: {reason}")))?;
    match exact::from_str(&strict) {
        Ok(object @ Value::Object(_)) => Ok(object),
        Ok(other) => Err(wrong(format!("got {other}"))),
        Err(error) => Err(wrong(misfit::explain(&error, &strict))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit;
    use serde_json::json;

    #[test]
    fn a_config_is_a_json_object() {
        assert_eq!(
            read("config", r#"{"a": 1}"#).expect("an object"),
            json!({"a": 1})
        );
        let typed = read("config", "{a: 9007199254740993} // x");
        assert_eq!(
            typed.expect("JSON5"),
            json!({"a": 9_007_199_254_740_993_u64})
        );
        for wrong in [
            "",
            "1",
            "[]",
            "Ada",
            "{a: NaN}",
            r#"{"a": 18446744073709551616}"#,
        ] {
            let error = read("settings", wrong).expect_err(wrong);
            assert_eq!(exit::code(&error), exit::Code::Usage, "{wrong}: {error}");
            assert!(error.to_string().starts_with("--settings takes"), "{error}");
        }
    }

    #[test]
    fn a_config_may_lie_in_a_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.json");
        let argument = format!("@{}", path.display());
        let error = read("config", &argument).expect_err("there is no file yet");
        assert_eq!(exit::code(&error), exit::Code::Failed, "{error:#}");
        std::fs::write(&path, "{\"a\": [1]}\n").expect("a file");
        assert_eq!(
            read("config", &argument).expect("an object"),
            json!({"a": [1]})
        );
        std::fs::write(&path, "\u{feff}{\"a\": [1]}\n").expect("a file");
        assert!(
            read("settings", &argument).is_ok(),
            "a byte order mark is dropped"
        );
        std::fs::write(&path, b"\xff\xfe{\0}\0").expect("a file");
        let error = read("config", &argument).expect_err("UTF-16");
        assert!(
            format!("{error:#}").contains("save it as UTF-8"),
            "{error:#}"
        );
        std::fs::write(&path, " ".repeat(CONFIG_BYTES_MAX as usize + 1)).expect("a file");
        let error = format!("{:#}", read("config", &argument).expect_err("too large"));
        assert!(
            error.contains("config.json") && error.contains("1048576 bytes"),
            "{error}"
        );
    }
}
