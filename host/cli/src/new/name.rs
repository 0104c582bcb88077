//! The name of a new crate, and the name of its daemon, which follows from it.
//!
//! The rules are stricter than cargo's: the crate must build without a warning, its daemon's type must not hide a type
//! that the template uses, and the daemon must be installable under its own name.

use std::path::Path;

use anyhow::Result;
use dae_store::registry;

use crate::exit::Fault;

/// The longest name of a crate (bytes, by crates.io).
const NAME_BYTES_MAX: usize = 64;

/// The words that Rust keeps for itself; cargo takes none of them.
const KEYWORDS: [&str; 52] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate",
    "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl",
    "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref",
    "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield", "union",
];

/// The crates of Rust itself and those that a template depends on, with `_` for `-`.
const CRATES: [&str; 11] = [
    "alloc",
    "axum",
    "core",
    "dae_plugin_api",
    "dae_plugin_macros",
    "proc_macro",
    "serde",
    "std",
    "test",
    "tokio",
    "tracing",
];

/// The names that a daemon's source takes from Rust, from `dae_plugin_api` and from a template. A type of the same name
/// would hide them.
const NAMES_IN_USE: [&str; 73] = [
    "AsMut",
    "AsRef",
    "AsyncFn",
    "AsyncFnMut",
    "AsyncFnOnce",
    "AtomicU64",
    "BTreeMap",
    "Box",
    "Change",
    "ChangeKind",
    "Changes",
    "Clone",
    "Config",
    "Copy",
    "Credential",
    "Debug",
    "Default",
    "Deserialize",
    "DoubleEndedIterator",
    "Drop",
    "Duration",
    "Ecosystem",
    "Eq",
    "Err",
    "Error",
    "Event",
    "Events",
    "Every",
    "ExactSizeIterator",
    "Extend",
    "Fn",
    "FnMut",
    "FnOnce",
    "From",
    "FromIterator",
    "Future",
    "Guest",
    "Hash",
    "Html",
    "Into",
    "IntoFuture",
    "IntoIterator",
    "Ipv4Addr",
    "Iterator",
    "JoinSet",
    "Listener",
    "Mutex",
    "MutexGuard",
    "None",
    "Ok",
    "Option",
    "Ord",
    "Ordering",
    "PartialEq",
    "PartialOrd",
    "PoisonError",
    "Result",
    "Router",
    "Saved",
    "Send",
    "Serialize",
    "Sized",
    "Some",
    "State",
    "String",
    "Sync",
    "TcpListener",
    "ToOwned",
    "ToString",
    "TryFrom",
    "TryInto",
    "Unpin",
    "Vec",
];

/// The name of a crate, and that of its daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CrateName {
    /// The package's name, such as `my-daemon`.
    pub(super) package: String,
    /// The daemon's name, which is also its type: `MyDaemon`.
    pub(super) daemon: String,
}

impl CrateName {
    /// Returns the names for the crate in the directory `path`, from the directory's own name.
    ///
    /// # Errors
    /// The name can't be one, with the reason and the rule.
    pub(super) fn of(path: &Path) -> Result<CrateName> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let refuse = |reason: &str| {
            Err(Fault::Usage(format!("{name:?} cannot be the name of a crate: {reason}")).into())
        };
        if !is_well_formed(&name) {
            let like = suggestion(&name);
            return refuse(&format!(
                "it takes 1 to {NAME_BYTES_MAX} of a-z 0-9 - _, begins with a letter, and has single - or _ between its words\
                 {like}"
            ));
        }
        let snake = name.replace('-', "_");
        if KEYWORDS.contains(&&*name) {
            return refuse("it is a keyword of Rust; choose another one");
        }
        if CRATES.contains(&&*snake) {
            return refuse(
                "it is a crate of Rust, or one that plugins depend on; choose another one",
            );
        }
        let daemon = type_name(&name);
        if NAMES_IN_USE.contains(&&*daemon) {
            return refuse(&format!(
                "its daemon would be the type {daemon}, and hide another {daemon} that plugins use; choose another one"
            ));
        }
        match registry::check_name(&daemon) {
            Ok(()) => Ok(CrateName {
                package: name.into_owned(),
                daemon,
            }),
            Err(reason) => refuse(&format!("its daemon would be {daemon}, and {reason}")),
        }
    }

    /// Returns the name of the library's file, as cargo makes it from the package's.
    pub(super) fn library(&self) -> String {
        self.package.replace('-', "_")
    }
}

fn is_well_formed(name: &str) -> bool {
    let is_word = |word: &str| {
        let mut bytes = word.bytes();
        !word.is_empty() && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.split(['-', '_']).all(is_word)
}

/// Returns the end of a sentence with a well-formed name that is like the given one, if there is one.
fn suggestion(name: &str) -> String {
    let mut like = String::new();
    for c in name.chars() {
        match c {
            'A'..='Z' => {
                if like.ends_with(|last: char| last.is_ascii_lowercase() || last.is_ascii_digit()) {
                    like.push('-');
                }
                like.push(c.to_ascii_lowercase());
            }
            'a'..='z' | '0'..='9' => like.push(c),
            _ if !like.ends_with('-') => like.push('-'),
            _ => {}
        }
    }
    let like = like.trim_matches('-');
    match is_well_formed(like) {
        true => format!("; did you mean {like}?"),
        false => String::new(),
    }
}

/// Returns the words of a name as a type is written: `my-daemon` is `MyDaemon`.
fn type_name(name: &str) -> String {
    let mut daemon = String::new();
    for word in name.split(['-', '_']) {
        let (first, rest) = word.split_at(1);
        daemon.push_str(&first.to_ascii_uppercase());
        daemon.push_str(rest);
    }
    daemon
}

#[cfg(test)]
mod tests {
    use super::super::files::Template;
    use super::*;

    #[test]
    fn a_daemon_is_named_after_its_crate() {
        for (path, package, daemon) in [
            ("greeter", "greeter", "Greeter"),
            ("../foo/my-daemon", "my-daemon", "MyDaemon"),
            ("web_2-page", "web_2-page", "Web2Page"),
            ("a/", "a", "A"),
        ] {
            let name = CrateName::of(Path::new(path)).expect("a good name");
            assert_eq!((&*name.package, &*name.daemon), (package, daemon));
        }
    }

    #[test]
    fn a_bad_name_is_refused_with_its_reason() {
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for (path, reason) in [
            ("", "1 to 64 of a-z"),
            ("..", "1 to 64 of a-z"),
            ("a--b", "did you mean a-b?"),
            ("9lives", "begins with a letter"),
            ("MyDaemon", "did you mean my-daemon?"),
            ("two words", "did you mean two-words?"),
            ("grüße", "1 to 64 of a-z"),
            (&long, "1 to 64 of a-z"),
            ("match", "keyword"),
            ("test", "a crate of Rust"),
            ("dae-plugin-api", "that plugins depend on"),
            ("string", "hide another String"),
            ("dae", "daemon of daemons"),
        ] {
            let error = CrateName::of(Path::new(path)).expect_err(path);
            assert!(error.to_string().contains(reason), "{path}: {error}");
        }
    }

    /// Returns the names that a source takes by `use`. The last part of a path is a name, or names in braces.
    fn used(source: &str) -> impl Iterator<Item = &str> {
        let lines = source.lines().filter_map(|line| line.strip_prefix("use "));
        let lists = lines.filter_map(|line| line.trim_end_matches(';').rsplit("::").next());
        lists.flat_map(|list| list.trim_matches(['{', '}']).split(", "))
    }

    #[test]
    fn each_type_that_a_template_uses_is_refused_as_a_daemons_name() {
        for template in Template::ALL {
            let is_type = |name: &&str| name.starts_with(|first: char| first.is_ascii_uppercase());
            let mut types = used(template.source()).filter(is_type).peekable();
            assert!(types.peek().is_some(), "{template:?} uses a type");
            for name in types {
                assert!(NAMES_IN_USE.contains(&name), "{template:?}: {name}");
            }
        }
    }
}
