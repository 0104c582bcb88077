//! Checks single values against a schema: those that another schema lists.
//!
//! The answer is `None` where a keyword is not known here.

use serde_json::Value;

use super::bounds::Range;
use super::budget::{Budget, text_work};
use super::kinds::{Kind, of_type};
use super::parts::{Keywords, Parts};
use super::{ANNOTATIONS, COMBINATIONS};

/// The deepest nesting of a value and of branches that is followed.
const DEPTH_MAX: usize = 64;

/// Returns whether a value is valid for all parts, if that is known.
pub(super) fn are_valid(parts: &Parts<'_>, value: &Value, depth: usize) -> Option<bool> {
    if parts.is_false {
        return Some(false);
    }
    if depth > DEPTH_MAX || parts.is_open || !parts.budget.take(parts.weight) {
        return None;
    }
    let objects = parts.objects.iter();
    let fits = |object: &Keywords<'_>| fits(*object, (value, depth), parts.budget);
    let mut answers: Vec<_> = objects.map(fits).collect();
    for alternatives in &parts.alternatives {
        let each = alternatives
            .branches()
            .map(|branch| are_valid(&branch.parts(), value, depth + 1));
        answers.push(some_valid(each.collect(), alternatives.is_exclusive));
    }
    all(answers)
}

fn all(answers: Vec<Option<bool>>) -> Option<bool> {
    match answers.contains(&Some(false)) {
        true => Some(false),
        false => answers
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .map(|_| true),
    }
}

/// Returns whether as many branches are valid as must be.
fn some_valid(answers: Vec<Option<bool>>, is_exclusive: bool) -> Option<bool> {
    let count = answers
        .iter()
        .filter(|answer| **answer == Some(true))
        .count();
    let is_known = !answers.contains(&None);
    match (count, is_exclusive) {
        (1.., false) => Some(true),
        (2.., true) => Some(false),
        (1, true) if is_known => Some(true),
        (0, _) if is_known => Some(false),
        _ => None,
    }
}

/// Returns whether a value fits the keywords of one object.
fn fits(keywords: Keywords<'_>, (value, depth): (&Value, usize), budget: &Budget) -> Option<bool> {
    let answers = keywords.all.iter().map(|(keyword, given)| {
        match keyword.as_str() {
            "type" => Some(of_type(given).contains(&Kind::of(value))),
            "const" => Some(is_listed(std::slice::from_ref(given), value, budget)),
            "enum" => {
                let listed = given.as_array();
                Some(listed.is_some_and(|listed| is_listed(listed, value, budget)))
            }
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => {
                Some(is_in_range(keywords, value))
            }
            "minLength" | "maxLength" => Some(value.as_str().is_none_or(|text| {
                let bounds = ("minLength", "maxLength");
                budget.take(text_work(text)) && has_length(keywords, bounds, text.chars().count())
            })),
            "minItems" | "maxItems" => Some(
                value
                    .as_array()
                    .is_none_or(|all| has_length(keywords, ("minItems", "maxItems"), all.len())),
            ),
            "items" | "prefixItems" => elements_fit(keywords, (value, depth), budget),
            "required" => Some(value.as_object().is_none_or(|members| {
                let mut required = keywords.required();
                required.all(|name| members.contains_key(name))
            })),
            "properties" | "additionalProperties" => members_fit(keywords, (value, depth), budget),
            // The value of a listed string is short, and none has a format of a number.
            "format" if !value.is_string() => Some(is_in_range(keywords, value)),
            known if ANNOTATIONS.contains(&known) || COMBINATIONS.contains(&known) => Some(true),
            _ if matches!(value, Value::Null | Value::Bool(_)) && is_of_one_kind(keyword) => {
                Some(true)
            }
            _ => None,
        }
    });
    all(answers.collect())
}

/// Returns whether a value is equal to one of a list.
fn is_listed(listed: &[Value], value: &Value, budget: &Budget) -> bool {
    // Each value that a schema lists is checked against that schema too.
    let is_entry = listed.as_ptr_range().contains(&std::ptr::from_ref(value));
    is_entry || listed.iter().any(|one| budget.are_equal(one, value))
}

/// Returns whether a keyword doesn't restrict `null` and booleans.
fn is_of_one_kind(keyword: &str) -> bool {
    let all = [
        "pattern",
        "multipleOf",
        "uniqueItems",
        "patternProperties",
        "propertyNames",
        "contentEncoding",
    ];
    all.contains(&keyword)
}

fn is_in_range(keywords: Keywords<'_>, value: &Value) -> bool {
    let Value::Number(number) = value else {
        return true;
    };
    let range = Range::of_number(std::iter::once(keywords));
    range.holds(&Range::only(number.clone()))
}

fn has_length(keywords: Keywords<'_>, bounds: (&str, &str), length: usize) -> bool {
    let range = Range::of_length(std::iter::once(keywords), bounds);
    range.holds(&Range::only(length.into()))
}

fn elements_fit(
    keywords: Keywords<'_>,
    (value, depth): (&Value, usize),
    budget: &Budget,
) -> Option<bool> {
    let elements = value.as_array().into_iter().flatten().enumerate();
    let elements = elements.take_while(|_| budget.take(1));
    let fits = elements.map(|(position, element)| match keywords.element(position) {
        Some(schema) => are_valid(&schema.parts(), element, depth + 1),
        None => Some(true),
    });
    all(fits.collect())
}

fn members_fit(
    keywords: Keywords<'_>,
    (value, depth): (&Value, usize),
    budget: &Budget,
) -> Option<bool> {
    if keywords.get("patternProperties").is_some() {
        return None;
    }
    let members = value.as_object().into_iter().flatten();
    let members = members.take_while(|(name, _)| budget.take(1 + text_work(name)));
    let fits = members.map(|(name, member)| {
        let own = keywords.property(name);
        match own.or_else(|| keywords.schema("additionalProperties")) {
            Some(schema) => are_valid(&schema.parts(), member, depth + 1),
            None => Some(true),
        }
    });
    all(fits.collect())
}
