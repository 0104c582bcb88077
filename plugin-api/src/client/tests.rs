//! Tests of the comparison between a client and a daemon, and of the line that a call sends.

use serde_json::{Value, json};

use super::CallLine;
use super::compare::{Descriptions, check};
use super::fit::fits;

fn gap(given: Value, taken: Value) -> Option<(String, String, String)> {
    let gap = fits(&given, &taken).err()?;
    Some((gap.path, gap.given, gap.taken))
}

fn integer(least: i128, most: i128) -> Value {
    json!({"type": "integer", "minimum": least as f64, "maximum": most as f64})
}

fn array(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

#[test]
fn what_is_within_the_other_schema_fits() {
    let (byte, word) = (integer(0, 255), integer(0, 65535));
    let pair = json!({"type": "array", "prefixItems": [byte, word], "items": false, "minItems": 2, "maxItems": 2});
    let any = json!({"type": ["null", "boolean", "number", "string", "array", "object"]});
    let point =
        json!({"type": "object", "properties": {"x": byte, "y": byte}, "required": ["x", "y"]});
    let wide = json!({"type": "object", "properties": {"x": word, "z": byte}, "required": ["x"]});
    for (given, taken) in [
        (byte.clone(), word.clone()),
        (byte.clone(), json!({"type": "number"})),
        (byte.clone(), json!({"anyOf": [word, {"type": "null"}]})),
        (json!({"enum": ["a", "b"]}), json!({"type": "string"})),
        (json!({"const": "a"}), json!({"enum": ["a", "b"]})),
        (json!({"type": "string"}), json!({"enum": ["a", "b"]})),
        (
            json!({"type": ["string", "null"]}),
            json!({"anyOf": [{"type": "null"}, {"type": "string"}]}),
        ),
        (
            json!({"type": "integer", "format": "uint64", "minimum": 0}),
            integer(0, u64::MAX.into()),
        ),
        (array(byte.clone()), array(word.clone())),
        (pair.clone(), array(word.clone())),
        (json!(true), byte.clone()),
        (byte.clone(), json!(true)),
        (any.clone(), byte.clone()),
        (byte.clone(), any),
        (point.clone(), wide.clone()),
        (
            json!({"type": "object", "additionalProperties": byte}),
            wide.clone(),
        ),
        (
            json!({"$ref": "#/$defs/P", "$defs": {"P": point}}),
            wide.clone(),
        ),
        (json!({"$ref": "#/$defs/gone"}), byte.clone()),
    ] {
        assert_eq!(
            gap(given.clone(), taken.clone()),
            None,
            "{given} in {taken}"
        );
    }
}

#[test]
fn what_does_not_fit_is_shown_with_its_place() {
    let (byte, word) = (integer(0, 255), integer(0, 65535));
    let text = json!({"type": "string"});
    let three = json!({"type": "array", "items": byte, "minItems": 3, "maxItems": 3});
    let object = |of: &str, schema: &Value| json!({"type": "object", "properties": {of: schema}, "required": [of]});
    let closed = json!({"type": "object", "properties": {}, "additionalProperties": false});
    for (given, taken, path, taken_words) in [
        (&word, &byte, "", "an integer from 0.0 to 255.0"),
        (
            &json!({"type": "number"}),
            &json!({"type": "integer"}),
            "",
            "an integer",
        ),
        (
            &text,
            &json!({"anyOf": [byte, {"type": "null"}]}),
            "",
            "an integer from 0.0 to 255.0 or null",
        ),
        (
            &json!({"anyOf": [byte, {"type": "null"}]}),
            &byte,
            "",
            "an integer from 0.0 to 255.0",
        ),
        (
            &json!({"enum": ["a", "c"]}),
            &json!({"enum": ["a", "b"]}),
            "",
            "\"a\" or \"b\"",
        ),
        (
            &text,
            &json!({"type": "string", "minLength": 1, "maxLength": 1}),
            "",
            "a string of 1 character",
        ),
        (
            &array(text.clone()),
            &array(byte.clone()),
            "[0]",
            "an integer from 0.0 to 255.0",
        ),
        (
            &array(byte.clone()),
            &three,
            "",
            "an array of 3 elements, each an integer from 0.0 to 255.0",
        ),
        (
            &object("x", &text),
            &object("x", &byte),
            ".x",
            "an integer from 0.0 to 255.0",
        ),
        (
            &object("x", &text),
            &object("y", &byte),
            ".y",
            "only one that has it",
        ),
        (&object("x", &text), &closed, ".x", "an object"),
        (
            &json!({"type": "object", "additionalProperties": word}),
            &json!({"type": "object", "additionalProperties": byte}),
            ".*",
            "an integer from 0.0 to 255.0",
        ),
    ] {
        let (found, _, words) = gap(given.clone(), taken.clone()).expect("it doesn't fit");
        assert_eq!(
            (found.as_str(), words.as_str()),
            (path, taken_words),
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
    let checked = check("Shop", CALLS, &Descriptions { help, options });
    checked
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default()
}

#[test]
fn an_error_names_the_command_and_the_argument() {
    let text = json!({"name": "s", "schema": {"type": "string"}});
    let count = json!({"name": "n", "optional": true, "schema": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]}});
    let needed = json!({"name": "n", "schema": {"type": "integer"}});
    let rest = json!({"name": "all", "rest": true, "schema": {"type": "string"}});
    let of = |arguments: &[&Value], result: &str| json!({"arguments": arguments, "result": {"type": result}});
    let list = of(&[&rest], "array");
    let add = of(&[&text, &count], "integer");
    assert_eq!(refused(&add, &list), "");
    for (add, list, expected) in [
        (
            of(&[&count, &count], "integer"),
            &list,
            "`add`, argument 1 (`to`): the client sends a string, and the daemon takes an integer from 0 or null",
        ),
        (
            of(&[&text, &needed], "integer"),
            &list,
            "`add`, argument 2 (`by`): the client may leave it out, and the daemon requires it",
        ),
        (
            of(&[&text], "integer"),
            &list,
            "`add`, argument 2 (`by`): the client sends it, and the daemon takes 1 argument",
        ),
        (
            of(&[&text, &count, &text], "integer"),
            &list,
            "`add`, argument 3 (`s`): the daemon requires it, and the client does not send it",
        ),
        (
            of(&[&text, &count], "string"),
            &list,
            "`add`, result: the daemon returns a string, and the client reads an integer from 0",
        ),
        (
            add.clone(),
            &of(&[&text], "array"),
            "`list`, argument 1 (`s`): the client may leave it out, and the daemon requires it",
        ),
        (
            add.clone(),
            &of(&[], "array"),
            "`list`, argument 1 (`tags`): the client sends it, and the daemon takes no argument",
        ),
    ] {
        let error = refused(&add, list);
        assert!(
            error.starts_with(&format!(
                "Shop does not fit this client: {expected}; change"
            )),
            "{error}"
        );
    }
    let other = refused_by(Some(json!({"greet": {"schema": {}}})), None);
    assert!(
        other.contains("it has no command `add`; it has no command `list`; change"),
        "{other}"
    );
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
