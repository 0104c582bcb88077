//! The result of a command: writes the author's value as JSON into the host's sink.
//!
//! A `Result` is a reply or an error, `()` is no value, and anything else is what serde writes. An [`Error`] crosses with
//! its code and its data, any other error as text. The compiler selects the case by method lookup
//! (`(&CommandValue(&value)).reply_kind()`): the inherent method, which is for a `Result` with an `Error`, matches before that
//! of [`FallibleReply`], and the reference of [`PlainReply`] comes last. So an alias of `Result` works like `Result`. The
//! selection asks nothing of the types, so that the compiler's error about a type that doesn't fit is the one of
//! [`Reply`].

mod finite;
mod plain;

use std::fmt::Display;
use std::io;

use serde::Serialize;

use crate::abi::{Output, status};
use crate::crossing::{ErrorText, Reply};
use crate::{Error, misfit};
use finite::Finite;

/// The kind of a value that is itself the result.
pub struct Plain;
/// The kind of a value that is a result or an error with a text.
pub struct Fallible;
/// The kind of a value that is a result or an [`Error`], which may have a code and data.
pub struct Coded;

/// The value that a command has returned.
pub struct CommandValue<'a, V>(pub &'a V);

impl<T> CommandValue<'_, Result<T, Error>> {
    /// Returns the kind.
    #[inline]
    pub fn reply_kind(&self) -> Coded {
        Coded
    }
}

/// Selects `Fallible` for a `Result`.
pub trait FallibleReply {
    /// Returns the kind.
    fn reply_kind(&self) -> Fallible {
        Fallible
    }
}

impl<T, E> FallibleReply for CommandValue<'_, Result<T, E>> {}

/// Selects `Plain` for any other type.
pub trait PlainReply {
    /// Returns the kind.
    fn reply_kind(&self) -> Plain {
        Plain
    }
}

impl<V> PlainReply for &CommandValue<'_, V> {}

impl Plain {
    /// Writes the value, and returns the status for the host.
    #[inline]
    pub fn write<T: Reply>(self, value: &T, out: &mut Output) -> u32 {
        // The compiler evaluates this condition. The name of `()` is unique in every release so far. If that changes, a
        // unit is answered as `null`, and a test in this file fails.
        if size_of::<T>() == 0 && std::any::type_name::<T>() == "()" {
            return status::NOTHING;
        }
        match plain::write(value, out) {
            Ok(()) => status::DONE,
            Err(error) => Self::refuse(&error, out),
        }
    }

    #[cold]
    fn refuse(error: &serde_json::Error, out: &mut Output) -> u32 {
        let at = place_of(error, out.appended());
        out.replace(&format!("the result can't be written as JSON: {at}{error}"));
        status::FAILED
    }
}

/// Writes JSON in which whole numbers have no `.0`, so that `add [1,2]` is answered `add [3]` whether the sum is an
/// `f64` or an integer.
pub(crate) fn write_json<T: Serialize + ?Sized>(
    out: impl io::Write,
    value: &T,
) -> Result<(), serde_json::Error> {
    let mut json = serde_json::Serializer::with_formatter(out, WholeNumbers);
    value.serialize(Finite(&mut json))
}

/// Writes JSON from which a type reads back the same value: a float keeps its `.0`.
///
/// # Errors
/// The value can't be written as JSON, or holds a number that JSON doesn't have.
pub(crate) fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String, String> {
    let mut text = Vec::new();
    match write_exact(&mut text, value) {
        Ok(()) => Ok(String::from_utf8(text).expect("serde_json writes UTF-8")),
        Err(error) => Err(format!("{}{error}", place_of(&error, &text))),
    }
}

/// Writes what [`to_json`] returns.
pub(crate) fn write_exact<T: Serialize + ?Sized>(
    out: impl io::Write,
    value: &T,
) -> Result<(), serde_json::Error> {
    value.serialize(Finite(&mut serde_json::Serializer::new(out)))
}

/// Returns the place of a refused value, such as `at .list[3]: `. The value follows what was written so far.
pub(crate) fn place_of(error: &serde_json::Error, written: &[u8]) -> String {
    let path = match error.is_data() {
        true => misfit::locate(&String::from_utf8_lossy(written), written.len()).path(),
        false => String::new(),
    };
    match path.as_str() {
        "" => path,
        path => format!("at {path}: "),
    }
}

struct WholeNumbers;

/// The limit up to which every whole `f64` is exact, and JavaScript writes it without an exponent.
const WHOLE_MAX: u64 = 1 << 53;

/// Returns the number as an integer if it is whole and not too large. Minus zero isn't converted, to keep its sign.
#[inline]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::float_cmp
)]
fn whole(value: f64) -> Option<i64> {
    // The cast changes a value that isn't whole or is too large. The comparison below detects that.
    let whole = value as i64;
    let is_zero_below = whole == 0 && value.is_sign_negative();
    (whole as f64 == value && whole.unsigned_abs() <= WHOLE_MAX && !is_zero_below).then_some(whole)
}

impl serde_json::ser::Formatter for WholeNumbers {
    #[inline]
    fn write_f64<W: ?Sized + io::Write>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        match whole(value) {
            Some(whole) => serde_json::ser::CompactFormatter.write_i64(out, whole),
            None => serde_json::ser::CompactFormatter.write_f64(out, value),
        }
    }

    fn write_f32<W: ?Sized + io::Write>(&mut self, out: &mut W, value: f32) -> io::Result<()> {
        match whole(f64::from(value)) {
            Some(whole) => serde_json::ser::CompactFormatter.write_i64(out, whole),
            None => serde_json::ser::CompactFormatter.write_f32(out, value),
        }
    }
}

impl Fallible {
    /// Writes the value or the error, and returns the status for the host.
    #[inline]
    pub fn write<T: Reply, E: ErrorText>(self, value: &Result<T, E>, out: &mut Output) -> u32 {
        match value {
            Ok(value) => Plain.write(value, out),
            Err(error) => {
                out.replace(&error.to_string());
                status::FAILED
            }
        }
    }
}

impl Coded {
    /// Writes the value or the error, and returns the status for the host.
    #[inline]
    pub fn write<T: Reply>(self, value: &Result<T, Error>, out: &mut Output) -> u32 {
        match value {
            Ok(value) => Plain.write(value, out),
            Err(error) => error.write(out),
        }
    }
}

/// A conversion of any result of a lifecycle method to a `Result`.
#[diagnostic::on_unimplemented(
    message = "`run`, `stop` and methods with #[on(…)] return nothing or a `Result<()>`, not `{Self}`",
    label = "neither `()` nor a `Result<(), E>` whose error has a text"
)]
pub trait Ended {
    /// Returns the author's error as text.
    ///
    /// # Errors
    /// The author's method failed.
    fn ended(self) -> Result<(), String>;
}

impl Ended for () {
    fn ended(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: Display> Ended for Result<(), E> {
    fn ended(self) -> Result<(), String> {
        self.map_err(|error| error.to_string())
    }
}

/// A conversion of the result of `start`, `Self` or a `Result` of it, to a `Result`. It serves `save` and `migrate`, too.
#[diagnostic::on_unimplemented(
    message = "this method returns `{D}` or a `Result<{D}>`, not `{Self}`",
    label = "neither `{D}` nor a `Result<{D}, E>` whose error has a text"
)]
pub trait Started<D> {
    /// Returns the daemon, or the author's error as text.
    ///
    /// # Errors
    /// The author's method failed.
    fn started(self) -> Result<D, String>;
}

impl<D> Started<D> for D {
    fn started(self) -> Result<D, String> {
        Ok(self)
    }
}

impl<D, E: Display> Started<D> for Result<D, E> {
    fn started(self) -> Result<D, String> {
        self.map_err(|error| error.to_string())
    }
}

#[cfg(test)]
#[allow(unsafe_code, clippy::unit_arg, clippy::needless_borrow)]
pub(crate) mod tests {
    use super::*;
    use crate::abi::VecSink;

    pub(crate) fn written(write: impl FnOnce(&mut Output) -> u32) -> (u32, String) {
        let mut bytes = Vec::new();
        let mut sink = VecSink::new(&mut bytes);
        // SAFETY: the sink outlives the output, and only the output uses it.
        let mut out = unsafe { Output::new(sink.raw()) };
        let status = write(&mut out);
        drop(sink);
        (status, String::from_utf8(bytes).unwrap())
    }

    macro_rules! reply {
        ($value:expr) => {{
            let value = $value;
            written(|out| (&CommandValue(&value)).reply_kind().write(&value, out))
        }};
    }

    #[test]
    fn the_kind_follows_the_type() {
        type Alias = std::io::Result<u8>;
        assert_eq!(reply!(5), (status::DONE, "5".into()));
        assert_eq!(reply!(3.0), (status::DONE, "3".into()));
        assert_eq!(
            reply!([0.5, -2.0, 0.25]),
            (status::DONE, "[0.5,-2,0.25]".into())
        );
        assert_eq!(
            reply!([-0.0, 9_007_199_254_740_992.0, 1e300, -1e19, 2.5e-7]),
            (
                status::DONE,
                "[-0.0,9007199254740992,1e+300,-1e+19,2.5e-7]".into()
            )
        );
        assert_eq!(
            reply!([-0.0f32, 2.0, 0.5]),
            (status::DONE, "[-0.0,2,0.5]".into())
        );
        assert_eq!(reply!("a\nb"), (status::DONE, "\"a\\nb\"".into()));
        assert_eq!(reply!(None::<u8>), (status::DONE, "null".into()));
        assert_eq!(reply!(()), (status::NOTHING, String::new()));
        assert_eq!(reply!(Ok::<u8, String>(5)), (status::DONE, "5".into()));
        assert_eq!(
            reply!(Ok::<(), String>(())),
            (status::NOTHING, String::new())
        );
        assert_eq!(
            reply!(Err::<u8, _>("boom")),
            (status::FAILED, "boom".into())
        );
        let alias: Alias = Err(std::io::Error::other("io"));
        assert_eq!(reply!(alias), (status::FAILED, "io".into()));
        assert_eq!(reply!(crate::Result::Ok(5)), (status::DONE, "5".into()));
        let coded: crate::Result<()> = Err(Error::coded("full", "no"));
        let json = r#"{"code":"full","message":"no"}"#;
        assert_eq!(reply!(coded), (status::CODED, json.into()));
    }

    #[test]
    fn what_serde_refuses_is_an_error_and_leaves_nothing_behind() {
        let odd = std::collections::HashMap::from([((1, 2), 3)]);
        let (status, text) = reply!(odd);
        assert_eq!(status, status::FAILED);
        assert!(text.starts_with("the result can't be written"), "{text}");
        let list = vec![std::collections::BTreeMap::from([
            ("x", 1.5),
            ("y", f64::NAN),
        ])];
        let said = "the result can't be written as JSON: at [0].y: it holds NaN, and JSON has no such number";
        assert_eq!(reply!(list.clone()), (status::FAILED, said.into()));
        let state = to_json(&list).unwrap_err();
        assert_eq!(state, "at [0].y: it holds NaN, and JSON has no such number");
        assert_eq!(reply!(f32::INFINITY).0, status::FAILED);
        assert_eq!(to_json(&[1.0]).unwrap(), "[1.0]");
    }

    #[test]
    fn an_error_without_a_text_says_that_it_has_none() {
        for empty in ["", " \n"] {
            let (status, text) = reply!(Err::<u8, _>(empty));
            assert_eq!(
                (status, text.as_str()),
                (status::FAILED, crate::abi::NO_REASON)
            );
        }
    }
}
