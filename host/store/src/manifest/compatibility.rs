//! Whether one JSON Schema accepts every value that another one allows: a reload compares the schemas of old and new code.
//!
//! A yes is certain, for values that a caller or a daemon really sends: of an object that lists its members, only these.
//! A no is not: two schemas whose order can't be found out here count as a no, and the mismatch is marked. Pure functions.
//!
//! The narrow schema is split into cases: its alternatives, its listed values, and the kinds of JSON values. Each case must
//! satisfy every keyword of the wide one. Schemas that refer to themselves are compared under the assumption that they
//! fit, which is sound since each round goes one level deeper into a value. Depth and work are bounded.

mod bounds;
mod budget;
mod disjoint;
mod kinds;
mod members;
mod parts;
mod spoken;
mod values;

use serde_json::Value;

use bounds::Range;
use kinds::Kind;
use parts::{Alternatives, Keywords, Parts};

pub(super) use budget::Budget;
pub(super) use parts::SchemaAt;
pub(super) use spoken::spoken;

/// The deepest nesting of cases that is followed. It keeps the stack small.
const DEPTH_MAX: u32 = 48;

/// Keywords that exclude no value.
const ANNOTATIONS: [&str; 17] = [
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentMediaType",
    "contentSchema",
    "$schema",
    "$id",
    "$anchor",
    "$comment",
    "$defs",
    "definitions",
    "$vocabulary",
    "nullable",
];

/// Keywords that [`Parts`] has taken apart.
const COMBINATIONS: [&str; 4] = ["$ref", "allOf", "anyOf", "oneOf"];

/// Keywords for which only an equal one will do, with the kinds that they concern.
const EQUAL_ONLY: [(&str, &[Kind]); 7] = [
    ("pattern", &[Kind::Text]),
    ("format", &[Kind::Text]),
    ("contentEncoding", &[Kind::Text]),
    ("multipleOf", &[Kind::Integer, Kind::Fraction]),
    ("uniqueItems", &[Kind::Array]),
    ("propertyNames", &[Kind::Object]),
    ("dependentRequired", &[Kind::Object]),
];

/// Keywords with a check of their own.
const CHECKED: [&str; 16] = [
    "type",
    "enum",
    "const",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "items",
    "prefixItems",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "additionalProperties",
];

/// Keywords of the members of an object, with a check of their own.
const OF_MEMBERS: [&str; 3] = ["properties", "patternProperties", "required"];

/// A place at which one schema doesn't accept what another allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mismatch {
    /// The way from the value to the place: `.zip`, `[]`, `[0].name`; empty for the value itself.
    pub(super) path: String,
    /// A description of the accepting schema there.
    pub(super) wide: String,
    /// A description of the other schema there.
    pub(super) narrow: String,
    /// True if the two could not be compared.
    pub(super) is_open: bool,
}

impl Mismatch {
    fn new(wide: impl Into<String>, narrow: impl Into<String>) -> Self {
        Mismatch {
            path: String::new(),
            wide: wide.into(),
            narrow: narrow.into(),
            is_open: false,
        }
    }

    /// Creates a mismatch that ends a comparison. [`accepts`] replaces it.
    fn of_used_up_budget() -> Self {
        Mismatch::new("", "").open()
    }

    fn open(self) -> Self {
        Mismatch {
            is_open: true,
            ..self
        }
    }

    fn below(self, step: &str) -> Self {
        Mismatch {
            path: format!("{step}{}", self.path),
            ..self
        }
    }
}

/// The treatment of members that only the narrow schema lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unlisted {
    /// They are ignored, as a caller ignores new members of a result.
    Ignored,
    /// They are a difference, since a caller that sends one expects that it counts.
    Differ,
}

/// Checks that `wide` accepts every value that `narrow` allows. Both have the same budget.
///
/// # Errors
/// The first place at which it doesn't, or may not. Schemas that need more work than the budget has can't be compared.
pub(super) fn accepts(
    wide: SchemaAt<'_>,
    narrow: SchemaAt<'_>,
    unlisted: Unlisted,
) -> Result<(), Mismatch> {
    let budget = wide.budget;
    budget.start_comparison();
    let mut comparison = Comparison {
        unlisted,
        budget,
        depth: 0,
        under_way: Vec::new(),
        is_branch: false,
    };
    let accepted = comparison.accepts_all(wide, &[narrow]);
    match budget.is_used_up() {
        true => Err(Mismatch::new(spoken(wide), spoken(narrow)).open()),
        false => accepted,
    }
}

/// One comparison.
struct Comparison<'a> {
    unlisted: Unlisted,
    budget: &'a Budget,
    depth: u32,
    /// The pairs that are being compared, by their addresses.
    under_way: Vec<(*const Value, Vec<*const Value>)>,
    /// True within a branch whose object lists other members beside it.
    is_branch: bool,
}

impl Comparison<'_> {
    /// Takes work from the budget.
    fn take(&self, amount: usize) -> Result<(), Mismatch> {
        match self.budget.take(amount) {
            true => Ok(()),
            false => Err(Mismatch::of_used_up_budget()),
        }
    }

    /// Checks that `wide` accepts what all of `narrow` allow. The two stand one level deeper than the last such pair.
    fn accepts_all(&mut self, wide: SchemaAt<'_>, narrow: &[SchemaAt<'_>]) -> Result<(), Mismatch> {
        self.take(1 + narrow.len())?;
        let addresses = narrow.iter().map(|schema| std::ptr::from_ref(schema.at));
        let pair = (std::ptr::from_ref(wide.at), addresses.collect());
        if self.under_way.contains(&pair) {
            return Ok(());
        }
        self.under_way.push(pair);
        let is_branch = std::mem::replace(&mut self.is_branch, false);
        let accepted = self.accepts_parts(&wide.parts(), &Parts::of_all(self.budget, narrow));
        self.is_branch = is_branch;
        self.under_way.pop();
        accepted
    }

    fn accepts_parts(&mut self, wide: &Parts<'_>, narrow: &Parts<'_>) -> Result<(), Mismatch> {
        if narrow.is_false {
            return Ok(());
        }
        let mismatch = || Mismatch::new(spoken::of_parts(wide), spoken::of_parts(narrow));
        if wide.is_false {
            return Err(Mismatch::new("not allowed", spoken::of_parts(narrow)));
        }
        self.take(1)?;
        if self.depth >= DEPTH_MAX || wide.is_open {
            return Err(mismatch().open());
        }
        self.depth += 1;
        let accepted = self.accepts_cases(wide, narrow);
        self.depth -= 1;
        accepted
    }

    /// Splits the narrow schema into cases, and checks each.
    fn accepts_cases(&mut self, wide: &Parts<'_>, narrow: &Parts<'_>) -> Result<(), Mismatch> {
        if let Some(listed) = narrow.listed() {
            let is_possible = |value: &&Value| values::are_valid(narrow, value, 0) != Some(false);
            let mut possible = listed.iter().filter(is_possible);
            return possible.try_for_each(|value| accepts_value(wide, value));
        }
        if let Some(mut cases) = narrow.split() {
            return cases.try_for_each(|case| self.accepts_parts(wide, &case));
        }
        let mut kinds = kinds::of_parts(narrow).into_iter();
        kinds.try_for_each(|kind| self.accepts_kind(wide, narrow, kind))
    }

    /// Checks the values of one kind.
    fn accepts_kind(
        &mut self,
        wide: &Parts<'_>,
        narrow: &Parts<'_>,
        kind: Kind,
    ) -> Result<(), Mismatch> {
        match kind {
            Kind::Null => return accepts_value(wide, &Value::Null),
            Kind::Boolean => {
                accepts_value(wide, &Value::Bool(false))?;
                return accepts_value(wide, &Value::Bool(true));
            }
            _ => {}
        }
        for keywords in &wide.objects {
            self.take(keywords.weight + narrow.weight)?;
            check_kind(*keywords, narrow, kind)?;
            check_equal_only(*keywords, narrow, kind)?;
            match kind {
                Kind::Integer | Kind::Fraction => check_range(*keywords, narrow, kind)?,
                Kind::Text => check_length(*keywords, narrow, TEXT_LENGTH)?,
                Kind::Array => self.check_elements(*keywords, narrow)?,
                Kind::Object => self.check_members(*keywords, narrow)?,
                Kind::Null | Kind::Boolean => {}
            }
        }
        if kind == Kind::Object {
            self.check_unlisted(wide, narrow)?;
        }
        let outer = self.is_branch;
        self.is_branch |= wide.objects.iter().any(|one| one.names().next().is_some());
        let mut all = wide.alternatives.iter();
        let accepted = all.try_for_each(|all| self.accepts_branch(all, (narrow, kind)));
        self.is_branch = outer;
        accepted
    }

    /// Checks that one of the alternatives accepts all values of the kind, and no other one any, if they exclude each other.
    fn accepts_branch(
        &mut self,
        alternatives: &Alternatives<'_>,
        (narrow, kind): (&Parts<'_>, Kind),
    ) -> Result<(), Mismatch> {
        let branches: Vec<Parts<'_>> = alternatives.branches().map(SchemaAt::parts).collect();
        let mut closest: Option<Mismatch> = None;
        for (at, branch) in branches.iter().enumerate() {
            self.take(1)?;
            self.depth += 1;
            let accepted = match self.depth < DEPTH_MAX && !branch.is_false && !branch.is_open {
                true => self.accepts_kind(branch, narrow, kind),
                false => Err(Mismatch::new(
                    spoken::of_parts(branch),
                    spoken::of_parts(narrow),
                )),
            };
            self.depth -= 1;
            let mut others = branches
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != at);
            match accepted {
                Ok(()) if !alternatives.is_exclusive => return Ok(()),
                Ok(()) if others.all(|(_, other)| disjoint::are_disjoint(other, narrow)) => {
                    return Ok(());
                }
                Ok(()) => closest = Some(alternatives_differ(&branches, narrow).open()),
                // A difference within an object or array is the most helpful one.
                Err(inner) if !inner.path.is_empty() && closest.is_none() => closest = Some(inner),
                Err(_) => {}
            }
        }
        Err(closest.unwrap_or_else(|| alternatives_differ(&branches, narrow)))
    }
}

fn alternatives_differ(branches: &[Parts<'_>], narrow: &Parts<'_>) -> Mismatch {
    Mismatch::new(spoken::of_alternatives(branches), spoken::of_parts(narrow))
}

fn accepts_value(wide: &Parts<'_>, value: &Value) -> Result<(), Mismatch> {
    let mismatch = || Mismatch::new(spoken::of_parts(wide), spoken::of_value(value));
    match values::are_valid(wide, value, 0) {
        Some(true) => Ok(()),
        Some(false) => Err(mismatch()),
        None => Err(mismatch().open()),
    }
}

/// Checks that the kind is allowed, and that no list of values excludes some of it.
fn check_kind(wide: Keywords<'_>, narrow: &Parts<'_>, kind: Kind) -> Result<(), Mismatch> {
    let given = wide.get("type");
    let is_allowed = given.is_none_or(|given| kinds::of_type(given).contains(&kind));
    let is_listed = wide.get("enum").is_some() || wide.get("const").is_some();
    match is_allowed && !is_listed {
        true => Ok(()),
        false => Err(Mismatch::new(
            spoken::of_keywords(wide),
            spoken::of_parts(narrow),
        )),
    }
}

/// Checks the keywords that have no order, and those that are not known here.
fn check_equal_only(wide: Keywords<'_>, narrow: &Parts<'_>, kind: Kind) -> Result<(), Mismatch> {
    for (keyword, value) in wide.all {
        let name = keyword.as_str();
        if [&ANNOTATIONS[..], &COMBINATIONS, &CHECKED, &OF_MEMBERS]
            .iter()
            .any(|known| known.contains(&name))
        {
            continue;
        }
        let kinds = EQUAL_ONLY.iter().find(|(equal, _)| *equal == name);
        let is_equal = || {
            narrow
                .objects
                .iter()
                .filter_map(|one| one.get(name))
                .any(|given| narrow.budget.are_equal(given, value))
        };
        let fits = match kinds {
            Some((_, kinds)) if !kinds.contains(&kind) => true,
            Some(_) => is_equal() && !mentions_reference(value),
            None => false,
        };
        if !fits {
            let wide = format!("{} with `{name}`", kind.name());
            let narrow = match narrow.objects.iter().find_map(|one| one.get(name)) {
                Some(_) => format!("{} with another `{name}`", kind.name()),
                None => spoken::of_parts(narrow),
            };
            return Err(Mismatch::new(wide, narrow).open());
        }
    }
    Ok(())
}

/// Returns whether a value may mean something else in another document.
fn mentions_reference(value: &Value) -> bool {
    match value {
        Value::Object(all) => all.contains_key("$ref") || all.values().any(mentions_reference),
        Value::Array(all) => all.iter().any(mentions_reference),
        _ => false,
    }
}

/// The bounds of a text's length, with the unit.
const TEXT_LENGTH: (&str, &str, &str) = ("minLength", "maxLength", "string of length");

fn check_range(wide: Keywords<'_>, narrow: &Parts<'_>, kind: Kind) -> Result<(), Mismatch> {
    let wide = Range::of_number(std::iter::once(wide));
    let narrow = Range::of_number(narrow.objects.iter().copied());
    match wide.holds(&narrow) {
        true => Ok(()),
        false => Err(Mismatch::new(
            format!("{}{wide}", kind.name()),
            format!("{}{narrow}", kind.name()),
        )),
    }
}

fn check_length(
    wide: Keywords<'_>,
    narrow: &Parts<'_>,
    (least, most, unit): (&str, &str, &str),
) -> Result<(), Mismatch> {
    let wide = Range::of_length(std::iter::once(wide), (least, most));
    let narrow = Range::of_length(narrow.objects.iter().copied(), (least, most));
    match wide.holds(&narrow) {
        true => Ok(()),
        false => Err(Mismatch::new(
            format!("{unit}{wide}"),
            format!("{unit}{narrow}"),
        )),
    }
}

#[cfg(test)]
mod tests;
