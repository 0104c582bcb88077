//! Tests of the comparison of schemas: tables, and a property over generated schemas and values.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn compare(wide: &Value, narrow: &Value) -> Result<(), Mismatch> {
    let budget = Budget::default();
    let [wide, narrow] = [wide, narrow].map(|schema| SchemaAt::whole(schema, &budget));
    accepts(wide, narrow, Unlisted::Ignored)
}

fn in_words(schema: &Value) -> String {
    spoken(SchemaAt::whole(schema, &Budget::default()))
}

#[track_caller]
fn assert_wider(wide: &Value, narrow: &Value) {
    assert_eq!(compare(wide, narrow), Ok(()), "{wide} accepts {narrow}");
    let back = compare(narrow, wide);
    assert!(back.is_err(), "{narrow} does not accept {wide}");
}

#[test]
fn a_wider_schema_accepts_a_narrower_one_and_not_the_other_way() {
    let byte = json!({"type": "integer", "minimum": 0, "maximum": 255});
    for (wide, narrow) in [
        (json!({"type": "number"}), json!({"type": "integer"})),
        (
            json!({"type": "integer", "format": "int64"}),
            json!({"type": "integer", "format": "int32"}),
        ),
        (json!({"type": "integer"}), byte.clone()),
        (
            json!({"type": "integer", "minimum": -1, "maximum": 255}),
            byte.clone(),
        ),
        (
            json!({"type": ["string", "null"]}),
            json!({"type": "string"}),
        ),
        (
            json!({"anyOf": [{"type": "null"}, {"type": "string"}]}),
            json!({"type": "null"}),
        ),
        (json!({"type": "string"}), json!({"enum": ["a", "b"]})),
        (json!({"enum": ["a", "b"]}), json!({"const": "a"})),
        (
            json!({"type": "string"}),
            json!({"type": "string", "pattern": "^a"}),
        ),
    ] {
        assert_wider(&wide, &narrow);
    }
}

#[test]
fn a_wider_schema_of_a_container_accepts_a_narrower_one() {
    let variants = |names: &[&str]| {
        let of = |name: &&str| json!({"type": "object", "properties": {*name: {"type": "string"}}, "required": [name], "additionalProperties": false});
        let mut all: Vec<Value> = names.iter().map(of).collect();
        all.push(json!({"type": "string", "enum": ["empty"]}));
        json!({"oneOf": all})
    };
    let byte = json!({"type": "integer", "minimum": 0, "maximum": 255});
    for (wide, narrow) in [
        (
            json!({"type": "array", "items": {"type": "number"}}),
            json!({"type": "array", "items": byte}),
        ),
        (
            json!({"type": "array", "items": {"type": "number"}}),
            json!({"type": "array", "prefixItems": [{"type": "integer"}], "items": false, "minItems": 1, "maxItems": 1}),
        ),
        (
            json!({"type": "object"}),
            json!({"type": "object", "additionalProperties": byte}),
        ),
        (
            json!({"type": "object", "properties": {"a": {}}}),
            json!({"type": "object", "properties": {"a": {}}, "required": ["a"]}),
        ),
        (variants(&["dot", "line"]), variants(&["dot"])),
        (
            json!({"allOf": [{"type": "integer"}]}),
            json!({"allOf": [{"type": "integer"}, {"minimum": 3}]}),
        ),
        (json!(true), json!({"type": "null"})),
        (json!({"type": "null"}), json!(false)),
    ] {
        assert_wider(&wide, &narrow);
    }
}

#[test]
fn a_difference_names_its_place() {
    let of = |zip: &str| {
        json!({"type": "array", "items": {"$ref": "#/$defs/Place"}, "$defs": {"Place": {
            "type": "object", "properties": {"zip": {"type": zip}}, "required": ["zip"]}}})
    };
    let mismatch = compare(&of("string"), &of("integer")).expect_err("another type");
    assert_eq!(mismatch.path, "[].zip");
    assert_eq!((&*mismatch.wide, &*mismatch.narrow), ("string", "integer"));
    assert!(!mismatch.is_open);
}

#[test]
fn what_has_no_order_is_a_difference_that_says_so() {
    let pattern = |pattern: &str| json!({"type": "string", "pattern": pattern});
    let mismatch = compare(&pattern("^a"), &pattern("^b")).expect_err("another pattern");
    assert!(mismatch.is_open, "{mismatch:?}");
    assert!(compare(&pattern("^a"), &pattern("^a")).is_ok());
    let unknown = json!({"type": "string", "if": {}, "then": {}});
    assert!(
        compare(&unknown, &json!({"type": "string"}))
            .expect_err("unknown")
            .is_open
    );
}

/// A list that refers to itself, with values of a type.
fn list_of(value: &Value) -> Value {
    json!({"$ref": "#/$defs/List", "$defs": {"List": {"anyOf": [{"type": "null"}, {"type": "object",
        "properties": {"value": value, "next": {"$ref": "#/$defs/List"}}, "required": ["value", "next"]}]}}})
}

#[test]
fn references_in_a_circle_come_to_an_end() {
    assert_wider(
        &list_of(&json!({"type": "number"})),
        &list_of(&json!({"type": "integer"})),
    );
    for endless in [
        json!({"$ref": "#"}),
        json!({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}}),
        json!({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"oneOf": [{"$ref": "#"}, {"type": "array", "items": {"$ref": "#"}}]}),
        json!({"$ref": "#/nowhere"}),
        json!({"$ref": "https://example.com/schema"}),
    ] {
        let text = json!({"type": "string"});
        assert!(compare(&endless, &text).is_err(), "{endless}");
        let _ = compare(&text, &endless);
        let _ = in_words(&endless);
    }
}

#[test]
fn a_large_comparison_is_given_up() {
    let mut wide = json!({"type": "string"});
    for _ in 0..14 {
        let other = json!({"type": "object", "properties": {"a": wide.clone()}});
        wide = json!({"anyOf": [other, {"type": "object", "properties": {"a": wide, "b": {}}}]});
    }
    assert!(compare(&json!({"type": "integer"}), &wide).is_err());
    let _ = compare(&wide, &wide);
}

/// Returns a schema of `levels` levels, each of which holds the next one `times` times.
fn multiplied(keyword: &str, times: usize, levels: usize, last: &Value) -> Value {
    let mut all = serde_json::Map::new();
    all.insert(levels.to_string(), last.clone());
    for level in 0..levels {
        let next = json!({"$ref": format!("#/$defs/{}", level + 1)});
        all.insert(level.to_string(), json!({keyword: vec![next; times]}));
    }
    json!({"$ref": "#/$defs/0", "$defs": all})
}

#[track_caller]
fn assert_too_large(wide: &Value, narrow: &Value) {
    let mismatch = compare(wide, narrow).expect_err("too much work");
    assert!(mismatch.is_open && mismatch.path.is_empty(), "{mismatch:?}");
}

#[test]
fn the_parts_of_all_branches_together_are_bounded() {
    let many = multiplied("allOf", 4, 10, &json!({"type": "string"}));
    assert_too_large(&json!({"type": "string"}), &many);
    assert_too_large(&many, &json!({"type": "string"}));
    assert_eq!(in_words(&many), "schema with too many parts");
    let few = multiplied("allOf", 4, 3, &json!({"type": "string"}));
    assert_eq!(compare(&few, &few), Ok(()));
}

#[test]
fn the_checks_of_one_value_are_bounded() {
    let many = multiplied("anyOf", 2, 18, &json!({"type": ["null", "boolean"]}));
    for narrow in [
        json!({"type": "null"}),
        json!({"type": "boolean"}),
        json!({"enum": [null]}),
    ] {
        assert_too_large(&many, &narrow);
        let few = multiplied("anyOf", 2, 5, &narrow);
        assert_eq!(compare(&few, &narrow), Ok(()));
    }
}

#[test]
fn alternatives_beside_others_are_bounded() {
    let all = vec![json!({}); 1500];
    let many = json!({"anyOf": all, "oneOf": all});
    assert_too_large(&json!({}), &many);
    assert!(compare(&json!({"type": "string"}), &many).is_err());
    assert_eq!(in_words(&many), "schema with too many parts");
}

#[test]
fn a_schema_of_many_variants_or_values_is_compared() {
    let variant = |at: usize| {
        json!({"type": "object", "required": ["kind"], "properties": {
        "kind": {"const": format!("kind-{at}")}, "value": {"type": "integer"}, "text": {"type": "string"}}})
    };
    let variants = |count: usize| json!({"oneOf": (0..count).map(variant).collect::<Vec<_>>()});
    assert_wider(&variants(100), &variants(99));
    let values = |count: usize| json!({"enum": (0..count).map(|at| format!("value-{at}")).collect::<Vec<_>>()});
    assert_wider(&values(1000), &values(999));
    assert_eq!(in_words(&values(1000)), "one of 1000 values");
}

#[test]
fn a_long_value_is_cut_short_in_words() {
    let long = |text: &str| in_words(&json!({"const": text.repeat(100)}));
    assert_eq!(long("a"), format!("\"{}…", "a".repeat(39)));
    assert_eq!(long("🦀"), format!("\"{}…", "🦀".repeat(39)));
    assert_eq!(
        in_words(&json!({"const": "a".repeat(38)})),
        format!("\"{}\"", "a".repeat(38))
    );
}

#[test]
fn a_schema_has_a_short_name() {
    for (schema, expected) in [
        (json!({"type": "string"}), "string"),
        (json!({"type": "integer", "minimum": 0}), "integer"),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            "array of string",
        ),
        (json!({"type": ["string", "null"]}), "null or string"),
        (
            json!({"anyOf": [{"type": "string"}, {"type": "null"}]}),
            "string or null",
        ),
        (json!({"type": "object", "properties": {"a": {}}}), "object"),
        (
            json!({"type": "object", "additionalProperties": {"type": "boolean"}}),
            "object of boolean",
        ),
        (json!({"enum": ["a", 1]}), "\"a\" or 1"),
        (json!({"enum": [1, 2, 3, 4, 5]}), "one of 5 values"),
        (json!(true), "any"),
        (json!(false), "nothing"),
        (
            json!({"$ref": "#/$defs/A", "$defs": {"A": {"type": "boolean"}}}),
            "boolean",
        ),
    ] {
        assert_eq!(in_words(&schema), expected, "{schema}");
    }
}

/// Schemas of a small grammar, without others inside.
fn simple_schemas() -> impl Strategy<Value = Value> {
    let bounds = (-3_i64..3, 0_i64..4).prop_map(
        |(from, more)| json!({"type": "integer", "minimum": from, "maximum": from + more}),
    );
    prop_oneof![
        Just(json!(true)),
        Just(json!({"type": "null"})),
        Just(json!({"type": "boolean"})),
        Just(json!({"type": "integer"})),
        Just(json!({"type": "number"})),
        Just(json!({"type": "string"})),
        Just(json!({"type": ["string", "null"]})),
        (0_usize..2, 0_usize..3).prop_map(
            |(least, more)| json!({"type": "string", "minLength": least, "maxLength": least + more})
        ),
        proptest::sample::subsequence(
            vec![json!("a"), json!("bb"), json!(1), json!(null), json!(true)],
            1..4
        )
        .prop_map(|values| json!({"enum": values})),
        bounds,
    ]
}

/// Schemas of a small grammar.
fn schemas() -> impl Strategy<Value = Value> {
    simple_schemas().prop_recursive(3, 12, 3, |inner| {
        let all = proptest::collection::vec(inner.clone(), 1..3);
        prop_oneof![
            inner.clone().prop_map(|items| json!({"type": "array", "items": items})),
            (all.clone(), any::<bool>()).prop_map(|(first, is_open)| {
                json!({"type": "array", "prefixItems": first, "items": is_open})
            }),
            (inner.clone(), 0_usize..2, 0_usize..3).prop_map(|(items, least, more)| {
                json!({"type": "array", "items": items, "minItems": least, "maxItems": least + more})
            }),
            inner.clone().prop_map(|others| json!({"type": "object", "additionalProperties": others})),
            (inner.clone(), inner, any::<[bool; 3]>()).prop_map(|(a, b, [needs_a, needs_b, is_closed])| {
                let required = [("a", needs_a), ("b", needs_b)].into_iter().filter(|(_, needed)| *needed);
                let required: Vec<&str> = required.map(|(name, _)| name).collect();
                let mut schema = json!({"type": "object", "properties": {"a": a, "b": b}, "required": required});
                if is_closed {
                    schema["additionalProperties"] = false.into();
                }
                schema
            }),
            (all.clone(), prop_oneof!["anyOf", "oneOf", "allOf"]).prop_map(|(all, keyword)| json!({keyword: all})),
        ]
    })
}

/// Values of a small grammar, which hits the schemas often.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-4_i64..8).prop_map(Value::from),
        Just(json!(0.5)),
        prop_oneof!["", "a", "bb", "ccc"].prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let members = proptest::collection::btree_map(prop_oneof!["a", "b"], inner.clone(), 0..3);
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(Value::from),
            members.prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Returns whether a value is valid, by a second reading of the standard's text for the grammar above. All members that
/// the values have are listed by each object, so members that are not listed need no rule.
fn is_valid(schema: &Value, value: &Value) -> bool {
    let Some(keywords) = schema.as_object() else {
        return schema != &json!(false);
    };
    let mut each = keywords.iter();
    each.all(|(keyword, given)| match keyword.as_str() {
        "anyOf" => all_of(given).any(|one| is_valid(one, value)),
        "allOf" => all_of(given).all(|one| is_valid(one, value)),
        "oneOf" => all_of(given).filter(|one| is_valid(one, value)).count() == 1,
        "enum" => all_of(given).any(|one| one == value),
        "type" if given.is_array() => all_of(given).any(|kind| is_of(kind, value)),
        "type" => is_of(given, value),
        keyword if value.is_array() => fits_array((keyword, given), schema, value),
        keyword if value.is_object() => fits_object((keyword, given), schema, value),
        keyword => fits_bound(keyword, given, value),
    })
}

fn all_of(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn is_of(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap_or_default() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        _ => value.is_object(),
    }
}

fn fits_bound(keyword: &str, given: &Value, value: &Value) -> bool {
    let length = value.as_str().map(|text| text.len() as f64);
    let bound = given.as_f64().unwrap_or_default();
    match keyword {
        "minimum" => value.as_f64().is_none_or(|number| number >= bound),
        "maximum" => value.as_f64().is_none_or(|number| number <= bound),
        "minLength" => length.is_none_or(|length| length >= bound),
        "maxLength" => length.is_none_or(|length| length <= bound),
        _ => true,
    }
}

fn fits_array((keyword, given): (&str, &Value), schema: &Value, value: &Value) -> bool {
    let (length, bound) = (all_of(value).count() as u64, given.as_u64());
    let first = schema
        .get("prefixItems")
        .map_or(0, |first| all_of(first).count());
    match keyword {
        "minItems" => Some(length) >= bound,
        "maxItems" => Some(length) <= bound,
        "prefixItems" => all_of(given)
            .zip(all_of(value))
            .all(|(schema, one)| is_valid(schema, one)),
        "items" => all_of(value).skip(first).all(|one| is_valid(given, one)),
        _ => true,
    }
}

fn fits_object((keyword, given): (&str, &Value), schema: &Value, value: &Value) -> bool {
    let mut members = value.as_object().into_iter().flatten();
    match keyword {
        "required" => {
            all_of(given).all(|name| value.get(name.as_str().unwrap_or_default()).is_some())
        }
        "properties" => members.all(|(name, one)| is_valid(&given[name], one)),
        "additionalProperties" => {
            schema.get("properties").is_some() || members.all(|(_, one)| is_valid(given, one))
        }
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn what_the_narrow_schema_allows_the_wide_one_accepts(
        wide in schemas(), narrow in schemas(), values in proptest::collection::vec(values(), 24),
    ) {
        for (wide, narrow) in [(&wide, &narrow), (&json!({"anyOf": [narrow, wide]}), &narrow), (&narrow, &json!({"allOf": [narrow, wide]}))] {
            if compare(wide, narrow).is_ok() {
                for value in &values {
                    let is_kept = !is_valid(narrow, value) || is_valid(wide, value);
                    prop_assert!(is_kept, "{wide} accepts {narrow}, and not {value}");
                }
            }
        }
    }

    #[test]
    fn a_schema_accepts_itself(schema in schemas()) {
        let is_exclusive = schema.to_string().contains("oneOf");
        let accepted = compare(&schema, &schema);
        prop_assert!(is_exclusive || accepted.is_ok(), "{schema}: {accepted:?}");
    }
}
