//! `dae-host dev` with real edits: a copy of the crate `plugins/counter`, which cargo builds each time it is saved.
//!
//! The copy is a separate crate in a temporary directory, as an author's would be. Only its name differs: it shares the
//! target directory, where its dependencies are already built, and where other tests use the original's library.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use dae_tests::artefacts::{target_directory, workspace};
use dae_tests::{Ecosystem, Guest, LIMIT, Running, process, until};
use rustix::process::Signal;
use serde_json::json;

/// The longest build: perhaps the first of all dependencies, on a busy machine.
const BUILD_MAX: Duration = Duration::from_secs(900);

/// The name of the copy. Under the plugin's own name, its build would overwrite the file that other tests use.
const COPY: &str = "counter-edited";

/// The body of the command `count` in the crate's source.
const ANSWER: &str = "fn count(&self) -> u64 {\n        self.count.load(Ordering::SeqCst)";

/// A run of `dae-host dev` over a copy of the crate.
struct Author {
    // This field is dropped first: `dev` must end before its directory is deleted.
    dev: Running,
    source: PathBuf,
    stderr: PathBuf,
    plain: String,
    _ecosystem: Ecosystem,
}

impl Author {
    fn begin() -> Self {
        let ecosystem = Ecosystem::asleep();
        let directory = ecosystem.scratch().join(COPY);
        let source = copy_of_counter(&directory, COPY);
        let stderr = ecosystem.scratch().join("dev.stderr");
        let mut command = dev_of(&ecosystem, &[&directory]);
        command.stderr(File::create(&stderr).expect("a file of our own"));
        Author {
            dev: Running::start(&mut command),
            plain: fs::read_to_string(&source).expect("a file of our own"),
            source,
            stderr,
            _ecosystem: ecosystem,
        }
    }

    /// Saves the source with another answer to `count`.
    fn save(&self, answer: &str) {
        let text = answering(&self.plain, answer);
        fs::write(&self.source, text).expect("a file of our own");
    }

    fn until_told(&self, part: &str) {
        self.until_told_times(part, 1);
    }

    fn until_told_times(&self, part: &str, times: usize) {
        until(BUILD_MAX, &format!("{part:?} on standard error"), || {
            self.times_told(part) >= times
        });
    }

    fn times_told(&self, part: &str) -> usize {
        let told = fs::read_to_string(&self.stderr).unwrap_or_default();
        told.matches(part).count()
    }
}

impl Drop for Author {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let told = fs::read_to_string(&self.stderr).unwrap_or_default();
            eprintln!("--- dev wrote:\n{told}---");
        }
    }
}

/// Returns the command that runs `dev` over the crates, which share the target directory of the tests.
fn dev_of(ecosystem: &Ecosystem, directories: &[&Path]) -> Command {
    let mut command = ecosystem.command();
    command
        .arg("dev")
        .args(directories)
        // The workspace's own profile, for which most dependencies are built already.
        .args(["--profile", "dev"])
        .env("CARGO_TARGET_DIR", target_directory())
        .env("CARGO_NET_OFFLINE", "true")
        .env_remove("RUSTC_WRAPPER");
    command
}

/// Returns the source with another answer to `count`.
fn answering(source: &str, answer: &str) -> String {
    assert!(source.contains(ANSWER), "{source}");
    source.replace(ANSWER, &ANSWER.replace("self.count", answer))
}

/// Connects to the daemon whose address that line of `dev` has.
#[track_caller]
fn guest_of(line: &str) -> Guest {
    let port = line.split("127.0.0.1:").nth(1).and_then(|rest| {
        let port = rest.split(';').next()?;
        port.parse().ok()
    });
    Guest::connect(port.unwrap_or_else(|| panic!("no port in {line:?}")))
}

/// Copies the crate, as `cp -r` does, and gives it another name. Returns its source file.
fn copy_of_counter(directory: &Path, name: &str) -> PathBuf {
    let original = workspace().join("plugins/counter");
    copy_all(&original, directory);
    let manifest = directory.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).expect("a file of our own");
    let (package, library) = ("name = \"dae-plugin-counter\"", "name = \"counter\"");
    assert!(text.contains(package) && text.contains(library), "{text}");
    let text = text
        .replace(package, &format!("name = \"{name}\""))
        .replace(library, &format!("name = \"{}\"", name.replace('-', "_")));
    fs::write(&manifest, text).expect("a file of our own");
    // The same versions as in the workspace, so that nothing is downloaded.
    let lock = directory.join("Cargo.lock");
    fs::copy(workspace().join("Cargo.lock"), lock).expect("a file of our own");
    directory.join("src/lib.rs")
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory of our own");
    for entry in fs::read_dir(from).expect("a directory of the workspace") {
        let path = entry.expect("an entry").path();
        let to = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy_all(&path, &to),
            false => drop(fs::copy(&path, to).expect("a directory of our own")),
        }
    }
}

/// Waits until `count` answers `after`, and asserts that it answers `before` until then.
#[track_caller]
fn until_count(guest: &mut Guest, before: u64, after: u64) {
    until(BUILD_MAX, &format!("the count is {after}"), || {
        let count = guest.ask("count", &json!([]));
        assert!(
            count == before || count == after,
            "{count} is neither {before} nor {after}"
        );
        count == after
    });
}

#[test]
fn a_saved_edit_runs_where_the_old_code_was_and_one_that_does_not_compile_is_shown() {
    let mut author = Author::begin();
    // A person may save before the daemon runs: the result of the first build is not yet installed here.
    author.until_told("Finished");
    author.save("100 + self.count");
    let mut guest = guest_of(&author.dev.line(BUILD_MAX));
    until_count(&mut guest, 0, 100);

    assert_eq!(guest.ask("increment", &json!([3])), 3);
    author.save("200 + self.count");
    until_count(&mut guest, 103, 203);

    author.save("300 + self.cuont");
    author.until_told("no field `cuont`");
    author.until_told("what runs, runs on");
    assert_eq!(guest.ask("count", &json!([])), 203);
    assert_eq!(guest.ask("increment", &json!([])), 4);

    author.save("400 + self.count");
    until_count(&mut guest, 204, 404);

    assert_compiled_by_the_right_program(&author, &mut guest);
    process::signal(author.dev.pid(), Signal::INT);
    assert_eq!(author.dev.end(LIMIT), Some(0));
}

/// Edits of the crate's own source need the compiler alone; a manifest needs cargo.
fn assert_compiled_by_the_right_program(author: &Author, guest: &mut Guest) {
    let replayed = author.times_told("saved → rustc");
    assert!(replayed >= 1, "no edit was built by the compiler alone");
    let by_cargo = author.times_told("profile [");
    let manifest = author.source.with_file_name("../Cargo.toml");
    let text = fs::read_to_string(&manifest).expect("a file of our own");
    fs::write(&manifest, text + "# edited\n").expect("a file of our own");
    author.until_told_times("profile [", by_cargo + 1);
    author.save("500 + self.count");
    until_count(guest, 404, 504);
    let finished = author.times_told("Finished");
    let of_cargo = author.times_told("profile [");
    let of_rustc = author.times_told("profile by rustc alone");
    assert_eq!(finished, of_cargo + of_rustc, "one line for each build");
}

#[test]
fn two_crates_of_one_target_directory_are_built_and_run_side_by_side() {
    let ecosystem = Ecosystem::asleep();
    let crates = ["counter-left", "counter-right"].map(|name| {
        let source = copy_of_counter(&ecosystem.scratch().join(name), name);
        let text = fs::read_to_string(&source).expect("a file of our own");
        let text = text.replace(
            "daemon(name = \"Counter\")",
            &format!("daemon(name = \"{name}\")"),
        );
        fs::write(&source, &text).expect("a file of our own");
        (name, source, text)
    });
    let directories = crates
        .each_ref()
        .map(|(name, ..)| ecosystem.scratch().join(name));
    let directories = directories.each_ref().map(PathBuf::as_path);
    let mut dev = Running::start(&mut dev_of(&ecosystem, &directories));
    let mut guests = crates
        .each_ref()
        .map(|(name, ..)| guest_of(&dev.line_with(&format!("{name} 0.1.0 listens on"), BUILD_MAX)));
    for (index, answer) in [(0, 100), (1, 200)] {
        let (_, source, text) = &crates[index];
        let edited = answering(text, &format!("{answer} + self.count"));
        fs::write(source, edited).expect("a file of our own");
        until_count(&mut guests[index], 0, answer);
    }
    // Each save has reached its own daemon alone.
    assert_eq!(
        guests
            .each_mut()
            .map(|guest| guest.ask("count", &json!([]))),
        [100, 200]
    );
    process::signal(dev.pid(), Signal::INT);
    assert_eq!(dev.end(LIMIT), Some(0));
}

/// Makes a crate of a dynamic library without any source, and returns its directory.
fn library_crate(ecosystem: &Ecosystem, name: &str) -> PathBuf {
    let directory = ecosystem.scratch().join(name);
    fs::create_dir_all(directory.join("src")).expect("a directory of our own");
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
         [lib]\ncrate-type = [\"cdylib\"]\n[workspace]\n"
    );
    fs::write(directory.join("Cargo.toml"), manifest).expect("a file of our own");
    fs::write(directory.join("src/lib.rs"), "").expect("a file of our own");
    directory
}

#[test]
fn cargo_accepts_the_quick_profile_and_a_library_that_is_no_plugin_is_refused() {
    let ecosystem = Ecosystem::asleep();
    let directory = library_crate(&ecosystem, "no-plugin");
    let told = told_by_first_build(&ecosystem, &directory, &[]);
    let finished = "Finished `plugin-dev` profile [optimized + debuginfo]";
    for part in [finished, "libno_plugin"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(directory.join("target/plugin-dev").is_dir());
}

/// Runs `dev` until its first build has failed, and returns what it has written to standard error.
fn told_by_first_build(
    ecosystem: &Ecosystem,
    directory: &Path,
    variables: &[(&str, &Path)],
) -> String {
    let stderr = ecosystem.scratch().join("dev.stderr");
    let mut command = ecosystem.command();
    command
        .arg("dev")
        .arg(directory)
        .env_remove("CARGO_TARGET_DIR")
        .envs(variables.iter().copied())
        .stderr(File::create(&stderr).expect("a file of our own"));
    let _dev = Running::start(&mut command);
    let told = || fs::read_to_string(&stderr).unwrap_or_default();
    until(BUILD_MAX, "the failure", || {
        told().contains("the next save builds again")
    });
    told()
}

#[test]
fn a_missing_linker_is_named_with_what_to_install() {
    let ecosystem = Ecosystem::asleep();
    let directory = library_crate(&ecosystem, "no-linker");
    let programs = ecosystem.scratch().join("programs");
    fs::create_dir(&programs).expect("a directory of our own");
    let path = std::env::var_os("PATH").expect("a search path");
    let rustc = std::env::split_paths(&path).map(|dir| dir.join("rustc"));
    let mut rustc = rustc.filter(|file| file.is_file());
    let rustc = rustc.next().expect("this test was compiled");
    std::os::unix::fs::symlink(rustc, programs.join("rustc")).expect("a file of our own");
    let told = told_by_first_build(&ecosystem, &directory, &[("PATH", &programs)]);
    for part in ["no linker `cc`", "apt install gcc"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("the compiler is"), "{told}");
}
