//! The files that a build has read, as the compiler and cargo list them beside what they made (`*.d`).
//!
//! The format is make's: a line for each output, `output: file file …`. A space in a name is written as `\ `. Lines that
//! start with `#` are comments.

use std::path::{Path, PathBuf};

use super::rebuild::Paths;

/// Reads the list beside a build's output. Returns `None` if there is none.
///
/// `base` is the directory of the compiler: names are relative to it.
pub(super) fn beside(output: &Path, base: &Path) -> Option<Paths> {
    read(&output.with_extension("d"), base)
}

/// Reads a list. Returns `None` if there is none.
pub(super) fn read(list: &Path, base: &Path) -> Option<Paths> {
    let text = std::fs::read_to_string(list).ok()?;
    let outputs = text.lines().filter(|line| !line.starts_with('#'));
    let files = outputs.filter_map(|line| line.split_once(": "));
    let files = files.flat_map(|(_, files)| names(files));
    Some(files.map(|name| base.join(name)).collect())
}

/// Splits a line's names.
fn names(line: &str) -> Vec<PathBuf> {
    let mut names = vec![String::new()];
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        let name = names.last_mut().expect("one from the start");
        match character {
            '\\' if characters.peek() == Some(&' ') => name.extend(characters.next()),
            ' ' => names.push(String::new()),
            other => name.push(other),
        }
    }
    names.retain(|name| !name.is_empty());
    names.into_iter().map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_with_their_spaces() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("libx.so");
        assert_eq!(beside(&output, dir.path()), None);
        let text = "/t/libx.so: src/lib.rs /other/my\\ crate/a.rs\n\n# env-dep:CARGO_PKG_NAME=x\n/t/x.d: src/b.rs\n";
        std::fs::write(dir.path().join("libx.d"), text).unwrap();
        // Its drive is that of the base, where a system has such.
        let elsewhere = Path::new("/other/my crate/a.rs");
        let expected = [
            dir.path().join("src/lib.rs"),
            dir.path().join(elsewhere),
            dir.path().join("src/b.rs"),
        ];
        assert_eq!(beside(&output, dir.path()), Some(expected.into()));
    }
}
