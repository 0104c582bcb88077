//! A fast reader for the arguments of most commands: an array of whole numbers, strings without escapes, and booleans.
//!
//! It looks at each byte once. It returns the same values as serde_json, or gives up without an error: on anything that
//! it doesn't know, that isn't JSON, or that the author's types refuse. Then serde_json reads the same bytes from the
//! start and reports the errors. The price is that a list with an unusual element is read twice up to that element.

use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::{ArgumentList, ListPosition};
use crate::exact::{DOUBLE_MAX, SINGLE_MAX};
use crate::verbatim::{self, Unusual};

/// The largest number of digits that can't overflow a `u64`.
const DIGITS_MAX: usize = 18;

/// Reads a list. Returns `None` if serde_json must read it.
#[inline]
pub(super) fn read<'de, L: ArgumentList<'de>>(text: &'de str) -> Option<L> {
    let mut list = List {
        rest: text.strip_prefix('[')?,
        is_first: true,
    };
    let taken = L::take(&mut list, &ListPosition::default()).ok()?;
    (list.rest == "]").then_some(taken)
}

/// The unread rest of an array, without its `[`.
struct List<'de> {
    rest: &'de str,
    is_first: bool,
}

impl<'de> SeqAccess<'de> for List<'de> {
    type Error = Unusual;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Unusual> {
        let separator_bytes = match self.rest.as_bytes() {
            [b']'] => return Ok(None),
            _ if self.is_first => 0,
            [b',', b' ', ..] => 2,
            [b',', ..] => 1,
            _ => return Err(Unusual),
        };
        let element = &self.rest[separator_bytes..];
        self.is_first = false;
        let (element, rest) = Element::read(element).ok_or(Unusual)?;
        self.rest = rest;
        seed.deserialize(element).map(Some)
    }
}

enum Element<'de> {
    Number(u64),
    Text(&'de str),
    Truth(bool),
}

impl<'de> Element<'de> {
    /// Returns the first element of `text` and the text after it. Of a longer element, such as `1.5`, it returns only
    /// the start; the caller then finds no separator.
    #[inline]
    fn read(text: &'de str) -> Option<(Self, &'de str)> {
        match text.as_bytes() {
            [b'0'..=b'9', ..] => number(text),
            [b'"', ..] => string(&text[1..]),
            [b't', b'r', b'u', b'e', ..] => Some((Element::Truth(true), &text[4..])),
            [b'f', b'a', b'l', b's', b'e', ..] => Some((Element::Truth(false), &text[5..])),
            _ => None,
        }
    }
}

#[inline]
fn number(text: &str) -> Option<(Element<'_>, &str)> {
    let bytes = text.as_bytes();
    let (mut value, mut digits) = (0, 0);
    while let Some(digit @ b'0'..=b'9') = bytes.get(digits) {
        value = 10 * value + u64::from(digit - b'0');
        digits += 1;
        if digits > DIGITS_MAX {
            return None;
        }
    }
    // JSON has no leading zeros.
    let is_zero = digits == 1;
    (bytes[0] != b'0' || is_zero).then_some((Element::Number(value), &text[digits..]))
}

/// Reads the string whose opening quote is before `text`.
#[inline]
fn string(text: &str) -> Option<(Element<'_>, &str)> {
    // In most lists the string is the last element.
    let last = text.strip_suffix("\"]");
    if let Some(inside) = last.filter(|inside| verbatim::is_all(inside.as_bytes())) {
        return Some((Element::Text(inside), "]"));
    }
    let (inside, rest) = text.split_at(verbatim::count(text.as_bytes()));
    Some((Element::Text(inside), rest.strip_prefix('"')?))
}

impl<'de> Deserializer<'de> for Element<'de> {
    type Error = Unusual;

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unusual> {
        match self {
            Element::Number(value) => visitor.visit_u64(value),
            Element::Text(text) => visitor.visit_borrowed_str(text),
            Element::Truth(value) => visitor.visit_bool(value),
        }
    }

    // A number that the type would round is left to `exact`, which refuses it.

    #[inline]
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unusual> {
        match self {
            Element::Number(value) if value > DOUBLE_MAX => Err(Unusual),
            _ => self.deserialize_any(visitor),
        }
    }

    #[inline]
    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unusual> {
        match self {
            Element::Number(value) if value > SINGLE_MAX => Err(Unusual),
            _ => self.deserialize_any(visitor),
        }
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unusual> {
        visitor.visit_some(self)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Unusual> {
        visitor.visit_newtype_struct(self)
    }

    // serde_json has its own rules for these.

    fn deserialize_bytes<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Unusual> {
        Err(Unusual)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Unusual> {
        Err(Unusual)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Unusual> {
        Err(Unusual)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 char str string
        unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::Deserialize;
    use serde_json::value::RawValue;

    use super::super::{Optional, Required, Rest, Text, read_array};
    use super::*;

    const TEXTS: &[&str] = &[
        "[]",
        "[1]",
        "[1,2]",
        "[1, 2]",
        "[1 ,2]",
        "[ 1]",
        "[1,  2]",
        "[0]",
        "[00]",
        "[01]",
        "[-1]",
        "[-0]",
        "[1.5]",
        "[1e3]",
        "[1,]",
        "[,1]",
        "[1",
        "[1]x",
        "[1]]",
        "[1 2]",
        "[1x]",
        "[300]",
        "[999999999999999999]",
        "[1000000000000000000]",
        "[9007199254740992]",
        "[9007199254740993]",
        "[16777217]",
        "[18446744073709551616]",
        "[true]",
        "[false,1]",
        "[truex]",
        "[tru]",
        "[null]",
        "[\"\"]",
        "[\"a\"]",
        "[\"a\",\"é👾\"]",
        "[\"a\\n\"]",
        "[\"a\nb\"]",
        "[\"a]",
        "[\"a\",{}]",
        "[[1]]",
        "[\"1\"]",
        "[\"00112233445566778899001122334455667788990011223344556677889900112233445566\"]",
        "",
        "1",
        "\"a\"",
        "[\u{7}]",
    ];

    #[derive(Debug, Deserialize)]
    struct Newtype(#[allow(dead_code)] u16);

    #[derive(Debug, Deserialize)]
    #[allow(non_camel_case_types)]
    enum Named {
        a,
    }

    /// Returns how many of the texts this reader reads. Checks that serde_json reads the same values from them.
    fn read_alike<'de, T: Deserialize<'de> + Debug>() -> usize {
        let place = ListPosition::default;
        let one = |text: &&&'static str| {
            let Some((Required(plain),)) = read::<(Required<T>,)>(text) else {
                return false;
            };
            let (Required(whole),) = read_array::<(Required<T>,)>(text, &place()).unwrap();
            assert_eq!(format!("{plain:?}"), format!("{whole:?}"), "{text}");
            true
        };
        TEXTS.iter().filter(one).count()
    }

    #[test]
    fn what_it_reads_serde_json_reads_alike() {
        let read = [
            read_alike::<f64>(),
            read_alike::<f32>(),
            read_alike::<u8>(),
            read_alike::<i64>(),
            read_alike::<u128>(),
            read_alike::<bool>(),
            read_alike::<char>(),
            read_alike::<&str>(),
            read_alike::<String>(),
            read_alike::<Option<u64>>(),
            read_alike::<Newtype>(),
            read_alike::<serde_json::Value>(),
        ];
        assert!(read.iter().all(|count| *count > 0), "{read:?}");
        let left = [
            read_alike::<&RawValue>(),
            read_alike::<Box<RawValue>>(),
            read_alike::<Named>(),
            read_alike::<()>(),
            read_alike::<Vec<u8>>(),
        ];
        assert_eq!(left, [0; 5]);
    }

    #[test]
    fn lists_are_read_to_their_end_or_not_at_all() {
        type Three<'a> = (Required<Text<'a>>, Optional<bool>, Rest<u8>);
        let all = |text: &'static str| {
            read::<Three>(text)
                .map(|(Required(Text(text)), Optional(truth), Rest(rest))| (text, truth, rest))
        };
        assert_eq!(all("[\"é\"]"), Some(("é".into(), None, vec![])));
        assert_eq!(
            all("[\"é\",true, 1,2]"),
            Some(("é".into(), Some(true), vec![1, 2]))
        );
        for text in [
            "[]",
            "[1]",
            "[\"a\",true,1",
            "[\"a\",true,256]",
            "[\"a\"]]",
            "[\"a\"],",
        ] {
            assert_eq!(all(text), None, "{text}");
        }
        assert!(read::<()>("[]").is_some() && read::<()>("[1]").is_none());
    }
}
