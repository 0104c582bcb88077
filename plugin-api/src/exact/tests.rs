//! Tests of the exact reader: it returns what was written, or an error.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Shape {
    point: (f64, f64),
    wide: u128,
    low: i128,
    name: Option<f64>,
    kind: Kind,
    more: BTreeMap<u64, Vec<f32>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    None,
    One(f64),
    Two(i64, f64),
    Named { x: f64 },
}

fn text_of<T: Debug>(read: Result<T, serde_json::Error>) -> String {
    match read {
        Ok(value) => format!("{value:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn integers_arrive_exact_or_not_at_all() {
    let double = |text| from_str::<f64>(text).ok();
    assert_eq!(double("9007199254740992"), Some(9_007_199_254_740_992.0));
    assert_eq!(double("-9007199254740993"), None);
    assert_eq!(double("9007199254740993"), None);
    assert_eq!(double("9007199254740993.0"), Some(9_007_199_254_740_992.0));
    assert_eq!(double("9007199254740994"), Some(9_007_199_254_740_994.0));
    assert_eq!(double("18446744073709551615"), None);
    assert_eq!(double("18446744073709551616"), Some(2_f64.powi(64)));
    assert_eq!(double("18446744073709551617"), None);
    assert_eq!(double("-18446744073709551617"), None);
    assert_eq!(double("1e23"), Some(1e23));
    // The forms in which JavaScript writes 2^60 and 2^64.
    assert_eq!(double("1152921504606847000"), Some(2_f64.powi(60)));
    assert_eq!(double("18446744073709552000"), Some(2_f64.powi(64)));
}

#[test]
fn a_fraction_with_more_digits_than_a_float_holds_is_no_integer() {
    for fraction in [
        "2.00000000000000000001",
        "1.99999999999999999999",
        "-2.00000000000000000001",
        "200000000000000000001e-20",
        "1e-400",
        "2.5",
    ] {
        assert_eq!(from_str::<i64>(fraction).ok(), None, "{fraction}");
        let list = format!("[1.0,{fraction}]");
        assert_eq!(from_str::<Vec<i64>>(&list).ok(), None, "{list}");
    }
    for (whole, value) in [
        ("2.00000000000000000000", 2),
        ("200.0e-2", 2),
        ("0.02E+2", 2),
        ("-20e-1", -2),
        ("0e-99", 0),
        ("-0.0", 0),
    ] {
        assert_eq!(from_str::<i64>(whole).ok(), Some(value), "{whole}");
    }
    let other: Result<(f64, u8), _> = from_str("[2.00000000000000000001,3.0]");
    assert_eq!(other.ok(), Some((2.0, 3)), "another number is whole");
}

#[test]
fn singles_and_any_values_hold_what_they_can() {
    let single = |text| from_str::<f32>(text).ok();
    assert_eq!(single("16777216"), Some(16_777_216.0));
    assert_eq!(single("16777217"), None);
    assert_eq!(single("18446744073709551616"), Some(2_f32.powi(64)));
    assert_eq!(single("18446744073709551617"), None);
    let any = |text| from_str::<Value>(text).ok().map(|value| value.to_string());
    assert_eq!(any("18446744073709551615").unwrap(), "18446744073709551615");
    assert_eq!(any("-9223372036854775808").unwrap(), "-9223372036854775808");
    assert_eq!(any("18446744073709551616"), None);
    assert_eq!(any("-9223372036854775809"), None);
    assert_eq!(any("[{\"a\":[100000000000000000000]}]"), None);
    assert!(any("[1e20,\"100000000000000000000\"]").is_some());
    assert_eq!(from_str(&u128::MAX.to_string()).ok(), Some(u128::MAX));
    assert_eq!(from_str(&i128::MIN.to_string()).ok(), Some(i128::MIN));
    assert!(from_str::<u128>("340282366920938463463374607431768211456").is_err());
    assert!(from_str::<u64>("18446744073709551616").is_err());
}

#[test]
fn the_message_has_the_digits_that_came() {
    let said = text_of(from_str::<Value>("[18446744073709551616]"));
    assert!(said.contains("integer 18446744073709551616 has"), "{said}");
    let said = text_of(from_str::<Vec<f64>>("[1,9007199254740993]"));
    assert!(
        said.contains("9007199254740993 would be rounded to 9007199254740992"),
        "{said}"
    );
}

const TEXTS: &[&str] = &[
    "null",
    "1",
    "-0",
    "-1.5",
    "\"a\"",
    "\"None\"",
    "[]",
    "[1, 2]",
    "[1,2,3]",
    "{}",
    "{\"One\":1}",
    "{\"Two\":[1,2]}",
    "{\"Named\":{\"x\":1}}",
    "{\"Named\":{}}",
    "{\"1\":[0.5]}",
    "{\"a\": [1 , {}]}",
    "[1",
    "1 x",
    "",
];

#[test]
fn types_are_read_as_serde_json_reads_them() {
    fn alike<T: for<'de> Deserialize<'de> + Debug>(text: &str) {
        let (here, there) = (from_str::<T>(text), serde_json::from_str::<T>(text));
        assert_eq!(text_of(here), text_of(there), "{text}");
    }
    for text in TEXTS {
        alike::<Value>(text);
        alike::<f64>(text);
        // Serde takes no `-0` for an integer.
        if *text != "-0" {
            alike::<u8>(text);
        }
        alike::<Option<f64>>(text);
        alike::<String>(text);
        alike::<Kind>(text);
        alike::<(f64, f32)>(text);
        alike::<Vec<Value>>(text);
        alike::<BTreeMap<u64, Vec<f32>>>(text);
        alike::<Box<RawValue>>(text);
        alike::<()>(text);
        // Serde takes an array for a struct.
        if !text.starts_with('[') {
            alike::<Shape>(text);
        }
    }
    assert_eq!(from_str::<&RawValue>("[1 ,2]").unwrap().get(), "[1 ,2]");
    assert_eq!(from_str::<&str>("\"a\"").unwrap(), "a");
}

proptest! {
    #[test]
    fn doubles_come_back_bit_by_bit(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        prop_assume!(value.is_finite());
        for text in [serde_json::to_string(&value).unwrap(), format!("{value}"), format!("{value:e}")] {
            let read = from_str::<f64>(&text).unwrap();
            prop_assert_eq!(read.to_bits(), bits, "{}", &text);
        }
        let text = serde_json::to_string(&value).unwrap();
        let Value::Number(any) = from_str(&text).unwrap() else { panic!("{text}") };
        prop_assert_eq!(any.as_f64().unwrap().to_bits(), bits, "{}", &text);
    }

    #[test]
    fn singles_come_back_bit_by_bit(bits in any::<u32>()) {
        let value = f32::from_bits(bits);
        prop_assume!(value.is_finite());
        for text in [serde_json::to_string(&value).unwrap(), format!("{value}")] {
            prop_assert_eq!(from_str::<f32>(&text).unwrap().to_bits(), bits, "{}", &text);
        }
    }

    #[test]
    fn integers_come_back_or_are_refused(value in any::<i128>(), shift in 0_u32..128) {
        let value = value >> shift;
        let text = value.to_string();
        prop_assert_eq!(from_str::<i128>(&text).unwrap(), value);
        match from_str::<Value>(&text) {
            Ok(any) => prop_assert_eq!(any.to_string(), text.clone()),
            Err(_) => prop_assert!(i64::try_from(value).is_err() && u64::try_from(value).is_err()),
        }
        if let Ok(double) = from_str::<f64>(&text) {
            let written = [format!("{double}"), format!("{double:.0}")];
            prop_assert!(written.contains(&text), "{text}");
        }
    }
}

#[test]
fn an_integer_may_be_written_with_a_decimal_point() {
    assert_eq!(from_str::<u8>("2.0").ok(), Some(2));
    assert_eq!(from_str::<i64>("-0.0").ok(), Some(0));
    assert_eq!(
        from_str::<Vec<i16>>("[1e3, -2.00]").ok(),
        Some(vec![1000, -2])
    );
    for wrong in ["2.5", "-1.0", "256.0", "1e300"] {
        assert!(from_str::<u8>(wrong).is_err(), "{wrong}");
    }
    for (text, whole) in [
        ("4503599627370495.0", 4_503_599_627_370_495),
        ("-4503599627370495.0", -4_503_599_627_370_495),
    ] {
        assert_eq!(from_str::<i64>(text).ok(), Some(whole));
    }
    for rounded in [
        "4503599627370495.9",
        "4503599627370496.5",
        "-4503599627370496.5",
        "9007199254740993.0",
        "-9007199254740993.0",
        "9007199254740994.0",
    ] {
        let error = text_of(from_str::<i64>(rounded));
        assert!(error.contains("floating point"), "{rounded}: {error}");
    }
    let error = text_of(from_str::<i64>("2.5"));
    assert!(error.contains("floating point `2.5`"), "{error}");
}

#[test]
fn a_key_of_a_map_has_one_form() {
    type Names = HashMap<u32, String>;
    let names: Names = from_str(r#"{"1":"a","2":"b"}"#).expect("two keys");
    assert_eq!(names.len(), 2);
    for wrong in [r#"{"1":"a","1.0":"b"}"#, r#"{"1.0":"b"}"#, r#"{"1e0":"b"}"#] {
        assert!(from_str::<Names>(wrong).is_err(), "{wrong}");
    }
    // The values are still checked.
    assert_eq!(
        from_str::<HashMap<u32, u8>>(r#"{"1":2.0}"#).ok(),
        Some(HashMap::from([(1, 2)]))
    );
    assert!(from_str::<HashMap<u32, f64>>(r#"{"1":9007199254740993}"#).is_err());
}

#[test]
fn a_struct_is_an_object_and_no_array() {
    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only whether it is read counts")]
    struct Point {
        x: u8,
        y: u8,
    }
    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "as above")]
    enum Figure {
        Dot { x: u8 },
        Pair(u8, u8),
    }
    assert!(from_str::<Point>(r#"{"x":1,"y":2}"#).is_ok());
    assert!(from_str::<Vec<Point>>("[[1,2]]").is_err());
    let error = text_of(from_str::<Point>("[1,2]"));
    assert!(
        error.contains("invalid type: sequence, expected struct Point"),
        "{error}"
    );
    assert!(from_str::<Figure>(r#"{"Dot":{"x":1}}"#).is_ok());
    assert!(from_str::<Figure>(r#"{"Dot":[1]}"#).is_err());
    assert!(from_str::<Figure>(r#"{"Pair":[1,2]}"#).is_ok());
}
