//! Identifiers of Rust for the names of daemons, commands, arguments, members and values.

use std::collections::{HashMap, HashSet};

/// The words that are no identifiers, in edition 2024.
const KEYWORDS: [&str; 51] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let",
    "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return",
    "static", "struct", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use",
    "virtual", "where", "while", "yield", "crate", "self", "super",
];

/// The keywords that can't be written as `r#…`.
const NEVER_RAW: [&str; 3] = ["crate", "self", "super"];

/// The types that the source uses, or that `#[daemon_client]` uses beside them. A type of the daemon with such a name gets
/// another one.
const USED: [&str; 15] = [
    "BTreeMap",
    "Box",
    "Bytes",
    "DaePart",
    "DaeProbe",
    "Deserialize",
    "Ecosystem",
    "Guest",
    "Option",
    "Result",
    "Self",
    "Serialize",
    "String",
    "Vec",
    "Value",
];

/// The other types and modules that the source uses. Only a client may be given such a name.
const USED_LOWER: [&str; 17] = [
    "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "json", "std", "str", "u8",
    "u16", "u32", "u64", "u128",
];

/// The names that are taken in one scope.
#[derive(Debug, Default)]
pub(super) struct Taken {
    names: HashSet<String>,
    /// The number to try first for a name. All below it are taken, so many equal names take no time together.
    numbers: HashMap<String, u64>,
}

impl<const N: usize> From<[&str; N]> for Taken {
    fn from(names: [&str; N]) -> Self {
        Taken {
            names: names.map(str::to_owned).into(),
            numbers: HashMap::new(),
        }
    }
}

impl Taken {
    /// Frees a name.
    pub(super) fn free(&mut self, name: &str) {
        self.names.remove(name);
        self.numbers.clear();
    }
}

/// Returns the name as a method, an argument or a field: in snake case, and `r#type` for a keyword.
pub(super) fn snake(name: &str, fallback: &str) -> String {
    let mut snake = String::new();
    let mut was_lower = false;
    for c in name.trim_start_matches("r#").chars() {
        let c = if c.is_ascii_alphanumeric() { c } else { '_' };
        if c.is_ascii_uppercase() && was_lower {
            snake.push('_');
        }
        was_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        snake.push(c.to_ascii_lowercase());
    }
    if !snake.contains(|c: char| c != '_') {
        fallback.clone_into(&mut snake);
    }
    if snake.starts_with(|c: char| c.is_ascii_digit()) {
        snake.insert(0, '_');
    }
    if NEVER_RAW.contains(&snake.as_str()) {
        snake.push('_');
    }
    match KEYWORDS.contains(&snake.as_str()) {
        true => format!("r#{snake}"),
        false => snake,
    }
}

/// Returns the name as a type or a variant: in Pascal case, and not that of a type that the source uses.
pub(super) fn pascal(name: &str, fallback: &str) -> String {
    let mut pascal = String::new();
    let mut begins = true;
    for c in name.chars() {
        match (c.is_ascii_alphanumeric(), begins) {
            (true, true) => pascal.push(c.to_ascii_uppercase()),
            (true, false) => pascal.push(c),
            (false, _) => {}
        }
        begins = !c.is_ascii_alphanumeric();
    }
    if !pascal.starts_with(|c: char| c.is_ascii_alphabetic()) {
        pascal.insert_str(0, fallback);
    }
    if USED.contains(&pascal.as_str()) {
        pascal.push_str("Type");
    }
    pascal
}

/// Returns `name`, or `name` with the first number that makes it unique, after `separator`.
pub(super) fn unique(name: String, separator: &str, taken: &mut Taken) -> String {
    if taken.names.insert(name.clone()) {
        return name;
    }
    let next = taken.numbers.entry(name.clone()).or_insert(2);
    loop {
        let numbered = format!("{name}{separator}{next}").replace("r#", "");
        *next += 1;
        if taken.names.insert(numbered.clone()) {
            return numbered;
        }
    }
}

/// Reads the name of a type from the command line.
pub(super) fn type_name(given: &str) -> Result<String, String> {
    let is_plain = given.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let begins = given.starts_with(|c: char| c.is_ascii_alphabetic());
    let mut others = KEYWORDS.iter().chain(&USED).chain(&USED_LOWER);
    match is_plain && begins && !others.any(|other| *other == given) {
        true => Ok(given.to_owned()),
        false => Err(format!(
            "a client is a type of Rust, such as `Counter`: letters, digits and `_`, and no name that the source uses ({}, {})",
            USED.join(", "),
            USED_LOWER.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_becomes_an_identifier() {
        for (name, snaked, pascaled) in [
            ("greet", "greet", "Greet"),
            ("add_point", "add_point", "AddPoint"),
            ("set-all", "set_all", "SetAll"),
            ("isOpen", "is_open", "IsOpen"),
            ("HTTP2", "http2", "HTTP2"),
            ("type", "r#type", "Type"),
            ("self", "self_", "SelfType"),
            ("7up", "_7up", "Of7up"),
            ("größe", "gr__e", "GrE"),
            ("§", "of", "Of"),
            ("_", "of", "Of"),
            ("result", "result", "ResultType"),
            ("bytes", "bytes", "BytesType"),
            ("DaeProbe", "dae_probe", "DaeProbeType"),
        ] {
            assert_eq!(snake(name, "of"), snaked);
            assert_eq!(pascal(name, "Of"), pascaled);
        }
    }

    #[test]
    fn names_that_fall_together_are_numbered() {
        let mut taken = Taken::default();
        let names = ["a", "a", "r#type", "r#type", "a"];
        let unique: Vec<String> = names
            .iter()
            .map(|name| unique((*name).to_owned(), "_", &mut taken))
            .collect();
        assert_eq!(unique, ["a", "a_2", "r#type", "type_2", "a_3"]);
    }

    #[test]
    fn the_name_of_a_client_is_checked() {
        assert_eq!(type_name("Shop_2").as_deref(), Ok("Shop_2"));
        for wrong in [
            "", "2", "a b", "type", "Result", "Bytes", "json", "u8", "größe",
        ] {
            assert!(type_name(wrong).is_err(), "{wrong}");
        }
    }
}
