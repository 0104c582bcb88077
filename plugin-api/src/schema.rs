//! The JSON Schemas (2020-12) of built-in types, put together at compile time for the manifest.
//!
//! A host reads the manifest from the file without running any code, so its schemas are constants. A generic constant
//! can't join strings, so each type has a tree ([`Schema`]), and the macro renders the trees of a daemon into one text.
//!
//! A schema describes the values that the host takes for an argument of that type, and those that serde writes as a
//! result. Both are the same for every type here. Three rules of a number have no words in a schema and are left to the
//! command: an integer for an `f64` is one that it holds exactly, a key of a map of integers is in their range, and an
//! integer has a decimal point, as in `1.0`, only below 2^52 and in a type of at most 64 bits.

#[cfg(feature = "schema")]
pub mod run_time;

/// The trait of schemars with a derive of this crate: its explicit name comes before that of the derive in `*`.
#[cfg(feature = "schema")]
pub mod names {
    pub use dae_plugin_macros::JsonSchema;
    pub use schemars::*;
}

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// The schema of a type.
#[derive(Debug)]
pub enum Schema {
    /// A schema as it is written.
    Text(&'static str),
    /// An array of any length with elements of this schema.
    Array(&'static Schema),
    /// An array of this length.
    Fixed(&'static Schema, usize),
    /// An array with one element for each of these.
    Tuple(&'static [&'static Schema]),
    /// An object with any keys and values of this schema.
    Map(&'static Schema),
    /// An object whose keys are integers in strings.
    IntegerMap(&'static Schema),
    /// This schema or `null`.
    Nullable(&'static Schema),
    /// A schema that isn't known at compile time.
    Unknown,
}

impl Schema {
    /// Returns whether no object fits the schema. Returns false if that isn't known.
    #[must_use]
    pub const fn excludes_objects(&self) -> bool {
        match self {
            Schema::Text(text) => !mentions_objects(text.as_bytes()),
            Schema::Array(_) | Schema::Fixed(..) | Schema::Tuple(_) => true,
            Schema::Map(_) | Schema::IntegerMap(_) | Schema::Unknown => false,
            Schema::Nullable(of) => of.excludes_objects(),
        }
    }
}

const fn mentions_objects(text: &[u8]) -> bool {
    const WORD: &[u8] = b"\"object\"";
    let mut start = 0;
    while start + WORD.len() <= text.len() {
        let mut same = 0;
        while same < WORD.len() && text[start + same] == WORD[same] {
            same += 1;
        }
        if same == WORD.len() {
            return true;
        }
        start += 1;
    }
    false
}

/// A type with a schema that is known at compile time.
pub trait Described {
    /// The schema.
    const SCHEMA: &'static Schema;
}

/// A type of an author, whose schema the macro asks for. The compiler takes the first constant `SCHEMA` that the type
/// has: that of [`Described`], or otherwise that of [`Undescribed`].
#[derive(Debug)]
pub struct Probe<T: ?Sized>(PhantomData<T>);

impl<T: ?Sized> Clone for Probe<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Probe<T> {}

impl<T: ?Sized> Probe<T> {
    /// A value, for the choice of a method by its type.
    pub const NEW: Self = Probe(PhantomData);
}

impl<T: Described + ?Sized> Probe<T> {
    /// The schema of the type.
    pub const SCHEMA: &'static Schema = T::SCHEMA;
}

/// The fallback of [`Probe`] for a type without a schema.
pub trait Undescribed {
    /// The schema that excludes nothing.
    const SCHEMA: &'static Schema = &Schema::Unknown;
}

impl<T: ?Sized> Undescribed for Probe<T> {}

/// The return type of a command. A `Result` has the schema of its value, since an error is no result.
#[derive(Debug)]
pub struct Returned<T: ?Sized>(PhantomData<T>);

impl<T: Described + ?Sized> Described for Returned<T> {
    const SCHEMA: &'static Schema = T::SCHEMA;
}

impl<T: Described, E> Described for Returned<Result<T, E>> {
    const SCHEMA: &'static Schema = T::SCHEMA;
}

/// The schema of [`crate::Bytes`]. A validator takes `contentEncoding` for a note; the pattern is what excludes.
pub(crate) const BYTES: &str = r#"{"type":"string","contentEncoding":"base64","pattern":"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$"}"#;

macro_rules! as_written {
    ($($($of:ty)|+ = $text:expr;)*) => {
        $($(impl Described for $of {
            const SCHEMA: &'static Schema = &Schema::Text($text);
        })+)*
    };
}

// The bounds of `f32` are its largest value as serde_json writes it (the shortest digits), which is more than the exact one.
as_written! {
    () = r#"{"type":"null"}"#;
    bool = r#"{"type":"boolean"}"#;
    char = r#"{"type":"string","minLength":1,"maxLength":1}"#;
    crate::Bytes = BYTES;
    str | String | Path | PathBuf = r#"{"type":"string"}"#;
    f64 = r#"{"type":"number"}"#;
    f32 = r#"{"type":"number","minimum":-3.4028235e38,"maximum":3.4028235e38}"#;
    serde_json::Value = r#"{"type":["null","boolean","number","string","array","object"]}"#;
    serde_json::Number = r#"{"type":"number"}"#;
    serde_json::Map<String, serde_json::Value> = r#"{"type":"object"}"#;
    i8 = r#"{"type":"integer","minimum":-128,"maximum":127}"#;
    i16 = r#"{"type":"integer","minimum":-32768,"maximum":32767}"#;
    i32 = r#"{"type":"integer","minimum":-2147483648,"maximum":2147483647}"#;
    i64 = r#"{"type":"integer","minimum":-9223372036854775808,"maximum":9223372036854775807}"#;
    i128 = r#"{"type":"integer","minimum":-170141183460469231731687303715884105728,"maximum":170141183460469231731687303715884105727}"#;
    u8 = r#"{"type":"integer","minimum":0,"maximum":255}"#;
    u16 = r#"{"type":"integer","minimum":0,"maximum":65535}"#;
    u32 = r#"{"type":"integer","minimum":0,"maximum":4294967295}"#;
    u64 = r#"{"type":"integer","minimum":0,"maximum":18446744073709551615}"#;
    u128 = r#"{"type":"integer","minimum":0,"maximum":340282366920938463463374607431768211455}"#;
}

#[cfg(target_pointer_width = "64")]
as_written! {
    isize = r#"{"type":"integer","minimum":-9223372036854775808,"maximum":9223372036854775807}"#;
    usize = r#"{"type":"integer","minimum":0,"maximum":18446744073709551615}"#;
}

#[cfg(target_pointer_width = "32")]
as_written! {
    isize = r#"{"type":"integer","minimum":-2147483648,"maximum":2147483647}"#;
    usize = r#"{"type":"integer","minimum":0,"maximum":4294967295}"#;
}

macro_rules! arrays {
    ($($list:ident<T $(, $more:ident)*>;)*) => {
        $(impl<T: Described $(, $more)*> Described for $list<T $(, $more)*> {
            const SCHEMA: &'static Schema = &Schema::Array(T::SCHEMA);
        })*
    };
}

arrays! {
    Vec<T>;
    VecDeque<T>;
    LinkedList<T>;
    BinaryHeap<T>;
    BTreeSet<T>;
    HashSet<T, S>;
}

impl<T: Described> Described for [T] {
    const SCHEMA: &'static Schema = &Schema::Array(T::SCHEMA);
}

impl<T: Described, const N: usize> Described for [T; N] {
    const SCHEMA: &'static Schema = &Schema::Fixed(T::SCHEMA, N);
}

/// A type that JSON can have as the key of an object.
pub trait DescribedKey {
    /// True if the key is an integer, which JSON writes as a string.
    const IS_INTEGER: bool;
}

macro_rules! keys {
    ($is_integer:literal: $($of:ty)*) => {
        $(impl DescribedKey for $of {
            const IS_INTEGER: bool = $is_integer;
        })*
    };
}

keys!(false: str String PathBuf Cow<'_, str>);
keys!(true: i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize);

const fn map(is_integer: bool, value: &'static Schema) -> Schema {
    match is_integer {
        true => Schema::IntegerMap(value),
        false => Schema::Map(value),
    }
}

impl<K: DescribedKey, V: Described> Described for BTreeMap<K, V> {
    const SCHEMA: &'static Schema = &map(K::IS_INTEGER, V::SCHEMA);
}

impl<K: DescribedKey, V: Described, S> Described for HashMap<K, V, S> {
    const SCHEMA: &'static Schema = &map(K::IS_INTEGER, V::SCHEMA);
}

impl<T: Described> Described for Option<T> {
    const SCHEMA: &'static Schema = &Schema::Nullable(T::SCHEMA);
}

macro_rules! same_as_inside {
    ($($of:ty),*) => {
        $(impl<T: Described + ?Sized> Described for $of {
            const SCHEMA: &'static Schema = T::SCHEMA;
        })*
    };
}

same_as_inside!(&T, Box<T>, Rc<T>, Arc<T>);

impl<T: Described + ToOwned + ?Sized> Described for Cow<'_, T> {
    const SCHEMA: &'static Schema = T::SCHEMA;
}

macro_rules! tuples {
    ($($($name:ident)+;)*) => {
        $(impl<$($name: Described),+> Described for ($($name,)+) {
            const SCHEMA: &'static Schema = &Schema::Tuple(&[$($name::SCHEMA),+]);
        })*
    };
}

tuples! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
    A B C D E F G;
    A B C D E F G H;
}

/// A part of a manifest: text, or a schema to be rendered between two texts.
#[derive(Debug)]
pub enum ManifestPart {
    /// JSON text as it is.
    Text(&'static str),
    /// A schema.
    Schema(&'static Schema),
}

/// Returns the length of the parts after [`join`] (bytes).
#[must_use]
pub const fn joined_len(parts: &[ManifestPart]) -> usize {
    put_parts(&mut [], parts)
}

/// Joins the parts of a manifest at compile time.
///
/// # Panics
/// Fails at compile time if `N` is not the length of the joined parts.
#[must_use]
pub const fn join<const N: usize>(parts: &[ManifestPart]) -> [u8; N] {
    let mut joined = [0; N];
    assert!(put_parts(&mut joined, parts) == N);
    joined
}

/// Writes the parts, or only counts their bytes if `out` is empty. Returns the number of bytes.
const fn put_parts(out: &mut [u8], parts: &[ManifestPart]) -> usize {
    let (mut at, mut part) = (0, 0);
    while part < parts.len() {
        at = match &parts[part] {
            ManifestPart::Text(text) => put(out, at, text),
            ManifestPart::Schema(schema) => put_schema(out, at, schema),
        };
        part += 1;
    }
    at
}

/// Writes a schema at `at`, as [`put_parts`] does. Returns its end.
const fn put_schema(out: &mut [u8], at: usize, schema: &Schema) -> usize {
    match schema {
        Schema::Text(text) => put(out, at, text),
        Schema::Unknown => put(out, at, "true"),
        Schema::Array(of) => between(out, at, (r#"{"type":"array","items":"#, of, "}")),
        Schema::Map(of) => {
            let before = r#"{"type":"object","additionalProperties":"#;
            between(out, at, (before, of, "}"))
        }
        Schema::IntegerMap(of) => {
            let before = r#"{"type":"object","propertyNames":{"pattern":"^-?[0-9]+$"},"additionalProperties":"#;
            between(out, at, (before, of, "}"))
        }
        Schema::Nullable(of) => between(out, at, (r#"{"anyOf":["#, of, r#",{"type":"null"}]}"#)),
        Schema::Fixed(of, length) => {
            let at = between(out, at, (r#"{"type":"array","items":"#, of, ","));
            put_length(out, at, *length)
        }
        Schema::Tuple(all) => put_tuple(out, at, all),
    }
}

/// Writes a schema between two texts.
const fn between(
    out: &mut [u8],
    at: usize,
    (before, schema, after): (&str, &Schema, &str),
) -> usize {
    let at = put(out, at, before);
    let at = put_schema(out, at, schema);
    put(out, at, after)
}

const fn put_tuple(out: &mut [u8], at: usize, all: &[&Schema]) -> usize {
    let mut at = put(out, at, r#"{"type":"array","prefixItems":["#);
    let mut index = 0;
    while index < all.len() {
        if index > 0 {
            at = put(out, at, ",");
        }
        at = put_schema(out, at, all[index]);
        index += 1;
    }
    let at = put(out, at, r#"],"items":false,"#);
    put_length(out, at, all.len())
}

/// Writes the members that fix the length of an array, and closes its schema.
const fn put_length(out: &mut [u8], at: usize, length: usize) -> usize {
    let at = put(out, at, "\"minItems\":");
    let at = put_number(out, at, length);
    let at = put(out, at, ",\"maxItems\":");
    let at = put_number(out, at, length);
    put(out, at, "}")
}

const fn put_number(out: &mut [u8], at: usize, number: usize) -> usize {
    let at = match number >= 10 {
        true => put_number(out, at, number / 10),
        false => at,
    };
    const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    put(out, at, DIGITS[number % 10])
}

const fn put(out: &mut [u8], at: usize, text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut index = 0;
    while index < bytes.len() && !out.is_empty() {
        out[at + index] = bytes[index];
        index += 1;
    }
    at + bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! rendered {
        ($of:ty) => {{
            const PARTS: &[ManifestPart] = &[ManifestPart::Schema(Probe::<$of>::SCHEMA)];
            const LENGTH: usize = joined_len(PARTS);
            const TEXT: [u8; LENGTH] = join(PARTS);
            std::str::from_utf8(&TEXT).expect("a schema is text")
        }};
    }

    struct Own;
    type Amount = u8;

    #[test]
    fn a_type_has_the_schema_of_what_it_is_and_not_of_its_name() {
        let amount = r#"{"type":"integer","minimum":0,"maximum":255}"#;
        assert_eq!(rendered!(Amount), amount);
        assert_eq!(rendered!(&'static str), r#"{"type":"string"}"#);
        assert_eq!(
            rendered!(Vec<Option<Amount>>),
            format!(r#"{{"type":"array","items":{{"anyOf":[{amount},{{"type":"null"}}]}}}}"#)
        );
        assert_eq!(
            rendered!((bool, [String; 12])),
            r#"{"type":"array","prefixItems":[{"type":"boolean"},{"type":"array","items":{"type":"string"},"minItems":12,"maxItems":12}],"items":false,"minItems":2,"maxItems":2}"#
        );
        assert_eq!(
            rendered!(HashMap<(u8, u8), bool>),
            "true",
            "its key is no key of an object"
        );
        assert_eq!(
            rendered!(HashMap<Cow<'static, str>, Box<bool>>),
            r#"{"type":"object","additionalProperties":{"type":"boolean"}}"#
        );
    }

    #[test]
    fn a_type_of_an_author_is_unknown_wherever_it_stands() {
        assert_eq!(rendered!(Own), "true");
        assert_eq!(rendered!(Vec<Own>), "true");
        assert_eq!(rendered!((u8, Own)), "true");
        assert_eq!(rendered!(Returned<Result<Own, String>>), "true");
    }

    #[test]
    fn a_schema_excludes_objects_if_that_is_known() {
        assert!(Probe::<Option<String>>::SCHEMA.excludes_objects());
        assert!(Probe::<(HashMap<String, u8>,)>::SCHEMA.excludes_objects());
        assert!(!Probe::<HashMap<String, u8>>::SCHEMA.excludes_objects());
        assert!(!Probe::<Option<serde_json::Value>>::SCHEMA.excludes_objects());
        assert!(!Probe::<Own>::SCHEMA.excludes_objects());
    }

    #[test]
    fn the_result_of_a_command_is_the_value_of_its_result() {
        type Alias = std::io::Result<bool>;
        for text in [
            rendered!(Returned<Alias>),
            rendered!(Returned<Result<bool, Own>>),
            rendered!(Returned<bool>),
        ] {
            assert_eq!(text, r#"{"type":"boolean"}"#);
        }
        assert_eq!(rendered!(Returned<()>), r#"{"type":"null"}"#);
    }

    #[test]
    fn the_bounds_of_a_float_are_its_values_as_they_are_written() {
        let schema: serde_json::Value = serde_json::from_str(rendered!(f32)).expect("JSON");
        for (bound, value) in [("minimum", f32::MIN), ("maximum", f32::MAX)] {
            let written = serde_json::to_string(&value).expect("a number");
            let read: f64 = written.parse().expect("a number");
            assert_eq!(schema[bound].as_f64(), Some(read), "{written}");
            let back = crate::exact::from_str::<f32>(&schema[bound].to_string());
            assert_eq!(back.ok(), Some(value), "{bound}");
        }
    }

    #[test]
    fn every_schema_is_json() {
        for text in [
            rendered!((i8, i16, i32, i64, i128, isize)),
            rendered!((u8, u16, u32, u64, u128, usize)),
            rendered!((f32, f64, char, serde_json::Value)),
            rendered!(BTreeMap<i64, BTreeSet<()>>),
        ] {
            let read: Result<serde_json::Value, _> = serde_json::from_str(text);
            assert!(read.is_ok(), "{text}");
        }
    }
}
