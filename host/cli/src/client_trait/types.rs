//! Types of Rust for JSON Schemas.
//!
//! An object with known members becomes a struct, and a list of strings an enum. A schema that no simple type has, such as
//! other unions or a type that refers to itself, becomes `json::Value`. The type of an argument has only values that the
//! daemon takes, so one with a bound of the author's own is `json::Value`, too.
//!
//! A schema comes from a daemon of any make, so the work for one has a limit, and so has that for all. Definitions that
//! refer to each other have more paths between them than can be read. A schema above the limit becomes `json::Value`.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use serde_json::Value;

use super::names::{self, Taken};
use super::source::doc;

/// The type of any JSON.
const ANY: &str = "json::Value";
/// The deepest schema that is read. A deeper part is any JSON.
const DEPTH_MAX: usize = 32;
/// The most steps for one schema: a step for each part that is read, as often as it is read, and for each value of a list.
/// The schema of a real type takes a few hundred.
const STEPS_MAX: usize = 10_000;
/// The most steps for all schemas of a client. It is a hundred times as many, so that a few schemas above their limit leave
/// enough for the others.
const ALL_STEPS_MAX: usize = 1_000_000;
/// The length of a text that takes a step (bytes).
const STEP_BYTES: usize = 256;
/// The longest name of a type, with all types inside it (bytes). A longer one is any JSON: tuples of tuples double it.
const TYPE_BYTES_MAX: usize = 4096;
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
    taken: Taken,
    items: Vec<TypeItem>,
    /// The name of each item, by the name that it wanted and its body.
    names: HashMap<(String, String), String>,
    /// The types of the references in the present schema, for its side.
    referred: HashMap<String, String>,
    /// The number of parts of the present schema that became any JSON because of the path that led to them.
    cuts: usize,
    /// The steps that are left for all schemas.
    all_steps: usize,
    /// The steps that are left for the present schema; `None` if they did not suffice.
    steps: Option<usize>,
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
            taken: Taken::from([client]),
            items: Vec::new(),
            names: HashMap::new(),
            referred: HashMap::new(),
            cuts: 0,
            all_steps: ALL_STEPS_MAX,
            steps: None,
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
        let steps = self.all_steps.min(STEPS_MAX);
        let items = self.items.len();
        self.referred.clear();
        self.steps = Some(steps);
        let ty = self.at(schema, hint, place);
        self.all_steps -= steps - self.steps.unwrap_or(0);
        if self.steps.is_none() {
            self.remove(items);
            return ANY.to_owned();
        }
        ty
    }

    /// Removes all items but the first `count`.
    fn remove(&mut self, count: usize) {
        for item in self.items.drain(count..) {
            self.taken.free(&item.name);
            self.names.remove(&(item.wanted, item.body));
        }
    }

    /// Counts steps before they are taken. Returns whether so many are left.
    fn spend(&mut self, steps: usize) -> bool {
        self.steps = self.steps.and_then(|left| left.checked_sub(steps));
        self.steps.is_some()
    }

    fn at(&mut self, schema: &Value, hint: &str, place: SchemaPlace<'_>) -> String {
        let place = SchemaPlace {
            depth: place.depth + 1,
            ..place
        };
        if place.depth > DEPTH_MAX {
            self.cuts += 1;
            return ANY.to_owned();
        }
        if !self.spend(1 + hint.len() / STEP_BYTES) {
            return ANY.to_owned();
        }
        let ty = self.within_limits(schema, hint, place);
        match ty.len() > TYPE_BYTES_MAX {
            true => ANY.to_owned(),
            false => ty,
        }
    }

    fn within_limits(&mut self, schema: &Value, hint: &str, place: SchemaPlace<'_>) -> String {
        if let Some(reference) = schema["$ref"].as_str() {
            return self.referred(reference, place);
        }
        if let Some(all) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
            return self.union(schema, all, hint, place);
        }
        if let Some(all) = schema["enum"].as_array() {
            if !self.spend(all.len()) {
                return ANY.to_owned();
            }
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
        let Some(position) = place.through.iter().position(|one| *one == reference) else {
            return self.referred_anew(reference, place);
        };
        // A definition that refers to itself is cut there, whatever path leads to it.
        if position + 1 < place.through.len() {
            self.cuts += 1;
        }
        ANY.to_owned()
    }

    /// Returns the type of a reference that is not part of its own path. Reads a definition once, unless its type depends
    /// on the path.
    fn referred_anew(&mut self, reference: &str, place: SchemaPlace<'_>) -> String {
        if let Some(ty) = self.referred.get(reference) {
            return ty.clone();
        }
        let pointer = reference.strip_prefix('#').unwrap_or("?");
        if pointer.is_empty() || !self.spend(pointer.len() / STEP_BYTES) {
            return ANY.to_owned();
        }
        let Some(target) = place.document.pointer(pointer) else {
            return ANY.to_owned();
        };
        let through = [place.through, &[reference]].concat();
        let hint = pointer.rsplit('/').next().unwrap_or("type");
        let place = SchemaPlace {
            through: &through,
            ..place
        };
        let cuts = self.cuts;
        let ty = self.at(target, hint, place);
        if self.cuts == cuts {
            self.referred.insert(reference.to_owned(), ty.clone());
        }
        ty
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
            all if !self.spend(all.len()) => ANY.to_owned(),
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
        let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
        if !self.spend(required.len()) {
            return ANY.to_owned();
        }
        let required: HashSet<&str> = required.iter().filter_map(Value::as_str).collect();
        let mut taken = Taken::default();
        let mut body = "{\n".to_owned();
        for (name, member) in members {
            let is_required = required.contains(name.as_str());
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
        if body == "{\n}" {
            body = "{}".to_owned();
        }
        self.add(schema, hint, ("struct", body))
    }

    /// Returns the name of an enum of these strings, each with its description.
    fn string_enum(&mut self, schema: &Value, texts: &[(&str, &str)], hint: &str) -> String {
        let mut taken = Taken::default();
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
        let title = schema["title"].as_str().unwrap_or(hint);
        let description = schema["description"].as_str().unwrap_or("");
        if !self.spend((title.len() + description.len() + body.len()) / STEP_BYTES) {
            return ANY.to_owned();
        }
        let wanted = names::pascal(title, "Of");
        let key = (wanted, body);
        if let Some(name) = self.names.get(&key) {
            return name.clone();
        }
        let name = names::unique(key.0.clone(), "", &mut self.taken);
        self.names.insert(key.clone(), name.clone());
        let (wanted, body) = key;
        self.items.push(TypeItem {
            wanted,
            name: name.clone(),
            head: doc(description, ""),
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
