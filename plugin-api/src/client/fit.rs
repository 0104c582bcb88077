//! Finds out whether all values of one schema are values of another: what a client sends of what a daemon takes, and what a daemon
//! returns of what a client reads.
//!
//! It compares the types, the bounds and the structure of arrays and objects. A schema that is not known (`true`) fits, and
//! so does `json::Value`, whose values only the caller knows. Patterns, formats and a list of allowed strings are left to
//! the daemon. A bound of a number counts only if both sides have it, since `schemars` writes none for a 64-bit integer. A
//! schema of several parts that hold at once, as `schemars` writes one for a flattened enum, fits wherever it is given.
//!
//! A schema comes from another process, may refer to itself and may be as long as a reply. The steps of a comparison are
//! therefore limited, and each list, text and value counts by its size. What is not reached fits.

mod steps;

use std::collections::HashSet;

use serde_json::Value;

use super::words;
use steps::Steps;

/// The deepest comparison: the depth of JSON that a daemon reads.
const DEPTH_MAX: usize = 128;
/// The number of types in JSON, `integer` not counted.
const TYPES: usize = 6;

/// The place where two schemas part, and both sides in words.
#[derive(Debug, PartialEq, Eq)]
pub struct Gap {
    /// The path inside the value, such as `.list[0]`; empty for the value itself.
    pub path: String,
    /// The values of the first schema.
    pub given: String,
    /// The values of the second one.
    pub taken: String,
}

/// The place where two schemas part, before it is put into words. Most of them are discarded: they belong to an alternative
/// of several.
struct Parting<'v> {
    /// The path inside the value, from its end.
    path: Vec<Inside<'v>>,
    kind: PartingKind<'v>,
}

enum PartingKind<'v> {
    /// The values of the first schema are none of the second.
    Values(&'v Value, &'v Value),
    /// An object of the first schema may be without the member, and one of the second has it.
    Absent,
}

/// A step of a path.
enum Inside<'v> {
    Element(usize),
    Member(&'v str),
    /// Any member without a schema of its own.
    Others,
}

/// A comparison, with the documents to which `$ref` refers.
struct Comparison<'v> {
    given: &'v Value,
    taken: &'v Value,
    steps: Steps,
}

type Fit<'v> = Result<(), Parting<'v>>;

/// Compares two schemas.
///
/// # Errors
/// A value of `given` is no value of `taken`.
pub fn fits(given: &Value, taken: &Value) -> Result<(), Gap> {
    let comparison = Comparison {
        given,
        taken,
        steps: Steps::default(),
    };
    let fit = comparison.fits(given, taken, 0);
    fit.map_err(Parting::into_words)
}

impl<'v> Comparison<'v> {
    fn fits(&self, given: &'v Value, taken: &'v Value, depth: usize) -> Fit<'v> {
        self.fits_but(None, given, taken, depth)
    }

    /// Compares two schemas without the values of one type.
    fn fits_but(
        &self,
        left_out: Option<&str>,
        given: &'v Value,
        taken: &'v Value,
        depth: usize,
    ) -> Fit<'v> {
        let Some(given) = self.resolved(self.given, given, depth) else {
            return Ok(());
        };
        if is_composed(given) {
            return Ok(());
        }
        if let Some(alternatives) = union(given) {
            let mut all = alternatives.iter();
            return all.try_for_each(|one| self.fits_but(left_out, one, taken, depth + 1));
        }
        let types = self.types(given);
        if is_any(&types) {
            return Ok(());
        }
        let mut types = types.into_iter().filter(|of| Some(*of) != left_out);
        types.try_for_each(|of| self.type_fits(of, given, taken, depth))
    }

    /// Follows references inside `document`. Returns `None` for a schema that is not known or not reached, has a reference
    /// among other parts, or refers to nothing but itself.
    fn resolved(&self, document: &'v Value, schema: &'v Value, depth: usize) -> Option<&'v Value> {
        const HOPS_MAX: usize = 32;
        if depth > DEPTH_MAX {
            return None;
        }
        let mut schema = schema;
        for _ in 0..HOPS_MAX {
            let reference = schema.get("$ref").and_then(Value::as_str);
            if !self.steps.take_text(reference.unwrap_or_default()) {
                return None;
            }
            match reference {
                None => return schema.is_object().then_some(schema),
                Some(_) if is_composed(schema) => return None,
                Some(reference) => schema = document.pointer(reference.strip_prefix('#')?)?,
            }
        }
        None
    }

    /// Returns the types that a schema names, or those of the values that it lists. Returns none if they are not reached.
    fn types(&self, schema: &'v Value) -> Vec<&'v str> {
        let mut types = Vec::new();
        match &schema["type"] {
            Value::String(name) => types.push(name.as_str()),
            Value::Array(names) if self.steps.take(names.len()) => {
                types.extend(names.iter().filter_map(Value::as_str));
            }
            Value::Array(_) => {}
            _ if self.steps.take(values(schema).len()) => {
                for of in values(schema).iter().map(type_of) {
                    if !types.contains(&of) {
                        types.push(of);
                    }
                }
            }
            _ => {}
        }
        types
    }

    /// Compares the values of one type with all values of the other schema.
    fn type_fits(&self, of: &str, given: &'v Value, taken: &'v Value, depth: usize) -> Fit<'v> {
        let Some(taken) = self.resolved(self.taken, taken, depth) else {
            return Ok(());
        };
        if let Some(alternatives) = union(taken) {
            let mut all = alternatives.iter();
            let is_one = all.any(|one| self.type_fits(of, given, one, depth + 1).is_ok())
                || self.listed_fit(of, given, taken, depth);
            // Other parts beside the alternatives hold as well.
            return match is_one {
                true => self.plain_fits(of, given, taken, depth),
                false => Err(Parting::of(given, taken)),
            };
        }
        if let Some(parts) = taken["allOf"].as_array() {
            let mut all = parts.iter();
            all.try_for_each(|one| self.type_fits(of, given, one, depth + 1))?;
        }
        self.plain_fits(of, given, taken, depth)
    }

    /// Returns whether `given` lists its values of that type, and `taken` takes each of them, though no alternative takes
    /// all: an enum with a documented variant is written as one alternative for each variant.
    fn listed_fit(&self, of: &str, given: &'v Value, taken: &'v Value, depth: usize) -> bool {
        let listed = values(given).iter().filter(|one| type_of(one) == of);
        let mut listed = listed.peekable();
        listed.peek().is_some() && listed.all(|one| self.value_fits(one, given, taken, depth))
    }

    /// Returns whether `taken` takes a value that `given` lists.
    fn value_fits(&self, value: &Value, given: &'v Value, taken: &'v Value, depth: usize) -> bool {
        let Some(taken) = self.resolved(self.taken, taken, depth) else {
            return true;
        };
        let listed = values(taken);
        match union(taken) {
            Some(alternatives) => {
                let mut all = alternatives.iter();
                all.any(|one| self.value_fits(value, given, one, depth + 1))
            }
            None if listed.is_empty() => {
                let of = type_of(value);
                self.type_fits(of, given, taken, depth).is_ok()
            }
            None => self
                .first_missing(std::slice::from_ref(value), listed)
                .is_none(),
        }
    }

    /// Compares the values of one type with those of a schema that is no union.
    fn plain_fits(&self, of: &str, given: &'v Value, taken: &'v Value, depth: usize) -> Fit<'v> {
        let taken_types = self.types(taken);
        let is_taken = |name: &&str| *name == of || (*name == "number" && of == "integer");
        if !taken_types.is_empty() && !taken_types.iter().any(is_taken) {
            return Err(Parting::of(given, taken));
        }
        let is_within = match of {
            "integer" | "number" => numbers_fit(given, taken),
            "string" => {
                encodings_fit(given, taken) && sizes_fit(given, taken, "minLength", "maxLength")
            }
            "array" => {
                self.elements_fit(given, taken, depth)?;
                sizes_fit(given, taken, "minItems", "maxItems")
            }
            "object" => return self.members_fit(given, taken, depth),
            _ => true,
        };
        match is_within && self.values_fit(given, taken) {
            true => Ok(()),
            false => Err(Parting::of(given, taken)),
        }
    }

    fn elements_fit(&self, given: &'v Value, taken: &'v Value, depth: usize) -> Fit<'v> {
        let first = |schema: &'v Value| schema["prefixItems"].as_array().map_or(0, Vec::len);
        // One more than the elements with a schema of their own: the element that stands for all others.
        let count = first(given).max(first(taken)) + 1;
        for index in 0..count {
            if !self.steps.take(1) {
                break;
            }
            let (Some(one), Some(other)) = (element(given, index), element(taken, index)) else {
                continue;
            };
            self.fits(one, other, depth + 1)
                .map_err(|parting| parting.below(Inside::Element(index)))?;
        }
        Ok(())
    }

    fn members_fit(&self, given: &'v Value, taken: &'v Value, depth: usize) -> Fit<'v> {
        let others = taken.get("additionalProperties");
        let members = given["properties"].as_object();
        let always: HashSet<_> = required(given).iter().filter_map(Value::as_str).collect();
        for (name, one) in members.into_iter().flatten() {
            if !self.steps.take_text(name) {
                return Ok(());
            }
            let below = |parting: Parting<'v>| parting.below(Inside::Member(name));
            match taken["properties"].get(name).or(others) {
                Some(Value::Bool(false)) => return Err(below(Parting::of(given, taken))),
                Some(other) => {
                    // An `Option` that is not always written is left out and never written as null.
                    let never = (!always.contains(name.as_str())).then_some("null");
                    self.fits_but(never, one, other, depth + 1).map_err(below)?;
                }
                None => {}
            }
        }
        if let (Some(one), Some(other @ Value::Object(_))) =
            (given.get("additionalProperties"), others)
        {
            self.fits(one, other, depth + 1)
                .map_err(|parting| parting.below(Inside::Others))?;
        }
        match members {
            // The members of a map are known only when it is sent.
            None => Ok(()),
            Some(_) => self.required_fit(given, taken),
        }
    }

    fn required_fit(&self, given: &Value, taken: &'v Value) -> Fit<'v> {
        let (has, wanted) = (required(given), required(taken));
        match self.first_missing(wanted, has).and_then(Value::as_str) {
            Some(name) => Err(Parting {
                path: vec![Inside::Member(name)],
                kind: PartingKind::Absent,
            }),
            None => Ok(()),
        }
    }

    /// Returns whether each listed value is one of the other list, if both schemas list theirs.
    fn values_fit(&self, given: &Value, taken: &Value) -> bool {
        let (given, taken) = (values(given), values(taken));
        taken.is_empty() || self.first_missing(given, taken).is_none()
    }

    /// Returns the first of the values that is none of `among`, if it is reached.
    fn first_missing<'w>(&self, wanted: &'w [Value], among: &[Value]) -> Option<&'w Value> {
        if wanted.is_empty()
            || !wanted
                .iter()
                .chain(among)
                .all(|one| self.steps.take_value(one))
        {
            return None;
        }
        let among: HashSet<&Value> = among.iter().collect();
        wanted.iter().find(|one| !among.contains(one))
    }
}

impl<'v> Parting<'v> {
    fn of(given: &'v Value, taken: &'v Value) -> Self {
        Parting {
            path: Vec::new(),
            kind: PartingKind::Values(given, taken),
        }
    }

    fn below(mut self, step: Inside<'v>) -> Self {
        self.path.push(step);
        self
    }

    fn into_words(self) -> Gap {
        let (given, taken) = match self.kind {
            PartingKind::Values(given, taken) => (words::of(given), words::of(taken)),
            PartingKind::Absent => (
                "an object that may be without it".to_owned(),
                "only one that has it".to_owned(),
            ),
        };
        let steps = self.path.iter().rev().map(|step| match step {
            Inside::Element(index) => format!("[{index}]"),
            Inside::Member(name) => format!(".{name}"),
            Inside::Others => ".*".to_owned(),
        });
        Gap {
            path: steps.collect(),
            given,
            taken,
        }
    }
}

/// Returns whether several parts of the schema hold at once, so that none of them describes a whole value.
fn is_composed(schema: &Value) -> bool {
    let has = |part: &&str| schema.get(part).is_some();
    let parts = ["$ref", "anyOf", "oneOf", "properties"];
    parts.into_iter().filter(has).count() > 1 || has(&"allOf")
}

fn union(schema: &Value) -> Option<&Vec<Value>> {
    schema["anyOf"].as_array().or(schema["oneOf"].as_array())
}

fn is_any(types: &[&str]) -> bool {
    types.is_empty() || types.iter().filter(|name| **name != "integer").count() == TYPES
}

fn values(schema: &Value) -> &[Value] {
    match (schema["enum"].as_array(), schema.get("const")) {
        (Some(all), _) => all,
        (None, Some(one)) => std::slice::from_ref(one),
        (None, None) => &[],
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn numbers_fit(given: &Value, taken: &Value) -> bool {
    let both = |bound: &str| Some((given[bound].as_f64()?, taken[bound].as_f64()?));
    both("minimum").is_none_or(|(given, taken)| given >= taken)
        && both("maximum").is_none_or(|(given, taken)| given <= taken)
}

/// Returns whether a string that one side takes for bytes is none of the other side's texts.
fn encodings_fit(given: &Value, taken: &Value) -> bool {
    let encoding = &taken["contentEncoding"];
    encoding.is_null() || given["contentEncoding"] == *encoding
}

fn sizes_fit(given: &Value, taken: &Value, least: &str, most: &str) -> bool {
    let size = |schema: &Value, bound: &str| schema[bound].as_u64();
    size(given, least).unwrap_or(0) >= size(taken, least).unwrap_or(0)
        && size(given, most).unwrap_or(u64::MAX) <= size(taken, most).unwrap_or(u64::MAX)
}

fn element(schema: &Value, index: usize) -> Option<&Value> {
    let first = schema["prefixItems"].get(index);
    first.or_else(|| schema.get("items").filter(|items| !items.is_boolean()))
}

fn required(schema: &Value) -> &[Value] {
    schema["required"].as_array().map_or(&[], Vec::as_slice)
}
