//! JSON Schemas (2020-12) in a manifest: those that the file holds, and those that its code makes at run time.
//!
//! A schema is kept as text, so that no bound of a 128-bit integer is rounded.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::{Argument, Manifest};

/// The most that the schemas of one plugin may have (bytes). They stay in memory as long as its daemon is installed.
pub const SCHEMAS_BYTES_MAX: usize = 1 << 20;

/// The schema that excludes nothing. It stands for one that is not known.
const UNKNOWN: &str = "true";

/// A JSON Schema, as text.
#[derive(Clone, PartialEq, Eq)]
pub struct Schema(Arc<str>);

impl Schema {
    /// Returns the schema of this text.
    ///
    /// # Errors
    /// The text is not JSON.
    ///
    /// ```
    /// use dae_store::manifest::Schema;
    ///
    /// let schema = Schema::new(r#"{"type":"string"}"#).unwrap();
    /// assert!(schema.is_known());
    /// ```
    pub fn new(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Returns whether the schema describes anything.
    #[must_use]
    pub fn is_known(&self) -> bool {
        &*self.0 != UNKNOWN
    }

    /// Returns the text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl Default for Schema {
    fn default() -> Self {
        Schema(UNKNOWN.into())
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Schema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Schema(raw.get().into()))
    }
}

/// The schemas that a plugin's code makes at run time. Those that it can't make are `null`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RunTimeSchemas {
    commands: Vec<OfCommand>,
    config: Option<Schema>,
    state: Option<Schema>,
    events: Vec<Vec<Option<Schema>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OfCommand {
    arguments: Vec<Option<Schema>>,
    result: Option<Schema>,
}

impl Manifest {
    /// Adds the schemas that the plugin's code has made, JSON. A schema that the file holds stays as it is.
    ///
    /// # Errors
    /// The text is too long, or isn't of the form that `dae-plugin-api` writes.
    pub fn add_schemas(&mut self, text: &str) -> Result<(), String> {
        if text.len() > SCHEMAS_BYTES_MAX {
            return Err(format!(
                "its schemas have {} bytes, and a host takes {SCHEMAS_BYTES_MAX}; shorten the doc comments of its types",
                text.len()
            ));
        }
        let made: RunTimeSchemas = serde_json::from_str(text)
            .map_err(|error| format!("its schemas can't be read: {error}"))?;
        for (command, of) in self.commands.iter_mut().zip(made.commands) {
            fill_all(&mut command.arguments, of.arguments);
            fill(&mut command.result, of.result);
        }
        for (event, of) in self.events.iter_mut().zip(made.events) {
            fill_all(&mut event.arguments, of);
        }
        for (place, of) in [
            (&mut self.config, made.config),
            (&mut self.state, made.state),
        ] {
            if let Some(place) = place {
                fill(place, of);
            }
        }
        self.run_time_schemas = false;
        Ok(())
    }
}

fn fill(place: &mut Schema, made: Option<Schema>) {
    if let (false, Some(made)) = (place.is_known(), made) {
        *place = made;
    }
}

fn fill_all(arguments: &mut [Argument], made: Vec<Option<Schema>>) {
    for (argument, made) in arguments.iter_mut().zip(made) {
        fill(&mut argument.schema, made);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::parse_text;

    fn manifest() -> Manifest {
        let text = r#"{"name":"A","version":"1","abi":1,"panic":"unwind","run_time_schemas":true,"config":true,
            "commands":[{"name":"a","kind":"sync","arguments":[{"name":"x","type":"X","schema":true},
            {"name":"y","type":"integer","schema":{"type":"integer","maximum":340282366920938463463374607431768211455}}]}]}"#;
        parse_text(text.as_bytes()).expect("it is a manifest")
    }

    #[test]
    fn schemas_of_run_time_fill_what_the_file_leaves_open() {
        let mut manifest = manifest();
        let made = r#"{"commands":[{"arguments":[{"type":"object"},{"type":"string"}],"result":null}],"config":{"type":"array"},
            "state":{"type":"null"}}"#;
        manifest.add_schemas(made).expect("it is of that form");
        let command = &manifest.commands[0];
        assert_eq!(command.arguments[0].schema.text(), r#"{"type":"object"}"#);
        assert!(command.arguments[1].schema.text().contains("integer"));
        assert!(!command.result.is_known());
        let config = manifest.config.as_ref().map(Schema::text);
        assert_eq!(config, Some(r#"{"type":"array"}"#));
        assert_eq!(manifest.state, None, "the daemon has no state");
        assert!(!manifest.run_time_schemas);
    }

    #[test]
    fn a_bound_of_128_bits_is_written_as_it_was_read() {
        let text = serde_json::to_string(&manifest()).expect("it is JSON");
        assert!(text.contains("340282366920938463463374607431768211455"));
    }

    #[test]
    fn schemas_of_another_form_change_nothing() {
        let before = manifest();
        let large = format!("\"{}\"", "x".repeat(SCHEMAS_BYTES_MAX));
        for wrong in [
            "",
            "[]x",
            r#"{"commands":5}"#,
            r#"{"commands":[{"arguments":5}]}"#,
            &large,
        ] {
            let mut manifest = before.clone();
            assert!(manifest.add_schemas(wrong).is_err(), "{:.40}", wrong);
            assert_eq!(manifest, before);
        }
    }
}
