//! The results that most commands have, written in one go: a number, a boolean, a string without escapes.
//!
//! As with the arguments, what decides is serde_json. This writes what it would write, or gives up without having written
//! anything, and then serde_json begins with the same value. Which of the two it is, the compiler knows of most types.

use serde::ser::{Impossible, Serialize, Serializer};
use serde_json::ser::{CompactFormatter, Formatter as _};

use super::WholeNumbers;
use crate::abi::Output;
use crate::verbatim::{self, Unusual};

/// Writes the value; false, with nothing written, where serde_json is to.
#[inline]
pub(super) fn write<T: Serialize + ?Sized>(value: &T, out: &mut Output) -> bool {
    value.serialize(Whole { out }).is_ok()
}

/// A value that is the whole result.
struct Whole<'a> {
    out: &'a mut Output,
}

impl Whole<'_> {
    #[inline]
    fn push<const N: usize>(self, parts: [&[u8]; N]) -> Result<(), Unusual> {
        match self.out.push_all(parts) {
            true => Ok(()),
            false => Err(Unusual),
        }
    }
}

/// Numbers, as a formatter of serde_json's writes them: each in one piece.
macro_rules! numbers {
    ($($serialize:ident $write:ident $of:ty;)*) => {
        $(#[inline]
        fn $serialize(self, value: $of) -> Result<(), Unusual> {
            CompactFormatter.$write(self.out, value).map_err(|_| Unusual)
        })*
    };
}

/// What is serde_json's.
macro_rules! unusual {
    ($($serialize:ident($($of:ty),*) -> $end:ty;)*) => {
        $(#[inline]
        fn $serialize(self, $(_: $of),*) -> Result<$end, Unusual> {
            Err(Unusual)
        })*
    };
}

type Never = Impossible<(), Unusual>;

impl Serializer for Whole<'_> {
    type Ok = ();
    type Error = Unusual;
    type SerializeSeq = Never;
    type SerializeTuple = Never;
    type SerializeTupleStruct = Never;
    type SerializeTupleVariant = Never;
    type SerializeMap = Never;
    type SerializeStruct = Never;
    type SerializeStructVariant = Never;

    numbers! {
        serialize_i8 write_i8 i8;
        serialize_i16 write_i16 i16;
        serialize_i32 write_i32 i32;
        serialize_i64 write_i64 i64;
        serialize_u8 write_u8 u8;
        serialize_u16 write_u16 u16;
        serialize_u32 write_u32 u32;
        serialize_u64 write_u64 u64;
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<(), Unusual> {
        // serde_json writes `null` for what JSON has no number for.
        if !value.is_finite() {
            return Err(Unusual);
        }
        let written = WholeNumbers.write_f64(self.out, value);
        written.map_err(|_| Unusual)
    }

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<(), Unusual> {
        self.push([if value { b"true" } else { b"false" }])
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), Unusual> {
        let text = value.as_bytes();
        match verbatim::is_all(text) {
            true => self.push([b"\"", text, b"\""]),
            false => Err(Unusual),
        }
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unusual> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Unusual> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Unusual> {
        Err(Unusual)
    }

    // A string made for this would be made twice.
    #[inline]
    fn collect_str<T: std::fmt::Display + ?Sized>(self, _: &T) -> Result<(), Unusual> {
        Err(Unusual)
    }

    unusual! {
        serialize_f32(f32) -> ();
        serialize_char(char) -> ();
        serialize_bytes(&[u8]) -> ();
        serialize_none() -> ();
        serialize_unit() -> ();
        serialize_unit_struct(&'static str) -> ();
        serialize_unit_variant(&'static str, u32, &'static str) -> ();
        serialize_seq(Option<usize>) -> Never;
        serialize_tuple(usize) -> Never;
        serialize_tuple_struct(&'static str, usize) -> Never;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Never;
        serialize_map(Option<usize>) -> Never;
        serialize_struct(&'static str, usize) -> Never;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Never;
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::fmt::Debug;

    use super::*;
    use crate::reply::tests::written;
    use crate::reply::write_json;

    #[derive(Debug, serde::Serialize)]
    struct Newtype<T>(T);

    #[derive(Debug, serde::Serialize)]
    enum Named {
        One,
        Two(u8),
    }

    /// Whether it is written here; if it is, then as serde_json does, and otherwise nothing is.
    fn is_written_alike<T: Serialize + Debug>(value: T) -> bool {
        let mut is_written = false;
        let (_, text) = written(|out| {
            is_written = write(&value, out);
            0
        });
        let mut expected = Vec::new();
        write_json(&mut expected, &value).unwrap();
        let expected = if is_written { expected } else { Vec::new() };
        assert_eq!(text.as_bytes(), expected, "{value:?}");
        is_written
    }

    #[test]
    fn what_it_writes_serde_json_writes_alike() {
        let is_written = [
            is_written_alike(0_u8),
            is_written_alike(i64::MIN),
            is_written_alike(u64::MAX),
            is_written_alike(true),
            is_written_alike(false),
            is_written_alike(3.0),
            is_written_alike(-0.0),
            is_written_alike(f64::MIN_POSITIVE),
            is_written_alike(""),
            is_written_alike("twenty bytes of text"),
            is_written_alike("é👾\u{7f}\u{2028}".to_owned()),
            is_written_alike(Cow::Borrowed("a")),
            is_written_alike(Some("a")),
            is_written_alike(Newtype(Some(1))),
        ];
        assert_eq!(is_written, [true; 14]);
    }

    #[test]
    fn what_it_leaves_to_serde_json_it_leaves_whole() {
        let is_written = [
            is_written_alike("twenty bytes\nof text"),
            is_written_alike("\""),
            is_written_alike("\\"),
            is_written_alike(f64::NAN),
            is_written_alike(f64::INFINITY),
            is_written_alike(1.5_f32),
            is_written_alike('a'),
            is_written_alike(u128::MAX),
            is_written_alike(None::<u8>),
            is_written_alike(()),
            is_written_alike(Named::One),
            is_written_alike(Named::Two(2)),
            is_written_alike(vec![1]),
            is_written_alike((1, "a")),
            is_written_alike(Newtype(vec![1])),
            is_written_alike(serde_json::json!({"a": [1, null]})),
        ];
        assert_eq!(is_written, [false; 16]);
    }
}
