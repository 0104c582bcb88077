//! A record as an entry of systemd's journal: with its priority, and each field by its name.
//!
//! So `journalctl DAE_DAEMON=Sorter -p warning` finds what it should. The message is the record's line without its time
//! and level, which the journal has itself.

use super::Record;
use crate::printable::{RECORD_CHARS_MAX, one_line_of};

/// The identifier of all entries, by which `journalctl -t` finds them.
const IDENTIFIER: &str = "dae-host";

/// The most fields of a record that become fields of the entry.
const FIELDS_MAX: usize = 32;

/// The longest name of a field; the journal takes no longer one (systemd.journal-fields(7)).
const NAME_BYTES_MAX: usize = 64;

/// Returns the entry as lines, and an empty line behind it. No value has a line end.
pub(super) fn entry(record: &Record) -> Vec<u8> {
    let mut text = String::new();
    let mut put = |name: &str, value: &str| {
        text.push_str(name);
        text.push('=');
        text.push_str(&one_line_of(value, RECORD_CHARS_MAX));
        text.push('\n');
    };
    put("MESSAGE", &record.said());
    put("PRIORITY", priority(&record.level));
    put("SYSLOG_IDENTIFIER", IDENTIFIER);
    put("DAE_DAEMON", &record.daemon);
    if let Some(generation) = record.generation {
        put("DAE_GENERATION", &generation.to_string());
    }
    put("DAE_TARGET", &record.target);
    for (name, value) in record.fields.iter().take(FIELDS_MAX) {
        let text = match value {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        put(&field_name(name), &text);
    }
    text.push('\n');
    text.into_bytes()
}

/// Returns the name of a field as the journal takes it: capital letters, digits and underscores.
fn field_name(name: &str) -> String {
    let fitting = |c: char| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_uppercase(),
        false => '_',
    };
    let name = name.chars().map(fitting);
    "DAE_FIELD_"
        .chars()
        .chain(name)
        .take(NAME_BYTES_MAX)
        .collect()
}

/// Returns the priority of syslog(3).
fn priority(level: &str) -> &'static str {
    match level {
        "error" => "3",
        "warn" => "4",
        "info" => "6",
        _ => "7",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_entry_has_a_priority_and_fields_and_cannot_be_broken_out_of() {
        let fields = json!({"the key": "x\nPRIORITY=0", "n": 7});
        let record = Record {
            fields: fields.as_object().cloned().unwrap_or_default(),
            target: "sorter".to_owned(),
            ..Record::about("Sorter", Some(3), "warn", "two\n\nlines")
        };
        let text = String::from_utf8(entry(&record)).unwrap();
        let expected = concat!(
            r#"MESSAGE=Sorter#3: two\n\nlines n=7 the key="x\nPRIORITY=0""#,
            "\nPRIORITY=4\nSYSLOG_IDENTIFIER=dae-host\nDAE_DAEMON=Sorter\nDAE_GENERATION=3\nDAE_TARGET=sorter\n",
            "DAE_FIELD_N=7\nDAE_FIELD_THE_KEY=x\\nPRIORITY=0\n\n"
        );
        assert_eq!(text, expected);
    }
}
