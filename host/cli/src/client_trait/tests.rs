//! Tests of the source for schemas and names of all kinds.

use serde_json::{Value, json};

use super::source::of;
use super::types::{Side, Types};
use super::{CommandShape, Interface};

fn types_of(schema: &Value) -> (String, String) {
    let of = |side| Types::new("Shop").of(schema, "buy item", side);
    (of(Side::Caller), of(Side::Daemon))
}

/// Schemas, each with its type for both sides.
const TYPES: &[(&str, &str)] = &[
    (r##"true"##, "json::Value"),
    (r##"{}"##, "json::Value"),
    (r##"{"type":"null"}"##, "()"),
    (r##"{"type":"boolean"}"##, "bool"),
    (r##"{"type":"number"}"##, "f64"),
    (r##"{"type":"integer","minimum":0,"maximum":255}"##, "u8"),
    (
        r##"{"type":"integer","minimum":0,"maximum":340282366920938463463374607431768211455}"##,
        "u128",
    ),
    (r##"{"type":"integer"}"##, "i64"),
    (r##"{"type":"integer","minimum":0}"##, "u64"),
    (
        r##"{"type":"integer","format":"uint16","minimum":0}"##,
        "u16",
    ),
    (r##"{"type":"string","minLength":1,"maxLength":1}"##, "char"),
    (r##"{"type":["string","null"]}"##, "Option<String>"),
    (
        r##"{"anyOf":[{"type":"string"},{"type":"null"}]}"##,
        "Option<String>",
    ),
    (
        r##"{"anyOf":[{"type":"string"},{"type":"boolean"}]}"##,
        "json::Value",
    ),
    (
        r##"{"type":"array","items":{"type":"boolean"}}"##,
        "Vec<bool>",
    ),
    (
        r##"{"type":"array","items":{"type":"boolean"},"minItems":3,"maxItems":3}"##,
        "[bool; 3]",
    ),
    (
        r##"{"type":"array","prefixItems":[{"type":"null"},{"type":"string"}],"items":false,"minItems":2,"maxItems":2}"##,
        "((), String)",
    ),
    (r##"{"type":"object"}"##, "json::Map<String, json::Value>"),
    (
        r##"{"type":"object","additionalProperties":{"type":"null"}}"##,
        "std::collections::BTreeMap<String, ()>",
    ),
    (r##"{"type":"object","properties":{"x":true}}"##, "BuyItem"),
    (
        r##"{"title":"Shop","type":"object","properties":{"x":true}}"##,
        "Shop2",
    ),
    (r##"{"title":"Option","enum":["a","b"]}"##, "OptionType"),
    (r##"{"title":"Bytes","enum":["a","b"]}"##, "BytesType"),
    (r##"{"type":"string","contentEncoding":"base64"}"##, "Bytes"),
    (r##"{"enum":["a",1]}"##, "json::Value"),
    (
        r##"{"$ref":"#/$defs/A","$defs":{"A":{"type":"string"}}}"##,
        "String",
    ),
    (r##"{"$ref":"#/$defs/gone"}"##, "json::Value"),
    (r##"{"$ref":"#"}"##, "json::Value"),
    (r##"{"$ref":"other.json#/A"}"##, "json::Value"),
];

#[test]
fn a_schema_becomes_the_type_that_has_its_values() {
    for (schema, expected) in TYPES {
        let read = serde_json::from_str(schema).expect("it is JSON");
        let expected = ((*expected).to_owned(), (*expected).to_owned());
        assert_eq!(types_of(&read), expected, "{schema}");
    }
}

#[test]
fn an_argument_with_a_bound_of_its_own_is_any_json_and_a_result_is_not() {
    for (schema, result) in [
        (
            json!({"type": "integer", "minimum": 1, "maximum": 100}),
            "u64",
        ),
        (
            json!({"type": "integer", "minimum": -5, "maximum": 5}),
            "i64",
        ),
        (json!({"type": "number", "minimum": 0, "maximum": 1}), "f64"),
        (json!({"type": "string", "maxLength": 9}), "String"),
        (
            json!({"type": "array", "items": {"type": "null"}, "minItems": 1}),
            "Vec<()>",
        ),
    ] {
        let expected = ("json::Value".to_owned(), result.to_owned());
        assert_eq!(types_of(&schema), expected, "{schema}");
    }
}

#[test]
fn types_that_refer_to_themselves_end() {
    let list = json!({
        "$ref": "#/$defs/Node",
        "$defs": {"Node": {"type": "object", "required": ["next", "all"], "properties": {
            "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
            "all": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
        }}},
    });
    let mut types = Types::new("Shop");
    assert_eq!(types.of(&list, "list", Side::Daemon), "Node");
    assert_eq!(types.of(&list, "list", Side::Caller), "Node");
    let items: Vec<String> = types.items().collect();
    assert_eq!(items.len(), 1, "it is written once: {items:?}");
    assert!(items[0].contains("pub next: json::Value,"), "{items:?}");
    assert!(items[0].contains("pub all: Vec<json::Value>,"), "{items:?}");
    let deep = (0..200).fold(
        json!({"type": "null"}),
        |inner, _| json!({"type": "array", "items": inner}),
    );
    let (caller, _) = types_of(&deep);
    assert!(
        caller.contains("json::Value") && caller.len() < 500,
        "{caller}"
    );
}

/// Returns a schema whose definitions refer to others: `parts` has the definition of each number.
fn graph(count: usize, parts: impl Fn(usize) -> Value) -> Value {
    let definitions = (0..count).map(|n| (format!("A{n}"), parts(n)));
    let definitions: serde_json::Map<String, Value> = definitions.collect();
    json!({"$ref": "#/$defs/A0", "$defs": definitions})
}

fn structure(members: impl Iterator<Item = (String, Value)>) -> Value {
    let members: serde_json::Map<String, Value> = members.collect();
    json!({"type": "object", "properties": members})
}

fn reference(n: usize) -> Value {
    json!({"$ref": format!("#/$defs/A{n}")})
}

#[test]
fn a_definition_is_read_once_for_all_paths_that_lead_to_it() {
    let layers = graph(13, |n| match n {
        12 => structure(
            [
                ("next".to_owned(), reference(12)),
                ("is_end".to_owned(), json!({"type": "boolean"})),
            ]
            .into_iter(),
        ),
        n => structure((0..10).map(|member| (format!("m{member}"), reference(n + 1)))),
    });
    let mut types = Types::new("Shop");
    assert_eq!(types.of(&layers, "layers", Side::Caller), "A0");
    assert_eq!(types.of(&layers, "layers", Side::Daemon), "A0");
    let items: Vec<String> = types.items().collect();
    assert_eq!(items.len(), 13, "{items:?}");
    assert!(items[0].contains("pub next: json::Value,"), "{items:?}");
    assert!(items[12].contains("pub m9: Option<A1>,"), "{items:?}");
}

#[test]
fn a_schema_with_too_many_paths_is_any_json_and_leaves_no_types() {
    let tree = graph(12, |_| {
        structure((0..12).map(|other| (format!("m{other}"), reference(other))))
    });
    let tuples = graph(13, |n| match n {
        12 => json!({"type": "boolean"}),
        n => {
            json!({"type": "array", "minItems": 8, "maxItems": 8, "prefixItems": vec![reference(n + 1); 8]})
        }
    });
    let mut types = Types::new("Shop");
    assert_eq!(types.of(&tree, "tree", Side::Caller), "json::Value");
    assert_eq!(types.items().count(), 0);
    let text = types.of(&tuples, "tuples", Side::Daemon);
    assert!(
        text.contains("json::Value") && text.len() < 100_000,
        "{text:.200}"
    );
    let one = json!({"title": "A0", "type": "object", "properties": {"x": {"type": "null"}}});
    assert_eq!(types.of(&one, "one", Side::Daemon), "A0");
}

#[test]
fn many_values_of_one_name_are_numbered_at_once() {
    let values: Vec<String> = (0..5_000)
        .filter_map(|n| char::from_u32(0x4e00 + n))
        .map(String::from)
        .collect();
    let mut types = Types::new("Shop");
    assert_eq!(
        types.of(&json!({"enum": values}), "word", Side::Daemon),
        "Word"
    );
    let items: Vec<String> = types.items().collect();
    assert!(items[0].contains("    Of5000,\n"), "{items:.200?}");
}

fn source(commands: &Value) -> String {
    let commands: Vec<CommandShape> = serde_json::from_value(commands.clone()).expect("commands");
    let interface = Interface {
        daemon: "my.shop".to_owned(),
        about: String::new(),
        commands,
    };
    of(&interface, "MyShop")
}

#[test]
fn names_that_are_no_identifiers_are_mapped() {
    let text = json!({"type": "string"});
    let argument = |name: &str| json!({"name": name, "schema": text});
    let written = source(&json!([
        {"name": "set-all", "arguments": [argument("type"), argument("a b"), argument("a-b")], "result": true},
        {"name": "set_all", "arguments": [], "result": {"type": "null"}},
        {"name": "type", "doc": "Its type.\n\n    a */ \\ \"quote\"", "arguments": [], "result": text},
        {"name": "at", "arguments": [{"name": "rest", "rest": true, "schema": text}], "result": {
            "title": "Kind", "oneOf": [{"const": "on-off", "description": "Both."}, {"const": "Off"}]}},
        {"name": "say\"it", "arguments": [], "result": {"title": "Seen", "type": "object", "required": ["isOpen"], "properties": {
            "isOpen": {"type": "boolean", "description": "Whether."}, "self": text}}},
    ]));
    for part in [
        "#[daemon_client(name = \"my.shop\")]\npub trait MyShop {\n",
        "    #[command(name = \"set-all\")]\n    async fn set_all(&self, r#type: &str, a_b: &str, a_b_2: &str) -> Result<json::Value>;\n",
        "    #[command(name = \"set_all\")]\n    async fn set_all_2(&self) -> Result<()>;\n",
        "    /// Its type.\n    ///\n    ///     a */ \\ \"quote\"\n    async fn r#type(&self) -> Result<String>;\n",
        "    #[command(name = \"at\")]\n    async fn at_2(&self, #[rest] rest: Vec<String>) -> Result<Kind>;\n",
        "    #[command(name = \"say\\\"it\")]\n    async fn say_it(&self) -> Result<Seen>;\n",
        "pub enum Kind {\n    /// Both.\n    #[serde(rename = \"on-off\")]\n    OnOff,\n    Off,\n}\n",
        "    /// Whether.\n    #[serde(rename = \"isOpen\")]\n    pub is_open: bool,\n",
        "    #[serde(rename = \"self\")]\n    #[serde(default, skip_serializing_if = \"Option::is_none\")]\n    pub self_: Option<String>,\n",
    ] {
        assert!(written.contains(part), "{part}\nin\n{written}");
    }
}

#[test]
fn a_doc_comment_has_only_characters_that_the_compiler_takes() {
    let bidirectional = ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}');
    let bidirectional: String = bidirectional.collect();
    let seen = json!({"title": "Seen", "description": "A\rtype.", "type": "object", "properties": {
        "word": {"type": "boolean", "description": format!("Is{bidirectional}it.")}}});
    let written = source(
        &json!([{"name": "see", "doc": "Sees.\r\nAnd\rlooks.\r", "arguments": [
        {"name": "by", "description": "Some\rone.", "schema": true}], "result": seen}]),
    );
    assert!(!written.contains('\r'), "{written:?}");
    assert!(
        !written.contains(|c| bidirectional.contains(c)),
        "{written:?}"
    );
    for part in [
        "    /// Sees.\n    /// And looks.\n    ///\n    /// - `by`: Some one.\n",
        "/// A type.\n",
        "    /// Is         it.\n",
    ] {
        assert!(written.contains(part), "{part}\nin\n{written}");
    }
}

#[test]
fn a_long_function_has_a_line_for_each_argument() {
    let argument =
        |name: &str| json!({"name": name, "description": "A\nword.", "schema": {"type": "string"}});
    let names = [
        "the_first_word",
        "the_second_word",
        "the_third_word",
        "the_fourth_word",
    ];
    let arguments: Vec<Value> = names.into_iter().map(argument).collect();
    let written = source(
        &json!([{"name": "speak", "doc": "Speaks.", "arguments": arguments, "result": true}]),
    );
    assert!(
        written.contains("    /// - `the_first_word`: A word.\n"),
        "{written}"
    );
    assert!(
        written.contains("    async fn speak(\n        &self,\n        the_first_word: &str,\n"),
        "{written}"
    );
}
