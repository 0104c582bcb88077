//! The reason why a file could not be loaded, for a person.
//!
//! The system's loader has one text for every cause, and no code. The fault repeats the text in full, with the library
//! or symbol that is missing. It adds a hint if the file or its file system shows the cause. The loader names the
//! private copy that it was given; that path helps nobody and is left out.

use std::error::Error;
use std::fmt;
use std::path::Path;

use crate::os::mounts::is_noexec;
use dae_store::manifest::{self, Needs};

/// The reason why a file could not be loaded.
#[derive(Debug)]
pub struct LoadFault {
    text: String,
    is_of_loader: bool,
}

impl LoadFault {
    pub(super) fn new(text: String) -> Self {
        LoadFault {
            text,
            is_of_loader: false,
        }
    }

    /// Creates the fault for a refusal of the file at `path` by the system's loader.
    pub(super) fn of_loader(path: &Path, error: &libloading::Error) -> Self {
        let words = said(path, error);
        let hint = hint(path, &words).map_or_else(String::new, |hint| format!("; {hint}"));
        LoadFault {
            text: format!("the system's loader refused it: {words}{hint}"),
            is_of_loader: true,
        }
    }

    /// Returns whether the system's loader refused it. The reason may lie in this process, and a new process may load
    /// the file.
    #[must_use]
    pub fn is_of_loader(&self) -> bool {
        self.is_of_loader
    }
}

impl fmt::Display for LoadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for LoadFault {}

/// Returns the loader's own text: all causes, without the path of the private copy.
fn said(path: &Path, error: &libloading::Error) -> String {
    let mut words = Vec::new();
    let mut cause = Error::source(error);
    while let Some(next) = cause {
        words.push(next.to_string());
        cause = next.source();
    }
    if words.is_empty() {
        // libloading's own text names the system's function, which is enough if the system says no more.
        words.push(error.to_string());
    }
    let path = path.to_string_lossy();
    let words = words.join(": ").replace(&format!("{path}: "), "");
    words.replace(&*path, "the plugin").trim().to_owned()
}

fn hint(path: &Path, words: &str) -> Option<String> {
    if let Some(directory) = path.parent().filter(|directory| is_noexec(directory)) {
        return Some(format!(
            "the file system of {} is mounted noexec, which forbids to load code from it: choose another home, \
             or mount it without noexec",
            directory.display()
        ));
    }
    let needs = std::fs::read(path).map(|bytes| manifest::needs(&bytes));
    hint_of_needs(words, &needs.unwrap_or_default())
}

fn hint_of_needs(words: &str, needs: &Needs) -> Option<String> {
    let missing = needs.libraries.iter().find(|name| words.contains(*name));
    if let Some(library) = missing {
        let place =
            "where the system's loader looks (/etc/ld.so.conf, or LD_LIBRARY_PATH of the host)";
        return Some(match needs.is_beside {
            true => format!(
                "a plugin is loaded from a private copy in another directory, so {library} beside its source ($ORIGIN) is \
                 not found: put {library} {place}, link it statically, or link with the absolute path of its directory"
            ),
            false => format!("put {library} {place}, or link it statically"),
        });
    }
    // The texts of glibc and musl.
    let has_no_room = ["static TLS", "initial-exec TLS"];
    if has_no_room.iter().any(|sign| words.contains(sign)) {
        return Some(
            "a process has little room for thread-locals of a fixed place (static TLS), and each new file takes some for \
             good: `isolate` gives the daemon a process of its own; where that has no room either, start the host with \
             more of it (GLIBC_TUNABLES=glibc.rtld.optional_static_tls=65536)"
                .to_owned(),
        );
    }
    let is_undefined = ["undefined symbol", "symbol not found"];
    is_undefined.iter().any(|sign| words.contains(sign)).then(|| {
        "the library that has this symbol is not linked, or it is older here than where the plugin was built".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(is_beside: bool) -> Needs {
        Needs {
            libraries: vec!["libhelper.so".to_owned(), "libc.so.6".to_owned()],
            is_beside,
        }
    }

    #[test]
    fn each_cause_that_can_be_seen_has_its_hint() {
        let missing = "libhelper.so: cannot open shared object file: No such file or directory";
        let cases = [
            (missing, true, Some("$ORIGIN")),
            (missing, false, Some("LD_LIBRARY_PATH")),
            (
                "cannot allocate memory in static TLS block",
                false,
                Some("`isolate`"),
            ),
            (
                "undefined symbol: helper",
                false,
                Some("has this symbol is not linked"),
            ),
            ("invalid ELF header", false, None),
        ];
        for (words, is_beside, expected) in cases {
            let hint = hint_of_needs(words, &needs(is_beside));
            match expected {
                Some(part) => assert!(
                    hint.as_ref().is_some_and(|hint| hint.contains(part)),
                    "{hint:?}"
                ),
                None => assert_eq!(hint, None, "{words}"),
            }
        }
    }

    #[test]
    fn a_mount_that_forbids_code_is_named() {
        if !is_noexec(Path::new("/proc")) {
            // A container may have mounted it differently, and other systems have none.
            return;
        }
        let hint = hint(Path::new("/proc/version"), "").expect("a hint");
        assert!(hint.contains("/proc is mounted noexec"), "{hint}");
    }
}
