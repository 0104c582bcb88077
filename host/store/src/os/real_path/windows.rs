//! The standard library gives a path behind `\\?\`, in which many programs don't find their way.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf, Prefix};

use windows_sys::Win32::Foundation::ERROR_MORE_DATA;

/// The longest path that needs no `\\?\` (bytes, so that it is too short rather than too long).
const SHORT_BYTES_MAX: usize = 247;

pub(super) fn of(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        // Wine names no file whose path has more than 260 characters.
        Err(error) if error.raw_os_error() == Some(ERROR_MORE_DATA.cast_signed()) => {
            without_links(path).ok_or(error)
        }
        result => result.map(|real| typed(&real).unwrap_or(real)),
    }
}

/// Returns the absolute path if no part of it is a link: it is then the real one.
fn without_links(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    let has_link = absolute
        .ancestors()
        .any(|part| fs::symlink_metadata(part).is_ok_and(|found| found.is_symlink()));
    (!has_link).then_some(absolute)
}

/// Returns the path without `\\?\`, if it means the same file.
fn typed(real: &Path) -> Option<PathBuf> {
    let mut components = real.components();
    let Some(Component::Prefix(prefix)) = components.next() else {
        return None;
    };
    let mut typed = match prefix.kind() {
        Prefix::VerbatimDisk(letter) => OsString::from(format!("{}:", char::from(letter))),
        Prefix::VerbatimUNC(server, share) => {
            let (server, share) = (server.to_string_lossy(), share.to_string_lossy());
            OsString::from(format!(r"\\{server}\{share}"))
        }
        _ => return None,
    };
    typed.push(components.as_path());
    let typed = PathBuf::from(typed);
    // A name that ends in a dot or is that of a device is read as another one.
    let is_same = std::path::absolute(&typed).is_ok_and(|read| read == typed);
    (is_same && typed.as_os_str().len() <= SHORT_BYTES_MAX).then_some(typed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_as_a_person_types_it_where_that_means_the_same() {
        let long = "x".repeat(250);
        let cases = [
            (r"\\?\C:\a\b c", Some(r"C:\a\b c")),
            (r"\\?\C:\", Some(r"C:\")),
            (r"\\?\UNC\one\two\three", Some(r"\\one\two\three")),
            (r"\\?\C:\a\ends with a dot.", None),
            (r"C:\a", None),
            (&*format!(r"\\?\C:\{long}"), None),
        ];
        for (real, expected) in cases {
            assert_eq!(typed(Path::new(real)).as_deref(), expected.map(Path::new));
        }
    }

    #[test]
    fn a_file_that_exists_is_found_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let real = of(file.path()).unwrap();
        assert!(real.is_file(), "{}", real.display());
        assert!(!real.to_string_lossy().starts_with(r"\\?\"));
    }
}
