//! Whole numbers with a range of their own. A value outside is refused with the same text as one that is no number, so that
//! the range that a person reads is true for every value.

use std::fmt;
use std::marker::PhantomData;

use dae_plugin_api::abi::SINK_BYTES_MAX;
use serde::Deserializer;
use serde::de::{Error, Unexpected, Visitor};

/// The lowest and the highest port that a daemon can have.
const PORTS: (i128, i128) = (1, u16::MAX as i128);

/// The lowest and the highest number of processes in reserve. Each takes memory and a place in the table of processes.
const RESERVE: (i128, i128) = (0, 16);

/// The lowest and the highest nice value.
const NICE_VALUES: (i128, i128) = (-20, 19);

/// A type of numbers with its highest one.
pub trait Bounded: TryFrom<i128> {
    /// The highest number.
    const HIGH: i128;
}

impl Bounded for u32 {
    const HIGH: i128 = u32::MAX as i128;
}

impl Bounded for u64 {
    const HIGH: i128 = u64::MAX as i128;
}

impl Bounded for usize {
    const HIGH: i128 = usize::MAX as i128;
}

/// Checks a port that a daemon is to have.
///
/// # Errors
/// It is none that a daemon can have. The text continues a sentence that names the value.
pub fn check_port(port: u16) -> Result<(), String> {
    match port {
        0 => Err(format!("expected {}, got 0", range_text(PORTS))),
        _ => Ok(()),
    }
}

fn range_text((low, high): (i128, i128)) -> String {
    format!("a whole number from {low} to {high}")
}

/// Reads a number that is at least 1.
///
/// # Errors
/// It is none.
pub fn positive<'de, D: Deserializer<'de>, T: Bounded>(reader: D) -> Result<T, D::Error> {
    reader.deserialize_any(RangedVisitor::of((1, T::HIGH)))
}

/// Reads a number that is at least 1, or `null`.
///
/// # Errors
/// It is none of them.
pub fn positive_or_null<'de, D: Deserializer<'de>, T: Bounded>(
    reader: D,
) -> Result<Option<T>, D::Error> {
    reader.deserialize_any(OrNull(RangedVisitor::of((1, T::HIGH))))
}

/// Reads a number of bytes that may cross to a plugin in one piece.
///
/// # Errors
/// It is none.
pub fn line_bytes<'de, D: Deserializer<'de>>(reader: D) -> Result<usize, D::Error> {
    // A usize has at most 64 bits.
    let high = i128::try_from(SINK_BYTES_MAX).unwrap_or(i128::MAX);
    reader.deserialize_any(RangedVisitor::of((1, high)))
}

/// Reads a number of processes in reserve.
///
/// # Errors
/// It is none.
pub fn reserve<'de, D: Deserializer<'de>>(reader: D) -> Result<usize, D::Error> {
    reader.deserialize_any(RangedVisitor::of(RESERVE))
}

/// Reads the port of a daemon, or `null`.
///
/// # Errors
/// It is none of them.
pub fn port_or_null<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<u16>, D::Error> {
    reader.deserialize_any(OrNull(RangedVisitor::of(PORTS)))
}

/// Reads a nice value, or `null`.
///
/// # Errors
/// It is none of them.
pub fn nice_or_null<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<i32>, D::Error> {
    reader.deserialize_any(OrNull(RangedVisitor::of(NICE_VALUES)))
}

/// The reader of a number of a range.
struct RangedVisitor<T> {
    range: (i128, i128),
    of: PhantomData<T>,
}

impl<T: TryFrom<i128>> RangedVisitor<T> {
    fn of(range: (i128, i128)) -> Self {
        let of = PhantomData;
        RangedVisitor { range, of }
    }

    fn number<E: Error>(&self, number: i128, got: Unexpected<'_>) -> Result<T, E> {
        let (low, high) = self.range;
        let found = T::try_from(number).ok();
        let found = found.filter(|_| (low..=high).contains(&number));
        found.ok_or_else(|| E::invalid_value(got, self))
    }
}

impl<T: TryFrom<i128>> Visitor<'_> for RangedVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&range_text(self.range))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        self.number(number.into(), Unexpected::Unsigned(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        self.number(number.into(), Unexpected::Signed(number))
    }
}

/// The reader of a number of a range, or of `null` for none.
struct OrNull<T>(RangedVisitor<T>);

impl<T: TryFrom<i128>> Visitor<'_> for OrNull<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_unit<E: Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_none<E: Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Option<T>, E> {
        self.0.visit_u64(number).map(Some)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Option<T>, E> {
        self.0.visit_i64(number).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(default)]
    struct Numbers {
        #[serde(deserialize_with = "positive")]
        count: u32,
        #[serde(deserialize_with = "port_or_null")]
        port: Option<u16>,
        #[serde(deserialize_with = "nice_or_null")]
        nice: Option<i32>,
    }

    impl Default for Numbers {
        fn default() -> Self {
            Numbers {
                count: 7,
                port: None,
                nice: None,
            }
        }
    }

    fn read(value: &str, member: &str) -> Result<Numbers, String> {
        let text = format!("{{\"{member}\":{value}}}");
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    /// A member of [`Numbers`], numbers inside and values outside of its range, and the range as it is told.
    type Case = (
        &'static str,
        &'static [i64],
        &'static [&'static str],
        &'static str,
    );

    const CASES: [Case; 3] = [
        (
            "count",
            &[1, 4_294_967_295],
            &["0", "-1", "4294967296", "\"x\"", "1.5"],
            "a whole number from 1 to 4294967295",
        ),
        (
            "port",
            &[1, 65_535],
            &["0", "65536", "-1", "\"x\"", "[]"],
            "a whole number from 1 to 65535",
        ),
        (
            "nice",
            &[-20, 0, 19],
            &["-21", "20", "9223372036854775807", "true"],
            "a whole number from -20 to 19",
        ),
    ];

    #[test]
    fn every_value_outside_is_refused_with_the_same_range() {
        for (member, inside, outside, range) in CASES {
            for number in inside {
                assert!(
                    read(&number.to_string(), member).is_ok(),
                    "{member}: {number}"
                );
            }
            for wrong in outside {
                let error = read(wrong, member).unwrap_err();
                assert!(error.contains(&format!("expected {range}")), "{error}");
            }
        }
        assert_eq!(read("null", "port"), Ok(Numbers::default()));
        assert_eq!(read("null", "nice"), Ok(Numbers::default()));
        let told = "expected a whole number from 1 to 65535, got 0";
        assert_eq!(check_port(0).unwrap_err(), told);
        assert_eq!(check_port(1), Ok(()));
    }
}
