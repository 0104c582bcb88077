//! The comparison of the elements of arrays and of the members of objects.

use std::collections::{BTreeSet, HashSet};

use super::bounds::Range;
use super::budget::text_work;
use super::parts::{Keywords, Parts, SchemaAt};
use super::{Comparison, Mismatch, Unlisted, check_length, spoken};

/// The bounds of an array's length, with the unit.
const ARRAY_LENGTH: (&str, &str, &str) = ("minItems", "maxItems", "array of length");

/// The bounds of the number of members, with the unit.
const MEMBERS: (&str, &str, &str) = ("minProperties", "maxProperties", "object of size");

impl Comparison<'_> {
    pub(super) fn check_elements(
        &mut self,
        wide: Keywords<'_>,
        narrow: &Parts<'_>,
    ) -> Result<(), Mismatch> {
        check_length(wide, narrow, ARRAY_LENGTH)?;
        let lists = narrow.objects.iter().chain(std::iter::once(&wide));
        let first = lists.map(|object| object.list("prefixItems").len());
        let first = first.max().unwrap_or(0);
        let most = Range::of_length(narrow.objects.iter().copied(), ("minItems", "maxItems"));
        for position in 0..first.min(most.most()) {
            self.take(1 + narrow.objects.len())?;
            let step = format!("[{position}]");
            self.check_element(wide, narrow, (position, &step))?;
        }
        match most.most() > first {
            true => self.check_element(wide, narrow, (first, "[]")),
            false => Ok(()),
        }
    }

    fn check_element(
        &mut self,
        wide: Keywords<'_>,
        narrow: &Parts<'_>,
        (position, step): (usize, &str),
    ) -> Result<(), Mismatch> {
        let Some(wide) = wide.element(position) else {
            return Ok(());
        };
        let elements = narrow.objects.iter();
        let elements: Vec<_> = elements.filter_map(|o| o.element(position)).collect();
        let accepted = self.accepts_all(wide, &elements);
        accepted.map_err(|mismatch| mismatch.below(step))
    }

    pub(super) fn check_members(
        &mut self,
        wide: Keywords<'_>,
        narrow: &Parts<'_>,
    ) -> Result<(), Mismatch> {
        check_length(wide, narrow, MEMBERS)?;
        check_required(wide, narrow)?;
        if wide.get("patternProperties").is_some() {
            return self.check_patterns(wide, narrow);
        }
        let others = wide.schema("additionalProperties");
        let names: BTreeSet<&String> = match others {
            Some(_) => narrow.objects.iter().flat_map(|one| one.names()).collect(),
            None => BTreeSet::new(),
        };
        for name in names.into_iter().chain(wide.names()) {
            self.take(1 + text_work(name) + narrow.objects.len())?;
            let (Some(wide), Some(members)) = (wide.property(name).or(others), narrow.member(name))
            else {
                continue;
            };
            let accepted = self.accepts_all(wide, &members);
            accepted.map_err(|mismatch| mismatch.below(&format!(".{name}")))?;
        }
        match (others, narrow.others()) {
            (Some(wide), Some(others)) => self.accepts_others(wide, &others),
            _ => Ok(()),
        }
    }

    fn accepts_others(
        &mut self,
        wide: SchemaAt<'_>,
        others: &[SchemaAt<'_>],
    ) -> Result<(), Mismatch> {
        let accepted = self.accepts_all(wide, others);
        accepted.map_err(|mismatch| mismatch.below(".*"))
    }

    /// Checks members by the patterns of their names. Only the same patterns can be compared, without other members.
    fn check_patterns(&mut self, wide: Keywords<'_>, narrow: &Parts<'_>) -> Result<(), Mismatch> {
        let mismatch = || Mismatch::new("object with patterns of names", spoken::of_parts(narrow));
        let is_same = |one: &&Keywords<'_>| {
            one.patterns().eq(wide.patterns()) && one.names().next().is_none()
        };
        let work = wide.patterns().map(|name| 1 + text_work(name));
        self.take(work.sum::<usize>().saturating_mul(narrow.objects.len()))?;
        let Some(same) = narrow.objects.iter().find(is_same) else {
            return Err(mismatch().open());
        };
        if wide.names().next().is_some() {
            return Err(mismatch().open());
        }
        for name in wide.patterns() {
            let (Some(wide), Some(narrow)) = (wide.pattern(name), same.pattern(name)) else {
                return Err(mismatch().open());
            };
            let accepted = self.accepts_all(wide, &[narrow]);
            accepted.map_err(|mismatch| mismatch.below(".*"))?;
        }
        match (
            wide.schema("additionalProperties"),
            same.schema("additionalProperties"),
        ) {
            (None, _) => Ok(()),
            (Some(wide), others) => self.accepts_others(wide, others.as_slice()),
        }
    }

    /// Checks that members which the narrow schema lists are listed in the wide one, if they count.
    pub(super) fn check_unlisted(
        &self,
        wide: &Parts<'_>,
        narrow: &Parts<'_>,
    ) -> Result<(), Mismatch> {
        let takes_others = |one: &Keywords<'_>| {
            one.get("additionalProperties").is_some() || one.get("patternProperties").is_some()
        };
        let lists = wide.objects.iter().any(|one| one.names().next().is_some());
        let is_exempt = self.unlisted == Unlisted::Ignored || self.is_branch || !lists;
        if is_exempt || !wide.alternatives.is_empty() || wide.objects.iter().any(takes_others) {
            return Ok(());
        }
        let mut names = narrow.objects.iter().flat_map(|one| one.names());
        let objects = 1 + wide.objects.len() + narrow.objects.len();
        let is_unlisted = |name: &&String| {
            if !self.budget.take(text_work(name) + objects) {
                return true;
            }
            let is_listed = wide.objects.iter().any(|one| one.property(name).is_some());
            let possible = narrow.member(name);
            !is_listed && possible.is_some_and(|all| !Parts::of_all(self.budget, &all).is_false)
        };
        match names.find(is_unlisted) {
            Some(name) => {
                let members = narrow.member(name).unwrap_or_default();
                let narrow = spoken::of_parts(&Parts::of_all(self.budget, &members));
                Err(Mismatch::new("unknown", narrow).below(&format!(".{name}")))
            }
            None => Ok(()),
        }
    }
}

fn check_required(wide: Keywords<'_>, narrow: &Parts<'_>) -> Result<(), Mismatch> {
    let required = narrow.objects.iter().flat_map(|one| one.required());
    let required: HashSet<&str> = required.collect();
    match wide.required().find(|name| !required.contains(name)) {
        Some(name) => {
            Err(Mismatch::new("required", absence(narrow, name)).below(&format!(".{name}")))
        }
        None => Ok(()),
    }
}

/// Returns the word for a member that may be absent.
fn absence(narrow: &Parts<'_>, name: &str) -> &'static str {
    match narrow
        .objects
        .iter()
        .any(|one| one.property(name).is_some())
    {
        true => "optional",
        false => "absent",
    }
}
