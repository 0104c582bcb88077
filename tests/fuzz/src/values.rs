//! Arguments: JSON is read exactly, and JSON5 becomes strict JSON with the same meaning.

use dae_plugin_api::{exact, misfit};
use dae_store::json5_text;
use serde_json::Value;

pub(crate) fn arguments(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let strict = serde_json::from_str::<Value>(text);
    match exact::from_str::<Value>(text) {
        Ok(value) => {
            let plain = strict.expect("what the exact reader takes, serde_json takes");
            assert_eq!(value, plain);
            is_exact(&value);
        }
        Err(error) => {
            assert!(!misfit::explain(&error, text).trim().is_empty());
        }
    }
    rewritten(text);
    for end in [0, text.len() / 2, text.len()] {
        let _ = misfit::locate(text, end).path();
    }
}

/// Checks that a written value is read back unchanged.
fn is_exact(value: &Value) {
    let text = value.to_string();
    assert_eq!(
        &exact::from_str::<Value>(&text).expect("it is read back"),
        value
    );
}

fn rewritten(text: &str) {
    match json5_text::to_strict(text) {
        Ok(strict) => {
            let again = json5_text::to_strict(&strict);
            assert_eq!(
                again.as_ref(),
                Ok(&strict),
                "strict JSON stays as it is: {text}"
            );
            if let Err(error) = serde_json::from_str::<Value>(&strict) {
                panic!("{text} became {strict}, which is no JSON: {error}");
            }
        }
        Err(said) => assert!(!said.trim().is_empty()),
    }
}
