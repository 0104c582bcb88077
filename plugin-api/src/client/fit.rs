//! Finds out whether all values of one schema are values of another: what a client sends of what a daemon takes, and what a daemon
//! returns of what a client reads.
//!
//! It compares the types, the bounds and the structure of arrays and objects. A schema that is not known (`true`) fits, and
//! so does `json::Value`, whose values only the caller knows. Patterns, formats and a list of allowed strings are left to
//! the daemon. A bound of a number counts only if both sides have it, since `schemars` writes none for a 64-bit integer.
//!
//! Both sides are compared by their alternatives, in which all parts of a schema hold at once. A member that one part names
//! is no additional one for another part: `schemars` writes so the tag of an enum beside a struct that denies unknown
//! fields.
//!
//! A schema comes from another process, may refer to itself and may be as long as a reply. The steps of a comparison are
//! therefore limited, and each list, text and value counts by its size. What is not reached fits.

mod alternatives;
pub(super) mod steps;

use std::collections::HashSet;
use std::rc::Rc;

use serde_json::Value;

use super::words;
use alternatives::{Alternative, Alternatives, Document, is_within, type_of};
use steps::Steps;

/// The deepest comparison: the depth of JSON that a daemon reads.
const DEPTH_MAX: usize = 128;

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
    /// The values of an alternative of the first schema are none of the second.
    Values(Alternative<'v>, Alternatives<'v>),
    /// An object of the first schema may be without the member, and one of the second has it.
    Absent,
}

/// A step of a path.
#[derive(PartialEq, Eq)]
enum Inside<'v> {
    Element(usize),
    Member(&'v str),
    /// Any member without a schema of its own.
    Others,
}

/// A comparison, with the documents to which `$ref` refers.
struct Comparison<'v, 's> {
    given: &'v Value,
    taken: &'v Value,
    steps: &'s Steps,
}

type Fit<'v> = Result<(), Parting<'v>>;

/// Compares two schemas.
///
/// # Errors
/// A value of `given` is no value of `taken`.
pub fn fits(given: &Value, taken: &Value) -> Result<(), Gap> {
    fits_in(&Steps::default(), given, taken)
}

/// Compares two schemas in the steps that are left.
pub(super) fn fits_in(steps: &Steps, given: &Value, taken: &Value) -> Result<(), Gap> {
    let comparison = Comparison {
        given,
        taken,
        steps,
    };
    let fit = comparison.fits(&[given], &[taken], 0);
    fit.map_err(Parting::into_words)
}

impl<'v> Comparison<'v, '_> {
    fn fits(&self, given: &[&'v Value], taken: &[&'v Value], depth: usize) -> Fit<'v> {
        self.fits_but(None, given, taken, depth)
    }

    /// Compares schemas that hold at once on each side, without the values of one type.
    fn fits_but(
        &self,
        left_out: Option<&str>,
        given: &[&'v Value],
        taken: &[&'v Value],
        depth: usize,
    ) -> Fit<'v> {
        let is_out = |one: &&Value| **one == Value::Bool(false);
        let sides = (depth <= DEPTH_MAX).then(|| (self.given(given), self.taken(taken)));
        let Some((Some(given), Some(ways))) = sides else {
            return Ok(());
        };
        // Parts that exclude each other are no daemon's intention. Only `false` itself is.
        if ways.is_empty() && !taken.iter().any(is_out) {
            return Ok(());
        }
        for one in given.iter().filter(|one| !one.is_vague) {
            for of in one.types.iter().flatten() {
                if Some(*of) != left_out {
                    self.type_fits(of, one, &ways, depth)?;
                }
            }
        }
        Ok(())
    }

    fn given(&self, schemas: &[&'v Value]) -> Option<Alternatives<'v>> {
        let (root, steps) = (self.given, self.steps);
        Document { root, steps }.alternatives(schemas)
    }

    fn taken(&self, schemas: &[&'v Value]) -> Option<Alternatives<'v>> {
        let (root, steps) = (self.taken, self.steps);
        Document { root, steps }.alternatives(schemas)
    }

    /// Compares the values of one type with all values of the other schema.
    fn type_fits(
        &self,
        of: &str,
        given: &Alternative<'v>,
        taken: &Alternatives<'v>,
        depth: usize,
    ) -> Fit<'v> {
        if let [one] = &taken[..] {
            return self.plain_fits(of, given, one, depth);
        }
        let mut partings: Option<Parting<'v>> = None;
        let mut is_one_place = true;
        for one in taken.iter() {
            let Err(parting) = self.plain_fits(of, given, one, depth) else {
                return Ok(());
            };
            is_one_place &= match &mut partings {
                Some(first) => first.join(&parting),
                none => none.insert(parting).is_inside(),
            };
        }
        if self.listed_fit(of, given, taken, depth)
            || self.each_member_fits(of, given, taken, depth)
        {
            return Ok(());
        }
        let inside = partings.filter(|_| is_one_place);
        Err(inside.unwrap_or_else(|| Parting::of(given, taken)))
    }

    /// Returns whether `given` lists its values of that type, and `taken` takes each of them, though no alternative takes
    /// all: an enum with a documented variant is written as one alternative for each variant.
    fn listed_fit(
        &self,
        of: &str,
        given: &Alternative<'v>,
        taken: &Alternatives<'v>,
        depth: usize,
    ) -> bool {
        let Some(listed) = self.listed(of, given) else {
            return false;
        };
        listed.iter().all(|value| {
            let mut all = taken.iter();
            all.any(|one| match one.lists().next() {
                None => self.plain_fits(type_of(value), given, one, depth).is_ok(),
                Some(_) => self.is_listed(value, one),
            })
        })
    }

    /// Returns whether `given` fits for each value of a member of which it lists several: a struct with an enum as a member
    /// is a tagged enum for the other side.
    fn each_member_fits(
        &self,
        of: &str,
        given: &Alternative<'v>,
        taken: &Alternatives<'v>,
        depth: usize,
    ) -> bool {
        if of != "object" || given.fixed.is_some() {
            return false;
        }
        let names = given.all("properties").filter_map(Value::as_object);
        let mut tags = names.flat_map(|members| members.keys()).filter(|name| {
            let mut all = taken.iter();
            self.steps.take_text(name)
                && all.any(|one| one.member(name).iter().any(|of| of.get("const").is_some()))
        });
        tags.any(|name| {
            let values = self.values_of(&given.member(name)).unwrap_or_default();
            let fits = |value: &&'v Value| {
                let given = given.with_member(name, value);
                self.type_fits(of, &given, taken, depth).is_ok()
            };
            values.len() > 1 && values.iter().all(fits)
        })
    }

    /// Returns all values of a given schema, if it lists them.
    fn values_of(&self, schemas: &[&'v Value]) -> Option<Vec<&'v Value>> {
        let mut values = Vec::new();
        for one in self.given(schemas)?.iter() {
            for of in one.types.iter().flatten() {
                values.extend(self.listed(of, one)?);
            }
        }
        Some(values)
    }

    /// Returns the values of that type which an alternative lists, if it lists any.
    fn listed(&self, of: &str, one: &Alternative<'v>) -> Option<Vec<&'v Value>> {
        let mut lists = one.lists();
        let listed = lists.next()?.iter();
        let listed = listed.filter(|value| is_within(type_of(value), of));
        let mut listed: Vec<&Value> = listed.collect();
        for list in lists {
            listed.retain(|value| self.has(list, value));
        }
        Some(listed)
    }

    /// Returns whether each list of an alternative has the value, and whether its types do.
    fn is_listed(&self, value: &Value, one: &Alternative<'v>) -> bool {
        one.takes_type(type_of(value)) && one.lists().all(|list| self.has(list, value))
    }

    /// Returns whether a list has the value, or is not reached.
    fn has(&self, list: &[Value], value: &Value) -> bool {
        let mut list = list.iter();
        list.any(|one| !self.steps.take_value(one) || one == value)
    }

    /// Compares the values of one type with those of an alternative.
    fn plain_fits(
        &self,
        of: &str,
        given: &Alternative<'v>,
        taken: &Alternative<'v>,
        depth: usize,
    ) -> Fit<'v> {
        let part = || Parting::of(given, &Rc::from([taken.clone()]));
        if !self.steps.take(1) {
            return Ok(());
        }
        if !taken.takes_type(of) {
            return Err(part());
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
        match is_within && self.values_fit(of, given, taken) {
            true => Ok(()),
            false => Err(part()),
        }
    }

    fn elements_fit(
        &self,
        given: &Alternative<'v>,
        taken: &Alternative<'v>,
        depth: usize,
    ) -> Fit<'v> {
        // One more than the elements with a schema of their own: the element that stands for all others.
        let count = given.first_elements().max(taken.first_elements()) + 1;
        for index in 0..count {
            if !self.steps.take(1) {
                break;
            }
            let (one, other) = (given.element(index), taken.element(index));
            if !one.is_empty() && !other.is_empty() {
                self.fits(&one, &other, depth + 1)
                    .map_err(|parting| parting.below(Inside::Element(index)))?;
            }
        }
        Ok(())
    }

    fn members_fit(
        &self,
        given: &Alternative<'v>,
        taken: &Alternative<'v>,
        depth: usize,
    ) -> Fit<'v> {
        let always: HashSet<&str> = required(given).filter_map(Value::as_str).collect();
        let members = given.all("properties").filter_map(Value::as_object);
        for name in members.flat_map(|members| members.keys()) {
            if !self.steps.take_text(name) {
                return Ok(());
            }
            let is_always = always.contains(name.as_str());
            self.member_fits((name, is_always), given, taken, depth)
                .map_err(|parting| parting.below(Inside::Member(name)))?;
        }
        let of_others = |one: &Alternative<'v>| {
            let others = one.others().into_iter();
            others.filter(|one| one.is_object()).collect::<Vec<_>>()
        };
        let (one, other) = (of_others(given), of_others(taken));
        if !one.is_empty() && !other.is_empty() {
            self.fits(&one, &other, depth + 1)
                .map_err(|parting| parting.below(Inside::Others))?;
        }
        match given.is_open() {
            // The members of a map are known only when it is sent.
            true => Ok(()),
            false => self.required_fit(given, taken),
        }
    }

    fn member_fits(
        &self,
        (name, is_always): (&'v str, bool),
        given: &Alternative<'v>,
        taken: &Alternative<'v>,
        depth: usize,
    ) -> Fit<'v> {
        let mut wanted = taken.member(name);
        if wanted.is_empty() {
            wanted = taken.others();
        }
        let fixed = given.fixed.filter(|(fixed, _)| *fixed == name);
        let is_taken = wanted.iter().all(|one| **one != Value::Bool(false))
            && fixed.is_none_or(|(_, value)| self.value_fits(value, &wanted));
        if !is_taken {
            return Err(Parting::of(given, &Rc::from([taken.clone()])));
        }
        // An `Option` that is not always written is left out and never written as null.
        let never = (!is_always).then_some("null");
        match fixed {
            Some(_) => Ok(()),
            None => self.fits_but(never, &given.member(name), &wanted, depth + 1),
        }
    }

    /// Returns whether schemas that hold at once take a value that the other side lists.
    fn value_fits(&self, value: &Value, taken: &[&'v Value]) -> bool {
        let taken = self.taken(taken);
        taken.is_none_or(|all| all.iter().any(|one| self.is_listed(value, one)))
    }

    fn required_fit(&self, given: &Alternative<'v>, taken: &Alternative<'v>) -> Fit<'v> {
        let has: Vec<&Value> = required(given).collect();
        let missing = self.first_missing(required(taken), has.iter().copied());
        match missing.and_then(Value::as_str) {
            Some(name) => Err(Parting {
                path: vec![Inside::Member(name)],
                kind: PartingKind::Absent,
            }),
            None => Ok(()),
        }
    }

    /// Returns whether each listed value of that type is one of the other lists, if both schemas list theirs.
    fn values_fit(&self, of: &str, given: &Alternative<'v>, taken: &Alternative<'v>) -> bool {
        if taken.lists().next().is_none() {
            return true;
        }
        let Some(listed) = self.listed(of, given) else {
            return true;
        };
        let mut lists = taken.lists();
        lists.all(|list| {
            let listed = listed.iter().copied();
            self.first_missing(listed, list).is_none()
        })
    }

    /// Returns the first of the values that is none of `among`, if it is reached.
    fn first_missing<'w>(
        &self,
        wanted: impl Iterator<Item = &'w Value> + Clone,
        among: impl IntoIterator<Item = &'w Value, IntoIter: Clone>,
    ) -> Option<&'w Value> {
        let mut wanted = wanted.peekable();
        wanted.peek()?;
        let among = among.into_iter();
        let mut all = wanted.clone().chain(among.clone());
        if !all.all(|one| self.steps.take_value(one)) {
            return None;
        }
        let among: HashSet<&Value> = among.collect();
        wanted.find(|one| !among.contains(one))
    }
}

impl<'v> Parting<'v> {
    fn of(given: &Alternative<'v>, taken: &Alternatives<'v>) -> Self {
        Parting {
            path: Vec::new(),
            kind: PartingKind::Values(given.clone(), Rc::clone(taken)),
        }
    }

    fn below(mut self, step: Inside<'v>) -> Self {
        self.path.push(step);
        self
    }

    fn is_inside(&self) -> bool {
        !self.path.is_empty()
    }

    /// Adds what another alternative takes at the same place. Returns whether it is the same place.
    fn join(&mut self, other: &Self) -> bool {
        match (&mut self.kind, &other.kind) {
            (PartingKind::Values(_, taken), PartingKind::Values(_, more)) => {
                if taken.len() <= words::NAMED_MAX {
                    *taken = taken.iter().chain(more.iter()).cloned().collect();
                }
            }
            (PartingKind::Absent, PartingKind::Absent) => {}
            _ => return false,
        }
        self.path == other.path
    }

    fn into_words(self) -> Gap {
        let (given, taken) = match self.kind {
            PartingKind::Values(given, taken) => (
                words::of([&given.parts[..]].into_iter()),
                words::of(taken.iter().map(|one| &one.parts[..])),
            ),
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

fn numbers_fit(given: &Alternative<'_>, taken: &Alternative<'_>) -> bool {
    let both = |bound| Some((given.bound(bound)?, taken.bound(bound)?));
    both("minimum").is_none_or(|(given, taken)| given >= taken)
        && both("maximum").is_none_or(|(given, taken)| given <= taken)
}

/// Returns whether a string that one side takes for bytes is none of the other side's texts.
fn encodings_fit(given: &Alternative<'_>, taken: &Alternative<'_>) -> bool {
    let mut wanted = taken.all("contentEncoding");
    wanted.all(|encoding| given.all("contentEncoding").any(|one| one == encoding))
}

fn sizes_fit(
    given: &Alternative<'_>,
    taken: &Alternative<'_>,
    least: &'static str,
    most: &'static str,
) -> bool {
    let at_least = |one: &Alternative<'_>| one.bound(least).unwrap_or(0.0);
    let at_most = |one: &Alternative<'_>| one.bound(most).unwrap_or(f64::INFINITY);
    at_least(given) >= at_least(taken) && at_most(given) <= at_most(taken)
}

fn required<'v>(one: &Alternative<'v>) -> impl Iterator<Item = &'v Value> + Clone + use<'v> {
    let lists: Vec<&'v Value> = one.all("required").collect();
    lists
        .into_iter()
        .filter_map(Value::as_array)
        .flat_map(|list| list.iter())
}
