//! The arguments of a command: reads JSON into the author's own types in one pass, without an intermediate value.
//!
//! The elements of an array are the arguments. Any other value is a single argument, and an empty text is none. An object
//! holds the arguments by their names ([`named`]), unless it may be a single argument itself. Text
//! that isn't strict JSON is reported as [`Misread::NotJson`]; the host, which knows JSON5, may translate it and call
//! again.

mod named;
mod plain;

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use crate::crossing::ArgumentType;
use crate::exact::{Exact, Numbers};
use crate::misfit;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};

/// The reason why arguments could not be read.
#[derive(Debug)]
pub enum Misread {
    /// Not strict JSON.
    NotJson,
    /// JSON that the command doesn't take; the text names the argument, what was expected and what came.
    Bad(String),
}

/// An argument that must be present.
pub struct Required<T>(pub T);
/// A trailing argument that may be absent or `null`.
pub struct Optional<T>(pub Option<T>);
/// All the remaining arguments.
pub struct Rest<T>(pub Vec<T>);

/// A string argument, borrowed from the guest's own bytes if it has no escapes.
#[derive(Deserialize)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// The reader's position in the list, for error messages.
#[derive(Default)]
pub struct ListPosition {
    index: Cell<usize>,
}

/// An argument in a command's signature.
pub trait Argument<'de>: Sized {
    /// Takes the argument from the list.
    ///
    /// # Errors
    /// The list returns an error, or a required argument is missing.
    fn take<A: SeqAccess<'de>>(list: &mut A, place: &ListPosition) -> Result<Self, A::Error>;
}

impl<'de, T: ArgumentType<'de>> Argument<'de> for Required<T> {
    #[inline]
    fn take<A: SeqAccess<'de>>(list: &mut A, place: &ListPosition) -> Result<Self, A::Error> {
        let taken = list.next_element()?.map(Required);
        let taken = taken.ok_or_else(|| A::Error::custom(MISSING))?;
        place.index.set(place.index.get() + 1);
        Ok(taken)
    }
}

impl<'de, T: ArgumentType<'de>> Argument<'de> for Optional<T> {
    fn take<A: SeqAccess<'de>>(list: &mut A, place: &ListPosition) -> Result<Self, A::Error> {
        let taken = list.next_element::<Option<T>>()?.flatten();
        place.index.set(place.index.get() + 1);
        Ok(Optional(taken))
    }
}

impl<'de, T: ArgumentType<'de>> Argument<'de> for Rest<T> {
    fn take<A: SeqAccess<'de>>(list: &mut A, place: &ListPosition) -> Result<Self, A::Error> {
        let mut all = Vec::new();
        while let Some(one) = list.next_element()? {
            all.push(one);
            place.index.set(place.index.get() + 1);
        }
        Ok(Rest(all))
    }
}

/// Marks of the two count errors among the other errors; never shown.
const MISSING: &str = "\u{1}missing";
const SURPLUS: &str = "\u{1}surplus";

/// A tuple of arguments: the whole list of a command.
pub trait ArgumentList<'de>: Sized {
    /// Takes all arguments.
    ///
    /// # Errors
    /// The list returns an error, or a required argument is missing.
    fn take<A: SeqAccess<'de>>(list: &mut A, place: &ListPosition) -> Result<Self, A::Error>;
}

macro_rules! argument_lists {
    ($($name:ident)*) => {
        impl<'de, $($name: Argument<'de>),*> ArgumentList<'de> for ($($name,)*) {
            #[allow(unused_variables, clippy::unused_unit)]
            #[inline]
            fn take<A: SeqAccess<'de>>(list: &mut A, place: &ListPosition) -> Result<Self, A::Error> {
                Ok(($($name::take(list, place)?,)*))
            }
        }
    };
}

argument_lists!();
argument_lists!(T0);
argument_lists!(T0 T1);
argument_lists!(T0 T1 T2);
argument_lists!(T0 T1 T2 T3);
argument_lists!(T0 T1 T2 T3 T4);
argument_lists!(T0 T1 T2 T3 T4 T5);
argument_lists!(T0 T1 T2 T3 T4 T5 T6);
argument_lists!(T0 T1 T2 T3 T4 T5 T6 T7);
argument_lists!(T0 T1 T2 T3 T4 T5 T6 T7 T8);
argument_lists!(T0 T1 T2 T3 T4 T5 T6 T7 T8 T9);
argument_lists!(T0 T1 T2 T3 T4 T5 T6 T7 T8 T9 T10);
argument_lists!(T0 T1 T2 T3 T4 T5 T6 T7 T8 T9 T10 T11);

/// The arguments of a command.
#[derive(Debug)]
pub struct Signature {
    /// The name and type of each, for people. A name that ends with `?` may be left out, and one that begins with `...` takes
    /// all that are left.
    pub arguments: &'static [(&'static str, &'static str)],
    /// True if an object in place of the list holds the arguments by their names.
    pub takes_names: bool,
}

impl Signature {
    /// Returns the arguments in words: `2 arguments (a: number, b: number)`.
    fn spoken(&self) -> String {
        let all: Vec<String> = self
            .arguments
            .iter()
            .map(|(name, of)| format!("{name}: {of}"))
            .collect();
        match all.len() {
            0 => "no arguments".to_owned(),
            1 => format!("1 argument ({})", all[0]),
            n => format!("{n} arguments ({})", all.join(", ")),
        }
    }
}

/// Reads the arguments of a command.
///
/// # Errors
/// [`Misread`], with a text that names the argument by `signature`.
pub fn read<'de, L: ArgumentList<'de>>(
    text: &'de str,
    signature: &Signature,
) -> Result<L, Misread> {
    match plain::read(text) {
        Some(list) => Ok(list),
        None => read_any(text, signature),
    }
}

#[inline(never)]
fn read_any<'de, L: ArgumentList<'de>>(
    text: &'de str,
    signature: &Signature,
) -> Result<L, Misread> {
    let place = ListPosition::default();
    let list = match text.as_bytes().first() {
        None => L::take(&mut Nothing(PhantomData), &place),
        Some(b'[') => read_array(text, &place),
        Some(b'{') if signature.takes_names => return named::read(text, signature),
        Some(_) => read_single(text, &place),
    };
    list.map_err(|error| explain(&error, text, &place, signature))
}

fn read_array<'de, L: ArgumentList<'de>>(
    text: &'de str,
    place: &ListPosition,
) -> Result<L, serde_json::Error> {
    let numbers = Numbers::of(text);
    let mut json = serde_json::Deserializer::from_str(text);
    let list = Exact::new(&mut json, &numbers).deserialize_seq(WholeList(place, PhantomData))?;
    json.end()?;
    Ok(list)
}

fn read_single<'de, L: ArgumentList<'de>>(
    text: &'de str,
    place: &ListPosition,
) -> Result<L, serde_json::Error> {
    let numbers = Numbers::of(text);
    let mut json = serde_json::Deserializer::from_str(text);
    let mut one = Single(Some(Exact::new(&mut json, &numbers)));
    let list = L::take(&mut one, place)?;
    if one.0.is_some() {
        // The argument was not taken. It is a surplus argument only if it is JSON.
        let _: IgnoredAny = serde_json::from_str(text)?;
        return Err(serde_json::Error::custom(SURPLUS));
    }
    json.end()?;
    Ok(list)
}

struct WholeList<'p, L>(&'p ListPosition, PhantomData<L>);

impl<'de, L: ArgumentList<'de>> Visitor<'de> for WholeList<'_, L> {
    type Value = L;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of arguments")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<L, A::Error> {
        let taken = L::take(&mut list, self.0)?;
        match list.next_element::<IgnoredAny>()? {
            None => Ok(taken),
            Some(_) => Err(A::Error::custom(SURPLUS)),
        }
    }
}

/// The empty list of a command without arguments.
struct Nothing<E>(PhantomData<E>);

impl<'de> SeqAccess<'de> for Nothing<serde_json::Error> {
    type Error = serde_json::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        _: T,
    ) -> Result<Option<T::Value>, Self::Error> {
        Ok(None)
    }
}

/// The list of a command with one argument without brackets.
struct Single<'j, 'de>(Option<Exact<'j, &'j mut JsonReader<'de>>>);

type JsonReader<'de> = serde_json::Deserializer<serde_json::de::StrRead<'de>>;

impl<'de> SeqAccess<'de> for Single<'_, 'de> {
    type Error = serde_json::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Self::Error> {
        match self.0.take() {
            Some(json) => seed.deserialize(json).map(Some),
            None => Ok(None),
        }
    }
}

#[cold]
fn explain(
    error: &serde_json::Error,
    given: &str,
    place: &ListPosition,
    signature: &Signature,
) -> Misread {
    // serde_json also reports a syntax error for an array too long for its type, a number too large, or too deep
    // nesting.
    if !error.is_data() && !is_json(given) {
        return Misread::NotJson;
    }
    let text = error.to_string();
    if text.starts_with(MISSING) || text.starts_with(SURPLUS) {
        return count_fault(given, signature);
    }
    let index = place.index.get();
    let (name, type_name) = signature
        .arguments
        .get(index)
        .or(signature.arguments.last())
        .copied()
        .unwrap_or(("", "nothing"));
    let (path, what) = misfit::parts(error, given);
    let at = misfit::inside_argument(&path, given);
    Misread::Bad(format!(
        "argument {} ({name}: {type_name}){at}: {what}",
        index + 1
    ))
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

fn count_fault(text: &str, signature: &Signature) -> Misread {
    let got = match text.as_bytes().first() {
        None => Ok(0),
        Some(b'[') => serde_json::from_str::<Vec<IgnoredAny>>(text).map(|all| all.len()),
        Some(_) => Ok(1),
    };
    // A list with a syntax error further on is left to JSON5.
    let Ok(got) = got else {
        return Misread::NotJson;
    };
    Misread::Bad(format!("it takes {}; got {got}", signature.spoken()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: Signature = of(&[("a", "number"), ("b", "number")]);

    const fn of(arguments: &'static [(&'static str, &'static str)]) -> Signature {
        Signature {
            arguments,
            takes_names: false,
        }
    }

    fn two(text: &str) -> Result<(f64, f64), Misread> {
        let (Required(a), Required(b)) = read(text, &TWO)?;
        Ok((a, b))
    }

    fn text_of<T>(read: Result<T, Misread>) -> String {
        match read {
            Ok(_) => "read".to_owned(),
            Err(Misread::NotJson) => "not json".to_owned(),
            Err(Misread::Bad(text)) => text,
        }
    }

    #[test]
    fn arrays_are_lists_and_anything_else_is_one_argument() {
        assert_eq!(two("[1,2]").unwrap(), (1.0, 2.0));
        let (Required(Text(one)),) =
            read::<(Required<Text>,)>(r#""x""#, &of(&[("s", "string")])).unwrap();
        assert!(matches!(one, Cow::Borrowed("x")));
        let (Required(nested),) =
            read::<(Required<Vec<u8>>,)>("[[1,2]]", &of(&[("v", "array")])).unwrap();
        assert_eq!(nested, [1, 2]);
        assert!(read::<()>("", &of(&[])).is_ok());
        assert!(read::<()>("[]", &of(&[])).is_ok());
    }

    #[test]
    fn messages_name_the_argument_and_both_types() {
        for (given, said) in [
            ("[1]", "it takes 2 arguments (a: number, b: number); got 1"),
            (
                "[1,2,3]",
                "it takes 2 arguments (a: number, b: number); got 3",
            ),
            ("5", "it takes 2 arguments (a: number, b: number); got 1"),
            ("", "it takes 2 arguments (a: number, b: number); got 0"),
            (
                r#"[1,"x"]"#,
                "argument 2 (b: number): expected a number, got the string \"x\"",
            ),
            (
                "[1,[true,{}]]",
                "argument 2 (b: number): expected a number, got an array",
            ),
            (
                "[1,9007199254740993]",
                "argument 2 (b: number): the integer 9007199254740993 would be rounded to 9007199254740992; \
                 a floating-point number holds each integer up to 2^53 only; send it as a string, or with a decimal \
                 point if it may be rounded",
            ),
            (
                "[1,-1e400]",
                "argument 2 (b: number): the number is too large for what is taken here",
            ),
            ("[1,NaN]", "not json"),
            ("[1,2", "not json"),
            ("[1,2]x", "not json"),
            ("['x',2]", "not json"),
            ("hello world", "not json"),
        ] {
            assert_eq!(text_of(two(given)), said, "{given}");
        }
        assert_eq!(
            text_of(read::<()>("5", &of(&[]))),
            "it takes no arguments; got 1"
        );
    }

    #[test]
    fn optional_ones_may_be_left_out_and_the_rest_takes_all() {
        type Both = (Optional<u8>, Rest<u8>);
        let of = |text: &'static str| {
            let (Optional(first), Rest(rest)) = read::<Both>(text, &of(&[])).unwrap();
            (first, rest)
        };
        assert_eq!(of(""), (None, vec![]));
        assert_eq!(of("[null]"), (None, vec![]));
        assert_eq!(of("[1,2,3]"), (Some(1), vec![2, 3]));
    }

    #[test]
    fn messages_name_the_place_inside_an_argument() {
        type Lists = (Required<Vec<Vec<u8>>>, Required<(u8, u8)>);
        let lists = |text: &'static str| {
            text_of(read::<Lists>(text, &of(&[("a", "array"), ("b", "array")])))
        };
        for (given, said) in [
            (
                "[[[1],[2,-3]],[1,2]]",
                "argument 1 (a: array), at [1][1]: expected a number, whole",
            ),
            (
                "[[],[1,2,3]]",
                "argument 2 (b: array), at [2]: there are more elements",
            ),
            (
                "[[],[1]]",
                "argument 2 (b: array): expected an array of 2 elements, got 1 of them",
            ),
            (
                "[[[340282366920938463463374607431768211456]],[1,2]]",
                "argument 1 (a: array), at [0][0]: expected",
            ),
        ] {
            assert!(lists(given).starts_with(said), "{given}: {}", lists(given));
        }
        let one = text_of(read::<(Required<std::collections::BTreeMap<String, u8>>,)>(
            r#"{"x": -1}"#,
            &of(&[("m", "object")]),
        ));
        assert!(
            one.starts_with("argument 1 (m: object), at .x: expected a number"),
            "{one}"
        );
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_stack_overflow() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        let read = |text: &str| {
            text_of(read::<(Required<serde_json::Value>,)>(
                text,
                &of(&[("v", "any")]),
            ))
        };
        assert_eq!(read(&deep(127)), "read");
        let said = "argument 1 (v: any): arrays and objects nest deeper than 127 levels";
        assert_eq!(read(&deep(128)), said);
        assert_eq!(read(&deep(100_000)), said);
        assert_eq!(read(&"[".repeat(100_000)), "not json");
    }
}
