//! Bytes in JSON: one string in base64, in place of an array with a number for each byte.

use std::fmt;
use std::ops::{Deref, DerefMut};

use base64::DecodeError;
use base64::display::Base64Display;
use base64::engine::{Engine as _, general_purpose::STANDARD};
use serde::de::{Deserialize, Deserializer, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};

/// The most bytes that [`Debug`](fmt::Debug) shows.
const SHOWN_MAX: usize = 16;

/// Bytes that cross as a string in base64: the standard alphabet of RFC 4648, section 4, with padding.
///
/// A `Vec<u8>` crosses as an array of numbers, which takes up to four characters for a byte. Base64 takes four for three bytes.
/// The schema of the type has `contentEncoding`, by which programs know that the string is no text, and a pattern that
/// excludes what the type doesn't read: any other alphabet, and a string without its padding.
///
/// ```
/// use dae_plugin_api::prelude::*;
///
/// #[derive(Default)]
/// struct Icons;
///
/// #[daemon]
/// impl Icons {
///     /// Returns the bytes in reverse.
///     #[command]
///     fn mirrored(&self, icon: Bytes) -> Bytes {
///         icon.iter().rev().copied().collect()
///     }
/// }
/// # fn main() {}
/// ```
///
/// `mirrored ["AQID"]` is answered `mirrored ["AwIB"]`.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(Vec<u8>);

impl Bytes {
    /// Returns the bytes without a copy.
    ///
    /// ```
    /// # use dae_plugin_api::Bytes;
    /// assert_eq!(Bytes::from(vec![1, 2]).into_vec(), [1, 2]);
    /// ```
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

impl Deref for Bytes {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes(bytes)
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Bytes(bytes.to_owned())
    }
}

impl<const N: usize> From<[u8; N]> for Bytes {
    fn from(bytes: [u8; N]) -> Self {
        Bytes(bytes.into())
    }
}

impl From<Bytes> for Vec<u8> {
    fn from(bytes: Bytes) -> Self {
        bytes.0
    }
}

impl FromIterator<u8> for Bytes {
    fn from_iter<I: IntoIterator<Item = u8>>(bytes: I) -> Self {
        Bytes(bytes.into_iter().collect())
    }
}

/// Shows the number of bytes and the first ones, so that a log line of a large value stays short.
impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(SHOWN_MAX)];
        let more = if shown.len() < self.0.len() {
            "…"
        } else {
            ""
        };
        write!(f, "Bytes({} B: {shown:02x?}{more})", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(&self.0, &STANDARD))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Base64)
    }
}

/// Reads a string in base64.
struct Base64;

impl Visitor<'_> for Base64 {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string in base64 with its padding")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Bytes, E> {
        STANDARD.decode(text).map(Bytes).map_err(|error| {
            let got = fault(error, text.len());
            E::invalid_value(Unexpected::Other(&got), &self)
        })
    }
}

/// Says where a string is no base64. Offsets are in bytes.
fn fault(error: DecodeError, length: usize) -> String {
    match error {
        DecodeError::InvalidByte(offset, _) | DecodeError::InvalidLastSymbol(offset, _) => {
            format!("a string of {length} bytes that is none at offset {offset}")
        }
        DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => {
            format!("a string of {length} bytes without it")
        }
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Bytes {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let schema: serde_json::Value =
            serde_json::from_str(crate::schema::BYTES).expect("a schema is JSON");
        schema.try_into().expect("a schema is an object")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::misfit;

    fn read(text: &str) -> Result<Vec<u8>, String> {
        let read = serde_json::from_str::<Bytes>(text);
        read.map(Bytes::into_vec)
            .map_err(|error| misfit::explain(&error, text))
    }

    #[test]
    fn bytes_cross_as_base64_with_padding() {
        let vectors: [(&[u8], &str); 5] = [
            (b"", ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (&[0xff, 0xfe, 0x00], "//4A"),
        ];
        for (bytes, text) in vectors {
            let json = format!("\"{text}\"");
            assert_eq!(serde_json::to_string(&Bytes::from(bytes)).unwrap(), json);
            assert_eq!(read(&json).as_deref(), Ok(bytes));
        }
        assert_eq!(read(r#""\/\/4A""#).as_deref(), Ok(&[0xff, 0xfe, 0][..]));
    }

    #[test]
    fn other_strings_are_refused_with_their_place() {
        for (text, got) in [
            (r#""Zg""#, "a string of 2 bytes without it"),
            (r#""Zg=""#, "a string of 3 bytes without it"),
            (
                r#""Zm9v!A==""#,
                "a string of 8 bytes that is none at offset 4",
            ),
            (r#""-_4A""#, "a string of 4 bytes that is none at offset 0"),
            (r#""Zh==""#, "a string of 4 bytes that is none at offset 1"),
            (
                r#""Zm9v\n""#,
                "a string of 5 bytes that is none at offset 4",
            ),
            ("[1,2]", "an array"),
            ("7", "7"),
        ] {
            let expected = format!("expected a string in base64 with its padding, got {got}");
            assert_eq!(read(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_large_value_is_shown_short() {
        let shown = format!("{:?}", Bytes::from(vec![7; 1000]));
        assert!(shown.starts_with("Bytes(1000 B: [07, 07"), "{shown}");
        assert!(shown.len() < 100, "{shown}");
    }
}
