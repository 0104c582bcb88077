//! A fast writer for the most common results: a number, a boolean, or a string without escapes.
//!
//! It writes the same bytes as serde_json, and leaves all other values to serde_json. A value is serialized only once,
//! because some values are consumed by it. For most types the compiler knows which of the two writers is used.

use std::cell::RefCell;
use std::io;

use serde::ser::{Serialize, Serializer};
use serde_json::ser::{CompactFormatter, Formatter as _};

use super::WholeNumbers;
use super::finite::{Finite, refused};
use crate::abi::Output;
use crate::verbatim;

/// Writes the value.
///
/// # Errors
/// The value can't be written as JSON, or is too long. The output then keeps what was written before the error.
#[inline]
pub(super) fn write<T: Serialize + ?Sized>(
    value: &T,
    out: &mut Output,
) -> Result<(), serde_json::Error> {
    let out = RefCell::new(out);
    let mut json = JsonWriter::with_formatter(SharedOutput(&out), WholeNumbers);
    value.serialize(Whole {
        out: &out,
        json: &mut json,
    })
}

/// The serializer for the values that are left to serde_json.
type JsonWriter<'a, 'o> = serde_json::Serializer<SharedOutput<'a, 'o>, WholeNumbers>;

/// The output, shared by the fast writer and serde_json, which use it in turn.
struct SharedOutput<'a, 'o>(&'a RefCell<&'o mut Output>);

impl io::Write for SharedOutput<'_, '_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The serializer for the outermost value, which is the whole result.
struct Whole<'a, 'o> {
    out: &'a RefCell<&'o mut Output>,
    json: &'a mut JsonWriter<'a, 'o>,
}

impl Whole<'_, '_> {
    /// Appends all parts. Returns false, with nothing written, if the output can't hold them.
    #[inline]
    fn push<const N: usize>(&self, parts: [&[u8]; N]) -> bool {
        self.out.borrow_mut().push_all(parts)
    }
}

/// Defines methods that write a number in one piece, as a formatter of serde_json does.
macro_rules! numbers {
    ($($serialize:ident $write:ident $of:ty;)*) => {
        $(#[inline]
        fn $serialize(self, value: $of) -> Result<(), Self::Error> {
            let written = CompactFormatter.$write(&mut **self.out.borrow_mut(), value);
            // If the write fails, serde_json repeats it to produce the error.
            written.or_else(|_| self.json.$serialize(value))
        })*
    };
}

/// Defines methods that leave the value to serde_json.
macro_rules! handed_on {
    ($($serialize:ident($($name:ident: $of:ty),*) -> $end:ty;)*) => {
        $(#[inline]
        fn $serialize(self, $($name: $of),*) -> Result<$end, Self::Error> {
            Finite(self.json).$serialize($($name),*)
        })*
    };
}

type Parts<'a, 'o> = <Finite<&'a mut JsonWriter<'a, 'o>> as Serializer>::SerializeSeq;

impl<'a, 'o> Serializer for Whole<'a, 'o> {
    type Ok = ();
    type Error = serde_json::Error;
    type SerializeSeq = Parts<'a, 'o>;
    type SerializeTuple = Parts<'a, 'o>;
    type SerializeTupleStruct = Parts<'a, 'o>;
    type SerializeTupleVariant = Parts<'a, 'o>;
    type SerializeMap = Parts<'a, 'o>;
    type SerializeStruct = Parts<'a, 'o>;
    type SerializeStructVariant = Parts<'a, 'o>;

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
    fn serialize_f64(self, value: f64) -> Result<(), Self::Error> {
        if !value.is_finite() {
            return Err(refused(value));
        }
        let written = WholeNumbers.write_f64(&mut **self.out.borrow_mut(), value);
        written.or_else(|_| self.json.serialize_f64(value))
    }

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<(), Self::Error> {
        match self.push([if value { b"true" } else { b"false" }]) {
            true => Ok(()),
            false => self.json.serialize_bool(value),
        }
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), Self::Error> {
        let text = value.as_bytes();
        match verbatim::is_all(text) && self.push([b"\"", text, b"\""]) {
            true => Ok(()),
            false => self.json.serialize_str(value),
        }
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Self::Error> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Self::Error> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Self::Error> {
        Finite(self.json).serialize_newtype_variant(name, index, variant, value)
    }

    #[inline]
    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<(), Self::Error> {
        self.json.collect_str(value)
    }

    handed_on! {
        serialize_i128(value: i128) -> ();
        serialize_u128(value: u128) -> ();
        serialize_f32(value: f32) -> ();
        serialize_char(value: char) -> ();
        serialize_bytes(value: &[u8]) -> ();
        serialize_none() -> ();
        serialize_unit() -> ();
        serialize_unit_struct(name: &'static str) -> ();
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str) -> ();
        serialize_seq(length: Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(length: usize) -> Self::SerializeTuple;
        serialize_tuple_struct(name: &'static str, length: usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(name: &'static str, index: u32, variant: &'static str, length: usize) -> Self::SerializeTupleVariant;
        serialize_map(length: Option<usize>) -> Self::SerializeMap;
        serialize_struct(name: &'static str, length: usize) -> Self::SerializeStruct;
        serialize_struct_variant(name: &'static str, index: u32, variant: &'static str, length: usize) -> Self::SerializeStructVariant;
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::cell::Cell;
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
        Three { a: u8 },
        Four(u8, u8),
    }

    /// Checks that the fast writer and serde_json write the same bytes.
    #[track_caller]
    fn is_written_alike<T: Serialize + Debug>(value: T) {
        let (_, text) = written(|out| {
            write(&value, out).unwrap();
            0
        });
        let mut expected = Vec::new();
        write_json(&mut expected, &value).unwrap();
        assert_eq!(text.as_bytes(), expected, "{value:?}");
    }

    #[test]
    fn it_writes_what_serde_json_writes() {
        is_written_alike(0_u8);
        is_written_alike(i64::MIN);
        is_written_alike(u64::MAX);
        is_written_alike((u128::MAX, i128::MIN));
        is_written_alike([true, false]);
        is_written_alike(true);
        for number in [3.0, -0.0, f64::MIN_POSITIVE, 1e300] {
            is_written_alike(number);
        }
        is_written_alike(1.5_f32);
        for text in [
            "",
            "twenty bytes of text",
            "é👾\u{7f}\u{2028}",
            "twenty bytes\nof text",
            "\"",
            "\\",
        ] {
            is_written_alike(text);
            is_written_alike(text.to_owned());
            is_written_alike(Some(text));
        }
        is_written_alike(Cow::Borrowed("a"));
        is_written_alike(Newtype(Some(1)));
        is_written_alike('a');
        is_written_alike(None::<u8>);
        is_written_alike(());
        is_written_alike([
            Named::One,
            Named::Two(2),
            Named::Three { a: 3 },
            Named::Four(4, 4),
        ]);
        is_written_alike(vec![1]);
        is_written_alike(Newtype(vec![1]));
        is_written_alike(serde_json::json!({"a": [1, null]}));
        is_written_alike(serde_json::value::RawValue::from_string("[1,  2]".to_owned()).unwrap());
    }

    #[test]
    fn numbers_that_json_does_not_have_are_refused_at_any_depth() {
        fn refused<T: Serialize + ?Sized>(value: &T) -> String {
            let mut said = String::new();
            written(|out| {
                said = write(value, out).unwrap_err().to_string();
                0
            });
            assert_eq!(
                write_json(&mut Vec::new(), value).unwrap_err().to_string(),
                said
            );
            said
        }
        let named = |name: &str| format!("it holds {name}, and JSON has no such number");
        assert_eq!(refused(&f64::NAN), named("NaN"));
        assert_eq!(refused(&f64::INFINITY), named("Infinity"));
        assert_eq!(refused(&f32::NEG_INFINITY), named("-Infinity"));
        assert_eq!(refused(&Some(f64::NAN)), named("NaN"));
        assert_eq!(refused(&Newtype(f64::NAN)), named("NaN"));
        assert_eq!(refused(&[(1, Some(f32::NAN))]), named("NaN"));
        assert_eq!(
            refused(&std::collections::BTreeMap::from([("a", [f64::INFINITY])])),
            named("Infinity")
        );
        assert_eq!(refused(&Infinite::Named { a: f64::NAN }), named("NaN"));
        assert_eq!(refused(&Infinite::One(f64::NAN)), named("NaN"));
        assert_eq!(refused(&Infinite::Two(0, f64::NAN)), named("NaN"));
    }

    #[derive(serde::Serialize)]
    enum Infinite {
        One(f64),
        Two(u8, f64),
        Named { a: f64 },
    }

    #[test]
    fn a_value_is_asked_once() {
        struct Rows(Cell<u32>);
        impl Serialize for Rows {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.set(self.0.get() + 1);
                serializer.collect_seq(std::iter::repeat_n("row\n", 2))
            }
        }
        let rows = Rows(Cell::new(0));
        let (_, text) = written(|out| {
            write(&rows, out).unwrap();
            0
        });
        assert_eq!((text.as_str(), rows.0.get()), (r#"["row\n","row\n"]"#, 1));
    }
}
