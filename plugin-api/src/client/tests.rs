//! Tests of the comparison between a client and a daemon, and of the line that a call sends.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use serde_json::{Value, json};

use super::compare::{Descriptions, check};
use super::fit::steps::Steps;
use super::fit::{fits, fits_in};
use super::{CallLine, ClientCalls, LateSchema, LateSchemas};

/// Pairs of schemas: all values of the first are values of the second.
const FITTING: &[(&str, &str)] = &[
    (
        r##"{"type":"integer","minimum":0,"maximum":255}"##,
        r##"{"type":"integer","minimum":0,"maximum":65535}"##,
    ),
    (
        r##"{"type":"integer","minimum":0,"maximum":255}"##,
        r##"{"type":"number"}"##,
    ),
    (
        r##"{"type":"integer","minimum":0,"maximum":255}"##,
        r##"{"anyOf":[{"type":"integer","minimum":0,"maximum":65535},{"type":"null"}]}"##,
    ),
    (r##"{"enum":["a","b"]}"##, r##"{"type":"string"}"##),
    (r##"{"const":"a"}"##, r##"{"enum":["a","b"]}"##),
    (r##"{"type":"string"}"##, r##"{"enum":["a","b"]}"##),
    (
        r##"{"type":["string","null"]}"##,
        r##"{"anyOf":[{"type":"null"},{"type":"string"}]}"##,
    ),
    (
        r##"{"type":"integer","format":"uint64","minimum":0}"##,
        r##"{"type":"integer","minimum":0,"maximum":18446744073709551615}"##,
    ),
    (
        r##"{"type":"array","items":{"type":"integer","minimum":0,"maximum":255}}"##,
        r##"{"type":"array","items":{"type":"integer","minimum":0,"maximum":65535}}"##,
    ),
    (
        r##"{"type":"array","prefixItems":[{"type":"integer","minimum":0,"maximum":255},{"type":"integer","minimum":0,"maximum":255}],"items":false,"minItems":2,"maxItems":2}"##,
        r##"{"type":"array","items":{"type":"integer","minimum":0,"maximum":65535}}"##,
    ),
    (
        r##"true"##,
        r##"{"type":"integer","minimum":0,"maximum":255}"##,
    ),
    (
        r##"{"type":"integer","minimum":0,"maximum":255}"##,
        r##"true"##,
    ),
    (
        r##"{"type":["null","boolean","number","string","array","object"]}"##,
        r##"{"type":"integer","minimum":0,"maximum":255}"##,
    ),
    (
        r##"{"type":"integer","minimum":0,"maximum":255}"##,
        r##"{"type":["null","boolean","number","string","array","object"]}"##,
    ),
    (
        r##"{"type":"object","properties":{"x":{"type":"integer","minimum":0,"maximum":255},"y":{"type":"integer","minimum":0,"maximum":255}},"required":["x","y"]}"##,
        r##"{"type":"object","properties":{"x":{"type":"integer","minimum":0,"maximum":65535},"z":{"type":"integer","minimum":0,"maximum":255}},"required":["x"]}"##,
    ),
    (
        r##"{"type":"object","additionalProperties":{"type":"integer","minimum":0,"maximum":255}}"##,
        r##"{"type":"object","properties":{"x":{"type":"integer","minimum":0,"maximum":65535},"z":{"type":"integer","minimum":0,"maximum":255}},"required":["x"]}"##,
    ),
    (
        r##"{"$ref":"#/$defs/P","$defs":{"P":{"type":"object","properties":{"x":{"type":"integer","minimum":0,"maximum":255},"y":{"type":"integer","minimum":0,"maximum":255}},"required":["x","y"]}}}"##,
        r##"{"type":"object","properties":{"x":{"type":"integer","minimum":0,"maximum":65535},"z":{"type":"integer","minimum":0,"maximum":255}},"required":["x"]}"##,
    ),
    (
        r##"{"$ref":"#/$defs/gone"}"##,
        r##"{"type":"integer","minimum":0,"maximum":255}"##,
    ),
];

/// Pairs that don't fit, with the place, and the words for the second schema.
const PARTING: &[(&str, &str, &str, &str)] = &[
    (
        r##"{"type":"integer","minimum":0,"maximum":65535}"##,
        r##"{"type":"integer","minimum":0,"maximum":255}"##,
        "",
        "an integer from 0 to 255",
    ),
    (
        r##"{"type":"number"}"##,
        r##"{"type":"integer"}"##,
        "",
        "an integer",
    ),
    (
        r##"{"type":"string"}"##,
        r##"{"anyOf":[{"type":"integer","minimum":0,"maximum":255},{"type":"null"}]}"##,
        "",
        "an integer from 0 to 255 or null",
    ),
    (
        r##"{"anyOf":[{"type":"integer","minimum":0,"maximum":255},{"type":"null"}]}"##,
        r##"{"type":"integer","minimum":0,"maximum":255}"##,
        "",
        "an integer from 0 to 255",
    ),
    (
        r##"{"enum":["a","c"]}"##,
        r##"{"enum":["a","b"]}"##,
        "",
        "\"a\" or \"b\"",
    ),
    (
        r##"{"type":"string"}"##,
        r##"{"type":"string","minLength":1,"maxLength":1}"##,
        "",
        "a string of 1 character",
    ),
    (
        r##"{"type":"array","items":{"type":"string"}}"##,
        r##"{"type":"array","items":{"type":"integer","minimum":0,"maximum":255}}"##,
        "[0]",
        "an integer from 0 to 255",
    ),
    (
        r##"{"type":"array","items":{"type":"integer","minimum":0,"maximum":255}}"##,
        r##"{"type":"array","items":{"type":"integer","minimum":0,"maximum":255},"minItems":3,"maxItems":3}"##,
        "",
        "an array of 3 elements, each an integer from 0 to 255",
    ),
    (
        r##"{"type":"object","properties":{"x":{"type":"string"}},"required":["x"]}"##,
        r##"{"type":"object","properties":{"x":{"type":"integer","minimum":0,"maximum":255}},"required":["x"]}"##,
        ".x",
        "an integer from 0 to 255",
    ),
    (
        r##"{"type":"object","properties":{"x":{"type":"string"}},"required":["x"]}"##,
        r##"{"type":"object","properties":{"y":{"type":"integer","minimum":0,"maximum":255}},"required":["y"]}"##,
        ".y",
        "only one that has it",
    ),
    (
        r##"{"type":"object","properties":{"x":{"type":"string"}},"required":["x"]}"##,
        r##"{"type":"object","properties":{},"additionalProperties":false}"##,
        ".x",
        "an object",
    ),
    (
        r##"{"type":"object","additionalProperties":{"type":"integer","minimum":0,"maximum":65535}}"##,
        r##"{"type":"object","additionalProperties":{"type":"integer","minimum":0,"maximum":255}}"##,
        ".*",
        "an integer from 0 to 255",
    ),
];

fn read(schema: &str) -> Value {
    serde_json::from_str(schema).expect("it is JSON")
}

fn gap(given: Value, taken: Value) -> Option<(String, String, String)> {
    let gap = fits(&given, &taken).err()?;
    Some((gap.path, gap.given, gap.taken))
}

#[test]
fn what_is_within_the_other_schema_fits() {
    for (given, taken) in FITTING {
        assert_eq!(gap(read(given), read(taken)), None, "{given} in {taken}");
    }
}

#[test]
fn what_does_not_fit_is_shown_with_its_place() {
    for (given, taken, path, words) in PARTING {
        let (found, _, shown) = gap(read(given), read(taken)).expect("it doesn't fit");
        assert_eq!(
            (found.as_str(), shown.as_str()),
            (*path, *words),
            "{given} in {taken}"
        );
    }
}

#[test]
fn schemas_that_refer_to_themselves_are_compared_in_bounded_time() {
    let itself = json!({"$ref": "#"});
    assert_eq!(
        gap(itself.clone(), json!({"type": "string"})),
        None,
        "it describes nothing"
    );
    let pair = json!({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}});
    assert_eq!(
        gap(pair, json!({"type": "string"})),
        None,
        "it describes nothing"
    );
    let tree = |leaf: &str| {
        let branch = json!({"type": "array", "items": {"$ref": "#"}});
        json!({"anyOf": [branch, branch, {"type": "object", "additionalProperties": {"$ref": "#"}}, {"type": leaf}]})
    };
    assert_eq!(gap(tree("string"), tree("string")), None);
    // Each level has several ways, so that all of them would never end.
    let _ = gap(tree("string"), tree("boolean"));
    let leaf = gap(tree("string"), json!({"type": "array"}));
    assert!(leaf.is_some(), "a leaf is no array");
}

const CALLS: &[u8] = br#"[
    {"name":"add","arguments":[
        {"name":"to","schema":{"type":"string"}},
        {"name":"by","optional":true,"schema":{"anyOf":[{"type":"integer","minimum":0},{"type":"null"}]}}
    ],"result":{"type":"integer","minimum":0}},
    {"name":"list","arguments":[{"name":"tags","rest":true,"schema":{"type":"string"}}],"result":{"type":"array","items":true}}
]"#;

/// Returns the error of the client above at a daemon with these schemas, or nothing.
fn refused(add: &Value, list: &Value) -> String {
    let help = json!({"add": {"schema": add}, "list": {"schema": list}});
    refused_by(Some(help), None)
}

fn refused_by(help: Option<Value>, options: Option<Value>) -> String {
    refused_as(ClientCalls::new(CALLS), Descriptions { help, options })
}

fn refused_as(calls: ClientCalls, described: Descriptions) -> String {
    check("Shop", calls, &described)
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default()
}

const TEXT: &str = r#"{"name":"s","schema":{"type":"string"}}"#;
const COUNT: &str = r#"{"name":"n","optional":true,"schema":{"anyOf":[{"type":"integer","minimum":0},{"type":"null"}]}}"#;
const NEEDED: &str = r#"{"name":"n","schema":{"type":"integer"}}"#;
const REST: &str = r#"{"name":"all","rest":true,"schema":{"type":"string"}}"#;

/// Parts that a small schema may name many times, and the name of each.
fn costly_parts() -> [(String, Value); 8] {
    let long = "x".repeat(50_000);
    let short = |part: Value| ("E".to_owned(), part);
    [
        short(json!({"enum": vec![1; 50_000]})),
        short(json!({"enum": (0..50_000).collect::<Vec<u32>>()})),
        short(json!({"type": vec!["integer"; 50_000]})),
        short(json!({"const": vec![1; 50_000]})),
        short(json!({"enum": ["a", &long]})),
        short(json!({"type": "array", "prefixItems": vec![true; 50_000]})),
        short(
            json!({"type": "object", "properties": {&long: true}, "required": vec!["a"; 50_000]}),
        ),
        (long, json!({"type": "null"})),
    ]
}

#[test]
fn a_costly_schema_ends_soon() {
    let plain = [
        json!({"type": "string"}),
        json!({"enum": ["b", 1]}),
        json!({"const": [1]}),
        json!({"type": "array", "items": {"type": "string"}}),
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}),
    ];
    for (index, (name, part)) in costly_parts().into_iter().enumerate() {
        let mentioned = |times: usize| {
            let one = json!({"$ref": format!("#/$defs/{name}")});
            json!({"anyOf": vec![one; times], "$defs": {&name: &part}})
        };
        let once = plain.iter().map(|plain| steps_of(plain, &mentioned(1)).0);
        let part_steps = once.max().unwrap_or(0);
        assert!(part_steps > 1500, "part {index} takes {part_steps} steps");
        let costly = mentioned(if name.len() > 1 { 400 } else { 5000 });
        for plain in &plain {
            // Without limits on the sizes these take minutes.
            let (_, refused) = steps_of(plain, &costly);
            assert!(refused < 1000, "part {index} goes on for {refused} steps");
        }
    }
}

/// Returns the steps that a comparison of two schemas in both directions takes at most, and how often none were left.
fn steps_of(one: &Value, other: &Value) -> (usize, usize) {
    let of = |given, taken| {
        let steps = Steps::default();
        let _ = fits_in(&steps, given, taken);
        steps.taken_and_refused()
    };
    let (first, second) = (of(one, other), of(other, one));
    (first.0.max(second.0), first.1.max(second.1))
}

#[test]
fn words_name_the_first_alternatives_only() {
    let words = |schema: Value| fits(&json!({"type": "null"}), &schema).map_err(|gap| gap.taken);
    let all = |values: &[u32]| words(json!({"enum": values})).expect_err("no null");
    assert_eq!(all(&[1, 2, 3, 4]), "1 or 2 or 3 or 4");
    assert_eq!(all(&[1, 1, 2, 3, 4]), "1 or 2 or 3 or 4");
    assert_eq!(all(&[1, 2, 3, 4, 5]), "1 or 2 or 3 or 4 or …");
    assert_eq!(all(&[1, 2, 3, 4, 5, 6]), "1 or 2 or 3 or 4 or …");
}

#[test]
fn a_list_of_some_hundred_names_is_compared() {
    let names = |count: u32| (0..count).map(|n| format!("name {n}")).collect::<Vec<_>>();
    let (few, many) = (json!({"enum": names(999)}), json!({"enum": names(1000)}));
    assert!(fits(&few, &many).is_ok());
    assert!(fits(&many, &few).is_err());
}

/// The arguments and the result of `add` that don't fit the client above, each with the error.
const OTHER_ADDS: &[(&[&str], &str, &str)] = &[
    (
        &[COUNT, COUNT],
        "integer",
        "argument 1 (`to`): the client sends a string, and the daemon takes an integer from 0 or null",
    ),
    (
        &[TEXT, NEEDED],
        "integer",
        "argument 2 (`by`): the client may leave it out, and the daemon requires it",
    ),
    (
        &[TEXT],
        "integer",
        "argument 2 (`by`): the client sends it, and the daemon takes 1 argument",
    ),
    (
        &[TEXT, COUNT, TEXT],
        "integer",
        "argument 3 (`s`): the daemon requires it, and the client does not send it",
    ),
    (
        &[TEXT, COUNT],
        "string",
        "result: the daemon returns a string, and the client reads an integer from 0",
    ),
];

/// The arguments of `list` that don't fit the client above, each with the error.
const OTHER_LISTS: &[(&[&str], &str)] = &[
    (
        &[TEXT],
        "argument 1 (`s`): the client may leave it out, and the daemon requires it",
    ),
    (
        &[],
        "argument 1 (`tags`): the client sends it, and the daemon takes no argument",
    ),
];

/// Returns the schema of a command with these arguments and the type of its result.
fn command(arguments: &[&str], result: &str) -> Value {
    let arguments: Vec<Value> = arguments.iter().map(|one| read(one)).collect();
    json!({"arguments": arguments, "result": {"type": result}})
}

#[test]
fn an_error_names_the_command_and_the_argument() {
    let add = command(&[TEXT, COUNT], "integer");
    let list = command(&[REST], "array");
    assert_eq!(refused(&add, &list), "");
    let mut cases = Vec::new();
    for (arguments, result, expected) in OTHER_ADDS {
        let error = refused(&command(arguments, result), &list);
        cases.push((error, format!("`add`, {expected}")));
    }
    for (arguments, expected) in OTHER_LISTS {
        let error = refused(&add, &command(arguments, "array"));
        cases.push((error, format!("`list`, {expected}")));
    }
    for (error, expected) in cases {
        let expected = format!("Shop does not fit this client: {expected}; change");
        assert!(error.starts_with(&expected), "{error}");
    }
    let other = refused_by(Some(json!({"greet": {"schema": {}}})), None);
    let both = "it has no command `add`; it has no command `list`; change";
    assert!(other.contains(both), "{other}");
}

/// A client whose types are all its author's.
const OWN_CALLS: ClientCalls = ClientCalls::new(
    br#"[
    {"name":"add","arguments":[{"name":"to","schema":true},{"name":"by","schema":true}],"result":true},
    {"name":"list","arguments":[],"result":true}
]"#,
);

/// Returns the schemas of a client, as a static of its code has them.
fn kept(functions: &'static [LateSchema]) -> &'static LateSchemas {
    Box::leak(Box::new(LateSchemas::new(functions)))
}

/// Returns the error of a client with types of its author, at a daemon that takes and returns strings.
fn refused_late(late: &'static [LateSchema]) -> String {
    let add = command(&[TEXT, TEXT], "string");
    let list = command(&[], "string");
    let help = json!({"add": {"schema": add}, "list": {"schema": list}});
    let described = Descriptions {
        help: Some(help),
        options: None,
    };
    refused_as(OWN_CALLS.with_late(kept(late)), described)
}

fn text() -> Option<Value> {
    Some(json!({"type": "string"}))
}

fn count() -> Option<Value> {
    Some(json!({"type": "integer"}))
}

#[test]
fn a_schema_that_run_time_knows_is_compared() {
    assert_eq!(refused_late(&[]), "", "the feature `schema` is off");
    assert_eq!(refused_late(&[text, text, text, text]), "");
    let sent = refused_late(&[text, count, text, text]);
    let words = "`add`, argument 2 (`by`): the client sends an integer, and the daemon takes a string; change";
    assert!(sent.contains(words), "{sent}");
    let first = refused_late(&[text, text, count, text]);
    let words =
        "`add`, result: the daemon returns a string, and the client reads an integer; change";
    assert!(first.contains(words), "{first}");
    let second = refused_late(&[text, text, text, count]);
    assert!(second.contains("client: `list`, result:"), "{second}");
}

#[test]
fn a_type_without_a_schema_fits() {
    assert_eq!(refused_late(&[|| None, text, || None, || None]), "");
    assert_eq!(
        refused_late(&[text, || panic!("wanted by the test"), text, text]),
        ""
    );
    let other = refused_late(&[|| panic!("wanted by the test"), count, text, text]);
    assert!(other.contains("argument 2 (`by`)"), "{other}");
}

#[test]
fn a_schema_is_made_only_for_a_daemon_with_help() {
    static IS_MADE: AtomicBool = AtomicBool::new(false);
    let described = Descriptions {
        help: None,
        options: Some(json!({"add": 2, "list": 0})),
    };
    let late = kept(&[|| {
        IS_MADE.store(true, Ordering::Relaxed);
        None
    }]);
    let calls = OWN_CALLS.with_late(late);
    assert_eq!(refused_as(calls, described), "");
    assert!(!IS_MADE.load(Ordering::Relaxed), "nothing compares it");
}

#[test]
fn a_schema_is_made_once_even_by_a_function_that_panics() {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let late = kept(&[
        || {
            MADE.fetch_add(1, Ordering::Relaxed);
            text()
        },
        || {
            MADE.fetch_add(1, Ordering::Relaxed);
            panic!("wanted by the test")
        },
        count,
    ]);
    for _ in 0..2 {
        let add = command(&[TEXT, TEXT], "string");
        let described = Descriptions {
            help: Some(json!({"add": {"schema": add}, "list": {"schema": {}}})),
            options: None,
        };
        let error = refused_as(OWN_CALLS.with_late(late), described);
        assert!(error.contains("the client reads an integer"), "{error}");
    }
    assert_eq!(MADE.load(Ordering::Relaxed), 2);
}

#[test]
fn a_daemon_without_schemas_is_compared_by_what_it_shows() {
    let old = json!({"add": {"signature": "add(to: string, by?: integer)"}, "list": {"signature": "list(...tags: string)"}});
    let counts = |add: u64| Some(json!({"add": add, "list": 1}));
    assert_eq!(refused_by(Some(old.clone()), counts(2)), "");
    assert!(refused_by(Some(old.clone()), counts(1)).contains("argument 2 (`by`)"));
    assert!(refused_by(None, counts(0)).contains("the daemon takes no argument"));
    assert!(refused_by(None, Some(json!({"add": 2}))).contains("it has no command `list`"));
    assert_eq!(refused_by(None, None), "");
    assert_eq!(refused_by(Some(json!({})), None), "", "a fake");
    assert_eq!(refused_by(Some(json!("no object")), Some(json!([1]))), "");
    assert_eq!(
        refused_by(Some(json!({"add": {"schema": 7}, "list": null})), None),
        ""
    );
}

#[test]
fn an_argument_that_is_none_is_left_out_unless_another_follows() {
    let line = |first: Option<u8>, second: Option<&str>, rest: &[bool]| {
        let mut line = CallLine::new("add");
        line.push_optional("a", &first).expect("an argument");
        line.push_optional("b", &second).expect("an argument");
        line.push_rest("c", rest).expect("arguments");
        String::from_utf8(line.ended().0).expect("UTF-8")
    };
    assert_eq!(line(None, None, &[]), "add []");
    assert_eq!(line(Some(1), None, &[]), "add [1]");
    assert_eq!(line(None, Some("x"), &[]), r#"add [null,"x"]"#);
    assert_eq!(
        line(None, None, &[true, false]),
        "add [null,null,true,false]"
    );
    let mut line = CallLine::new("add");
    let error = line
        .push("by", &f64::NAN)
        .expect_err("JSON has no NaN")
        .to_string();
    assert!(
        error.starts_with("the argument by of add can't be sent: "),
        "{error}"
    );
}
