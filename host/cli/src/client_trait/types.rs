//! Types of Rust for JSON Schemas.
//!
//! An object with known members becomes a struct, and a list of strings an enum. A schema that no simple type has, such as
//! other unions or a type that refers to itself, becomes `json::Value`. The type of an argument has only values that the
//! daemon takes, so one with a bound of the author's own is `json::Value`, too.

use std::collections::HashSet;
use std::fmt::Write as _;

use serde_json::Value;

use super::names;
use super::source::doc;

/// The type of any JSON.
const ANY: &str = "json::Value";
/// The deepest schema that is read. A deeper part is any JSON.
const DEPTH_MAX: usize = 32;
/// The longest array that serde reads.
const ARRAY_MAX: u64 = 32;
/// The most members of a tuple that have a schema.
const TUPLE_MAX: usize = 8;

/// The integers with their bounds, the usual ones first. The bounds of a schema were read as floats, too.
#[allow(
    clippy::cast_lossless,
    clippy::cast_precision_loss,
    reason = "a constant has no `into`, and both sides of a comparison are rounded alike"
)]
const INTEGERS: [(&str, f64, f64); 10] = [
    ("u64", 0.0, u64::MAX as f64),
    ("i64", i64::MIN as f64, i64::MAX as f64),
    ("u8", 0.0, u8::MAX as f64),
    ("u16", 0.0, u16::MAX as f64),
    ("u32", 0.0, u32::MAX as f64),
    ("u128", 0.0, u128::MAX as f64),
    ("i8", i8::MIN as f64, i8::MAX as f64),
    ("i16", i16::MIN as f64, i16::MAX as f64),
    ("i32", i32::MIN as f64, i32::MAX as f64),
    ("i128", i128::MIN as f64, i128::MAX as f64),
];

/// The side that makes the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The caller makes them, so the daemon must take each.
    Caller,
    /// The daemon makes them, so the caller must read each.
    Daemon,
}

/// The types that a source has so far.
#[derive(Debug)]
pub(super) struct Types {
    taken: HashSet<String>,
    items: Vec<TypeItem>,
}

/// A struct or an enum.
#[derive(Debug)]
struct TypeItem {
    /// The name that it would have if no other type had it.
    wanted: String,
    name: String,
    /// The doc comment and the attributes.
    head: String,
    /// The word `struct` or `enum`.
    kind: &'static str,
    body: String,
}

/// A place in a schema.
#[derive(Debug, Clone, Copy)]
struct SchemaPlace<'s> {
    /// The schema to which references refer.
    document: &'s Value,
    /// The references that led here.
    through: &'s [&'s str],
    depth: usize,
    side: Side,
}

impl Types {
    /// Returns no types but that of the client.
    pub(super) fn new(client: &str) -> Self {
        Types {
            taken: HashSet::from([client.to_owned()]),
            items: Vec::new(),
        }
    }

    /// Returns the source of each type.
    pub(super) fn items(&self) -> impl Iterator<Item = String> {
        self.items.iter().map(|item| {
            let TypeItem {
                name,
                head,
                kind,
                body,
                ..
            } = item;
            format!(
                "{head}#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]\npub {kind} {name} {body}\n"
            )
        })
    }

    /// Returns the type of a schema. A type of its own is named after `hint`, unless the schema has a title.
    pub(super) fn of(&mut self, schema: &Value, hint: &str, side: Side) -> String {
        let place = SchemaPlace {
            document: schema,
            through: &[],
            depth: 0,
            side,
        };
        self.at(schema, hint, place)
    }

    fn at(&mut self, schema: &Value, hint: &str, place: SchemaPlace<'_>) -> String {
        let place = SchemaPlace {
            depth: place.depth + 1,
            ..place
        };
        if place.depth > DEPTH_MAX {
            return ANY.to_owned();
        }
        if let Some(reference) = schema["$ref"].as_str() {
            return self.referred(reference, place);
        }
        if let Some(all) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
            return self.union(schema, all, hint, place);
        }
        if let Some(all) = schema["enum"].as_array() {
            let texts: Option<Vec<_>> = all.iter().map(|one| Some((one.as_str()?, ""))).collect();
            return texts.map_or_else(
                || ANY.to_owned(),
                |texts| self.string_enum(schema, &texts, hint),
            );
        }
        match &schema["type"] {
            Value::String(name) => self.of_type(name, schema, hint, place),
            Value::Array(names) => match names.as_slice() {
                [Value::String(name), Value::String(null)] if null == "null" => {
                    optional(&self.of_type(name, schema, hint, place))
                }
                _ => ANY.to_owned(),
            },
            _ => ANY.to_owned(),
        }
    }

    /// Returns the type to which a reference refers; any JSON if it leads back to itself or out of the schema.
    fn referred(&mut self, reference: &str, place: SchemaPlace<'_>) -> String {
        let pointer = reference.strip_prefix('#').unwrap_or("?");
        let target = place.document.pointer(pointer);
        match target {
            Some(target) if !place.through.contains(&reference) && !pointer.is_empty() => {
                let through = [place.through, &[reference]].concat();
                let hint = pointer.rsplit('/').next().unwrap_or("type");
                let place = SchemaPlace {
                    through: &through,
                    ..place
                };
                self.at(target, hint, place)
            }
            _ => ANY.to_owned(),
        }
    }

    /// Returns the type of alternatives: one schema or `null`, or a list of strings.
    fn union(
        &mut self,
        schema: &Value,
        all: &[Value],
        hint: &str,
        place: SchemaPlace<'_>,
    ) -> String {
        let is_null = |one: &Value| one["type"] == "null";
        match all {
            [one, null] | [null, one] if is_null(null) => optional(&self.at(one, hint, place)),
            all => {
                let text = |one: &'_ Value| one["const"].as_str().map(str::to_owned);
                let texts: Option<Vec<String>> = all.iter().map(text).collect();
                let Some(texts) = texts else {
                    return ANY.to_owned();
                };
                let descriptions = all
                    .iter()
                    .map(|one| one["description"].as_str().unwrap_or(""));
                let texts = texts.iter().map(String::as_str);
                let variants: Vec<_> = texts.zip(descriptions).collect();
                self.string_enum(schema, &variants, hint)
            }
        }
    }

    fn of_type(
        &mut self,
        name: &str,
        schema: &Value,
        hint: &str,
        place: SchemaPlace<'_>,
    ) -> String {
        let is_bounded = |bounds: [&str; 2]| bounds.iter().any(|one| !schema[*one].is_null());
        let any_if = |is_any: bool, other: &str| {
            let is_any = is_any && place.side == Side::Caller;
            if is_any { ANY } else { other }.to_owned()
        };
        match name {
            "null" => "()".to_owned(),
            "boolean" => "bool".to_owned(),
            "integer" => integer(schema, place.side),
            "number" => {
                let is_single = schema["maximum"].as_f64() == Some(f32::MAX.into());
                let is_bounded = is_bounded(["minimum", "maximum"]) && !is_single;
                any_if(is_bounded, if is_single { "f32" } else { "f64" })
            }
            "string" if schema["contentEncoding"] == "base64" => "Bytes".to_owned(),
            "string" => match (&schema["minLength"], &schema["maxLength"]) {
                (least, most) if *least == 1 && *most == 1 => "char".to_owned(),
                _ => any_if(is_bounded(["minLength", "maxLength"]), "String"),
            },
            "array" => self.array(schema, hint, place),
            "object" => self.object(schema, hint, place),
            _ => ANY.to_owned(),
        }
    }

    fn array(&mut self, schema: &Value, hint: &str, place: SchemaPlace<'_>) -> String {
        let size = (schema["minItems"].as_u64(), schema["maxItems"].as_u64());
        if let Some(all) = schema["prefixItems"].as_array() {
            let count = u64::try_from(all.len()).ok();
            if size != (count, count) || all.is_empty() || all.len() > TUPLE_MAX {
                return ANY.to_owned();
            }
            let all: Vec<String> = all.iter().map(|one| self.at(one, hint, place)).collect();
            return match all.as_slice() {
                [one] => format!("({one},)"),
                all => format!("({})", all.join(", ")),
            };
        }
        let item = self.at(&schema["items"], hint, place);
        match size {
            (Some(least), Some(most)) if least == most && most <= ARRAY_MAX => {
                format!("[{item}; {most}]")
            }
            (None, None) => format!("Vec<{item}>"),
            _ if place.side == Side::Daemon => format!("Vec<{item}>"),
            _ => ANY.to_owned(),
        }
    }

    fn object(&mut self, schema: &Value, hint: &str, place: SchemaPlace<'_>) -> String {
        let others = &schema["additionalProperties"];
        match (schema["properties"].as_object(), others) {
            (None, Value::Object(_)) => {
                let value = self.at(others, hint, place);
                format!("std::collections::BTreeMap<String, {value}>")
            }
            (None, _) => "json::Map<String, json::Value>".to_owned(),
            (Some(_), Value::Object(_) | Value::Bool(true)) => ANY.to_owned(),
            (Some(_), _) => self.structure(schema, hint, place),
        }
    }

    /// Returns the name of a struct with the members of an object.
    fn structure(&mut self, schema: &Value, hint: &str, place: SchemaPlace<'_>) -> String {
        let members = schema["properties"].as_object().into_iter().flatten();
        let mut taken = HashSet::new();
        let mut body = "{\n".to_owned();
        for (name, member) in members {
            let mut required = schema["required"].as_array().into_iter().flatten();
            let is_required = required.any(|one| one == name);
            let ty = self.at(member, &format!("{hint} {name}"), place);
            let field = names::unique(names::snake(name, "member"), "_", &mut taken);
            body.push_str(&doc(member["description"].as_str().unwrap_or(""), "    "));
            if field.trim_start_matches("r#") != name {
                let _ = writeln!(body, "    #[serde(rename = {name:?})]");
            }
            let ty = match is_required {
                true => ty,
                false => {
                    body.push_str(
                        "    #[serde(default, skip_serializing_if = \"Option::is_none\")]\n",
                    );
                    optional(&ty)
                }
            };
            let _ = writeln!(body, "    pub {field}: {ty},");
        }
        body.push('}');
        if taken.is_empty() {
            body = "{}".to_owned();
        }
        self.add(schema, hint, ("struct", body))
    }

    /// Returns the name of an enum of these strings, each with its description.
    fn string_enum(&mut self, schema: &Value, texts: &[(&str, &str)], hint: &str) -> String {
        let mut taken = HashSet::new();
        let mut body = "{\n".to_owned();
        for (text, description) in texts {
            let variant = names::unique(names::pascal(text, "Of"), "", &mut taken);
            body.push_str(&doc(description, "    "));
            if variant != *text {
                let _ = writeln!(body, "    #[serde(rename = {text:?})]");
            }
            let _ = writeln!(body, "    {variant},");
        }
        body.push('}');
        self.add(schema, hint, ("enum", body))
    }

    /// Adds a type, unless it is there already. Returns its name.
    fn add(&mut self, schema: &Value, hint: &str, (kind, body): (&'static str, String)) -> String {
        let wanted = names::pascal(schema["title"].as_str().unwrap_or(hint), "Of");
        let is_same = |item: &&TypeItem| item.wanted == wanted && item.body == body;
        if let Some(item) = self.items.iter().find(is_same) {
            return item.name.clone();
        }
        let name = names::unique(wanted.clone(), "", &mut self.taken);
        self.items.push(TypeItem {
            wanted,
            name: name.clone(),
            head: doc(schema["description"].as_str().unwrap_or(""), ""),
            kind,
            body,
        });
        name
    }
}

fn optional(ty: &str) -> String {
    match ty.starts_with("Option<") || ty == ANY {
        true => ty.to_owned(),
        false => format!("Option<{ty}>"),
    }
}

/// Returns the integer with exactly these bounds; otherwise the one that holds all of them, or any JSON for a caller.
fn integer(schema: &Value, side: Side) -> String {
    let (least, most) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
    let format = schema["format"].as_str().unwrap_or("");
    let has_format = |name: &str| format.replace("uint", "u").replace("int", "i") == name;
    let exact = INTEGERS.iter().find(|(name, low, high)| {
        let is_bounded =
            least.is_none_or(|least| least == *low) && most.is_none_or(|most| most == *high);
        let is_known = (least.is_some() && most.is_some()) || has_format(name);
        is_bounded && is_known
    });
    let holds = |(_, low, high): &&(&str, f64, f64)| {
        least.is_none_or(|least| least >= *low) && most.is_none_or(|most| most <= *high)
    };
    match (exact, side, least, most) {
        (Some((name, ..)), ..) => (*name).to_owned(),
        (None, Side::Caller, Some(_), Some(_)) => ANY.to_owned(),
        (None, _, Some(least), _) if least >= 0.0 => INTEGERS
            .iter()
            .find(holds)
            .map_or(ANY, |one| one.0)
            .to_owned(),
        (None, ..) => {
            let mut signed = INTEGERS.iter().filter(|one| one.1 < 0.0);
            signed.find(holds).map_or(ANY, |one| one.0).to_owned()
        }
    }
}
