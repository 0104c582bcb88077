//! The kinds of JSON values that a schema's `type` tells apart.

use serde_json::Value;

use super::parts::Parts;

/// A kind of values. A number with a fraction and an integer are two kinds, since `number` is both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Boolean,
    Integer,
    Fraction,
    Text,
    Array,
    Object,
}

impl Kind {
    const ALL: [Kind; 7] = [
        Kind::Null,
        Kind::Boolean,
        Kind::Integer,
        Kind::Fraction,
        Kind::Text,
        Kind::Array,
        Kind::Object,
    ];

    /// Returns the kind of a value.
    pub(super) fn of(value: &Value) -> Self {
        match value {
            Value::Null => Kind::Null,
            Value::Bool(_) => Kind::Boolean,
            Value::Number(number) if number.is_f64() => Kind::Fraction,
            Value::Number(_) => Kind::Integer,
            Value::String(_) => Kind::Text,
            Value::Array(_) => Kind::Array,
            Value::Object(_) => Kind::Object,
        }
    }

    /// Returns the name in a schema.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Boolean => "boolean",
            Kind::Integer => "integer",
            Kind::Fraction => "number",
            Kind::Text => "string",
            Kind::Array => "array",
            Kind::Object => "object",
        }
    }
}

/// Returns the kinds that a `type` names.
pub(super) fn of_type(given: &Value) -> Vec<Kind> {
    let names = match given {
        Value::Array(names) => &names[..],
        one => std::slice::from_ref(one),
    };
    let is_named = |kind: &Kind| {
        let mut names = names.iter().filter_map(Value::as_str);
        names.any(|name| name == kind.name() || (name == "number" && *kind == Kind::Integer))
    };
    Kind::ALL.into_iter().filter(is_named).collect()
}

/// Returns the kinds of the values that are valid for all parts.
pub(super) fn of_parts(parts: &Parts<'_>) -> Vec<Kind> {
    let types = parts.objects.iter().filter_map(|object| object.get("type"));
    let types: Vec<Vec<Kind>> = types.map(of_type).collect();
    let is_allowed = |kind: &Kind| types.iter().all(|kinds| kinds.contains(kind));
    Kind::ALL.into_iter().filter(is_allowed).collect()
}
