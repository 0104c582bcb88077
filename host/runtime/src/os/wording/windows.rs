//! The words of Windows.

/// The editor that every such system has.
pub const EDITOR_DEFAULT: &str = "notepad";

/// The default of the option for the home.
pub const HOME_DEFAULT: &str = "%DAE_HOME%, or else a directory in %LOCALAPPDATA%";

/// The linker that rustc looks for on the `PATH`, and the remedy if it is missing. `None`: it finds that of Visual Studio
/// and that of rustup's own MinGW-w64 elsewhere.
pub const LINKER: Option<(&str, &str)> = None;

/// The remedy for a file that may not become so large.
pub const FILE_TOO_LARGE: &str = "choose a directory on a disk with another file system";

/// The remedy for a directory in which a user may not write.
pub const NO_ACCESS: &str =
    "choose a directory in which you may write, or see who may write in this one (`icacls`)";

/// The characters besides letters and digits that mean nothing to `cmd` and to PowerShell.
pub(super) const PLAIN: &str = r"\/._-+:";

/// Quotes a word for `cmd`, and for a program's own reading of its command line: a path has no quotation marks in it, and
/// a backslash before the last one would escape it. PowerShell takes it too, but for the name of a program, which needs
/// `&` before it.
pub(super) fn quoted(word: &str) -> String {
    let slashes = word.len() - word.trim_end_matches('\\').len();
    format!("\"{word}{}\"", "\\".repeat(slashes))
}

pub(super) fn way_to_end(pid: u32) -> String {
    format!("Ctrl-C in the console of process {pid} ends it")
}

#[cfg(test)]
mod tests {
    use super::super::shell_word;

    #[test]
    fn a_word_survives_the_shell() {
        let cases = [
            (r"C:\a\b-c.d", r"C:\a\b-c.d"),
            (r"C:\a b", "\"C:\\a b\""),
            (r"C:\a b\", "\"C:\\a b\\\\\""),
            ("", "\"\""),
        ];
        for (word, expected) in cases {
            assert_eq!(shell_word(word), expected);
        }
    }
}
