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

#[test]
fn an_argument_may_be_added_if_it_may_be_left_out() {
    let (text, integer) = (json!({"type": "string"}), json!({"type": "integer"}));
    let a = argument("a", &integer);
    for (before, after, expected) in [
        (
            vec![a.clone()],
            vec![a.clone(), optional("b", &text)],
            vec!["f: b was added and is optional"],
        ),
        (
            vec![a.clone()],
            vec![a.clone(), argument("b", &text)],
            vec!["!f: b was added and is required"],
        ),
        (
            vec![a.clone()],
            vec![a.clone(), rest("b", &text)],
            vec!["f: b was added and takes all further arguments"],
        ),
        (
            vec![a.clone()],
            vec![argument("b", &text), a.clone()],
            vec!["!f: b was added before a"],
        ),
        (
            vec![a.clone(), rest("b", &text)],
            vec![a.clone()],
            vec!["!f: b was removed"],
        ),
        (vec![a.clone()], vec![], vec!["!f: a was removed"]),
        (
            vec![optional("b", &text)],
            vec![argument("b", &text)],
            vec!["!f: b became required"],
        ),
        (
            vec![argument("b", &text)],
            vec![optional("b", &text)],
            vec!["f: b became optional"],
        ),
        (
            vec![a.clone()],
            vec![argument("b", &integer)],
            vec!["!f: a is now called b"],
        ),
        (
            vec![a.clone()],
            vec![argument("b", &text)],
            vec!["!f: a was removed", "!f: b was added and is required"],
        ),
    ] {
        let null = json!({"type": "null"});
        assert_changes(&command(&before, &null), &command(&after, &null), &expected);
    }
}

#[test]
fn arguments_may_become_wider_and_nothing_else() {
    let (text, integer) = (json!({"type": "string"}), json!({"type": "integer"}));
    let number = json!({"type": "number"});
    let a = argument("a", &integer);
    for (before, after, expected) in [
        (
            vec![a.clone()],
            vec![argument("a", &number)],
            vec!["f: a was integer, is number"],
        ),
        (
            vec![argument("a", &number)],
            vec![a.clone()],
            vec!["!f: a was number, is integer"],
        ),
        (
            vec![a.clone()],
            vec![argument("a", &text)],
            vec!["!f: a was integer, is string"],
        ),
        (
            vec![rest("a", &integer)],
            vec![rest("a", &text)],
            vec!["!f: a was integer, is string"],
        ),
        (
            vec![a.clone()],
            vec![rest("a", &integer)],
            vec!["f: a takes all further arguments now"],
        ),
        (
            vec![rest("a", &integer)],
            vec![a.clone()],
            vec!["!f: a takes only one argument now"],
        ),
        (
            vec![a.clone(), argument("b", &text)],
            vec![argument("b", &text), a.clone()],
            vec!["!f: b has moved", "!f: a has moved"],
        ),
    ] {
        let null = json!({"type": "null"});
        assert_changes(&command(&before, &null), &command(&after, &null), &expected);
    }
}

#[test]
fn results_may_become_narrower_and_nothing_else() {
    let object = |members: Value, required: Value| json!({"type": "object", "properties": members, "required": required});
    let (text, integer) = (json!({"type": "string"}), json!({"type": "integer"}));
    for (before, after, expected) in [
        (
            text.clone(),
            json!({"type": "object"}),
            vec!["!f: result was string, is object"],
        ),
        (
            json!({"type": "number"}),
            integer.clone(),
            vec!["f: result was number, is integer"],
        ),
        (
            integer.clone(),
            json!({"type": "number"}),
            vec!["!f: result was integer, is number"],
        ),
        (
            text.clone(),
            json!({"anyOf": [text, {"type": "null"}]}),
            vec!["!f: result was string, is null"],
        ),
        (
            text.clone(),
            json!({"type": "string", "description": "Other words."}),
            vec![],
        ),
        (
            object(json!({"a": integer}), json!(["a"])),
            object(json!({"a": integer, "b": text}), json!(["a", "b"])),
            vec!["f: result.b was absent, is required"],
        ),
        (
            object(json!({"a": integer}), json!(["a"])),
            object(json!({"a": text}), json!(["a"])),
            vec!["!f: result.a was integer, is string"],
        ),
        (
            object(json!({"a": integer}), json!(["a"])),
            object(json!({"a": integer}), json!([])),
            vec!["!f: result.a was required, is optional"],
        ),
        (json!(true), text.clone(), vec!["its schemas are now known"]),
    ] {
        assert_changes(&command(&[], &before), &command(&[], &after), &expected);
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
