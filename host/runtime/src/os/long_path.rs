//! Paths for calls of Windows that take long ones in one form only. The standard library does this for its own calls.

use std::ffi::OsString;
use std::os::windows::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf, Prefix};

/// A path of at least so many UTF-16 units is long, its NUL not counted. For a directory, the limit is lower by a name
/// of 12 characters; that of a directory is used for all.
const LONG_UNITS: usize = 248;

/// Returns the path unchanged if it is short, and otherwise in the form that Windows doesn't read any further: absolute
/// and behind `\\?\`.
pub(super) fn spelled_out(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if absolute.as_os_str().encode_wide().count() < LONG_UNITS {
        return path.to_owned();
    }
    let mut components = absolute.components();
    let Some(Component::Prefix(prefix)) = components.next() else {
        return path.to_owned();
    };
    let mut spelled = OsString::from(match prefix.kind() {
        Prefix::Disk(letter) => format!(r"\\?\{}:", char::from(letter)),
        Prefix::UNC(server, share) => format!(
            r"\\?\UNC\{}\{}",
            server.to_string_lossy(),
            share.to_string_lossy()
        ),
        _ => return path.to_owned(),
    });
    spelled.push(components.as_path());
    PathBuf::from(spelled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_paths_are_spelled_out_and_others_stay() {
        let long = "x".repeat(120);
        let cases = [
            (r"C:\a\b.dll".to_owned(), r"C:\a\b.dll".to_owned()),
            (
                format!(r"C:\{long}\..\{long}/{long}\{long}"),
                format!(r"\\?\C:\{long}\{long}\{long}"),
            ),
            (
                format!(r"\\one\two\{long}\{long}"),
                format!(r"\\?\UNC\one\two\{long}\{long}"),
            ),
            (
                format!(r"\\?\C:\{long}\{long}\{long}"),
                format!(r"\\?\C:\{long}\{long}\{long}"),
            ),
        ];
        for (path, expected) in cases {
            assert_eq!(spelled_out(Path::new(&path)), Path::new(&expected));
        }
    }
}
