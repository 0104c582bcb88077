//! Reads JSON without changing any number.
//!
//! serde_json reads an integer of more than 64 bits as the nearest `f64`, and serde's own `f64` rounds any integer.
//! [`Exact`] stands between a type and its deserializer and refuses both. An integer reaches an `f64` or `f32` only if
//! the type holds it exactly. It reaches a place that takes any value (a `Value`, an untagged or flattened type) only
//! if it has at most 64 bits. `i128` and `u128` take all that they can hold.
//!
//! A value that fits by its JSON Schema is read, and no other: an integer may be written `2.0`, as Python does, and a
//! struct is an object and no array.
//!
//! serde_json's `arbitrary_precision` would keep the text of every number, but it changes what a `Value` is in every
//! plugin, and breaks flattened and untagged types.
//!
//! Not covered:
//! - What serde buffers, which is the value of an untagged, internally tagged or flattened type. Inside it, an inner `f64`
//!   rounds an integer, `2.0` is no integer, and a struct may be an array.
//! - The key of a map. A key of integers takes no `1.0`, and a key of floating-point numbers rounds.
//! - An integer with a decimal point of 2^52 and more: it is refused, since an `f64` holds no fraction there.

mod fitting;
mod visitor;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use serde::de::{Deserialize, Deserializer, Visitor};

use fitting::{Members, WholeInteger};
use visitor::Checked;

/// The limit up to which an `f64` holds every integer.
pub(crate) const DOUBLE_MAX: u64 = 1 << 53;
/// The limit up to which an `f32` holds every integer.
pub(crate) const SINGLE_MAX: u64 = 1 << 24;
/// The absolute value (2^63) from which a number may be an integer of more than 64 bits.
const WIDE_MIN: f64 = 9_223_372_036_854_775_808.0;

/// Reads a whole text.
///
/// # Errors
/// `serde_json::from_str` fails, or an integer would be rounded.
pub fn from_str<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, serde_json::Error> {
    let numbers = Numbers::of(text);
    let mut json = serde_json::Deserializer::from_str(text);
    let read = T::deserialize(Exact::new(&mut json, &numbers))?;
    json.end()?;
    Ok(read)
}

/// Reads a whole text, as [`from_str`] does.
///
/// # Errors
/// [`from_str`] fails, or the bytes are not UTF-8.
pub fn from_slice<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, serde_json::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => from_str(text),
        // serde_json reports the error in its own words.
        Err(_) => serde_json::from_slice(bytes),
    }
}

/// The values that a place in a type holds without rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    /// Any value: integers up to 64 bits.
    Integers,
    /// An `f64`.
    Double,
    /// An `f32`.
    Single,
}

impl Holds {
    /// Returns whether the place holds this integer.
    #[inline]
    pub(crate) fn holds(self, integer: u64) -> bool {
        match self {
            Holds::Integers => true,
            Holds::Double => integer <= DOUBLE_MAX || self.holds_text(&integer.to_string()),
            Holds::Single => integer <= SINGLE_MAX || self.holds_text(&integer.to_string()),
        }
    }

    /// Returns whether the place holds the integer of these digits, which may have a sign. The digits are its exact
    /// value, or the form of JavaScript, which pads the shortest digits with zeros.
    #[cold]
    fn holds_text(self, digits: &str) -> bool {
        match self {
            Holds::Integers => digits.parse::<u64>().is_ok() || digits.parse::<i64>().is_ok(),
            Holds::Double => digits
                .parse::<f64>()
                .is_ok_and(|near| digits == format!("{near}") || digits == format!("{near:.0}")),
            Holds::Single => digits
                .parse::<f32>()
                .is_ok_and(|near| digits == format!("{near}") || digits == format!("{near:.0}")),
        }
    }

    /// Returns the bits of the `f64` that a reader makes of these digits.
    fn read_as(self, digits: &str) -> u64 {
        let read = match self {
            Holds::Integers | Holds::Double => digits.parse::<f64>(),
            Holds::Single => digits.parse::<f32>().map(f64::from),
        };
        read.unwrap_or(f64::NAN).to_bits()
    }

    /// Returns the message for an integer that the place doesn't hold.
    #[cold]
    fn refuse(self, digits: &str) -> String {
        let limit = match self {
            Holds::Integers => {
                return format!(
                    "the integer {digits} has more than 64 bits and would be rounded; send it as a string"
                );
            }
            Holds::Double => "2^53",
            Holds::Single => "2^24",
        };
        let near = f64::from_bits(self.read_as(digits));
        format!(
            "the integer {digits} would be rounded to {near:.0}; a floating-point number holds each integer up to {limit} \
             only; send it as a string, or with a decimal point if it may be rounded"
        )
    }
}

/// The integers of a text that have more than 64 bits. The text is searched only when needed.
pub(crate) struct Numbers<'t> {
    text: &'t str,
    /// The integers that a place can't hold, by the bits of the `f64` that a reader makes of them. One map for each of
    /// [`Holds`].
    refused: [OnceCell<BTreeMap<u64, &'t str>>; 3],
    /// The fractions that a reader rounds, perhaps to a whole number, by the bits of their `f64`.
    fractions: OnceCell<BTreeSet<u64>>,
}

impl<'t> Numbers<'t> {
    #[inline]
    pub(crate) fn of(text: &'t str) -> Self {
        Numbers {
            text,
            refused: [const { OnceCell::new() }; 3],
            fractions: OnceCell::new(),
        }
    }

    /// Returns whether a whole number may have been a fraction with more digits than an `f64` holds.
    #[cold]
    fn may_be_fraction(&self, whole: f64) -> bool {
        let fractions = self.fractions.get_or_init(|| {
            let fractions = numbers(self.text).filter(|number| !is_whole(number));
            fractions
                .map(|number| Holds::Double.read_as(number))
                .collect()
        });
        fractions.contains(&whole.to_bits())
    }

    /// Checks a value that a place is about to take as a floating-point number.
    #[inline]
    fn check(&self, value: f64, holds: Holds) -> Result<(), String> {
        match value.abs() < WIDE_MIN {
            true => Ok(()),
            false => self.check_wide(value, holds),
        }
    }

    #[cold]
    fn check_wide(&self, value: f64, holds: Holds) -> Result<(), String> {
        let refused = self.refused[holds as usize].get_or_init(|| {
            wide_integers(self.text)
                .filter(|digits| !holds.holds_text(digits))
                .map(|digits| (holds.read_as(digits), digits))
                .collect()
        });
        match refused.get(&value.to_bits()) {
            Some(digits) => Err(holds.refuse(digits)),
            None => Ok(()),
        }
    }
}

/// Returns the integers in a JSON text that have more than 64 bits.
fn wide_integers(text: &str) -> impl Iterator<Item = &str> {
    numbers(text).filter(|number| is_integer(number) && !Holds::Integers.holds_text(number))
}

/// Returns the numbers in a JSON text.
fn numbers(text: &str) -> impl Iterator<Item = &str> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let bytes = text.as_bytes();
        loop {
            match bytes.get(at)? {
                b'"' => at = string_end(bytes, at),
                b'-' | b'0'..=b'9' => {
                    let start = at;
                    at = number_end(bytes, at);
                    return Some(&text[start..at]);
                }
                _ => at += 1,
            }
        }
    })
}

/// Returns whether the digits of a number, with a point and an exponent or without, have no fraction.
fn is_whole(number: &str) -> bool {
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let significant = whole.trim_end_matches('0');
    if fraction.is_empty() && matches!(significant, "" | "-") {
        return true;
    }
    // The places behind the point, or the zeros before it.
    let places = match fraction.len() {
        0 => -((whole.len() - significant.len()) as i64),
        places => places as i64,
    };
    exponent
        .parse::<i64>()
        .is_ok_and(|exponent| exponent >= places)
}

fn is_integer(number: &str) -> bool {
    let digits = number.strip_prefix('-').unwrap_or(number);
    digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the end of the number that begins at `start`.
pub(crate) fn number_end(bytes: &[u8], start: usize) -> usize {
    let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    let rest = &bytes[start..];
    start + rest.iter().take_while(|byte| is_part(byte)).count()
}

/// Returns the end of the string whose opening quote is at `start`, or the end of the text if there is no closing
/// quote.
pub(crate) fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    loop {
        match bytes.get(at) {
            None => return bytes.len(),
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
        }
    }
}

/// A deserializer that refuses to round integers.
pub(crate) struct Exact<'n, D> {
    inner: D,
    numbers: &'n Numbers<'n>,
}

impl<'n, D> Exact<'n, D> {
    #[inline]
    pub(crate) fn new(inner: D, numbers: &'n Numbers<'n>) -> Self {
        Exact { inner, numbers }
    }
}

/// Defines methods that read no number, or one that the inner deserializer reads exactly.
macro_rules! handed_on {
    ($($method:ident)*) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method(visitor)
        })*
    };
}

/// Defines methods that read an integer of at most 64 bits.
macro_rules! whole {
    ($($method:ident)*) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method(WholeInteger(visitor, self.numbers))
        })*
    };
}

/// Defines methods whose visitor is checked, because the value may be a number or hold one.
macro_rules! checked {
    ($($method:ident($($name:ident: $of:ty),*) $holds:ident;)*) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(self, $($name: $of,)* visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method($($name,)* Checked::new(visitor, self.numbers, Holds::$holds))
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Exact<'_, D> {
    type Error = D::Error;

    handed_on! {
        deserialize_bool deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf
        deserialize_i128 deserialize_u128
        deserialize_unit deserialize_identifier deserialize_ignored_any
    }

    whole! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    checked! {
        deserialize_any() Integers;
        deserialize_f64() Double;
        deserialize_f32() Single;
        deserialize_option() Integers;
        deserialize_seq() Integers;
        deserialize_map() Integers;
        deserialize_unit_struct(name: &'static str) Integers;
        deserialize_newtype_struct(name: &'static str) Integers;
        deserialize_tuple(length: usize) Integers;
        deserialize_tuple_struct(name: &'static str, length: usize) Integers;
        deserialize_enum(name: &'static str, variants: &'static [&'static str]) Integers;
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        members: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = Checked::new(Members(visitor), self.numbers, Holds::Integers);
        self.inner.deserialize_struct(name, members, visitor)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

#[cfg(test)]
mod tests;
