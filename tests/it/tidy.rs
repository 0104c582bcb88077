//! The house rules that neither the compiler nor clippy knows, kept by reading the source.
//!
//! Lines are read, not syntax: the code is formatted by rustfmt, so that a line says enough. Each rule reports all that
//! breaks it, at once, with file and line.

mod systems;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use dae_tests::artefacts::workspace;

/// Where our Rust code lies.
const FOLDERS: [&str; 4] = ["host", "plugin-api", "plugins", "tests"];

/// The files that may say `unsafe`, each with what makes it necessary.
const UNSAFE_ALLOWED: [(&str, &str); 45] = [
    (
        "host/runtime/src/plugin/library.rs",
        "loads libraries and calls into them",
    ),
    (
        "host/runtime/src/hand_off/socket.rs",
        "moves bytes between a socket and shared memory",
    ),
    (
        "host/runtime/src/hand_off/buffer.rs",
        "copies between it and private memory",
    ),
    (
        "host/runtime/src/hand_off/mapping.rs",
        "sees shared memory as its type",
    ),
    (
        "host/runtime/src/os/account/windows.rs",
        "asks who runs a process, and makes pipes",
    ),
    (
        "host/runtime/src/os/allocator/gnu.rs",
        "tells the allocator something",
    ),
    (
        "host/runtime/src/os/own_environment.rs",
        "sets environment variables",
    ),
    (
        "host/runtime/src/os/sealed_file/linux.rs",
        "maps files in memory",
    ),
    (
        "host/runtime/src/os/bounds/windows.rs",
        "names this process to Windows",
    ),
    (
        "host/runtime/src/os/clock/windows.rs",
        "asks for the machine's clock",
    ),
    (
        "host/runtime/src/os/control_client/windows.rs",
        "asks who made a pipe",
    ),
    (
        "host/runtime/src/os/control_listener/windows.rs",
        "looks into a pipe",
    ),
    (
        "host/runtime/src/os/library.rs",
        "loads libraries by either twin",
    ),
    (
        "host/runtime/src/os/library/unix.rs",
        "loads libraries for good",
    ),
    (
        "host/runtime/src/os/library/windows.rs",
        "loads libraries for good",
    ),
    (
        "host/runtime/src/os/listening_sockets/windows.rs",
        "asks Windows about sockets and processes",
    ),
    (
        "host/runtime/src/os/new_name/windows.rs",
        "renames without replacing",
    ),
    (
        "host/runtime/src/os/port/windows.rs",
        "takes a port exclusively",
    ),
    (
        "host/runtime/src/os/process_usage/windows.rs",
        "asks Windows about processes",
    ),
    (
        "host/runtime/src/os/shared_memory/linux.rs",
        "maps memory that two processes share",
    ),
    (
        "host/runtime/src/os/tcp_counts.rs",
        "reads into and writes from shared memory, by either twin",
    ),
    (
        "host/runtime/src/os/tcp_counts/elsewhere.rs",
        "has the same signatures as its twin",
    ),
    (
        "host/runtime/src/os/tcp_counts/linux.rs",
        "asks the kernel what rustix doesn't",
    ),
    (
        "host/runtime/src/os/signals/windows.rs",
        "sets how Windows ends this process",
    ),
    (
        "host/runtime/src/os/descriptors/windows.rs",
        "keeps standard handles from other processes",
    ),
    (
        "host/runtime/src/os/terminal/windows.rs",
        "sets the mode of a console",
    ),
    ("host/runtime/src/os/warden/windows.rs", "ends this process"),
    (
        "host/runtime/src/os/job_object.rs",
        "makes a job, and puts processes into it",
    ),
    (
        "host/runtime/src/os/worker_stream/windows.rs",
        "makes a pipe that a worker inherits",
    ),
    ("host/runtime/src/plugin/host_api.rs", "is called by them"),
    (
        "host/store/src/os/handle.rs",
        "asks Windows about open files",
    ),
    (
        "host/store/src/os/home_lock/windows.rs",
        "locks a byte of a file",
    ),
    (
        "host/store/src/os/security.rs",
        "reads and sets access lists of Windows",
    ),
    ("plugin-api/src/abi.rs", "the types that cross"),
    ("plugin-api/src/export.rs", "is called by the host"),
    ("plugin-api/src/export/create.rs", "is called by the host"),
    (
        "plugin-api/src/parts.rs",
        "stands in for a host where an item is written",
    ),
    ("plugin-api/src/reply.rs", "its tests stand in for a host"),
    (
        "plugin-api/src/testing/instance.rs",
        "calls a daemon as a host does",
    ),
    ("plugin-api/src/testing/vtable.rs", "is called by daemons"),
    (
        "plugin-api/macros/src/expand.rs",
        "writes the manifest's section",
    ),
    (
        "plugin-api/tests/ui/fail/commands.rs",
        "shows that an unsafe command is refused",
    ),
    (
        "tests/fixtures/cramped/src/lib.rs",
        "names a function of assembly",
    ),
    (
        "tests/fixtures/misbehave/src/harm.rs",
        "does what it must not",
    ),
    (
        "tests/fixtures/recipe/src/lib.rs",
        "crashes in a static constructor",
    ),
];

/// A function with more lines than this, its signature included, is hard to see whole.
const FUNCTION_LINES_MAX: usize = 40;

/// The number of functions that have more all the same. It only ever goes down.
const LONG_FUNCTIONS_MAX: usize = 13;

/// The words that a commit never has.
const UNFINISHED: [&str; 3] = ["todo", "dbg", "unimplemented"];

/// One source file.
struct Source {
    /// From the workspace's directory, with slashes.
    path: String,
    text: String,
}

impl Source {
    /// The lines without their comments, each with its number.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let code = |line: &'_ str| line.find("//").map_or(line.len(), |at| at);
        (1..).zip(self.text.lines().map(move |line| &line[..code(line)]))
    }
}

/// All Rust files of the workspace, in a fixed order.
fn sources() -> Vec<Source> {
    let mut all = Vec::new();
    for folder in FOLDERS {
        collect(&workspace().join(folder), &mut all);
    }
    all.sort_by(|a: &Source, b| a.path.cmp(&b.path));
    assert!(all.len() > 50, "the sources are not where they should be");
    all
}

fn collect(directory: &Path, all: &mut Vec<Source>) {
    for entry in fs::read_dir(directory).expect("a directory of the workspace") {
        let path = entry.expect("an entry").path();
        // A crate built by itself leaves a directory of this name behind.
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let inside = path.strip_prefix(workspace()).expect("below it");
            all.push(Source {
                path: inside.to_str().expect("UTF-8").replace('\\', "/"),
                text: fs::read_to_string(&path).expect("a source in UTF-8"),
            });
        }
    }
}

#[track_caller]
fn none_of(faults: &[String], rule: &str) {
    assert!(faults.is_empty(), "{rule}:\n  {}", faults.join("\n  "));
}

/// Where `word` stands by itself in `code`, what comes behind it.
fn behind<'c>(code: &'c str, word: &str) -> impl Iterator<Item = &'c str> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    code.match_indices(word).filter_map(move |(at, _)| {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        let stands_alone = !before.ends_with(is_part) && !after.starts_with(is_part);
        stands_alone.then_some(after)
    })
}

#[test]
fn every_file_opens_with_what_it_is() {
    let silent = |source: &Source| !source.text.starts_with("//! ");
    let faults: Vec<String> = sources()
        .into_iter()
        .filter(silent)
        .map(|source| source.path)
        .collect();
    none_of(
        &faults,
        "the first line of a file is a `//!` that says what it is",
    );
}

#[test]
fn unsafe_stays_at_the_boundary() {
    let sources = sources();
    let is_unsafe = |source: &Source| source.code().any(|(_, code)| says_unsafe(code));
    let found: BTreeSet<&str> = sources
        .iter()
        .filter(|source| is_unsafe(source))
        .map(|source| source.path.as_str())
        .collect();
    let allowed: BTreeSet<&str> = UNSAFE_ALLOWED.iter().map(|(path, _)| *path).collect();
    assert_eq!(
        found, allowed,
        "left: the files that say `unsafe`; right: those that may"
    );
}

/// Whether it is the keyword, and not the word in a text.
fn says_unsafe(code: &str) -> bool {
    let starts = ["{", "(", "fn ", "impl", "extern", "trait"];
    behind(code, "unsafe").any(|after| {
        let after = after.trim_start();
        starts.iter().any(|start| after.starts_with(start))
    })
}

/// The host's crates whose library opens with its modules in the order of their imports. Between crates, cargo keeps it.
const ORDERED_CRATES: [&str; 3] = ["host/src/", "host/runtime/src/", "host/store/src/"];

#[test]
fn the_hosts_crates_import_only_downwards() {
    let sources = sources();
    let mut faults = Vec::new();
    for root in ORDERED_CRATES {
        let order = reading_order(&sources, root);
        let place = |module: &str| order.iter().position(|one| *one == module);
        for (source, module) in modules_of(&sources, root) {
            // The system's part stands below all other modules, and some tests of it need one of these.
            if module == "os" && source.path.ends_with("/tests.rs") {
                continue;
            }
            let Some(from) = place(module) else {
                faults.push(format!("{}: not in the list", source.path));
                continue;
            };
            for (line, target) in imports(source) {
                if place(&target).is_some_and(|to| to < from) {
                    faults.push(format!("{}:{line}: {module} -> {target}", source.path));
                }
            }
        }
    }
    none_of(
        &faults,
        "a file imports only what stands below it in the list that opens its crate's lib.rs",
    );
}

/// The modules in the order of the list that opens the library of a crate.
fn reading_order<'s>(sources: &'s [Source], root: &str) -> Vec<&'s str> {
    let library = sources
        .iter()
        .find(|source| source.path.strip_prefix(root) == Some("lib.rs"));
    let library = library.expect("the crate's library");
    let entries = library
        .text
        .lines()
        .filter(|line| line.starts_with("//! - "));
    let names = entries.flat_map(|entry| entry.split('`').skip(1).step_by(2));
    let order: Vec<&str> = names.collect();
    assert!(order.len() > 3, "the list in {root}lib.rs has changed");
    order
}

/// The files of a crate, each with the module of the crate's root that it belongs to; the library itself stands above all.
fn modules_of<'s>(
    sources: &'s [Source],
    root: &'s str,
) -> impl Iterator<Item = (&'s Source, &'s str)> {
    sources.iter().filter_map(move |source| {
        let inside = source.path.strip_prefix(root)?;
        let module = inside.split('/').next()?.trim_end_matches(".rs");
        (module != "lib").then_some((source, module))
    })
}

/// Every other module that a file of the host names, with the line.
fn imports(source: &Source) -> Vec<(usize, String)> {
    let mut imports = Vec::new();
    for (line, code) in source.code() {
        for path in behind(code, "crate").filter_map(|after| after.strip_prefix("::")) {
            let end = path.find(|c: char| !c.is_alphanumeric() && c != '_');
            // An item that the crate's root exports belongs to its module: `crate::Dae`.
            let target = path[..end.unwrap_or(path.len())].to_lowercase();
            imports.push((line, target));
        }
    }
    imports
}

#[test]
fn functions_stay_short() {
    let mut long = Vec::new();
    for source in &sources() {
        for (line, name, lines) in functions(source) {
            if lines > FUNCTION_LINES_MAX {
                long.push(format!("{}:{line}: {name} has {lines} lines", source.path));
            }
        }
    }
    assert!(
        long.len() <= LONG_FUNCTIONS_MAX,
        "at most {LONG_FUNCTIONS_MAX} functions may have more than {FUNCTION_LINES_MAX} lines:\n  {}",
        long.join("\n  ")
    );
}

/// Each function with a body: its line, its name, how many lines it has.
fn functions(source: &Source) -> Vec<(usize, &str, usize)> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut functions = Vec::new();
    for (at, code) in source.code() {
        let length = |name| length(&lines[at - 1..]).map(|length| (at, name, length));
        functions.extend(function_name(code).and_then(length));
    }
    functions
}

/// The name of the function whose first line it is.
fn function_name(code: &str) -> Option<&str> {
    let (before, after) = code.split_once("fn ")?;
    let is_qualifier = |word: &str| {
        word.starts_with("pub") || ["const", "async", "unsafe", "extern", "\"C\""].contains(&word)
    };
    let is_item = before.split_whitespace().all(is_qualifier);
    is_item.then(|| after.split(['(', '<']).next().unwrap_or(after))
}

/// Returns the number of lines of the item that begins with the first of these; `None` for one without a body. By
/// rustfmt's layout, the brace that ends it stands as deep as its first line does.
fn length(lines: &[&str]) -> Option<usize> {
    let first = lines.first()?;
    if first.ends_with(['}', ';']) {
        return first.ends_with('}').then_some(1);
    }
    let depth = |line: &str| line.len() - line.trim_start().len();
    let is_end = |line: &&str| {
        depth(line) == depth(first) && (line.trim_start() == "}" || line.ends_with(';'))
    };
    let last = lines.iter().position(is_end)?;
    (lines[last].trim_start() == "}").then_some(last + 1)
}

/// A file with more lines than this has more than one job.
const FILE_LINES_MAX: usize = 600;

#[test]
fn files_stay_short() {
    let lines = |source: &Source| source.text.lines().count();
    let long = |source: &Source| lines(source) > FILE_LINES_MAX;
    let faults: Vec<String> = sources()
        .iter()
        .filter(|source| long(source))
        .map(|source| format!("{}: {} lines", source.path, lines(source)))
        .collect();
    none_of(&faults, "a file has at most 600 lines");
}

/// The crates in which a name is one type.
const CRATES: [&str; 6] = [
    "host/cli/src/",
    "host/common-tcp/src/",
    "host/runtime/src/",
    "host/src/",
    "host/store/src/",
    "plugin-api/src/",
];

/// The types that several modules have on purpose: the arguments of each command of the program, the parts that a model
/// check exchanges, those of tests, and those of templates, which are the text of other crates.
fn may_be_defined_twice(source: &Source, name: &str) -> bool {
    let is_exchanged = source.path.starts_with("host/runtime/src/hand_off/model");
    let is_text = source.path.contains("/templates/");
    name == "Args" || is_exchanged || is_text || source.path.ends_with("/tests.rs")
}

#[test]
fn a_name_is_one_type_of_its_crate() {
    let sources = sources();
    let mut faults = Vec::new();
    for root in CRATES {
        let mut defined = BTreeMap::new();
        for source in sources
            .iter()
            .filter(|source| source.path.starts_with(root))
        {
            for (number, name) in types(source) {
                if may_be_defined_twice(source, name) {
                    continue;
                }
                let here = format!("{}:{number}", source.path);
                // In one file, or in the files of one matter of a seam, it is one type for each system or feature.
                if let Some((path, there)) =
                    defined.insert(name.to_owned(), (&*source.path, here.clone()))
                    && path != source.path
                    && !are_twins(path, &source.path)
                {
                    faults.push(format!("{here}: {name} is defined at {there}, too"));
                }
            }
        }
    }
    none_of(&faults, "a name is one type of its crate");
}

/// Returns whether both files are of one matter of a seam to the operating system: its own file, or one for some system.
fn are_twins(one: &str, other: &str) -> bool {
    let matter = |path: &str| {
        let (seam, rest) = path.split_once("/os/")?;
        let matter = rest.split(['/', '.']).next()?;
        Some((seam.to_owned(), matter.to_owned()))
    };
    matter(one).is_some_and(|of_one| matter(other) == Some(of_one))
}

/// Returns the types that a file defines at its top level, with their lines.
fn types(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    source.code().filter_map(|(number, code)| {
        let code = match code.strip_prefix("pub") {
            Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
            Some(rest) => rest.trim_start(),
            None => code,
        };
        let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
        let kinds = ["struct", "enum", "trait", "union", "type"];
        let is_type = words.next().is_some_and(|word| kinds.contains(&word));
        let name = words.next().filter(|_| is_type)?;
        Some((number, name))
    })
}

#[test]
fn nothing_is_left_unfinished() {
    let mut faults = Vec::new();
    for source in &sources() {
        for (line, code) in source.code() {
            let is_in = |word: &str| behind(code, word).any(|after| after.starts_with("!("));
            let found = UNFINISHED.iter().filter(|word| is_in(word));
            faults.extend(found.map(|word| format!("{}:{line}: {word}!", source.path)));
        }
    }
    none_of(&faults, "what is committed is finished");
}

#[test]
fn the_library_names_no_option_of_the_program() {
    let ours = ["host/src/", "host/runtime/src/", "host/store/src/"];
    let mut faults = Vec::new();
    for source in &sources() {
        if !ours.iter().any(|folder| source.path.starts_with(folder)) {
            continue;
        }
        for (line, code) in source.code() {
            let is_named = code.split('"').skip(1).any(names_the_program);
            if is_named {
                faults.push(format!("{}:{line}: {}", source.path, code.trim()));
            }
        }
    }
    none_of(
        &faults,
        "a message of the library speaks of the library; host/cli/src/exit.rs adds the options of the program",
    );
}

/// The options of other programs that messages of the library name.
const OTHER_OPTIONS: [&str; 1] = ["`cargo build --release`"];

/// Returns whether a text names an option, or a command of the program in backquotes.
fn names_the_program(text: &str) -> bool {
    let without = OTHER_OPTIONS.iter();
    let text = without.fold(text.to_owned(), |text, other| text.replace(other, ""));
    let is_option = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase());
    let mut options = text.match_indices("--").map(|(at, _)| &text[at + 2..]);
    options.any(is_option) || text.contains("`dae-host ")
}

#[test]
fn the_readme_names_every_folder() {
    let readme = fs::read_to_string(workspace().join("README.md")).expect("a README.md");
    let entries = fs::read_dir(workspace()).expect("the workspace");
    let folders = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let ours = folders.filter(|name| !name.starts_with('.') && name != "target");
    let missing: Vec<String> = ours
        .filter(|name| !readme.contains(&format!("{name}/")))
        .collect();
    none_of(&missing, "README.md says what each folder is for");
}
