//! The words of Windows.

/// The default of the option for the home.
pub const HOME_DEFAULT: &str = "%DAE_HOME%, or else a directory in %LOCALAPPDATA%";

/// The linker that rustc uses unless another one is configured.
pub const LINKER: &str = if cfg!(target_env = "gnu") {
    "x86_64-w64-mingw32-gcc.exe"
} else {
    "link.exe"
};

/// The remedy for a linker that is missing. That of Visual Studio is found although it is not on the `PATH`.
pub const LINKER_REMEDY: &str = if cfg!(target_env = "gnu") {
    "install MinGW-w64"
} else {
    "unless the Visual Studio Build Tools with \"Desktop development with C++\" are installed, install them"
};

/// The remedy for a file that may not become so large.
pub const FILE_TOO_LARGE: &str = "choose a directory on a disk with another file system";

/// The remedy for a directory in which a user may not write.
pub const NO_ACCESS: &str =
    "choose a directory in which you may write, or see who may write in this one (`icacls`)";

/// The characters besides letters and digits that mean nothing to `cmd` and PowerShell.
pub(super) const PLAIN: &str = r"\/._-+:";

/// Quotes a word for `cmd` and PowerShell alike. A path has no quotation marks in it. A backslash before the last one
/// would escape it.
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
