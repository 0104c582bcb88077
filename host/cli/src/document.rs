//! The documents of `--json` that are not the host's own types: what is kept on the disk, and rows with an outcome.
//!
//! The promises of all documents are held here and in [`dae_store::json_form`]: each object of a kind has the same
//! members, `null` for what there isn't, and times with milliseconds. The schemas in `host/docs/json-schema.json` say
//! the same, and tests compare them with what is printed. All documents are printed by [`super::show::Out::document`].

use anyhow::{Result, bail};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::exit::ErrorObject;
use dae_store::event::{DaeEvent, DaeEventKind};
use dae_store::json_form;
use dae_store::log::Record;

/// An event as `--json` prints it. The files keep more digits of its time.
#[derive(Debug, Serialize)]
pub(super) struct EventDocument<'a> {
    id: u64,
    #[serde(serialize_with = "json_form::time")]
    time: Timestamp,
    daemon: &'a str,
    generation: Option<u64>,
    #[serde(flatten)]
    kind: &'a DaeEventKind,
}

impl<'a> From<&'a DaeEvent> for EventDocument<'a> {
    fn from(event: &'a DaeEvent) -> Self {
        EventDocument {
            id: event.id,
            time: event.time,
            daemon: &event.daemon,
            generation: event.generation,
            kind: &event.kind,
        }
    }
}

/// A log record as `--json` prints it. The files keep more digits of its time.
#[derive(Debug, Serialize)]
pub(super) struct RecordDocument<'a> {
    #[serde(serialize_with = "json_form::time")]
    time: Timestamp,
    daemon: &'a str,
    generation: Option<u64>,
    level: &'a str,
    target: &'a str,
    message: &'a str,
    fields: &'a Map<String, Value>,
}

impl<'a> From<&'a Record> for RecordDocument<'a> {
    fn from(record: &'a Record) -> Self {
        RecordDocument {
            time: record.time,
            daemon: &record.daemon,
            generation: record.generation,
            level: &record.level,
            target: &record.target,
            message: &record.message,
            fields: &record.fields,
        }
    }
}

/// The row of a daemon that one command handled among others: the members of what was done, and `error`. After a failure
/// all members but the name are `null`.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Row<'a, T> {
    Done {
        #[serde(flatten)]
        done: &'a T,
        error: Option<ErrorObject>,
    },
    Failed(Map<String, Value>),
}

impl<'a, T: Serialize + Default> Row<'a, T> {
    pub(super) fn done(done: &'a T) -> Self {
        Row::Done { done, error: None }
    }

    /// Returns the row of a daemon of that name.
    ///
    /// # Errors
    /// The error can't be written as JSON.
    pub(super) fn failed(name: &str, error: &ErrorObject) -> Result<Self> {
        let Value::Object(mut members) = serde_json::to_value(T::default())? else {
            bail!("the answer about {name} is no JSON object");
        };
        members.values_mut().for_each(|value| *value = Value::Null);
        members.insert("name".to_owned(), name.into());
        members.insert("error".to_owned(), serde_json::to_value(error)?);
        Ok(Row::Failed(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dae_store::report::Changed;
    use serde_json::json;

    #[test]
    fn a_row_has_the_same_members_whether_it_was_done_or_not() {
        let changed = Changed {
            name: "A".to_owned(),
            state: "stopped".to_owned(),
            ms: 7,
            note: String::new(),
        };
        let done = json!(Row::done(&changed));
        let expected =
            json!({"name": "A", "state": "stopped", "ms": 7, "note": null, "error": null});
        assert_eq!(done, expected);
        let error = ErrorObject::new("failed", "no");
        let failed = json!(Row::<Changed>::failed("B", &error).expect("a row"));
        let keys = |row: &Value| {
            row.as_object()
                .expect("an object")
                .keys()
                .cloned()
                .collect()
        };
        let (of_failed, of_done): (Vec<_>, Vec<_>) = (keys(&failed), keys(&done));
        assert_eq!(of_failed, of_done);
        assert_eq!(
            (&failed["name"], &failed["state"], &failed["error"]["kind"]),
            (&json!("B"), &json!(null), &json!("failed"))
        );
    }

    #[test]
    fn kept_entries_have_milliseconds_and_all_members() {
        let record = Record::about("A", None, "info", "hi");
        let document = serde_json::to_value(RecordDocument::from(&record)).expect("JSON");
        assert_eq!(document["time"], json_form::time_text(record.time));
        assert_eq!(
            (&document["generation"], &document["fields"]),
            (&json!(null), &json!({}))
        );
        let event = DaeEvent::now("A", None, DaeEventKind::Ready);
        let document = serde_json::to_value(EventDocument::from(&event)).expect("JSON");
        assert_eq!(document["time"], json_form::time_text(event.time));
        assert_eq!(
            (&document["generation"], &document["event"]),
            (&json!(null), &json!("ready"))
        );
    }
}
