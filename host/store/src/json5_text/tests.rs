//! Tests of the rewriting: the result means what the `json5` crate reads, and no number changes.

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

/// Words that are not JSON numbers, each with the beginning of its message.
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

/// Wrong input that people type, each with the expected message.
const NONSENSE: &[(&str, &str)] = &[
    (
        "n",
        r#"["n"], got n: n at column 1 is no value; a text stands in quotes"#,
    ),
    (
        "[n]",
        r#"["n"], got [n]: n at column 2 is no value; a text stands in quotes"#,
    ),
    (
        "n, m",
        r#"["n", "m"], got n, m: n at column 1 is no value; a text stands in quotes"#,
    ),
    (
        "[1, n]",
        r#"[1, "n"], got [1, n]: n at column 5 is no value; a text stands in quotes"#,
    ),
    (
        "tru",
        r#"["tru"], got tru: tru at column 1 is no value; did you mean true? a text stands in quotes"#,
    ),
    (
        "[nul]",
        r#"["nul"], got [nul]: nul at column 2 is no value; did you mean null? a text stands in quotes"#,
    ),
    (
        "hello world",
        r#"["hello world"], got hello world: hello at column 1 is no value; a text stands in quotes"#,
    ),
    (
        "{x: n}",
        r#"[{"x": "n"}], got {x: n}: n at column 5 is no value; a text stands in quotes"#,
    ),
    ("./a/b", r#"["./a/b"], got ./a/b: "#),
    ("http://x", r#"["http://x"], got http://x: "#),
    ("2026-11-29", r#"["2026-11-29"], got 2026-11-29: "#),
    (
        "[1, 2",
        "[1, 2], got [1, 2: the array that begins at column 1 is not closed",
    ),
    (
        "[1, {a: 2",
        r#"[1, {"a": 2}], got [1, {a: 2: the object that begins at column 5 is not closed"#,
    ),
    (
        "['n",
        r#"["text", 5], got ['n: the string that begins at column 2 is not closed"#,
    ),
    (
        "'",
        r#"["text", 5], got ': the string that begins at column 1 is not closed"#,
    ),
    (
        "[1] /* [",
        r#"["text", 5], got [1] /* [: the comment that begins at column 5 is not closed"#,
    ),
    (
        "[1 2]",
        r#"["1 2"], got [1 2]: expected a comma at column 4"#,
    ),
    (
        "{a 1}",
        r#"["text", 5], got {a 1}: expected a colon at column 4"#,
    ),
    (
        "[1]]",
        r#"["text", 5], got [1]]: expected nothing more at column 4"#,
    ),
    (
        "[1,,2]",
        r#"["text", 5], got [1,,2]: expected a value at column 4"#,
    ),
    (
        "/",
        r#"["/"], got /: / at column 1 is no value; a text stands in quotes"#,
    ),
    (
        "{a:",
        r#"["text", 5], got {a:: the object that begins at column 1 is not closed"#,
    ),
];

#[test]
fn nonsense_is_told_with_what_was_expected_and_what_to_write() {
    for (typed, expected) in NONSENSE {
        let said = to_strict(typed).unwrap_err();
        let said = said
            .strip_prefix("expected JSON arguments such as ")
            .unwrap_or(&said);
        assert!(said.starts_with(expected), "{typed}:\n{said}\n{expected}");
    }
    let long = format!("[n, {}]", "1, ".repeat(100));
    let said = to_strict(&long).unwrap_err();
    assert!(
        said.contains(r#"such as ["text", 5], got [n, 1,"#) && said.len() < 250,
        "{said}"
    );
}

/// Wrong documents, each with its message.
const MISWRITTEN: &[(&str, &str)] = &[
    ("", "it is empty"),
    ("\n// nothing\n", "it is empty"),
    (
        "{\n  a: 1,\n  b: [1,\n",
        "the array that begins at line 3 column 6 is not closed",
    ),
    (
        "{\n  a: 1,\n  b: {c: 1}\n",
        "the object that begins at line 1 column 1 is not closed",
    ),
    (
        "{a: 1,\r\n b: 'x}\r\n",
        "expected the quote that closes the string at line 2 column 8",
    ),
    (
        "{a: 1,\n b: 'x}",
        "the string that begins at line 2 column 5 is not closed",
    ),
    (
        "{a: 1}\n/* x\n",
        "the comment that begins at line 2 column 1 is not closed",
    ),
    (
        "{\n a: yes\n}",
        "yes at line 2 column 5 is no value; a text stands in quotes",
    ),
    ("{\n a: 1\n b: 2\n}", "expected a comma at line 3 column 2"),
    (
        "{\n a:",
        "the object that begins at line 1 column 1 is not closed",
    ),
];

#[test]
fn where_a_document_is_wrong_is_told_by_its_line() {
    for (document, expected) in MISWRITTEN {
        assert_eq!(
            check_document(document).unwrap_err(),
            *expected,
            "{document}"
        );
    }
    assert_eq!(
        document_to_strict("{a: 1} // x"),
        Ok("{\"a\":1}".to_owned())
    );
}

#[test]
fn nonsense_of_any_length_is_told_at_once() {
    // A line may have 16 MiB; quadratic time would take hours for it.
    for part in ["n ", "[", "'n', ", "{n:", "/* ", "1,\u{2028}"] {
        let long = part.repeat((1 << 20) / part.len());
        assert!(to_strict(&long).unwrap_err().len() < 500, "{part}");
    }
}

#[test]
fn depth_is_an_error() {
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
    // Brackets in strings and comments don't count as nesting.
    assert!(to_strict(&format!("['{0}',] // {0}", "[".repeat(1000))).is_ok());
}

/// Generates text that is often JSON5.
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
                // The crate drops the sign of a zero.
                let there = read.unwrap().to_string();
                prop_assert_eq!(here.to_string().replace("-0.0", "0"), there, "{}", text);
            }
            Ok(strict) => prop_assert_eq!(strict, "[]"),
            Err(_) => prop_assert!(read.is_err() || text.contains("NaN"), "{}", text),
        }
    }
}
