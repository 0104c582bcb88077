//! Schemas as conjunctions of their parts, with local references followed.

use serde_json::{Map, Value};

use super::budget::{Budget, text_work};

/// The most references in a row that are followed. A real schema has one or two; a loop has no end.
const REFERENCES_MAX: usize = 32;

/// A schema within its document.
#[derive(Debug, Clone, Copy)]
pub(in crate::manifest) struct SchemaAt<'a> {
    root: &'a Value,
    pub(in crate::manifest) at: &'a Value,
    /// The budget of all that is done with the schema.
    pub(super) budget: &'a Budget,
}

impl<'a> SchemaAt<'a> {
    /// Returns the schema that is the whole document.
    pub(in crate::manifest) fn whole(root: &'a Value, budget: &'a Budget) -> Self {
        let at = root;
        SchemaAt { root, at, budget }
    }

    /// Returns another schema of the same document.
    pub(in crate::manifest) fn of_same(self, at: &'a Value) -> Self {
        SchemaAt { at, ..self }
    }

    /// Returns the schema that a local reference names, or `None` for any other reference.
    pub(in crate::manifest) fn target(self, reference: &Value) -> Option<Self> {
        let pointer = reference.as_str()?.strip_prefix('#')?;
        // Each step of the pointer is unescaped and looked up.
        let steps = pointer.bytes().filter(|byte| *byte == b'/').count();
        if !self.budget.take(steps + text_work(pointer)) {
            return None;
        }
        self.root.pointer(pointer).map(|at| self.of_same(at))
    }

    /// Returns the parts of the schema.
    pub(super) fn parts(self) -> Parts<'a> {
        Parts::of_all(self.budget, &[self])
    }
}

/// The keywords of one object of a schema.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keywords<'a> {
    schema: SchemaAt<'a>,
    pub(super) all: &'a Map<String, Value>,
    /// The number of entries that a look at each keyword reads.
    pub(super) weight: usize,
}

impl<'a> Keywords<'a> {
    fn new(schema: SchemaAt<'a>, all: &'a Map<String, Value>) -> Self {
        let lists = ["type", "required"].map(|keyword| all.get(keyword)?.as_array());
        let listed = lists.into_iter().flatten().flatten();
        let names = all.keys().map(String::as_str);
        let names = names.chain(listed.filter_map(Value::as_str));
        let weight = 1 + names.map(|name| 1 + text_work(name)).sum::<usize>();
        Keywords {
            schema,
            all,
            weight,
        }
    }

    /// Returns the parts of this object alone, without its references and branches.
    pub(super) fn alone(self) -> Parts<'a> {
        Parts {
            objects: vec![self],
            weight: self.weight,
            ..Parts::new(self.schema.budget)
        }
    }

    pub(super) fn get(self, keyword: &str) -> Option<&'a Value> {
        self.all.get(keyword)
    }

    /// Returns the schema that is the value of a keyword.
    pub(super) fn schema(self, keyword: &str) -> Option<SchemaAt<'a>> {
        self.get(keyword).map(|at| self.schema.of_same(at))
    }

    /// Returns the schema of a member.
    pub(super) fn property(self, name: &str) -> Option<SchemaAt<'a>> {
        let at = self.get("properties")?.get(name)?;
        Some(self.schema.of_same(at))
    }

    /// Returns the schema of the members whose names match a pattern.
    pub(super) fn pattern(self, pattern: &str) -> Option<SchemaAt<'a>> {
        let at = self.get("patternProperties")?.get(pattern)?;
        Some(self.schema.of_same(at))
    }

    /// Returns the patterns of names that have a schema.
    pub(super) fn patterns(self) -> impl Iterator<Item = &'a String> {
        let patterns = self.get("patternProperties").and_then(Value::as_object);
        patterns.into_iter().flat_map(Map::keys)
    }

    /// Returns the names of the members that have a schema.
    pub(super) fn names(self) -> impl Iterator<Item = &'a String> {
        let properties = self.get("properties").and_then(Value::as_object);
        properties.into_iter().flat_map(Map::keys)
    }

    /// Returns the schemas of a list; none if there is no list.
    pub(super) fn list(self, keyword: &str) -> &'a [Value] {
        let list = self.get(keyword).and_then(Value::as_array);
        list.map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns the schema of the element at this position.
    pub(super) fn element(self, position: usize) -> Option<SchemaAt<'a>> {
        let first = self.list("prefixItems").get(position);
        let first = first.map(|at| self.schema.of_same(at));
        first.or_else(|| self.schema("items"))
    }

    /// Returns the names of the members that must be there.
    pub(super) fn required(self) -> impl Iterator<Item = &'a str> {
        let required = self.get("required").and_then(Value::as_array);
        required.into_iter().flatten().filter_map(Value::as_str)
    }
}

/// Schemas of which one or more hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alternatives<'a> {
    /// True if exactly one holds (`oneOf`).
    pub(super) is_exclusive: bool,
    schema: SchemaAt<'a>,
    all: &'a [Value],
}

impl<'a> Alternatives<'a> {
    pub(super) fn branches(self) -> impl Iterator<Item = SchemaAt<'a>> {
        self.all.iter().map(move |at| self.schema.of_same(at))
    }
}

/// The parts of a schema, all of which hold.
#[derive(Debug, Clone)]
pub(super) struct Parts<'a> {
    pub(super) objects: Vec<Keywords<'a>>,
    pub(super) alternatives: Vec<Alternatives<'a>>,
    /// True if no value is valid.
    pub(super) is_false: bool,
    /// True if a part can't be read: a reference to nothing, to another document, or in a loop; or if the budget is used
    /// up. Further parts are left out then.
    pub(super) is_open: bool,
    /// The sum of the objects' weights.
    pub(super) weight: usize,
    pub(super) budget: &'a Budget,
}

impl<'a> Parts<'a> {
    fn new(budget: &'a Budget) -> Self {
        Parts {
            objects: Vec::new(),
            alternatives: Vec::new(),
            is_false: false,
            is_open: false,
            weight: 0,
            budget,
        }
    }

    /// Returns the parts of several schemas that all hold.
    pub(super) fn of_all(budget: &'a Budget, schemas: &[SchemaAt<'a>]) -> Self {
        let mut parts = Parts::new(budget);
        for schema in schemas {
            parts.add(*schema, 0);
        }
        parts
    }

    /// Adds the parts of a schema.
    fn add(&mut self, schema: SchemaAt<'a>, references: usize) {
        // Open parts stay open. A loop with several branches has an exponential number of parts.
        self.is_open |= !self.budget.take(1);
        if self.is_open {
            return;
        }
        let all = match schema.at {
            Value::Bool(is_true) => {
                self.is_false |= !is_true;
                return;
            }
            Value::Object(all) if references <= REFERENCES_MAX => all,
            _ => {
                self.is_open = true;
                return;
            }
        };
        let keywords = Keywords::new(schema, all);
        self.is_open |= !self.budget.take(keywords.weight);
        self.weight += keywords.weight;
        self.objects.push(keywords);
        if let Some(reference) = keywords.get("$ref") {
            match schema.target(reference) {
                Some(target) => self.add(target, references + 1),
                None => self.is_open = true,
            }
        }
        for part in keywords.list("allOf") {
            self.add(schema.of_same(part), references + 1);
        }
        for (keyword, is_exclusive) in [("anyOf", false), ("oneOf", true)] {
            if keywords.get(keyword).is_some() {
                self.alternatives.push(Alternatives {
                    is_exclusive,
                    schema,
                    all: keywords.list(keyword),
                });
            }
        }
    }

    /// Returns the parts with the first alternatives replaced by each of their branches, or `None` without any.
    /// Each is made when it is asked for: all together may fill the memory.
    pub(super) fn split(&self) -> Option<impl Iterator<Item = Parts<'a>>> {
        let (first, rest) = self.alternatives.split_first()?;
        let with = move |branch: SchemaAt<'a>| {
            if !self.budget.take(self.objects.len() + rest.len()) {
                return Parts {
                    is_open: true,
                    ..Parts::new(self.budget)
                };
            }
            let mut parts = Parts {
                objects: self.objects.clone(),
                alternatives: rest.to_vec(),
                ..*self
            };
            parts.add(branch, 0);
            parts
        };
        Some(first.branches().map(with))
    }

    /// Returns the values that are possible, if the schema lists them.
    pub(super) fn listed(&self) -> Option<&'a [Value]> {
        self.objects.iter().find_map(|object| {
            let constant = object.get("const").map(std::slice::from_ref);
            constant.or_else(|| Some(object.get("enum")?.as_array()?))
        })
    }

    /// Returns the schema of each part for the member `name`, or `None` if no such member is ever sent: an object that
    /// lists its members has no others, unless it says so.
    pub(super) fn member(&self, name: &str) -> Option<Vec<SchemaAt<'a>>> {
        let listed = self.objects.iter().any(|o| o.property(name).is_some());
        let schemas = self.objects.iter().filter_map(|object| {
            let property = object.property(name);
            property.or_else(|| object.others())
        });
        let schemas: Vec<_> = schemas.collect();
        match listed || !schemas.is_empty() || !self.is_closed() {
            true => Some(schemas),
            false => None,
        }
    }

    /// Returns the schema of each part for members that no part lists, or `None` if there are none.
    pub(super) fn others(&self) -> Option<Vec<SchemaAt<'a>>> {
        let schemas: Vec<_> = self.objects.iter().filter_map(|o| o.others()).collect();
        (!schemas.is_empty() || !self.is_closed()).then_some(schemas)
    }

    /// Returns whether the schema lists the members that are sent.
    fn is_closed(&self) -> bool {
        let mut objects = self.objects.iter();
        let has_patterns = |o: &Keywords<'_>| o.get("patternProperties").is_some();
        let is_open = self.is_open || self.objects.iter().any(has_patterns);
        !is_open && objects.any(|object| object.names().next().is_some())
    }
}

impl<'a> Keywords<'a> {
    /// Returns the schema of the members that have none of their own. Members that match a pattern are left out.
    fn others(self) -> Option<SchemaAt<'a>> {
        match self.get("patternProperties") {
            Some(_) => None,
            None => self.schema("additionalProperties"),
        }
    }
}
