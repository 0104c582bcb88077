//! The kernel's link to the file that this process runs, or its text.
//!
//! The link stays valid when the file is replaced.
//!
//! A program that runs another one in its own process, such as valgrind, is itself the file that the kernel runs.
//! Valgrind 3.19 corrects what its guest reads from the link, but an exec of the link runs valgrind, which refuses.
//! (QEMU 7.2 corrects both, so there either path would do.) So where the link leads to another file than its text
//! names, the path is that text. An upgrade doesn't look like this: the kernel adds " (deleted)" to the name of a file
//! that was replaced, and no such file exists.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

const LINK: &str = "/proc/self/exe";

pub(super) fn path() -> io::Result<PathBuf> {
    let identity = |path: PathBuf| {
        let file = std::fs::metadata(&path).ok()?;
        Some((path, (file.dev(), file.ino())))
    };
    let named = std::env::current_exe().ok().and_then(identity);
    Ok(chosen(identity(LINK.into()), named))
}

/// Chooses between the link and the path that its text names. Each comes with the identity of the file that it leads
/// to, if there is one.
fn chosen<Id: PartialEq>(link: Option<(PathBuf, Id)>, named: Option<(PathBuf, Id)>) -> PathBuf {
    match (link, named) {
        (Some((_, runs)), Some((path, is))) if runs != is => path,
        _ => LINK.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_is_chosen_unless_it_leads_to_another_file() {
        let link = |file| Some((PathBuf::from(LINK), file));
        let named = |file| Some((PathBuf::from("/opt/dae-host"), file));
        let cases = [
            ("the usual case", link(1), named(1), LINK),
            ("valgrind", link(2), named(1), "/opt/dae-host"),
            ("the file was replaced or removed", link(1), None, LINK),
            ("/proc is not mounted", None, None, LINK),
        ];
        for (case, link, named, expected) in cases {
            assert_eq!(chosen(link, named), PathBuf::from(expected), "{case}");
        }
    }

    #[test]
    fn the_path_leads_to_this_program() {
        let own = std::env::current_exe().unwrap();
        assert!(std::fs::read(path().unwrap()).unwrap() == std::fs::read(own).unwrap());
    }
}
