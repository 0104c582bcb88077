//! What a library asks of the system's loader: which other libraries, and where to look for them.
//!
//! It explains a refusal of the loader and is shown by `check`. Nothing is decided by it: the loader itself decides. A file
//! that can't be read this way (another format, damaged tables) has no needs that are known.

use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH};
use object::read::elf::{ElfFile, FileHeader};
use object::read::{File, ReadRef};

/// How a path begins that is relative to the directory of the file itself.
const ORIGINS: [&str; 2] = ["$ORIGIN", "${ORIGIN}"];

/// What a library asks of the loader.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// The libraries that it needs, as it names them.
    pub libraries: Vec<String>,
    /// It has them looked for in a directory relative to its own (`$ORIGIN`).
    pub is_beside: bool,
}

/// Reads the needs of the library in `bytes`.
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

    #[cfg(target_os = "linux")]
    #[test]
    fn the_libraries_of_a_program_are_read() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let needs = needs(&program);
        assert!(
            needs.libraries.iter().any(|name| name.starts_with("libc.")),
            "{needs:?}"
        );
    }
}
