//! Forwards the host's own `tracing` events to the journal as records of the daemon `Dae`, so that there is a single
//! log.
//!
//! Out of scope: spans (an event's message and fields hold all its information) and filters (the subscriber applies
//! them).

use std::fmt;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::{Journal, Record};
use crate::registry::DAE_NAME;

/// The field in which `tracing`'s macros put the message.
const MESSAGE_FIELD: &str = "message";

/// A `tracing` subscriber layer that writes the host's own events to a journal.
#[derive(Debug, Clone)]
pub struct JournalLayer {
    journal: Journal,
}

impl JournalLayer {
    /// Creates a layer that writes to `journal`.
    #[must_use]
    pub fn new(journal: Journal) -> Self {
        JournalLayer { journal }
    }
}

impl<S: Subscriber> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut said = EventText::default();
        event.record(&mut said);
        let metadata = event.metadata();
        self.journal.write(Record {
            time: Timestamp::now(),
            daemon: DAE_NAME.to_owned(),
            generation: None,
            level: metadata.level().as_str().to_lowercase(),
            target: metadata.target().to_owned(),
            message: said.message,
            fields: said.fields,
        });
    }
}

/// The text and fields of an event, collected field by field.
#[derive(Default)]
struct EventText {
    message: String,
    fields: Map<String, Value>,
}

impl EventText {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.fields.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for EventText {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            MESSAGE_FIELD => self.message = text,
            _ => self.put(field, text),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            MESSAGE_FIELD => value.clone_into(&mut self.message),
            _ => self.put(field, value),
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Console;
    use super::*;
    use serde_json::json;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[test]
    fn an_event_becomes_a_record_of_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), Console::Off).unwrap();
        let layer = JournalLayer::new(journal.clone());
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let path = std::path::Path::new("/p");
            tracing::warn!(port = 7_u16, pinned = true, name = "A", path = %path.display(), "took {}", "it");
            tracing::info!(target: "elsewhere", "plain");
        });
        let records = journal.tail(Some("Dae"), 9, usize::MAX).unwrap();
        assert_eq!(records.len(), 2);
        let fields = json!({"port": 7, "pinned": true, "name": "A", "path": "/p"});
        assert_eq!(Value::Object(records[0].fields.clone()), fields);
        assert_eq!(
            (&*records[0].message, &*records[0].level),
            ("took it", "warn")
        );
        assert_eq!(
            (&*records[1].target, &*records[1].level),
            ("elsewhere", "info")
        );
        assert_eq!(records[1].generation, None);
    }
}
