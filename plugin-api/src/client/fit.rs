//! Finds out whether all values of one schema are values of another: what a client sends of what a daemon takes, and what a daemon
//! returns of what a client reads.
//!
//! It compares the types, the bounds and the structure of arrays and objects. A schema that is not known (`true`) fits, and
//! so does `json::Value`, whose values only the caller knows. Patterns, formats and a list of allowed strings are left to
//! the daemon. A bound of a number counts only if both sides have it, since `schemars` writes none for a 64-bit integer.
//!
//! A schema comes from another process and may refer to itself. The steps of a comparison are therefore limited; what is
//! not reached fits.

use std::cell::Cell;

use serde_json::Value;

use super::words;

/// The most steps of one comparison. The schemas of a plugin have at most 1 MiB, and usual ones a few dozen parts.
const STEPS_MAX: usize = 20_000;
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

/// A comparison, with the documents to which `$ref` refers.
struct Comparison<'v> {
    given: &'v Value,
    taken: &'v Value,
    steps: Cell<usize>,
}

/// Compares two schemas.
///
/// # Errors
/// A value of `given` is no value of `taken`.
pub fn fits(given: &Value, taken: &Value) -> Result<(), Gap> {
    let comparison = Comparison {
        given,
        taken,
        steps: Cell::new(0),
    };
    comparison.fits(given, taken, 0)
}

impl<'v> Comparison<'v> {
    fn fits(&self, given: &'v Value, taken: &'v Value, depth: usize) -> Result<(), Gap> {
        let Some(given) = resolved(self.given, given).filter(|_| self.may_go_on(depth)) else {
            return Ok(());
        };
        if let Some(alternatives) = union(given) {
            let mut all = alternatives.iter();
            return all.try_for_each(|one| self.fits(one, taken, depth + 1));
        }
        let types = types(given);
        if is_any(&types) {
            return Ok(());
        }
        let mut types = types.into_iter();
        types.try_for_each(|of| self.type_fits(of, given, taken, depth))
    }

    fn may_go_on(&self, depth: usize) -> bool {
        self.steps.set(self.steps.get() + 1);
        self.steps.get() <= STEPS_MAX && depth <= DEPTH_MAX
    }

    /// Compares the values of one type with all values of the other schema.
    fn type_fits(
        &self,
        of: &str,
        given: &'v Value,
        taken: &'v Value,
        depth: usize,
    ) -> Result<(), Gap> {
        let Some(taken) = resolved(self.taken, taken).filter(|_| self.may_go_on(depth)) else {
            return Ok(());
        };
        if let Some(alternatives) = union(taken) {
            let mut all = alternatives.iter();
            let is_one = all.any(|one| self.type_fits(of, given, one, depth + 1).is_ok());
            return if is_one {
                Ok(())
            } else {
                Err(gap(given, taken))
            };
        }
        if let Some(parts) = taken["allOf"].as_array() {
            let mut all = parts.iter();
            all.try_for_each(|one| self.type_fits(of, given, one, depth + 1))?;
        }
        self.plain_fits(of, given, taken, depth)
    }

    /// Compares the values of one type with those of a schema that is no union.
    fn plain_fits(
        &self,
        of: &str,
        given: &'v Value,
        taken: &'v Value,
        depth: usize,
    ) -> Result<(), Gap> {
        let taken_types = types(taken);
        let is_taken = |name: &&str| *name == of || (*name == "number" && of == "integer");
        if !taken_types.is_empty() && !taken_types.iter().any(is_taken) {
            return Err(gap(given, taken));
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
        match is_within && values_fit(given, taken) {
            true => Ok(()),
            false => Err(gap(given, taken)),
        }
    }

    fn elements_fit(&self, given: &'v Value, taken: &'v Value, depth: usize) -> Result<(), Gap> {
        let first = |schema: &'v Value| schema["prefixItems"].as_array().map_or(0, Vec::len);
        // One more than the elements with a schema of their own: the element that stands for all others.
        let count = first(given).max(first(taken)) + 1;
        for index in 0..count {
            let (Some(one), Some(other)) = (element(given, index), element(taken, index)) else {
                continue;
            };
            self.fits(one, other, depth + 1)
                .map_err(|gap| gap.below(&format!("[{index}]")))?;
        }
        Ok(())
    }

    fn members_fit(&self, given: &'v Value, taken: &'v Value, depth: usize) -> Result<(), Gap> {
        let others = taken.get("additionalProperties");
        let members = given["properties"].as_object();
        for (name, one) in members.into_iter().flatten() {
            let other = taken["properties"].get(name).or(others);
            match other {
                Some(Value::Bool(false)) => {
                    return Err(gap(given, taken).below(&format!(".{name}")));
                }
                Some(other) => self
                    .fits(one, other, depth + 1)
                    .map_err(|gap| gap.below(&format!(".{name}")))?,
                None => {}
            }
        }
        if let (Some(one), Some(other @ Value::Object(_))) =
            (given.get("additionalProperties"), others)
        {
            self.fits(one, other, depth + 1)
                .map_err(|gap| gap.below(".*"))?;
        }
        match members {
            // The members of a map are known only when it is sent.
            None => Ok(()),
            Some(_) => required_fit(given, taken),
        }
    }
}

impl Gap {
    fn below(mut self, step: &str) -> Self {
        self.path.insert_str(0, step);
        self
    }
}

fn gap(given: &Value, taken: &Value) -> Gap {
    Gap {
        path: String::new(),
        given: words::of(given),
        taken: words::of(taken),
    }
}

/// Follows references inside `document`. Returns `None` for a schema that is not known or refers to nothing but itself.
fn resolved<'v>(document: &'v Value, schema: &'v Value) -> Option<&'v Value> {
    const HOPS_MAX: usize = 32;
    let mut schema = schema;
    for _ in 0..HOPS_MAX {
        match schema.get("$ref").and_then(Value::as_str) {
            None => return schema.is_object().then_some(schema),
            Some(reference) => schema = document.pointer(reference.strip_prefix('#')?)?,
        }
    }
    None
}

fn union(schema: &Value) -> Option<&Vec<Value>> {
    schema["anyOf"].as_array().or(schema["oneOf"].as_array())
}

/// Returns the types that a schema names, or those of the values that it lists.
fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => values(schema).into_iter().map(type_of).collect(),
    }
}

fn is_any(types: &[&str]) -> bool {
    types.is_empty() || types.iter().filter(|name| **name != "integer").count() == TYPES
}

fn values(schema: &Value) -> Vec<&Value> {
    match (schema["enum"].as_array(), schema.get("const")) {
        (Some(all), _) => all.iter().collect(),
        (None, Some(one)) => vec![one],
        (None, None) => Vec::new(),
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

/// Returns whether each listed value is one of the other list, if both schemas list theirs.
fn values_fit(given: &Value, taken: &Value) -> bool {
    let (given, taken) = (values(given), values(taken));
    taken.is_empty() || given.iter().all(|value| taken.contains(value))
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

fn required_fit(given: &Value, taken: &Value) -> Result<(), Gap> {
    let has = |name: &&Value| {
        let mut names = given["required"].as_array().into_iter().flatten();
        names.any(|other| other == *name)
    };
    let mut wanted = taken["required"].as_array().into_iter().flatten();
    match wanted.find(|name| !has(name)).and_then(Value::as_str) {
        Some(name) => Err(Gap {
            path: format!(".{name}"),
            given: "an object that may be without it".to_owned(),
            taken: "only one that has it".to_owned(),
        }),
        None => Ok(()),
    }
}
