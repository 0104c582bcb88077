//! Schemas as conjunctions of their parts, with local references followed.

use serde_json::{Map, Value};

/// The most references in a row that are followed. A real schema has one or two; a loop has no end.
const REFERENCES_MAX: usize = 32;

/// A schema within its document.
#[derive(Debug, Clone, Copy)]
pub(in crate::manifest) struct SchemaAt<'a> {
    root: &'a Value,
    pub(in crate::manifest) at: &'a Value,
}

impl<'a> SchemaAt<'a> {
    /// Returns the schema that is the whole document.
    pub(in crate::manifest) fn whole(root: &'a Value) -> Self {
        SchemaAt { root, at: root }
    }

    /// Returns another schema of the same document.
    pub(in crate::manifest) fn of_same(self, at: &'a Value) -> Self {
        SchemaAt { at, ..self }
    }

    /// Returns the schema that a local reference names, or `None` for any other reference.
    pub(in crate::manifest) fn target(self, reference: &Value) -> Option<Self> {
        let pointer = reference.as_str()?.strip_prefix('#')?;
        self.root.pointer(pointer).map(|at| self.of_same(at))
    }

    /// Returns the parts of the schema.
    pub(super) fn parts(self) -> Parts<'a> {
        let mut parts = Parts::default();
        parts.add(self, 0);
        parts
    }
}

/// The keywords of one object of a schema.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keywords<'a> {
    schema: SchemaAt<'a>,
    pub(super) all: &'a Map<String, Value>,
}

impl<'a> Keywords<'a> {
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

    /// Returns the names of the members that have a schema.
    pub(super) fn names(self) -> impl Iterator<Item = &'a String> {
        let properties = self.get("properties").and_then(Value::as_object);
        properties.into_iter().flat_map(Map::keys)
    }

    /// Returns the schemas of a list.
    pub(super) fn list(self, keyword: &str) -> Vec<SchemaAt<'a>> {
        let list = self.get(keyword).and_then(Value::as_array);
        let schemas = list.into_iter().flatten();
        schemas.map(|at| self.schema.of_same(at)).collect()
    }

    /// Returns the schema of the element at this position.
    pub(super) fn element(self, position: usize) -> Option<SchemaAt<'a>> {
        let first = self.list("prefixItems");
        first
            .get(position)
            .copied()
            .or_else(|| self.schema("items"))
    }

    pub(super) fn requires(self, name: &str) -> bool {
        let required = self.get("required").and_then(Value::as_array);
        required.is_some_and(|all| all.iter().any(|one| one == name))
    }
}

/// Schemas of which one or more hold.
#[derive(Debug, Clone)]
pub(super) struct Alternatives<'a> {
    /// True if exactly one holds (`oneOf`).
    pub(super) is_exclusive: bool,
    pub(super) branches: Vec<SchemaAt<'a>>,
}

/// The parts of a schema, all of which hold.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts<'a> {
    pub(super) objects: Vec<Keywords<'a>>,
    pub(super) alternatives: Vec<Alternatives<'a>>,
    /// True if no value is valid.
    pub(super) is_false: bool,
    /// True if a part can't be read: a reference to nothing, to another document, or in a loop.
    pub(super) is_open: bool,
}

impl<'a> Parts<'a> {
    /// Returns the parts of several schemas that all hold.
    pub(super) fn of_all(schemas: &[SchemaAt<'a>]) -> Self {
        let mut parts = Parts::default();
        for schema in schemas {
            parts.add(*schema, 0);
        }
        parts
    }

    /// Adds the parts of a schema.
    pub(super) fn add(&mut self, schema: SchemaAt<'a>, references: usize) {
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
        let keywords = Keywords { schema, all };
        self.objects.push(keywords);
        if let Some(reference) = keywords.get("$ref") {
            match schema.target(reference) {
                Some(target) => self.add(target, references + 1),
                None => self.is_open = true,
            }
        }
        for part in keywords.list("allOf") {
            self.add(part, references + 1);
        }
        for (keyword, is_exclusive) in [("anyOf", false), ("oneOf", true)] {
            if keywords.get(keyword).is_some() {
                self.alternatives.push(Alternatives {
                    is_exclusive,
                    branches: keywords.list(keyword),
                });
            }
        }
    }

    /// Returns the parts with the first alternatives replaced by each of their branches, or `None` without any.
    pub(super) fn split(&self) -> Option<Vec<Parts<'a>>> {
        let (first, rest) = self.alternatives.split_first()?;
        let with = |branch: &SchemaAt<'a>| {
            let mut parts = Parts {
                alternatives: rest.to_vec(),
                ..self.clone()
            };
            parts.add(*branch, 0);
            parts
        };
        Some(first.branches.iter().map(with).collect())
    }

    /// Returns the values that are possible, if the schema lists them.
    pub(super) fn listed(&self) -> Option<Vec<&'a Value>> {
        self.objects.iter().find_map(|object| {
            let constant = object.get("const").map(|value| vec![value]);
            constant.or_else(|| Some(object.get("enum")?.as_array()?.iter().collect()))
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
        let is_open = self.objects.iter().any(has_patterns);
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
