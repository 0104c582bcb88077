//! Text files that people write, and name.
//!
//! Editors may put a byte order mark in front of UTF-8, and some write UTF-16. This file drops the mark and returns an
//! error that names UTF-16, so no other reader needs to handle either. A path that a person names may lead to a pipe or to
//! a device, which no reader here waits for.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::os::disk;

/// The byte order mark.
const MARK: char = '\u{feff}';

/// Returns the text without a byte order mark in front.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// Reads a text file that a person has named. Only a regular file is read, or a descriptor that this process was given by
/// its path, such as that of a shell's `<(command)`.
///
/// # Errors
/// It is no such file, has more than `bytes_max` bytes, or holds no UTF-8. The error text continues a sentence that names
/// the file.
pub fn read(path: &Path, bytes_max: u64) -> io::Result<String> {
    let file = match disk::is_own_descriptor(path) {
        true => File::open(path)?,
        false => disk::open(path)?,
    };
    of_reader(file, bytes_max)
}

/// Reads a text to its end.
///
/// # Errors
/// The errors of [`read`].
pub fn of_reader(reader: impl Read, bytes_max: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    reader
        .take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let text = format!("it has more than {bytes_max} bytes, which are the most that are read");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    of_file(bytes).map_err(|text| io::Error::new(io::ErrorKind::InvalidData, text))
}

/// Returns the text in a file's bytes, without a byte order mark in front.
///
/// # Errors
/// The bytes are not UTF-8. The error text continues a sentence that names the file.
pub fn of_file(bytes: Vec<u8>) -> Result<String, String> {
    if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = bytes[..] {
        return Err("it is UTF-16; save it as UTF-8".to_owned());
    }
    match String::from_utf8(bytes) {
        Ok(text) if text.starts_with(MARK) => Ok(without_mark(&text).to_owned()),
        Ok(text) => Ok(text),
        Err(error) => Err(format!(
            "it is not UTF-8 (byte {}); save it as UTF-8",
            error.utf8_error().valid_up_to() + 1
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_dropped_and_other_encodings_are_told() {
        let read = |bytes: &[u8]| of_file(bytes.to_vec());
        assert_eq!(read(b"{}").unwrap(), "{}");
        assert_eq!(read(b"").unwrap(), "");
        assert_eq!(read(b"\xef\xbb\xbf{}").unwrap(), "{}");
        assert_eq!(read("\u{feff}\u{feff}".as_bytes()).unwrap(), "\u{feff}");
        assert!(read(b"\xff\xfe{\0}\0").unwrap_err().contains("UTF-16"));
        assert!(read(b"\xfe\xff\0{\0}").unwrap_err().contains("UTF-16"));
        assert!(read(b"{\"a\": \"\xe4\"}").unwrap_err().contains("byte 8"));
        assert_eq!(without_mark("\u{feff}[1]"), "[1]");
    }
}
