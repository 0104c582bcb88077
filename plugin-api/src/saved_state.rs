//! The state on its way from one instance to the next: written straight into the host's sink, read where it lies.
//!
//! A state may have hundreds of megabytes, and guests wait while it passes. So neither side copies it, and each reads it
//! once: the form `{"version": …, "data": …}` that [`saved`] writes is cut and not parsed, and only `data` is parsed, by the
//! author's type. A state in another form, such as one that a person has imported, is parsed twice.

use std::borrow::Cow;
use std::io::{BufWriter, Write as _};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::abi::Output;
use crate::crossing::{ReadableState, SavableState};
use crate::{exact, misfit, reply};

/// The size of the buffer in which a state is written (bytes).
const BUFFER_BYTES: usize = 16 << 10;

/// A state on its way from one instance to the next.
pub struct SavedState<'a> {
    /// The author's version number for the shape of the state.
    pub version: u32,
    data: Cow<'a, str>,
    /// The whole text, if `data` was cut out of it and not parsed.
    cut_from: Option<&'a str>,
}

/// A state that is part of a start request.
#[derive(Deserialize)]
pub(crate) struct OwnedState {
    version: u32,
    data: Box<RawValue>,
}

/// A state in any order and with any spaces.
#[derive(Deserialize)]
struct LentState<'a> {
    version: u32,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl From<OwnedState> for SavedState<'static> {
    fn from(owned: OwnedState) -> Self {
        let text: Box<str> = owned.data.into();
        SavedState {
            version: owned.version,
            data: Cow::Owned(text.into()),
            cut_from: None,
        }
    }
}

impl<'a> SavedState<'a> {
    /// Returns the state in a text.
    ///
    /// # Errors
    /// The text is no state.
    pub(crate) fn lent(text: &'a [u8]) -> Result<Self, String> {
        let unlike =
            |error: &dyn std::fmt::Display| format!("the saved state is not as expected: {error}");
        let text = std::str::from_utf8(text).map_err(|error| unlike(&error))?;
        if let Some((version, data)) = cut(text) {
            return Ok(SavedState {
                version,
                data: Cow::Borrowed(data),
                cut_from: Some(text),
            });
        }
        let lent: LentState<'a> = serde_json::from_str(text).map_err(|error| unlike(&error))?;
        Ok(SavedState {
            version: lent.version,
            data: Cow::Borrowed(lent.data.get()),
            cut_from: None,
        })
    }

    /// Returns the state as the author's type. A state of another version goes through `migrate`.
    ///
    /// # Errors
    /// The state doesn't fit `T`, or its version can't be read; the text shows the place.
    pub fn read<T: ReadableState>(
        &self,
        version: u32,
        migrate: Option<&dyn Fn(u32, serde_json::Value) -> Result<T, String>>,
    ) -> Result<T, String> {
        if self.version == version {
            return self.parse();
        }
        let Some(migrate) = migrate else {
            return Err(format!(
                "the state is of version {}, this code reads version {version} and has no `migrate`",
                self.version
            ));
        };
        migrate(self.version, self.parse()?).map_err(|text| {
            format!(
                "the state of version {} can't be migrated: {text}",
                self.version
            )
        })
    }

    /// Returns a delta as the author's type. It is always of the version that this code has.
    ///
    /// # Errors
    /// The delta doesn't fit `T`; the text says what to do.
    pub fn read_delta<T: ReadableState>(&self, version: u32) -> Result<T, String> {
        self.read(version, None).map_err(|text| {
            format!(
                "its delta doesn't fit: {text}; if the type of the delta has changed, raise `state_version`, and the whole \
                 state is handed over"
            )
        })
    }

    fn parse<T: DeserializeOwned>(&self) -> Result<T, String> {
        match exact::from_str(&self.data) {
            Ok(read) => Ok(read),
            Err(error) => self
                .parse_whole()
                .unwrap_or_else(|| Err(explained(&error, &self.data))),
        }
    }

    /// Parses `data` once more if the text holds more than that behind it. Returns `None` if it was cut out rightly.
    #[cold]
    fn parse_whole<T: DeserializeOwned>(&self) -> Option<Result<T, String>> {
        let whole: LentState<'_> = serde_json::from_str(self.cut_from?).ok()?;
        let data = whole.data.get();
        (data != self.data).then(|| exact::from_str(data).map_err(|error| explained(&error, data)))
    }
}

fn explained(error: &serde_json::Error, text: &str) -> String {
    format!("the state can't be read: {}", misfit::explain(error, text))
}

/// Cuts a text in the form of [`saved`] into the version and the data.
fn cut(text: &str) -> Option<(u32, &str)> {
    let rest = text.strip_prefix("{\"version\":")?.strip_suffix('}')?;
    let (version, data) = rest.split_once(",\"data\":")?;
    let is_number = version.bytes().all(|byte| byte.is_ascii_digit());
    Some((version.parse().ok().filter(|_| is_number)?, data))
}

/// Writes an author's state in the form that crosses the boundary.
///
/// # Errors
/// The state can't be written as JSON, or is larger than the host takes.
pub fn saved<T: SavableState>(version: u32, state: &T, out: &mut Output) -> Result<(), String> {
    const TOO_LARGE: &str = "the state is larger than the host takes";
    let begun = write!(out, "{{\"version\":{version},\"data\":");
    begun.map_err(|_| TOO_LARGE.to_owned())?;
    let start = out.appended().len();
    // serde writes a few bytes at a time, which a buffer here takes faster than the host's sink.
    let mut buffered = BufWriter::with_capacity(BUFFER_BYTES, &mut *out);
    let written = reply::write_exact(&mut buffered, state);
    let flushed = buffered.flush();
    drop(buffered);
    match written {
        Ok(()) if flushed.is_ok() && out.push(b"}") => Ok(()),
        Err(error) if !error.is_io() => {
            let at = reply::place_of(&error, &out.appended()[start..]);
            Err(format!("the state can't be written as JSON: {at}{error}"))
        }
        Ok(()) | Err(_) => Err(TOO_LARGE.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(u32, Vec<u8>), String> {
        let state = SavedState::lent(text.as_bytes())?;
        Ok((state.version, state.read(state.version, None)?))
    }

    #[test]
    fn a_state_is_read_in_whatever_form_it_comes() {
        for text in [
            r#"{"version":3,"data":[1,2]}"#,
            r#"{"version": 3, "data": [1, 2]}"#,
            r#"{"data":[1,2],"version":3}"#,
            r#"{"version":3,"data":[1,2],"more":{"a":[1]}}"#,
            "{\"version\":3,\"data\":[1,2]}\n",
        ] {
            assert_eq!(read(text), Ok((3, vec![1, 2])), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_no_state_is_refused() {
        for (text, why) in [
            (r#"{"version":3}"#, "missing field `data`"),
            (r#"{"version":-3,"data":[]}"#, "-3"),
            (r#"{"version":+3,"data":[]}"#, "line 1"),
            (r#"{"version":3,"data":[1,2}"#, "can't be read"),
            (r#"{"version":3,"data":[1],"version":3}"#, "can't be read"),
            (r#"{"version":3,"data":[1],"more":}"#, "can't be read"),
            (r#"{"version":3,"data":[1,"x"]}"#, "[1]"),
            (r#"{"version":3,"data":[1,"x"],"more":1}"#, "[1]"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(SavedState::lent(b"{\"version\":3,\"data\":\"\xff\"}").is_err());
    }
}
