//! A library's requirements on the system's loader: the other libraries it needs, and where to search for them.
//!
//! They explain a loader error and appear in the output of `check`. Nothing is decided by them; the loader decides. A
//! file that can't be read this way (another format, damaged tables) has no known requirements.

use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH};
use object::read::elf::{ElfFile, FileHeader};
use object::read::{File, ReadRef};

/// The prefixes of a search path that is relative to the file's own directory.
const ORIGINS: [&str; 2] = ["$ORIGIN", "${ORIGIN}"];

/// A library's requirements on the loader.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// The names of the libraries that it needs.
    pub libraries: Vec<String>,
    /// True if the library has a search path relative to its own directory (`$ORIGIN`).
    pub is_beside: bool,
}

/// Returns the requirements of the library in `bytes`.
pub fn needs(bytes: &[u8]) -> Needs {
    match File::parse(bytes) {
        Ok(File::Elf32(file)) => of_elf(&file),
        Ok(File::Elf64(file)) => of_elf(&file),
        _ => Needs::default(),
    }
}

fn of_elf<'data, Elf: FileHeader, R: ReadRef<'data>>(file: &ElfFile<'data, Elf, R>) -> Needs {
    let mut needs = Needs::default();
    let table = file.elf_section_table();
    let Ok(dynamic) = table.dynamic_table(file.endian(), file.data()) else {
        return needs;
    };
    for entry in dynamic.iter() {
        let text = || {
            let bytes = dynamic.string(entry).unwrap_or_default();
            String::from_utf8_lossy(bytes).into_owned()
        };
        match entry.tag {
            DT_NEEDED => needs.libraries.push(text()),
            DT_RPATH | DT_RUNPATH => needs.is_beside |= has_origin(&text()),
            _ => {}
        }
    }
    needs
}

fn has_origin(search_path: &str) -> bool {
    let mut directories = search_path.split(':');
    directories.any(|directory| ORIGINS.iter().any(|origin| directory.starts_with(origin)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_path_beside_the_file_is_recognised() {
        for path in ["$ORIGIN", "/usr/lib:$ORIGIN/lib", "${ORIGIN}"] {
            assert!(has_origin(path), "{path}");
        }
        for path in ["", "/usr/lib", "/a/$ORIGIN"] {
            assert!(!has_origin(path), "{path}");
        }
    }

    #[test]
    fn a_file_of_another_format_has_no_needs_that_are_known() {
        assert_eq!(needs(b"no library"), Needs::default());
    }
}
