//! The bounds of a schema: on a number, on the length of a text, an array or an object.
//!
//! Bounds beyond 64 bits are compared as floats: two that round alike count as equal.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Number, Value};

use super::parts::Keywords;

/// The bounds of the formats of integers that schemars writes, some without `minimum` and `maximum`.
const INTEGER_FORMATS: [(&str, f64, f64); 10] = [
    ("int8", -128.0, 127.0),
    ("int16", -32_768.0, 32_767.0),
    ("int32", -2_147_483_648.0, 2_147_483_647.0),
    (
        "int64",
        -9_223_372_036_854_775_808.0,
        9_223_372_036_854_775_807.0,
    ),
    (
        "int",
        -9_223_372_036_854_775_808.0,
        9_223_372_036_854_775_807.0,
    ),
    ("uint8", 0.0, 255.0),
    ("uint16", 0.0, 65_535.0),
    ("uint32", 0.0, 4_294_967_295.0),
    ("uint64", 0.0, 18_446_744_073_709_551_615.0),
    ("uint", 0.0, 18_446_744_073_709_551_615.0),
];

/// An end of a range.
#[derive(Debug, Clone, PartialEq)]
struct Bound {
    value: Number,
    is_excluded: bool,
}

/// A range of numbers.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Range {
    from: Option<Bound>,
    to: Option<Bound>,
}

impl Range {
    /// Returns the range that these keywords leave to a number.
    pub(super) fn of_number<'a>(all: impl Iterator<Item = Keywords<'a>>) -> Self {
        let mut range = Range::default();
        for keywords in all {
            let number = |keyword| keywords.get(keyword).and_then(Value::as_number).cloned();
            range.raise(number("minimum"), false);
            range.raise(number("exclusiveMinimum"), true);
            range.lower(number("maximum"), false);
            range.lower(number("exclusiveMaximum"), true);
            let format = keywords.get("format").and_then(Value::as_str);
            let known = INTEGER_FORMATS
                .iter()
                .find(|(name, ..)| Some(*name) == format);
            if let Some((_, from, to)) = known {
                range.raise(Number::from_f64(*from), false);
                range.lower(Number::from_f64(*to), false);
            }
        }
        range
    }

    /// Returns the range that two keywords leave to a length.
    pub(super) fn of_length<'a>(
        all: impl Iterator<Item = Keywords<'a>>,
        (least, most): (&str, &str),
    ) -> Self {
        let mut range = Range::default();
        for keywords in all {
            let number = |keyword| keywords.get(keyword).and_then(Value::as_number).cloned();
            range.raise(number(least), false);
            range.lower(number(most), false);
        }
        // Each length is at least 0.
        range.raise(Some(0.into()), false);
        range
    }

    /// Returns the range with one number.
    pub(super) fn only(number: Number) -> Self {
        let bound = Some(Bound {
            value: number,
            is_excluded: false,
        });
        Range {
            from: bound.clone(),
            to: bound,
        }
    }

    /// Returns the largest length in the range.
    pub(super) fn most(&self) -> usize {
        let most = self.to.as_ref().and_then(|bound| bound.value.as_u64());
        most.map_or(usize::MAX, |most| {
            usize::try_from(most).unwrap_or(usize::MAX)
        })
    }

    fn raise(&mut self, value: Option<Number>, is_excluded: bool) {
        let Some(value) = value else { return };
        let new = Bound { value, is_excluded };
        if self.from.as_ref().is_none_or(|old| old.is_below(&new)) {
            self.from = Some(new);
        }
    }

    fn lower(&mut self, value: Option<Number>, is_excluded: bool) {
        let Some(value) = value else { return };
        let new = Bound { value, is_excluded };
        if self.to.as_ref().is_none_or(|old| old.is_above(&new)) {
            self.to = Some(new);
        }
    }

    /// Returns whether each number of the other range is in this one.
    pub(super) fn holds(&self, other: &Range) -> bool {
        let from = match (&self.from, &other.from) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(other)) => !other.is_below(own),
        };
        let to = match (&self.to, &other.to) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(other)) => !other.is_above(own),
        };
        from && to
    }
}

impl Bound {
    /// Returns whether this lower bound allows more than the other.
    fn is_below(&self, other: &Bound) -> bool {
        match order(&self.value, &other.value) {
            Ordering::Less => true,
            Ordering::Equal => !self.is_excluded && other.is_excluded,
            Ordering::Greater => false,
        }
    }

    /// Returns whether this upper bound allows more than the other.
    fn is_above(&self, other: &Bound) -> bool {
        match order(&self.value, &other.value) {
            Ordering::Greater => true,
            Ordering::Equal => !self.is_excluded && other.is_excluded,
            Ordering::Less => false,
        }
    }
}

/// Returns the order of two numbers.
pub(super) fn order(one: &Number, other: &Number) -> Ordering {
    match (one.as_i128(), other.as_i128()) {
        (Some(one), Some(other)) => one.cmp(&other),
        _ => {
            let float = |number: &Number| number.as_f64().unwrap_or(f64::NAN);
            float(one).total_cmp(&float(other))
        }
    }
}

/// Formats as ` from 0 to 255`, with a blank before each part; empty without bounds.
impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bound, included, excluded) in
            [(&self.from, "from", "above"), (&self.to, "to", "below")]
        {
            if let Some(Bound { value, is_excluded }) = bound {
                let word = if *is_excluded { excluded } else { included };
                write!(f, " {word} {value}")?;
            }
        }
        Ok(())
    }
}
