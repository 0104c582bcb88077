//! Visitors that take what JSON Schema allows for a type, where serde takes less or more.

use std::fmt;

use serde::de::{Error, MapAccess, Unexpected, Visitor};

use super::Numbers;

/// A visitor for an integer that takes a whole number with a decimal point, too: for JSON Schema `2.0` is an integer.
pub(super) struct WholeInteger<'n, V>(pub V, pub &'n Numbers<'n>);

/// The limit (2^52) from which an `f64` holds no fraction: IEEE 754 gives a binary64 a significand of 53 bits, and from here
/// on all of them stand before the point. So a whole `f64` may be rounded here, be it from a fraction or from another
/// integer.
const FRACTIONS_END: f64 = 4_503_599_627_370_496.0;

impl<'de, V: Visitor<'de>> Visitor<'de> for WholeInteger<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    #[inline]
    fn visit_u64<E: Error>(self, value: u64) -> Result<V::Value, E> {
        self.0.visit_u64(value)
    }

    #[inline]
    fn visit_i64<E: Error>(self, value: i64) -> Result<V::Value, E> {
        self.0.visit_i64(value)
    }

    #[cold]
    fn visit_f64<E: Error>(self, value: f64) -> Result<V::Value, E> {
        let is_whole = value.trunc() == value && value.abs() < FRACTIONS_END;
        if !is_whole || self.1.may_be_fraction(value) {
            return Err(E::invalid_type(Unexpected::Float(value), &self.0));
        }
        #[allow(
            clippy::cast_possible_truncation,
            reason = "it is whole, and below 2^52"
        )]
        let whole = value as i64;
        match u64::try_from(whole) {
            Ok(whole) => self.0.visit_u64(whole),
            Err(_) => self.0.visit_i64(whole),
        }
    }
}

/// A visitor for a struct. Serde's takes an array with the values of the members, too; a struct's schema is an object.
pub(super) struct Members<V>(pub V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Members<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(members)
    }
}
