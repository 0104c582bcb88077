//! The schemas of an author's own types, which `schemars` makes at run time (feature `schema`).
//!
//! The macro asks for the schema of each type whose constant one is unknown. A type without `JsonSchema` stays unknown.
//! The compiler selects the case by method lookup, as for a reply: the traits below are implemented for more and fewer
//! references, and it takes the first that fits.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Map, Value, json};

use super::{Probe, Schema};

/// The schema of a type, if it has one at run time.
type Late = Option<Value>;

/// The schemas of a daemon that are not in its manifest.
#[derive(Debug, Default)]
pub struct RunTimeSchemas {
    commands: Vec<Value>,
    config: Late,
    state: Late,
    events: Vec<Value>,
}

impl RunTimeSchemas {
    /// Adds those of the next command, in the order of the manifest.
    pub fn command(&mut self, arguments: Vec<Late>, result: Late) {
        let mut command = Map::new();
        command.insert("arguments".to_owned(), arguments.into());
        command.insert("result".to_owned(), result.unwrap_or_default());
        self.commands.push(command.into());
    }

    /// Adds that of the config.
    pub fn config(&mut self, schema: Late) {
        self.config = schema;
    }

    /// Adds that of the state.
    pub fn state(&mut self, schema: Late) {
        self.state = schema;
    }

    /// Adds those of the next event, in the order of the manifest.
    pub fn event(&mut self, arguments: Vec<Late>) {
        self.events.push(arguments.into());
    }

    /// Returns them as JSON. A schema that is not known is `null`.
    #[must_use]
    pub fn to_json(&self) -> String {
        json!({
            "commands": self.commands,
            "config": self.config,
            "state": self.state,
            "events": self.events,
        })
        .to_string()
    }
}

/// The schema of a value that the daemon is given or sends, for a type with `JsonSchema`.
pub trait DescribedLater {
    /// Returns the schema of what serde reads, unless the constant one is known.
    fn given_schema(&self, constant: &Schema) -> Option<Value>;

    /// Returns the schema of what serde writes, unless the constant one is known.
    fn sent_schema(&self, constant: &Schema) -> Option<Value>;
}

impl<T: JsonSchema> DescribedLater for &Probe<T> {
    fn given_schema(&self, constant: &Schema) -> Option<Value> {
        later(constant, || schema_of::<T>(SchemaSettings::for_deserialize))
    }

    fn sent_schema(&self, constant: &Schema) -> Option<Value> {
        later(constant, || schema_of::<T>(SchemaSettings::for_serialize))
    }
}

/// The same for a type without `JsonSchema`.
pub trait UndescribedLater {
    /// Returns nothing.
    fn given_schema(&self, _: &Schema) -> Option<Value>;

    /// Returns nothing.
    fn sent_schema(&self, _: &Schema) -> Option<Value>;
}

impl<T> UndescribedLater for Probe<T> {
    fn given_schema(&self, _: &Schema) -> Option<Value> {
        None
    }

    fn sent_schema(&self, _: &Schema) -> Option<Value> {
        None
    }
}

/// The schema of a command's result, for a `Result` whose value has `JsonSchema`, and for any other type with it.
pub trait ResultLater {
    /// Returns the schema, unless the constant one is known.
    fn result_schema(&self, constant: &Schema) -> Option<Value>;
}

impl<T: JsonSchema, E> ResultLater for &&&Probe<Result<T, E>> {
    fn result_schema(&self, constant: &Schema) -> Option<Value> {
        later(constant, || schema_of::<T>(SchemaSettings::for_serialize))
    }
}

impl<T: JsonSchema> ResultLater for &Probe<T> {
    fn result_schema(&self, constant: &Schema) -> Option<Value> {
        later(constant, || schema_of::<T>(SchemaSettings::for_serialize))
    }
}

/// The same for a `Result` whose value has no `JsonSchema`, and for any other type without it.
pub trait ResultNever {
    /// Returns nothing.
    fn result_schema(&self, _: &Schema) -> Option<Value>;
}

impl<T, E> ResultNever for &&Probe<Result<T, E>> {
    fn result_schema(&self, _: &Schema) -> Option<Value> {
        None
    }
}

impl<T> ResultNever for Probe<T> {
    fn result_schema(&self, _: &Schema) -> Option<Value> {
        None
    }
}

fn later(constant: &Schema, make: impl FnOnce() -> Value) -> Option<Value> {
    matches!(constant, Schema::Unknown).then(make)
}

fn schema_of<T: JsonSchema>(contract: impl FnOnce(SchemaSettings) -> SchemaSettings) -> Value {
    let settings = contract(SchemaSettings::draft2020_12())
        .with(|settings| settings.meta_schema = None)
        .with_transform(RecursiveTransform(exact_bounds))
        .with_transform(RecursiveTransform(without_uniqueness));
    settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}

/// Gives each integer the bounds of its type. `schemars` names the type in `format` alone, which excludes nothing.
fn exact_bounds(schema: &mut schemars::Schema) {
    let (least, most) = match schema.get("format").and_then(Value::as_str) {
        Some("int8") => (json!(i8::MIN), json!(i8::MAX)),
        Some("int16") => (json!(i16::MIN), json!(i16::MAX)),
        Some("int32") => (json!(i32::MIN), json!(i32::MAX)),
        Some("int64") => (json!(i64::MIN), json!(i64::MAX)),
        Some("int") => (json!(isize::MIN), json!(isize::MAX)),
        Some("uint8") => (json!(0), json!(u8::MAX)),
        Some("uint16") => (json!(0), json!(u16::MAX)),
        Some("uint32") => (json!(0), json!(u32::MAX)),
        Some("uint64") => (json!(0), json!(u64::MAX)),
        Some("uint") => (json!(0), json!(usize::MAX)),
        _ => return,
    };
    for (key, bound) in [("minimum", least), ("maximum", most)] {
        // An author's own range is narrower.
        if schema.get(key).is_none() {
            schema.insert(key.to_owned(), bound);
        }
    }
    schema.remove("format");
}

/// Removes the rule that no element of a set comes twice. Serde reads such an array, and keeps one of the two.
fn without_uniqueness(schema: &mut schemars::Schema) {
    schema.remove("uniqueItems");
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is looked at")]
    struct Point {
        /// Across.
        x: u64,
        y: Option<u8>,
        icon: crate::Bytes,
    }

    #[derive(JsonSchema, serde::Serialize, serde::Deserialize, PartialEq, Eq, Hash)]
    struct Moment {
        #[serde(rename(serialize = "at", deserialize = "time"))]
        at: u64,
    }

    struct Plain;
    type Found = Result<Point, String>;

    macro_rules! given {
        ($of:ty) => {
            (&&Probe::<$of>::NEW).given_schema(&Schema::Unknown)
        };
    }

    macro_rules! sent {
        ($of:ty) => {
            (&&Probe::<$of>::NEW).sent_schema(&Schema::Unknown)
        };
    }

    macro_rules! result {
        ($of:ty) => {
            (&&&&Probe::<$of>::NEW).result_schema(&Schema::Unknown)
        };
    }

    #[test]
    fn a_type_of_an_author_has_a_schema_if_it_derives_one() {
        let point = given!(Point).expect("it derives one");
        assert_eq!(point["properties"]["x"]["description"], "Across.");
        assert_eq!(point["properties"]["x"]["maximum"], u64::MAX);
        assert_eq!(point["required"], json!(["x", "icon"]));
        assert_eq!(point["properties"]["icon"]["contentEncoding"], "base64");
        let list = given!(Vec<Point>).expect("its elements derive one");
        assert_eq!(list["items"]["$ref"], "#/$defs/Point");
        assert_eq!(given!(Plain), None);
        assert_eq!(given!(Vec<Plain>), None);
    }

    #[test]
    fn a_value_is_described_as_it_is_read_or_as_it_is_written() {
        let sent = sent!(Moment).expect("a schema");
        assert_eq!(sent["required"], json!(["at"]));
        let given = given!(Moment).expect("a schema");
        assert_eq!(given["required"], json!(["time"]));
        assert_eq!(sent!(Plain), None);
        let known = Schema::Text("{}");
        assert_eq!(
            DescribedLater::sent_schema(&&Probe::<Moment>::NEW, &known),
            None
        );
    }

    #[test]
    fn a_set_may_name_an_element_twice() {
        let set = given!(HashSet<Moment>).expect("its elements derive one");
        assert_eq!(set["items"]["$ref"], "#/$defs/Moment");
        assert_eq!(set.get("uniqueItems"), None);
        let twice = crate::exact::from_str::<HashSet<Moment>>(r#"[{"time":1},{"time":1}]"#);
        assert_eq!(twice.expect("serde takes it").len(), 1);
    }

    #[test]
    fn the_schema_of_a_result_is_that_of_its_value() {
        let of = |schema: Option<Value>| schema.expect("a schema")["title"].clone();
        assert_eq!(of(result!(Point)), "Point");
        assert_eq!(of(result!(Found)), "Point");
        assert_eq!(result!(Plain), None);
        assert_eq!(result!(Result<Plain, Point>), None);
        let known = Schema::Text("{}");
        assert_eq!(
            ResultLater::result_schema(&&Probe::<Point>::NEW, &known),
            None
        );
    }
}
