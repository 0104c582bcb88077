//! Whether two schemas have no value in common, as the branches of a `oneOf` should not. A yes is certain.

use serde_json::Value;

use super::parts::{Keywords, Parts};
use super::{kinds, values};

/// The deepest nesting that is followed.
const DEPTH_MAX: usize = 8;

/// Returns whether no value is valid for both.
pub(super) fn are_disjoint(one: &Parts<'_>, other: &Parts<'_>) -> bool {
    at_depth(one, other, 0)
}

fn at_depth(one: &Parts<'_>, other: &Parts<'_>, depth: usize) -> bool {
    if one.is_false || other.is_false {
        return true;
    }
    if depth > DEPTH_MAX || one.is_open || other.is_open {
        return false;
    }
    if !one.budget.take(one.weight + other.weight) {
        return false;
    }
    for (listing, rest) in [(one, other), (other, one)] {
        if let Some(listed) = listing.listed() {
            let excludes = |value: &Value| values::are_valid(rest, value, 0) == Some(false);
            return listed.iter().all(excludes);
        }
        if let Some(mut cases) = listing.split() {
            return cases.all(|case| at_depth(&case, rest, depth + 1));
        }
    }
    let kinds = [one, other].map(kinds::of_parts);
    let common: Vec<_> = kinds[0]
        .iter()
        .filter(|kind| kinds[1].contains(kind))
        .collect();
    match common.as_slice() {
        [] => true,
        [kinds::Kind::Object] => {
            need_what_differs(one, other, depth) || need_what_differs(other, one, depth)
        }
        _ => false,
    }
}

/// Returns whether `one` requires a member that `other` excludes, or has with no value in common.
fn need_what_differs(one: &Parts<'_>, other: &Parts<'_>, depth: usize) -> bool {
    let objects = one.objects.len() + other.objects.len();
    let names = one.objects.iter().flat_map(|object| object.required());
    let mut names = names.take_while(|_| one.budget.take(objects));
    names.any(|name| at_depth(&member(one, name), &member(other, name), depth + 1))
}

/// Returns the schemas that surely apply to a member.
fn member<'a>(parts: &Parts<'a>, name: &str) -> Parts<'a> {
    let schemas = parts
        .objects
        .iter()
        .filter_map(|object| surely(*object, name));
    Parts::of_all(parts.budget, &schemas.collect::<Vec<_>>())
}

/// Returns the schema that a member surely has in an object.
fn surely<'a>(object: Keywords<'a>, name: &str) -> Option<super::SchemaAt<'a>> {
    let others = || match object.get("patternProperties") {
        Some(_) => None,
        None => object.schema("additionalProperties"),
    };
    object.property(name).or_else(others)
}
