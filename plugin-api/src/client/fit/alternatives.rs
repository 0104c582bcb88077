//! The alternatives of a schema: each is a list of schemas that hold at once, without `$ref`, `allOf` and unions.
//!
//! `schemars` writes a type in many forms: it puts `$ref` beside the tag of an enum, and alternatives beside the members of
//! a struct or in `allOf` for a flattened enum. Two types with the same JSON are compared by the same alternatives. A schema
//! with more alternatives or parts than the limits is not known.

use std::rc::Rc;

use serde_json::Value;

use super::steps::Steps;

/// The most schemas of an alternative that hold at once. More are a schema that refers to itself.
const PARTS_MAX: usize = 64;
/// The number of types in JSON, `integer` not counted.
const TYPES: usize = 6;

/// The schemas that hold at once for a value.
#[derive(Clone, Debug, Default)]
pub(super) struct Alternative<'v> {
    pub(super) parts: Vec<&'v Value>,
    /// The types that all parts allow; `None` if no part names one.
    pub(super) types: Option<Vec<&'v str>>,
    /// Whether a part is not known, so that the others may describe too many values.
    pub(super) is_vague: bool,
    /// A member that has only this value here.
    pub(super) fixed: Option<(&'v str, &'v Value)>,
}

/// The alternatives of a schema.
pub(super) type Alternatives<'v> = Rc<[Alternative<'v>]>;

/// A reader of the schemas of one document, to which their `$ref` refer.
pub(super) struct Document<'v, 's> {
    pub(super) root: &'v Value,
    pub(super) steps: &'s Steps,
}

impl<'v> Document<'v, '_> {
    /// Returns the alternatives of schemas that hold at once, or `None` if they are not reached.
    pub(super) fn alternatives(&self, schemas: &[&'v Value]) -> Option<Alternatives<'v>> {
        let mut done = Vec::new();
        let open = schemas.iter().rev().copied().collect();
        self.expand(Alternative::default(), open, &mut done)?;
        Some(done.into())
    }

    /// Adds the schemas of `open`, the last one first, and then puts the alternative into `done`. Does that for each way
    /// through the unions on the path.
    fn expand(
        &self,
        mut one: Alternative<'v>,
        mut open: Vec<&'v Value>,
        done: &mut Vec<Alternative<'v>>,
    ) -> Option<()> {
        while let Some(schema) = open.pop() {
            let is_left = self.steps.take(1 + one.parts.len() + open.len());
            if !is_left || one.parts.len() > PARTS_MAX {
                return None;
            }
            if *schema == Value::Bool(false) || !self.add(&mut one, schema) {
                return Some(());
            }
            open.extend(schema["allOf"].as_array().into_iter().flatten().rev());
            if let Some(reference) = schema["$ref"].as_str() {
                match self.referred(reference) {
                    Some(referred) => open.push(referred),
                    None => one.is_vague = true,
                }
            }
            let unions = ["anyOf", "oneOf"].map(|name| schema[name].as_array());
            if let [Some(first), Some(second)] = unions {
                return self.expand_each(&one, (&open, second), first, done);
            }
            if let Some(ways) = unions.into_iter().flatten().next() {
                return ways
                    .iter()
                    .try_for_each(|way| self.expand(one.clone(), with(&open, way), done));
            }
        }
        done.push(one);
        Some(())
    }

    /// Does the same as [`Document::expand`] for each pair of ways through two unions of one schema.
    fn expand_each(
        &self,
        one: &Alternative<'v>,
        (open, second): (&[&'v Value], &'v [Value]),
        first: &'v [Value],
        done: &mut Vec<Alternative<'v>>,
    ) -> Option<()> {
        let pairs = first
            .iter()
            .flat_map(|one| second.iter().map(move |other| (one, other)));
        pairs.into_iter().try_for_each(|(way, other)| {
            self.expand(one.clone(), with(&with(open, way), other), done)
        })
    }

    fn referred(&self, reference: &str) -> Option<&'v Value> {
        let is_reached = self.steps.take_text(reference);
        let pointer = reference.strip_prefix('#').filter(|_| is_reached)?;
        self.root.pointer(pointer)
    }

    /// Adds a schema to those that hold at once. Returns whether a value is left.
    fn add(&self, one: &mut Alternative<'v>, schema: &'v Value) -> bool {
        one.parts.push(schema);
        let Some(types) = self.types(schema) else {
            return true;
        };
        let types = match one.types.take() {
            None => types,
            Some(others) => both(&types, &others),
        };
        let is_one_left = !types.is_empty();
        one.types = Some(types);
        is_one_left
    }

    /// Returns the types that a schema names, or those of the values that it lists. Returns `None` if it names none, names
    /// all, or they are not reached.
    fn types(&self, schema: &'v Value) -> Option<Vec<&'v str>> {
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
        let is_any = types.iter().filter(|name| **name != "integer").count() == TYPES;
        (!types.is_empty() && !is_any).then_some(types)
    }
}

impl<'v> Alternative<'v> {
    /// Returns the same alternative with only one value for a member.
    pub(super) fn with_member(&self, name: &'v str, value: &'v Value) -> Self {
        Alternative {
            fixed: Some((name, value)),
            ..self.clone()
        }
    }

    /// Returns whether values of that type are among those of the alternative, as far as its types say.
    pub(super) fn takes_type(&self, of: &str) -> bool {
        let types = self.types.as_ref();
        types.is_none_or(|all| all.iter().any(|name| is_within(of, name)))
    }

    /// Returns what each part has under that key.
    pub(super) fn all(&self, key: &'static str) -> impl Iterator<Item = &'v Value> {
        self.parts.iter().filter_map(move |part| part.get(key))
    }

    /// Returns the schemas of a member, of all parts.
    pub(super) fn member(&self, name: &str) -> Vec<&'v Value> {
        let members = self.all("properties");
        members.filter_map(|members| members.get(name)).collect()
    }

    /// Returns the schemas of the members that have none of their own. A part with patterns of names says nothing of them.
    pub(super) fn others(&self) -> Vec<&'v Value> {
        let parts = self.parts.iter();
        let known = parts.filter(|part| part.get("patternProperties").is_none());
        let others = known.flat_map(|part| {
            let keys = ["additionalProperties", "unevaluatedProperties"];
            keys.into_iter().filter_map(|key| part.get(key))
        });
        others.collect()
    }

    /// Returns whether an object may have members whose names are known only when it is sent: those of a map.
    pub(super) fn is_open(&self) -> bool {
        let is_map = self.all("properties").next().is_none();
        let has_patterns = self.all("patternProperties").next().is_some();
        is_map || has_patterns || self.others().iter().any(|one| **one != Value::Bool(false))
    }

    /// Returns the schemas of an element, of all parts.
    pub(super) fn element(&self, index: usize) -> Vec<&'v Value> {
        let parts = self.parts.iter();
        parts.filter_map(|part| element(part, index)).collect()
    }

    /// Returns the number of elements with a schema of their own.
    pub(super) fn first_elements(&self) -> usize {
        let first = self.all("prefixItems").filter_map(Value::as_array);
        first.map(Vec::len).max().unwrap_or(0)
    }

    /// Returns the values of each part that lists some.
    pub(super) fn lists(&self) -> impl Iterator<Item = &'v [Value]> {
        let lists = self.parts.iter().map(|part| values(part));
        lists.filter(|list| !list.is_empty())
    }

    /// Returns the narrowest of the bounds that the parts have.
    pub(super) fn bound(&self, key: &'static str) -> Option<f64> {
        let bounds = self.all(key).filter_map(Value::as_f64);
        match key.starts_with("min") {
            true => bounds.reduce(f64::max),
            false => bounds.reduce(f64::min),
        }
    }
}

fn with<'v>(open: &[&'v Value], way: &'v Value) -> Vec<&'v Value> {
    open.iter().copied().chain([way]).collect()
}

/// Returns the types that both sides allow.
fn both<'v>(some: &[&'v str], others: &[&'v str]) -> Vec<&'v str> {
    let within = |some: &[&'v str], others: &[&'v str]| {
        let all = some.iter().copied();
        let all = all.filter(|of| others.iter().any(|name| is_within(of, name)));
        all.collect::<Vec<_>>()
    };
    let mut both = within(some, others);
    let more = within(others, some);
    both.extend(more.into_iter().filter(|of| !some.contains(of)));
    both
}

/// Returns whether values of the first type are values of the second one.
pub(super) fn is_within(of: &str, name: &str) -> bool {
    name == of || (name == "number" && of == "integer")
}

fn values(schema: &Value) -> &[Value] {
    match (schema["enum"].as_array(), schema.get("const")) {
        (Some(all), _) => all,
        (None, Some(one)) => std::slice::from_ref(one),
        (None, None) => &[],
    }
}

pub(super) fn type_of(value: &Value) -> &'static str {
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

fn element(schema: &Value, index: usize) -> Option<&Value> {
    let first = schema["prefixItems"].get(index);
    first.or_else(|| schema.get("items").filter(|items| !items.is_boolean()))
}
