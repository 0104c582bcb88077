//! Tests of the rewriting: it means what the `json5` crate reads, and no number changes.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

#[test]
fn what_people_type_becomes_json() {
    for (typed, strict) in [
        (
            "[\"argument1\", {x: \"argumenttwo\"}]",
            r#"["argument1",{"x":"argumenttwo"}]"#,
        ),
        ("['hi',]", r#"["hi"]"#),
        (
            "[0x10, +1, .5, 5., 5.e3, -.5E-3]",
            "[16,1,0.5,5.0,5.0e3,-0.5E-3]",
        ),
        ("[1, /* two */ 2]", "[1,2]"),
        ("{\"a\":1}//x", "{\"a\":1}"),
        ("null // x", "null"),
        ("[1] /* x */ // y", "[1]"),
        ("5//", "5"),
        ("// nothing", "[]"),
        ("[1,//x\u{2028}2]", "[1,2]"),
        ("\u{feff}[1]", "[1]"),
        ("{a: {b: [], c: {},},}", r#"{"a":{"b":[],"c":{}}}"#),
        (
            "{true: null, NaN: 1, 'Infinity': false}",
            r#"{"true":null,"NaN":1,"Infinity":false}"#,
        ),
        ("{\\u0061b: 1, $_ü: 2}", r#"{"ab":1,"$_ü":2}"#),
        ("['\\'\"\\\"\\x41\\u{0042}']", r#"["'\"\"Au{0042}"]"#),
        ("['a\\\nb\\0\tc//']", "[\"ab\\u0000\\tc//\"]"),
        ("{z: 1, a: 2, z: 3}", r#"{"z":1,"a":2,"z":3}"#),
    ] {
        let typed = typed.replace("\\u{0042}", "\\u0042");
        let strict = strict.replace("u{0042}", "B");
        assert_eq!(to_strict(&typed).unwrap(), strict, "{typed}");
    }
}

#[test]
fn numbers_keep_their_digits() {
    for (typed, strict) in [
        ("[-0,]", "[-0]"),
        ("[-0x0]", "[-0]"),
        ("[+18446744073709551616]", "[18446744073709551616]"),
        (
            "[340282366920938463463374607431768211456,]",
            "[340282366920938463463374607431768211456]",
        ),
        ("[0xFFFFFFFFFFFFFFFFFFFF]", "[1208925819614629174706175]"),
        (
            "[-0x80000000000000000000000000000000]",
            "[-170141183460469231731687303715884105728]",
        ),
        ("[10928588.983213553,]", "[10928588.983213553]"),
        ("[5e-324,]", "[5e-324]"),
        ("[1e23,]", "[1e23]"),
    ] {
        assert_eq!(to_strict(typed).unwrap(), strict, "{typed}");
    }
}

/// Each with the beginning of its message.
const NO_NUMBERS: &[(&str, &str)] = &[
    (
        "[NaN]",
        "argument 1: expected a number that JSON has, got NaN",
    ),
    (
        "NaN",
        "argument 1: expected a number that JSON has, got NaN",
    ),
    (
        "[1, -Infinity]",
        "argument 2: expected a number that JSON has, got -Infinity",
    ),
    (
        "[1, 1e400]",
        "argument 2: expected a number that JSON has, got 1e400",
    ),
    ("[-1e400]", "argument 1: expected"),
    (
        "{x: +NaN}",
        "argument 1, at .x: expected a number that JSON has, got +NaN",
    ),
    (
        "[1, {a: [2, 3, {'b c': Infinity}]}]",
        "argument 2, at .a[2][\"b c\"]: expected",
    ),
];

#[test]
fn numbers_that_json_does_not_have_are_refused_with_their_place() {
    for (typed, place) in NO_NUMBERS {
        let said = to_strict(typed).unwrap_err();
        assert!(said.starts_with(place), "{typed}: {said}");
    }
    let hex = format!("[1, 0x1{}]", "0".repeat(32));
    let said = to_strict(&hex).unwrap_err();
    assert!(
        said.contains("too large") && said.contains("column 39"),
        "{said}"
    );
    assert!(to_strict(&format!("[-0x8{}1]", "0".repeat(31))).is_err());
    assert!(
        to_strict(&"9".repeat(400))
            .unwrap_err()
            .contains("got 9999")
    );
}

#[test]
fn nonsense_is_an_error_and_so_is_depth() {
    for (typed, part) in [
        ("hello world", "neither JSON nor JSON5"),
        ("n", "a text stands in quotes: [\"n\"]"),
        ("[1, 2", "neither JSON nor JSON5"),
        ("'", "neither JSON nor JSON5"),
        ("/", "neither JSON nor JSON5"),
        ("[1] /* [", "neither JSON nor JSON5"),
    ] {
        let said = to_strict(typed).unwrap_err();
        assert!(said.contains(part), "{typed}: {said}");
    }
    let nested = |levels: usize| format!("{}1,{}", "[".repeat(levels), "]".repeat(levels));
    assert!(to_strict(&nested(127)).is_ok());
    assert!(
        to_strict(&nested(128))
            .unwrap_err()
            .contains("deeper than 127")
    );
    assert!(
        to_strict(&"[".repeat(1 << 20))
            .unwrap_err()
            .contains("nest deeper")
    );
    // Brackets in strings and comments nest nothing.
    assert!(to_strict(&format!("['{0}',] // {0}", "[".repeat(1000))).is_ok());
}

/// Text that is often JSON5.
fn json5() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(","),
        Just(":"),
        Just(" "),
        Just("\n"),
        Just("//"),
        Just("/*"),
        Just("*/"),
        Just("'"),
        Just("\""),
        Just("\\"),
        Just("a"),
        Just("null"),
        Just("true"),
        Just("1"),
        Just("-0"),
        Just(".5"),
        Just("1."),
        Just("1e5"),
        Just("0x1F"),
        Just("NaN"),
        Just("é"),
        Just("\u{2028}"),
        Just("[1,"),
        Just("{a:"),
        Just("'b':"),
        Just("],"),
        Just("},"),
        Just("\\u0041"),
        Just("+"),
    ];
    prop::collection::vec(token, 0..24).prop_map(|tokens| tokens.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn it_means_what_json5_reads(text in json5()) {
        let read = json5::from_str::<Value>(&text);
        match to_strict(&text) {
            Ok(strict) if tokens(&text).next().is_some() => {
                let here: Value = serde_json::from_str(&strict).unwrap();
                // The crate takes the sign of a zero away.
                let there = read.unwrap().to_string();
                prop_assert_eq!(here.to_string().replace("-0.0", "0"), there, "{}", text);
            }
            Ok(strict) => prop_assert_eq!(strict, "[]"),
            Err(_) => prop_assert!(read.is_err() || text.contains("NaN"), "{}", text),
        }
    }
}
