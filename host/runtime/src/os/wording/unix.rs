//! The words of Unix.

/// The editor that every such system has.
pub const EDITOR_DEFAULT: &str = "vi";

/// The default of the option for the home.
pub const HOME_DEFAULT: &str = "$DAE_HOME, or else the XDG base directories";

/// The linker that rustc looks for on the `PATH`, unless another one is configured, and the remedy if it is missing.
pub const LINKER: Option<(&str, &str)> = Some((
    "cc",
    "install a C compiler (Debian and Ubuntu: `apt install gcc libc6-dev`; Fedora: `dnf install gcc`)",
));

/// The remedy for a file that may not become so large.
pub const FILE_TOO_LARGE: &str =
    "this process may write no files of that size: allow it more (`ulimit -f`)";

/// The remedy for a directory in which a user may not write.
pub const NO_ACCESS: &str =
    "choose a directory in which you may write, or see who owns this one (`ls -ld`)";

/// The characters besides letters and digits that mean nothing to a shell.
pub(super) const PLAIN: &str = "/._-+=:@,%";

pub(super) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

pub(super) fn way_to_end(pid: u32) -> String {
    format!("SIGTERM to process {pid} ends it")
}

#[cfg(test)]
mod tests {
    use super::super::shell_word;

    #[test]
    fn a_word_survives_the_shell() {
        let cases = [
            ("/a/b-c.d", "/a/b-c.d"),
            ("/a b", "'/a b'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ];
        for (word, expected) in cases {
            assert_eq!(shell_word(word), expected);
        }
    }
}
