//! The form of what programs read: every object of one kind has the same members, `null` stands for a value that there
//! isn't, and a time has always the same digits.
//!
//! The functions are for serde's attributes of the types in [`crate::report`] and of the program's own documents. A
//! reader also takes what earlier versions wrote: an empty text or no member at all for `null`.

use jiff::Timestamp;
use serde::{Deserializer, Serialize as _, Serializer};

/// Formats a time with milliseconds: `2026-11-30T17:30:00.000Z`. All such texts have the same length, so they sort by time.
#[must_use]
pub fn time_text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Writes a time with milliseconds.
///
/// # Errors
/// Any error of the serializer.
pub fn time<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time_text(*time))
}

/// Writes a time with milliseconds, or `null`.
///
/// # Errors
/// Any error of the serializer.
pub fn time_or_null<S: Serializer>(
    time: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    time.map(time_text).serialize(serializer)
}

/// Texts that are empty in the code and `null` in JSON if there is nothing to say.
pub mod text_or_null {
    use super::{Deserializer, Serializer};
    use serde::{Deserialize as _, Serialize as _};

    /// Writes the text, or `null` for an empty one.
    ///
    /// # Errors
    /// Any error of the serializer.
    pub fn serialize<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
        Some(text)
            .filter(|text| !text.is_empty())
            .serialize(serializer)
    }

    /// Reads a text, or an empty one for `null`.
    ///
    /// # Errors
    /// Any error of the deserializer.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        Option::deserialize(deserializer).map(Option::unwrap_or_default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};
    use serde_json::{Value, json};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Row {
        #[serde(default, with = "text_or_null")]
        text: String,
        #[serde(serialize_with = "time")]
        at: Timestamp,
        #[serde(default, serialize_with = "time_or_null")]
        until: Option<Timestamp>,
    }

    fn row(value: Value) -> Row {
        serde_json::from_value(value).expect("a row")
    }

    #[test]
    fn nothing_is_null_and_times_have_the_same_digits() {
        let absent = row(json!({"at": "2026-11-30T17:30:00.1234567Z"}));
        let expected = json!({"text": null, "at": "2026-11-30T17:30:00.123Z", "until": null});
        assert_eq!(serde_json::to_value(&absent).unwrap(), expected);
        let whole =
            row(json!({"text": "", "at": "2026-11-30T17:30:00Z", "until": "2026-12-01T00:00:00Z"}));
        let expected = json!({
            "text": null, "at": "2026-11-30T17:30:00.000Z", "until": "2026-12-01T00:00:00.000Z",
        });
        assert_eq!(serde_json::to_value(&whole).unwrap(), expected);
        assert_eq!(row(expected), whole);
    }
}
