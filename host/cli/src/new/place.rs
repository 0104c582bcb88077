//! Puts the files of a new crate in their place, all at once.
//!
//! They are written into a temporary directory beside the place, on the same disk, and the whole directory is renamed.
//! The temporary directory is removed, whatever happens.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, anyhow};

use crate::dev;
use dae_runtime::os::new_name::rename_to_new;
use dae_runtime::os::process_group::keep_ctrl_c_from;
use dae_runtime::os::wording;
use dae_store::real_path;

/// The start of the temporary directory's name.
const TEMPORARY_PREFIX: &str = ".dae-host-new-";

/// The end of the manifest of a crate that lies in a workspace which doesn't list it.
const OWN_WORKSPACE: &str =
    "\n# A workspace above this directory neither lists the crate nor builds it.\n[workspace]\n";

/// Makes the directory `place` with these files; each has a path inside it and a text.
///
/// # Errors
/// The place is taken or can't be written. Nothing is left of the attempt.
pub(super) fn make(place: &Path, files: &[(&str, String)]) -> Result<()> {
    if place.symlink_metadata().is_ok() {
        return Err(is_taken(place));
    }
    let parent = match place.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let temporary = tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .tempdir_in(parent)
        .map_err(|error| failed(&error, place))?;
    // A directory inside it has the usual mode, and not that of a temporary one.
    let whole = temporary.path().join("crate");
    for (file, text) in files {
        write(&whole.join(file), text).map_err(|error| failed(&error, &place.join(file)))?;
    }
    match rename_to_new(&whole, place) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(is_taken(place)),
        renamed => renamed.map_err(|error| failed(&error, place))?,
    }
    // A workspace that lists all directories here must not find it.
    drop(temporary);
    leave_workspace(place).with_context(|| {
        let place = place.display();
        format!("{place} is made, but lies in a workspace that does not list it; add `[workspace]` to its Cargo.toml")
    })
}

fn is_taken(place: &Path) -> anyhow::Error {
    anyhow!(
        "{} is there already, and `new` makes a directory of its own; choose another name, or remove it first",
        place.display()
    )
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(file, text)
}

/// Returns the error of a file or directory that can't be made, with the remedy.
fn failed(error: &io::Error, path: &Path) -> anyhow::Error {
    use io::ErrorKind as Kind;
    let advice = match error.kind() {
        Kind::StorageFull => "the disk is full: free some space and try again",
        Kind::QuotaExceeded => "your disk quota is used up: free some of it and try again",
        Kind::FileTooLarge => wording::FILE_TOO_LARGE,
        Kind::PermissionDenied => wording::NO_ACCESS,
        Kind::ReadOnlyFilesystem => "that file system is read-only: choose a directory elsewhere",
        Kind::NotFound => "the directory above the new one is not there: make it first",
        Kind::NotADirectory => "a part of that path is a file: choose a directory",
        _ => "choose another place",
    };
    let path = path.display();
    // An error that isn't the system's own names the temporary directory, which is nothing to a person.
    let cause = match error.get_ref() {
        Some(_) => error.kind().to_string(),
        None => error.to_string(),
    };
    anyhow!("cannot make {path}: {cause}; {advice}; nothing is left of the new crate")
}

/// Makes the crate a workspace of its own where cargo would not build it otherwise: below a workspace that doesn't list
/// it. A workspace that lists it, perhaps by `plugins/*`, keeps it as a member.
fn leave_workspace(place: &Path) -> io::Result<()> {
    let place = real_path::of(place)?;
    let mut above = place.ancestors().skip(1);
    if !above.any(|dir| dir.join("Cargo.toml").is_file()) || cargo_reads(&place) {
        return Ok(());
    }
    let manifest = place.join("Cargo.toml");
    let plain = fs::read_to_string(&manifest)?;
    replace(&manifest, &format!("{plain}{OWN_WORKSPACE}"))?;
    match cargo_reads(&place) {
        true => Ok(()),
        // The workspace is not the reason, or there is no cargo.
        false => replace(&manifest, &plain),
    }
}

fn replace(file: &Path, text: &str) -> io::Result<()> {
    let parent = file.parent().map_or_else(PathBuf::new, Path::to_owned);
    let temporary = tempfile::NamedTempFile::new_in(parent)?;
    fs::write(&temporary, text)?;
    let mode = fs::metadata(file)?.permissions();
    temporary.as_file().set_permissions(mode)?;
    temporary
        .persist(file)
        .map(drop)
        .map_err(|fault| fault.error)
}

/// Returns whether cargo takes the crate as it is.
fn cargo_reads(place: &Path) -> bool {
    let mut cargo = Command::new(dev::cargo());
    // A Ctrl-C is not for it: its answer decides about the crate.
    keep_ctrl_c_from(&mut cargo);
    let status = cargo
        .args(["metadata", "--no-deps", "--format-version=1"])
        .current_dir(place)
        // Rustup must not download a toolchain here: it would take minutes, and a Ctrl-C would not stop it.
        .env("RUSTUP_AUTO_INSTALL", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("a directory of our own");
        let name = |entry: io::Result<fs::DirEntry>| {
            let name = entry.expect("an entry").file_name();
            name.to_string_lossy().into_owned()
        };
        entries.map(name).collect()
    }

    #[test]
    fn a_crate_is_whole_with_the_usual_mode() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = dir.path().join("greeter");
        let texts = [
            ("Cargo.toml", "a".to_owned()),
            ("src/lib.rs", "b".to_owned()),
        ];
        make(&place, &texts).expect("room for two files");
        assert_eq!(files(dir.path()), ["greeter"]);
        assert_eq!(fs::read_to_string(place.join("src/lib.rs")).unwrap(), "b");
        let usual = dir.path().join("usual");
        fs::create_dir(&usual).expect("a directory");
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions();
        assert_eq!(mode(&place), mode(&usual));

        let again = make(&place, &texts).expect_err("it is there");
        assert!(again.to_string().contains("is there already"), "{again}");
        let empty = make(&usual, &texts).expect_err("an empty directory is one");
        assert!(empty.to_string().contains("is there already"), "{empty}");
        assert_eq!(files(&usual), [""; 0]);
    }

    #[test]
    fn nothing_is_left_of_a_crate_that_cannot_be_written() {
        let dir = tempfile::tempdir().expect("a directory");
        // The second file needs a directory where the first one is.
        let texts = [("src", String::new()), ("src/lib.rs", String::new())];
        let error = make(&dir.path().join("greeter"), &texts).expect_err("it can't be written");
        let file = Path::new("greeter").join("src/lib.rs");
        assert!(
            error.to_string().contains(&file.display().to_string()),
            "{error}"
        );
        assert_eq!(files(dir.path()), [""; 0]);
        let nowhere = dir.path().join("nowhere/greeter");
        let error = make(&nowhere, &[]).expect_err("no directory is above");
        let text = error.to_string();
        assert!(text.contains("make it first"), "{text}");
        assert!(
            text.contains(&nowhere.display().to_string()) && !text.contains(TEMPORARY_PREFIX),
            "{text}"
        );
    }
}
