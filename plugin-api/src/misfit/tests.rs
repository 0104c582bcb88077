//! Tests of the messages: each uses the terms of JSON and names the place.

use std::collections::BTreeMap;
use std::num::NonZeroU8;

use serde::Deserialize;

use super::*;
use crate::exact;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Point {
    x: f64,
    y: u8,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct Pair(u8, u8);

#[derive(Debug, Deserialize)]
struct Unit;

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
enum Kind {
    Alone,
    With(u8),
    Named { x: u8 },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[allow(dead_code)]
enum Either {
    Number(u8),
    Point(Point),
}

fn said<'de, T: Deserialize<'de>>(text: &'de str) -> String {
    match exact::from_str::<T>(text) {
        Ok(_) => "read".to_owned(),
        Err(error) => explain(&error, text),
    }
}

#[track_caller]
fn all_say(table: &[(String, &str)]) {
    let is_wrong = |(said, expected): &&(String, &str)| said != expected;
    let wrong: Vec<_> = table.iter().filter(is_wrong).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn numbers_are_told_with_their_range() {
    all_say(&[
        (
            said::<f64>("\"x\""),
            "expected a number, got the string \"x\"",
        ),
        (
            said::<u8>("300"),
            "expected a number, whole and from 0 to 255, got 300",
        ),
        (
            said::<i8>("1.5"),
            "expected a number, whole and from -128 to 127, got 1.5",
        ),
        (
            said::<u64>("18446744073709551616"),
            "expected a number, whole and from 0 to 18446744073709551615, got 18446744073709551616",
        ),
        (
            said::<NonZeroU8>("0"),
            "expected a number, whole, other than 0 and from 0 to 255, got 0",
        ),
    ]);
}

#[test]
fn kinds_of_values_have_the_names_of_json() {
    all_say(&[
        (said::<bool>("1"), "expected true or false, got 1"),
        (said::<String>("null"), "expected a string, got null"),
        (
            said::<char>("\"ab\""),
            "expected a string of one character, got the string \"ab\"",
        ),
        (said::<()>("[]"), "expected null, got an array"),
        (said::<Unit>("true"), "expected null, got true"),
        (said::<Vec<u8>>("{}"), "expected an array, got an object"),
        (
            said::<BTreeMap<String, u8>>("[]"),
            "expected an object, got an array",
        ),
        (said::<Point>("5"), "expected an object, got 5"),
    ]);
}

#[test]
fn lists_tell_their_length() {
    all_say(&[
        (said::<Pair>("5"), "expected an array, got 5"),
        (
            said::<Pair>("[1]"),
            "expected an array of 2 elements, got 1 of them",
        ),
        (
            said::<(u8,)>("[]"),
            "expected an array of 1 element, got 0 of them",
        ),
        (
            said::<[u8; 3]>("[1]"),
            "expected an array of 3 elements, got 1 of them",
        ),
        (
            said::<Pair>("[1,2,3]"),
            "at [2]: there are more elements than are taken here",
        ),
    ]);
}

#[test]
fn names_are_told_from_values() {
    all_say(&[
        (
            said::<Kind>("5"),
            "expected one of the known names, as a string or as an object's only member",
        ),
        (
            said::<Kind>("\"Other\""),
            "the name `Other` is not known here; expected one of `Alone`, `With`, `Named`",
        ),
        (
            said::<Kind>("\"With\""),
            "expected an object whose only member is the value's name, got a name alone",
        ),
        (
            said::<Kind>("{\"Named\":{}}"),
            "at .Named: the member `x` is missing",
        ),
        (
            said::<Either>("\"x\""),
            "it has none of the forms that are taken here",
        ),
    ]);
}

#[test]
fn messages_say_where() {
    type Points = BTreeMap<String, Vec<Point>>;
    let table = [
        (
            r#"{"a": [{"x": 1, "y": 2}, {"x": "1", "y": 2}]}"#,
            ".a[1].x: expected a number, got the string \"1\"",
        ),
        (
            r#"{"a":[{"x":1,"y":256}]}"#,
            ".a[0].y: expected a number, whole",
        ),
        (
            "{\"a\": [],\n \"b\\\"]\": [{\"x\":1}]}",
            r#"["b\"]"][0]: the member `y` is missing"#,
        ),
        (
            r#"{"a":[{"x":1,"z":1}]}"#,
            ".a[0].z: the member `z` is not known; expected `x` or `y`",
        ),
        (
            r#"{"a":[{"x":9007199254740993,"y":1}]}"#,
            ".a[0].x: the integer 9007199254740993",
        ),
        (
            r#"{"a":[{"x":1e400,"y":1}]}"#,
            ".a[0].x: the number is too large",
        ),
        (
            r#"{"a":[[1,true]]}"#,
            ".a[0]: expected an object, got an array",
        ),
    ];
    for (text, expected) in table {
        let said = said::<Points>(text);
        assert!(
            said.starts_with(&format!("at {expected}")),
            "{text}: {said}"
        );
    }
}

#[test]
fn a_place_is_found_in_any_text() {
    let path = |text: &str| locate(text, text.len()).path();
    assert_eq!(path(r#"[1, {"a": [2, "x,[{", "#), "[1].a[2]");
    assert_eq!(path(r#"{"a":{"b c":{"#), r#".a["b c"]"#);
    assert_eq!(path(r#"{"a":[1,2],"#), "");
    assert_eq!(path("\"\\"), "");
    assert_eq!(locate("[1, -2.5e3", 10).last, "-2.5e3");
    assert!(path(&"[".repeat(1000)).ends_with('…'));
    assert_eq!(inside_argument("[1].a", "[1, {}]"), ", at .a");
    assert_eq!(inside_argument("[1]", "[1, 2]"), "");
    assert_eq!(inside_argument(".a[1]", "{}"), ", at .a[1]");
}
