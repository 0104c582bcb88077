//! Tests of the comparison of two files, as tables.

use super::*;
use serde_json::{Value, json};

/// Returns the manifest of a plugin with these commands.
fn manifest(commands: &Value) -> Manifest {
    let text =
        json!({"name": "A", "version": "1", "abi": 1, "panic": "unwind", "commands": commands});
    serde_json::from_value(text).expect("a manifest")
}

fn argument(name: &str, schema: &Value) -> Value {
    json!({"name": name, "type": schema["type"].as_str().unwrap_or("any"), "schema": schema})
}

fn optional(name: &str, schema: &Value) -> Value {
    let schema = json!({"anyOf": [schema, {"type": "null"}]});
    json!({"name": name, "type": "x", "optional": true, "schema": schema})
}

fn rest(name: &str, schema: &Value) -> Value {
    json!({"name": name, "type": "x", "rest": true, "schema": schema})
}

fn command(arguments: &[Value], result: &Value) -> Value {
    json!([{"name": "f", "kind": "sync", "arguments": arguments, "result": result}])
}

/// Asserts the sentences of a change. Those that break a caller begin with `!`.
#[track_caller]
fn assert_changes(before: &Value, after: &Value, expected: &[&str]) {
    let found = changes(&manifest(before), &manifest(after));
    let mark = |sentence: &String| match found.breaks.contains(sentence) {
        true => format!("!{sentence}"),
        false => sentence.clone(),
    };
    let sentences: Vec<String> = found.callers.iter().map(mark).collect();
    assert_eq!(sentences, expected, "{before} → {after}");
    assert_eq!(found.is_empty(), expected.is_empty());
}

#[test]
fn what_came_what_went_and_what_takes_other_arguments() {
    let of = |name: &str, arguments: &[&str]| {
        let arguments = arguments
            .iter()
            .map(|name| argument(name, &json!({"type": "number"})));
        json!({"name": name, "kind": "sync", "arguments": arguments.collect::<Vec<_>>()})
    };
    let before = json!([of("stays", &["a"]), of("goes", &[]), of("grows", &["a"])]);
    let after = json!([
        of("comes", &["a"]),
        of("stays", &["a"]),
        of("grows", &["a", "b"])
    ]);
    let found = changes(&manifest(&before), &manifest(&after));
    assert_eq!(found.added, ["comes(a: number)"]);
    assert_eq!(found.removed, ["goes()"]);
    assert_eq!(
        found.changed,
        ["grows(a: number, b: number), before grows(a: number)"]
    );
    assert_eq!(
        found.to_string(),
        "added comes(a: number); removed goes() (breaks callers); grows: b was added and is required (breaks callers)"
    );
    assert!(changes(&manifest(&before), &manifest(&before)).is_empty());
}

/// Returns the arguments in a text such as `a:integer b?:string ...c:number`.
fn arguments(text: &str) -> Vec<Value> {
    let of = |word: &str| {
        let (name, kind) = word.split_once(':').expect("a name and a type");
        let schema = json!({"type": kind});
        if let Some(name) = name.strip_suffix('?') {
            return optional(name, &schema);
        }
        match name.strip_prefix("...") {
            Some(name) => rest(name, &schema),
            None => argument(name, &schema),
        }
    };
    text.split_whitespace().map(of).collect()
}

#[track_caller]
fn assert_arguments(before: &str, after: &str, expected: &[&str]) {
    let null = json!({"type": "null"});
    let [before, after] = [before, after].map(|text| command(&arguments(text), &null));
    assert_changes(&before, &after, expected);
}

#[test]
fn arguments_may_be_added_at_the_end_if_callers_may_leave_them_out() {
    let all = "f: b was added and takes all further arguments";
    for (before, after, expected) in [
        (
            "a:null",
            "a:null b?:null",
            &["f: b was added and is optional"][..],
        ),
        (
            "a:null",
            "a:null b:null",
            &["!f: b was added and is required"],
        ),
        ("a:null", "a:null ...b:null", &[all]),
        ("a:null", "b:string a:null", &["!f: b was added before a"]),
        ("a:null ...b:null", "a:null", &["!f: b was removed"]),
        ("a:null", "", &["!f: a was removed"]),
        ("b?:string", "b:string", &["!f: b became required"]),
        ("b:string", "b?:string", &["f: b became optional"]),
        ("a:integer", "b:integer", &["!f: a is now called b"]),
    ] {
        assert_arguments(before, after, expected);
    }
    let expected = ["!f: a was removed", "!f: b was added and is required"];
    assert_arguments("a:null", "b:string", &expected);
}

#[test]
fn the_type_of_an_argument_may_become_wider_and_nothing_else() {
    for (before, after, expected) in [
        (
            "a:integer",
            "a:number",
            &["f: a was integer, is number"][..],
        ),
        ("a:number", "a:integer", &["!f: a was number, is integer"]),
        ("a:integer", "a:string", &["!f: a was integer, is string"]),
        ("...a:null", "...a:string", &["!f: a was null, is string"]),
        (
            "a:null",
            "...a:null",
            &["f: a takes all further arguments now"],
        ),
        (
            "...a:null",
            "a:null",
            &["!f: a takes only one argument now"],
        ),
        (
            "a:null b:string",
            "b:string a:null",
            &["!f: b has moved", "!f: a has moved"],
        ),
    ] {
        assert_arguments(before, after, expected);
    }
}

#[test]
fn results_may_become_narrower_and_nothing_else() {
    let of = |kind: &str| json!({"type": kind});
    let described = json!({"type": "string", "description": "Other words."});
    let nullable = json!({"anyOf": [of("string"), of("null")]});
    for (before, after, expected) in [
        (
            of("string"),
            of("object"),
            &["!f: result was string, is object"][..],
        ),
        (
            of("number"),
            of("integer"),
            &["f: result was number, is integer"],
        ),
        (
            of("integer"),
            of("number"),
            &["!f: result was integer, is number"],
        ),
        (
            of("string"),
            nullable,
            &["!f: result was string, is string or null"],
        ),
        (of("string"), described, &[]),
        (json!(true), of("string"), &["its schemas are now known"]),
    ] {
        assert_changes(&command(&[], &before), &command(&[], &after), expected);
    }
}

#[test]
fn a_result_may_have_more_members_and_not_fewer() {
    let (text, integer) = (json!({"type": "string"}), json!({"type": "integer"}));
    let of = |members: &Value, required: &[&str]| json!({"type": "object", "properties": members, "required": required});
    let one = of(&json!({"a": integer}), &["a"]);
    let two = of(&json!({"a": integer, "b": text}), &["a", "b"]);
    let other = of(&json!({"a": text}), &["a"]);
    let loose = of(&json!({"a": integer}), &[]);
    for (before, after, expected) in [
        (&one, two, "f: result.b was absent, is required"),
        (&one, other, "!f: result.a was integer, is string"),
        (&one, loose, "!f: result.a was required, is optional"),
    ] {
        assert_changes(&command(&[], before), &command(&[], &after), &[expected]);
    }
}

#[test]
fn a_schema_that_is_not_known_is_a_change_and_breaks_nobody() {
    let a = |schema: Value| argument("a", &schema);
    let text = json!({"type": "string"});
    let before = command(&[a(json!(true))], &text);
    let after = command(&[a(text.clone())], &json!(true));
    assert_changes(
        &before,
        &after,
        &[
            "f: a was unknown, is string",
            "f: result was string, is unknown",
        ],
    );
}

#[test]
fn marks_that_callers_rely_on_may_come_and_not_go() {
    let of = |marks: &[&str]| {
        let mut command = command(&[], &json!({"type": "null"}));
        for mark in marks {
            command[0][mark] = true.into();
        }
        command
    };
    let all = of(&["read_only", "idempotent", "destructive"]);
    let sentences = [
        "f: is now read-only",
        "f: is now idempotent",
        "!f: is now destructive",
    ];
    assert_changes(&of(&[]), &all, &sentences);
    let sentences = [
        "!f: is no longer read-only",
        "!f: is no longer idempotent",
        "f: is no longer destructive",
    ];
    assert_changes(&all, &of(&[]), &sentences);
}

#[test]
fn events_and_the_config_are_compared() {
    let of = |events: Value, config: Value| {
        let mut all = manifest(&json!([]));
        all.events = serde_json::from_value(events).expect("events");
        all.config = serde_json::from_value(config).expect("a schema");
        all
    };
    let event = |name: &str, kind: &str| json!({"name": name, "arguments": [argument("0", &json!({"type": kind}))]});
    let before = of(
        json!([event("tick", "integer"), event("gone", "string"), event("same", "string"), {"name": "bare"}]),
        json!({"type": "object", "properties": {"most": {"type": "integer"}}}),
    );
    let after = of(
        json!([
            event("tick", "string"),
            event("new", "string"),
            event("same", "string"),
            event("bare", "null")
        ]),
        json!({"type": "object", "properties": {"most": {"type": "string"}}}),
    );
    let found = changes(&before, &after);
    assert_eq!(
        found.callers,
        [
            "event tick: 0 was integer, is string",
            "added the event new",
            "event bare: had 0 arguments, has 1",
            "removed the event gone",
            "config.most was integer, is string",
        ]
    );
    assert_eq!(found.breaks.len(), 3, "{:?}", found.breaks);
    assert!(
        !found
            .breaks
            .iter()
            .any(|sentence| sentence.starts_with("config"))
    );
}

#[test]
fn strict_refuses_each_break_and_a_request_overrides_the_setting() {
    let null = json!({"type": "null"});
    let before = command(&[argument("a", &null)], &null);
    let breaking = changes(&manifest(&before), &manifest(&command(&[], &null)));
    let after = command(&[argument("a", &null), optional("b", &null)], &null);
    let harmless = changes(&manifest(&before), &manifest(&after));
    let settings = |strict| Settings {
        strict,
        ..Settings::default()
    };
    for (changes, asked, setting, is_refused) in [
        (&breaking, None, false, false),
        (&breaking, None, true, true),
        (&breaking, Some(true), false, true),
        (&breaking, Some(false), true, false),
        (&harmless, Some(true), true, false),
    ] {
        let checked = check_strict(changes, asked, &settings(setting));
        assert_eq!(checked.is_err(), is_refused, "{asked:?} {setting}");
    }
    let refusal = check_strict(&breaking, Some(true), &settings(false)).expect_err("it breaks");
    assert!(refusal.contains("f: a was removed"), "{refusal}");
    assert!(refusal.contains("change the code"), "{refusal}");
}

#[test]
fn changes_of_an_older_host_are_read() {
    let text = json!({"added": ["a()"], "removed": [], "changed": ["b(x: any), before b()"]});
    let changes: CommandChanges = serde_json::from_value(text).expect("changes");
    assert!(!changes.is_empty());
    assert_eq!(
        changes.to_string(),
        "added a(); changed b(x: any), before b()"
    );
}

#[test]
fn of_several_arguments_with_one_name_the_first_counts() {
    let text = json!({"type": "string"});
    let of = |names: &[&str]| {
        let arguments: Vec<Value> = names.iter().map(|name| argument(name, &text)).collect();
        command(&arguments, &text)
    };
    for (before, after, expected) in [
        (
            &["a", "b", "a"][..],
            &["a", "a", "b"][..],
            &["!f: a has moved", "!f: b has moved"][..],
        ),
        (
            &["a", "a"],
            &["b", "b"],
            &["!f: a is now called b", "!f: a is now called b"],
        ),
        (
            &["a", "b"],
            &["x", "x", "a", "b"],
            &["!f: x was added before a", "!f: x was added before a"],
        ),
    ] {
        assert_changes(&of(before), &of(after), expected);
    }
}

#[test]
fn a_command_with_many_arguments_is_compared_soon() {
    const COUNT: usize = 10_000;
    let text = json!({"type": "string"});
    let of = |positions: &mut dyn Iterator<Item = usize>| {
        let arguments =
            positions.map(|at| argument(&format!("argument-with-a-long-name-{at}"), &text));
        manifest(&command(&arguments.collect::<Vec<_>>(), &text))
    };
    // With one search for each pair of arguments, this would take an hour.
    let (before, after) = (of(&mut (0..COUNT)), of(&mut (0..COUNT).rev()));
    let found = changes(&before, &after);
    assert_eq!(found.breaks.len(), COUNT);
    assert_eq!(
        found
            .to_string()
            .matches(" has moved (breaks callers)")
            .count(),
        COUNT
    );
}
