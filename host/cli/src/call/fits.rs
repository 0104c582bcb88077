//! The judgement whether a JSON value is of the type that a schema names.
//!
//! `call` reads a word by the type of its parameter, so it asks this of every word that is JSON. The type, `enum`,
//! `const`, `anyOf`, `oneOf`, `allOf` and local references decide. Ranges, lengths and the insides of arrays and
//! objects don't: the daemon checks them, and its message is better.
//!
//! A schema comes from a daemon of any make, so reading it has a limit. A schema that is not understood, such as one
//! whose references lead in a circle, permits everything, as a schema that is not known does.

use serde_json::Value;

/// The most work for one value: one step for each schema that is read, for each of its keywords, and for each value or
/// type that a keyword lists. The schema of a real type takes a few hundred.
const STEPS_MAX: usize = 10_000;

/// The length of a reference that takes a step (bytes).
const REFERENCE_BYTES: usize = 16;

/// The deepest nesting of schemas, references included. It bounds the stack.
const DEPTH_MAX: u32 = 100;

/// Returns whether `schema` permits the value that `json` holds, which is strict JSON.
pub(super) fn permits(schema: &Value, json: &str) -> bool {
    let mut judge = Judge {
        root: schema,
        json: json.trim(),
        value: serde_json::from_str(json).ok(),
        steps: 0,
    };
    // A judgement that was given up has no meaning, whatever its parts said.
    judge.permits(schema, 0).unwrap_or(true)
}

/// Returns whether `schema` permits `true` and `false` and, but for `null`, nothing else.
pub(in super::super) fn is_boolean(schema: &Value) -> bool {
    let others = [r#""""#, "0", "[]", "{}"];
    ["true", "false"].iter().all(|json| permits(schema, json))
        && !others.iter().any(|json| permits(schema, json))
}

/// One value that is compared with a schema.
struct Judge<'a> {
    /// The schema that local references start from.
    root: &'a Value,
    json: &'a str,
    /// `None` for a number that no `f64` holds.
    value: Option<Value>,
    steps: usize,
}

impl Judge<'_> {
    /// Returns `None` if the schema has too many parts, or nests too deep.
    fn permits(&mut self, schema: &Value, depth: u32) -> Option<bool> {
        self.spend(1)?;
        if depth > DEPTH_MAX {
            return None;
        }
        let schema = match schema {
            Value::Object(schema) => schema,
            Value::Bool(permits) => return Some(*permits),
            _ => return Some(true),
        };
        self.spend(schema.len())?;
        for (keyword, rule) in schema {
            let permits = match (keyword.as_str(), rule) {
                ("type", types) => self.has_type(types)?,
                ("enum", Value::Array(values)) => self.is_any(values)?,
                ("const", value) => self.is(value),
                ("anyOf" | "oneOf", Value::Array(schemas)) => self.any(schemas, depth)?,
                ("allOf", Value::Array(schemas)) => self.all(schemas, depth)?,
                ("$ref", Value::String(reference)) => self.referred(reference, depth)?,
                _ => true,
            };
            if !permits {
                return Some(false);
            }
        }
        Some(true)
    }

    /// Counts steps before they are taken. Returns `None` if they are too many.
    fn spend(&mut self, steps: usize) -> Option<()> {
        self.steps = self.steps.saturating_add(steps);
        (self.steps <= STEPS_MAX).then_some(())
    }

    fn any(&mut self, schemas: &[Value], depth: u32) -> Option<bool> {
        for schema in schemas {
            if self.permits(schema, depth + 1)? {
                return Some(true);
            }
        }
        Some(false)
    }

    fn all(&mut self, schemas: &[Value], depth: u32) -> Option<bool> {
        for schema in schemas {
            if !self.permits(schema, depth + 1)? {
                return Some(false);
            }
        }
        Some(true)
    }

    fn referred(&mut self, reference: &str, depth: u32) -> Option<bool> {
        self.spend(reference.len() / REFERENCE_BYTES)?;
        let root = self.root;
        let schema = reference
            .strip_prefix('#')
            .and_then(|path| root.pointer(path));
        match schema {
            Some(schema) => self.permits(schema, depth + 1),
            // It is of another document, or leads nowhere.
            None => Some(true),
        }
    }

    fn has_type(&mut self, types: &Value) -> Option<bool> {
        let has = match types {
            Value::String(name) => self.is_a(name),
            Value::Array(names) => {
                self.spend(names.len())?;
                let mut names = names.iter().map(Value::as_str);
                names.any(|name| name.is_none_or(|name| self.is_a(name)))
            }
            _ => true,
        };
        Some(has)
    }

    /// Returns whether the value is of the named type. The first character of JSON shows its type.
    fn is_a(&self, name: &str) -> bool {
        let first = self.json.bytes().next().unwrap_or_default();
        match name {
            "string" => first == b'"',
            "array" => first == b'[',
            "object" => first == b'{',
            "boolean" => matches!(first, b't' | b'f'),
            "null" => first == b'n',
            "number" => is_digit(first),
            "integer" => is_digit(first) && self.is_whole(),
            _ => true,
        }
    }

    fn is_whole(&self) -> bool {
        let has_digits_only = !self.json.contains(['.', 'e', 'E']);
        let is_whole = |value: f64| value.fract() == 0.0;
        has_digits_only || self.number().is_some_and(is_whole)
    }

    fn number(&self) -> Option<f64> {
        self.value.as_ref().and_then(Value::as_f64)
    }

    fn is_any(&mut self, values: &[Value]) -> Option<bool> {
        self.spend(values.len())?;
        Some(values.iter().any(|value| self.is(value)))
    }

    /// Returns whether the value is that one. `1.0` is `1`.
    fn is(&self, other: &Value) -> bool {
        let is_same_number = || self.number().is_some() && self.number() == other.as_f64();
        self.value.as_ref() == Some(other) || is_same_number()
    }
}

fn is_digit(first: u8) -> bool {
    first == b'-' || first.is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Checks which of nine values a schema permits, `1` for each that it does.
    fn check(cases: &[(Value, &str)]) {
        let values = [
            r#""a""#, "1", "1.5", "1.0", "1e400", "true", "null", "[1]", "{}",
        ];
        for (schema, expected) in cases {
            let found = values.map(|json| if permits(schema, json) { '1' } else { '0' });
            assert_eq!(&found.iter().collect::<String>(), expected, "{schema}");
        }
    }

    #[test]
    fn the_type_decides() {
        check(&[
            (json!({"type": "string"}), "100000000"),
            (json!({"type": "integer"}), "010100000"),
            (json!({"type": "number"}), "011110000"),
            (json!({"type": "boolean"}), "000001000"),
            (json!({"type": "null"}), "000000100"),
            (
                json!({"type": "array", "items": {"type": "string"}}),
                "000000010",
            ),
            (json!({"type": "object", "required": ["a"]}), "000000001"),
            (
                json!({"type": ["string", "null"], "maxLength": 0}),
                "100000100",
            ),
            (json!({"type": "of a later draft"}), "111111111"),
            (json!({"type": 7}), "111111111"),
            (json!({"enum": ["a", 1, null]}), "110100100"),
            (json!({"enum": 7}), "111111111"),
            (json!({"const": "a"}), "100000000"),
        ]);
    }

    #[test]
    fn parts_of_a_schema_decide_together() {
        check(&[
            (
                json!({"anyOf": [{"type": "integer"}, {"type": "null"}]}),
                "010100100",
            ),
            (
                json!({"oneOf": [{"const": true}, {"type": "array"}]}),
                "000001010",
            ),
            (
                json!({"allOf": [{"type": ["null", "integer"]}, {"type": "integer"}]}),
                "010100000",
            ),
            (json!({"anyOf": []}), "000000000"),
            (json!({"description": "anything"}), "111111111"),
            (json!(true), "111111111"),
            (json!(false), "000000000"),
            (json!("no schema"), "111111111"),
        ]);
    }

    #[test]
    fn a_reference_leads_into_the_definitions() {
        let schema = json!({
            "anyOf": [{"$ref": "#/$defs/a~1b"}, {"type": "null"}],
            "$defs": {"a/b": {"$ref": "#/$defs/Word"}, "Word": {"type": "string"}},
        });
        for (json, expected) in [(r#""x""#, true), ("null", true), ("1", false)] {
            assert_eq!(permits(&schema, json), expected, "{json}");
        }
        for reference in ["#/$defs/Nowhere", "https://example.org/schema", "#anchor"] {
            assert!(permits(&json!({"$ref": reference}), "1"), "{reference}");
        }
    }

    #[test]
    fn a_schema_without_end_permits_everything() {
        let knot =
            json!({"anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/A"}, {"$ref": "#/$defs/A"}]});
        let mut deep = json!({"type": "string"});
        for _ in 0..DEPTH_MAX * 2 {
            deep = json!({"allOf": [deep]});
        }
        for schema in [
            json!({"$ref": "#"}),
            json!({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}}),
            json!({"$ref": "#/$defs/A", "$defs": {"A": knot}}),
            json!({"anyOf": vec![json!({"type": "string"}); STEPS_MAX + 1]}),
            deep,
        ] {
            assert!(permits(&schema, "1"), "{schema:.200}");
            assert!(!is_boolean(&schema), "{schema:.200}");
        }
    }

    #[test]
    fn long_parts_of_a_schema_count_as_many() {
        let repeated = |reference: &str, count: usize, name: &str, definition: Value| {
            let all = vec![json!({"$ref": reference}); count];
            json!({"anyOf": all, "$defs": {name: definition}})
        };
        let numbers: Vec<usize> = (0..2_000).collect();
        let names = vec!["null"; 2_000];
        let others = (0..2_000).map(|n| (format!("a{n}"), Value::Null));
        let mut others: serde_json::Map<String, Value> = others.collect();
        others.insert("type".to_owned(), json!("null"));
        let long = "x".repeat(10_000);
        for schema in [
            repeated("#/$defs/E", 1_000, "E", json!({"enum": numbers})),
            repeated("#/$defs/E", 1_000, "E", json!({"type": names})),
            repeated("#/$defs/E", 1_000, "E", Value::Object(others)),
            repeated(&format!("#/$defs/{long}"), 1_000, &long, json!(false)),
        ] {
            assert!(permits(&schema, r#""a""#), "{schema:.200}");
        }
        let once = json!({"enum": numbers});
        assert!(permits(&once, "1999") && !permits(&once, "2000"));
        let usual = repeated("#/$defs/E", 100, "E", json!({"enum": ["a", "b", "c"]}));
        assert!(permits(&usual, r#""c""#) && !permits(&usual, r#""d""#));
    }

    #[test]
    fn a_boolean_may_be_optional() {
        for (schema, expected) in [
            (json!({"type": "boolean"}), true),
            (json!({"type": ["boolean", "null"]}), true),
            (
                json!({"anyOf": [{"type": "boolean"}, {"type": "null"}]}),
                true,
            ),
            (json!({"enum": [true, false]}), true),
            (json!({"const": true}), false),
            (json!({"type": ["boolean", "string"]}), false),
            (json!({"type": "string"}), false),
            (json!(true), false),
        ] {
            assert_eq!(is_boolean(&schema), expected, "{schema}");
        }
    }
}
