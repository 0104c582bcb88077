//! Checks of the README and of the pages in `host/docs`: their examples are built and run, and what they name exists.
//!
//! A fence whose info string has a path as its second word is a file (` ```toml greeter/Cargo.toml `). The tests take it as it
//! stands. One with the name of a stored text (` ```console list.snap `) shows a part of that text; see `shown`.

mod authors;
mod first_minute;
pub(crate) mod json;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use cargo_metadata::Message;
use dae_tests::artefacts::{target_directory, workspace};
use dae_tests::{Ecosystem, Guest, LIMIT, Running, process, program, until};
use rustix::process::Signal;
use serde_json::json;

/// Cargo builds something, perhaps all of it for the first time, on a machine that has other things to do.
const BUILD_MAX: Duration = Duration::from_secs(900);

/// Stands for the directory of a clone in the pages.
const CLONE: &str = "path/to/dae-host";

/// The plugin that a page shows in full.
const COUNTER: &str = "plugins/counter/src/lib.rs";

/// The most lines of the README: a reader decides within a minute.
const README_LINES_MAX: usize = 250;

/// Returns the paths of the README and of all pages, from the workspace's directory.
pub(crate) fn pages() -> Vec<PathBuf> {
    let mut pages = vec![PathBuf::from("README.md")];
    for directory in ["host/docs", "host/docs/design"] {
        let entries = fs::read_dir(workspace().join(directory)).expect("the pages");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let markdown = names.filter(|name| Path::new(name).extension() == Some("md".as_ref()));
        pages.extend(markdown.map(|name| Path::new(directory).join(name)));
    }
    assert!(pages.len() > 10, "the pages are not where they should be");
    pages
}

#[track_caller]
pub(crate) fn page(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    let text = fs::read_to_string(workspace().join(path));
    text.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A fenced block: its info string and its text.
pub(crate) struct Fence {
    pub(crate) info: String,
    pub(crate) text: String,
}

pub(crate) fn fences(markdown: &str) -> Vec<Fence> {
    let mut fences = Vec::new();
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        if let Some(info) = line.strip_prefix("```") {
            let text = lines.by_ref().take_while(|line| *line != "```");
            fences.push(Fence {
                info: info.to_owned(),
                text: text.map(|line| format!("{line}\n")).collect(),
            });
        }
    }
    fences
}

/// Returns the file that one of the pages shows under that path.
#[track_caller]
fn shown(path: &str) -> String {
    let is_it = |fence: &Fence| fence.info.split(' ').nth(1) == Some(path);
    let all = pages().into_iter().flat_map(|one| fences(&page(one)));
    let mut found: Vec<_> = all.filter(is_it).collect();
    assert_eq!(found.len(), 1, "fences for {path} in the pages");
    found.remove(0).text
}

/// Returns a file of ours without the text at its head, which the pages give in their own words.
#[track_caller]
fn below_the_head(path: &str) -> String {
    let file = fs::read_to_string(workspace().join(path)).expect("a file of ours");
    let code = file.split_once("\n\n").expect("a head, then code").1;
    code.to_owned()
}

/// Returns the part of a page under that heading.
#[track_caller]
fn section(path: &str, heading: &str) -> String {
    let page = page(path);
    let start = page
        .find(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("{path} has no {heading:?}"));
    let rest = &page[start + heading.len() + 2..];
    // Up to the next heading of its own level, or of the chapters'.
    let level = heading.split(' ').next().expect("a heading has a level");
    let next = |level: &str| rest.find(&format!("\n{level} ")).unwrap_or(rest.len());
    let end = next(level).min(next("##"));
    rest[..end].to_owned()
}

/// Returns the texts between backticks outside of fences.
fn quoted(markdown: &str) -> BTreeSet<String> {
    let prose: String = markdown.split("```").step_by(2).collect();
    prose
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The dynamic library or executable of that name, built by cargo with these arguments.
#[track_caller]
fn built(directory: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--message-format", "json-render-diagnostics"])
        .args(arguments)
        .current_dir(directory)
        // The dependencies that others have built are there already.
        .env("CARGO_TARGET_DIR", target_directory())
        .env("CARGO_INCREMENTAL", "0")
        .stdin(Stdio::null());
    let output = program::run(&mut cargo, BUILD_MAX).ok();
    let artefact = |message| match message {
        Ok(Message::CompilerArtifact(artefact)) if artefact.target.name == name => {
            artefact.filenames.into_iter().next()
        }
        _ => None,
    };
    let mut files = Message::parse_stream(output.stdout.as_bytes()).filter_map(artefact);
    files
        .next()
        .unwrap_or_else(|| panic!("cargo has built no {name}: {output:#?}"))
        .into_std_path_buf()
}

/// Writes a crate that the pages show, with nothing of this workspace around it, and returns its directory. All of them
/// have the manifest that the README shows, except for the name.
fn written(ecosystem: &Ecosystem, name: &str) -> PathBuf {
    let directory = ecosystem.scratch().join(name);
    fs::create_dir_all(directory.join("src")).expect("a directory of our own");
    let manifest = shown("greeter/Cargo.toml").replace("greeter", name);
    assert!(manifest.contains(CLONE), "{manifest}");
    let clone = workspace().to_str().expect("a path in UTF-8");
    let write = |file: &str, text: &str| fs::write(directory.join(file), text).expect("our own");
    write("Cargo.toml", &manifest.replace(CLONE, clone));
    write("src/lib.rs", &shown(&format!("{name}/src/lib.rs")));
    // The same versions as here, so that nothing has to be fetched.
    fs::copy(workspace().join("Cargo.lock"), directory.join("Cargo.lock")).expect("our own");
    directory
}

/// Builds a crate that the pages show, and returns its plugin.
fn outside(ecosystem: &Ecosystem, name: &str) -> PathBuf {
    built(&written(ecosystem, name), name, &[])
}

#[test]
fn the_daemon_of_the_readme_is_built_outside_and_runs() {
    let mut ecosystem = Ecosystem::asleep();
    let file = outside(&ecosystem, "greeter");
    ecosystem.wake(&[]);
    let file = file.to_str().expect("a path in UTF-8");
    let _ = ecosystem.cli(&["install", "Greeter", file]).ok();
    let mut guest = ecosystem.guest("Greeter");
    assert_eq!(guest.ask("greet", &json!(["Ada"])), "Hello, Ada!");
    let help = guest.ask("help", &json!([]));
    assert_eq!(help["greet"]["doc"], "Greets `who`.");
    let called = ecosystem.cli(&["call", "Greeter", "greet", "Ada"]).ok();
    assert_eq!(called.stdout, "\"Hello, Ada!\"\n");
}

/// Its crate depends on nothing but `dae-plugin-api`, and derives `Deserialize`.
#[test]
fn the_daemon_of_the_pages_with_a_port_keeps_it_over_a_reload() {
    let mut ecosystem = Ecosystem::asleep();
    let file = outside(&ecosystem, "board");
    ecosystem.wake(&[]);
    let file = file.to_str().expect("a path in UTF-8");
    let _ = ecosystem.cli(&["install", "Board", file]).ok();
    let mut guest = ecosystem.guest("Board");
    let port = guest.ask("port", &json!([]));
    // The next instances need this very port.
    let config = json!({"http_port": port}).to_string();
    let again = ["install", "Board", file, "--replace", "--config", &config];
    let _ = ecosystem.cli(&again).ok();
    let _ = ecosystem.cli(&["reload", "Board"]).ok();
    assert_eq!(guest.ask("port", &json!([])), port);
    assert_eq!(guest.ask("put-up", &json!(["Tea at five"])), 1);
    for (notice, refusal) in [
        ("", "the notice is empty"),
        ("Tea at five", "\"Tea at five\" is on the page already"),
    ] {
        let fault = guest.ask_in_vain("put-up", &json!([notice]));
        assert_eq!((&*fault.code, &*fault.message), ("failed", refusal));
    }
    let port = port.as_u64().and_then(|port| u16::try_from(port).ok());
    let address = ("127.0.0.1", port.expect("a port"));
    let mut visitor = TcpStream::connect(address).expect("it listens");
    let mut page = String::new();
    visitor.set_read_timeout(Some(LIMIT)).expect("a limit");
    visitor.read_to_string(&mut page).expect("it answers");
    assert!(page.ends_with("\r\n\r\nTea at five"), "{page}");
}

#[test]
fn the_daemon_of_the_pages_that_talks_is_built_outside_and_goes_on_when_the_clock_was_away() {
    let mut ecosystem = Ecosystem::asleep();
    let file = outside(&ecosystem, "tally");
    ecosystem.wake(&[]);
    let _counter = ecosystem.install("Counter", "counter", &[]);
    let quick = ["--config", r#"{"every_ms":20}"#];
    let _clock = ecosystem.install("Clock", "clock", &quick);
    let file = file.to_str().expect("a path in UTF-8");
    let _ = ecosystem.cli(&["install", "Tally", file]).ok();
    let mut guest = ecosystem.guest("Tally");
    let mut ticks = || guest.ask("ticks", &json!([])).as_u64();
    until(LIMIT, "it counts", || ticks() > Some(5));
    let _ = ecosystem.cli(&["stop", "Clock"]).ok();
    let _ = ecosystem.cli(&["start", "Clock"]).ok();
    let before = ticks();
    until(LIMIT, "it goes on", || {
        ticks() > before.map(|ticks| ticks + 5)
    });
}

#[test]
fn the_state_of_the_pages_is_that_of_the_counter_and_outlives_a_reload() {
    assert_eq!(shown(COUNTER), below_the_head(COUNTER));
    let ecosystem = Ecosystem::start();
    let _counter = ecosystem.install("Counter", "counter", &[]);
    let mut guest = ecosystem.guest("Counter");
    assert_eq!(guest.ask("increment", &json!([5])), 5);
    let told = ecosystem.cli(&["reload", "Counter"]).ok().stdout;
    assert!(
        told.starts_with("accepted Counter generation 2 ("),
        "{told}"
    );
    assert_eq!(guest.ask("increment", &json!([])), 6);
}

#[test]
fn the_embedding_program_of_the_pages_is_the_example_and_runs() {
    let path = "host/examples/embed.rs";
    assert_eq!(shown(path), below_the_head(path));

    let ecosystem = Ecosystem::asleep();
    let plugin = ecosystem.plugin("sample");
    let embed = built(
        workspace(),
        "embed",
        &["--package", "dae-host", "--example", "embed"],
    );
    let mut embed = Running::start(Command::new(embed).arg(ecosystem.home()).arg(plugin));
    let line = embed.line(LIMIT);
    let port = line.rsplit(' ').next().and_then(|port| port.parse().ok());
    let mut guest = Guest::connect(port.unwrap_or_else(|| panic!("no port in {line:?}")));
    assert_eq!(guest.ask("add", &json!([1, 2])), json!(3));
    // The line is printed before the program waits for Ctrl-C.
    until(LIMIT, "it catches SIGINT", || catches_sigint(embed.pid()));
    process::signal(embed.pid(), Signal::INT);
    assert_eq!(embed.end(LIMIT), Some(0));
}

fn catches_sigint(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("a process of ours");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Bit 0 is signal 1.
    mask.expect("SigCgt in /proc") & (1 << (Signal::INT.as_raw() - 1)) != 0
}

#[test]
fn the_program_of_the_pages_that_calls_is_the_example_and_runs() {
    let path = "host/examples/call.rs";
    assert_eq!(shown(path), below_the_head(path));

    let ecosystem = Ecosystem::asleep();
    let arguments = ["--package", "dae-host", "--example", "call"];
    let mut call = Command::new(built(workspace(), "call", &arguments));
    call.arg(ecosystem.home()).arg(ecosystem.plugin("sample"));
    let output = program::run(&mut call, LIMIT).ok().stdout;
    let mut lines = output.lines();
    assert_eq!(
        lines.next(),
        Some("Hello, Ada! You are number 1."),
        "{output}"
    );
    assert!(lines.any(|line| line == "Sample: greeted"), "{output}");
}

#[test]
fn the_program_of_the_pages_with_a_daemon_of_its_own_is_the_example_and_runs() {
    let path = "host/examples/built_in.rs";
    assert_eq!(shown(path), below_the_head(path));

    let ecosystem = Ecosystem::asleep();
    let arguments = ["--package", "dae-host", "--example", "built_in"];
    let program_path = built(workspace(), "built_in", &arguments);
    // The second run finds the daemon in the home.
    for _ in 0..2 {
        let mut program = Command::new(&program_path);
        program.arg(ecosystem.home());
        let output = program::run(&mut program, LIMIT).ok().stdout;
        for part in ["Hello, Ada!\n", "Greeter Ready\n", "Greeter Installed"] {
            assert!(output.contains(part), "{part}: {output}");
        }
    }
}

#[test]
fn the_ledger_of_the_pages_keeps_what_it_has_answered() {
    let mut ecosystem = Ecosystem::asleep();
    let file = outside(&ecosystem, "ledger");
    ecosystem.wake(&[]);
    let file = file.to_str().expect("a path in UTF-8");
    let _ = ecosystem.cli(&["install", "Ledger", file]).ok();
    let mut guest = ecosystem.guest("Ledger");
    assert_eq!(guest.ask("pay_in", &json!([5])), 5);
    assert_eq!(guest.ask("pay_in_all", &json!([1, 2])), 8);
    ecosystem.kill();
    ecosystem.wake(&[]);
    ecosystem.until_state("Ledger", "ready");
    let mut guest = ecosystem.guest("Ledger");
    assert_eq!(guest.ask("pay_in", &json!([0])), 8);
}

#[test]
fn the_survey_of_the_pages_sends_its_replies_in_parts() {
    let mut ecosystem = Ecosystem::asleep();
    let file = outside(&ecosystem, "survey");
    ecosystem.wake(&[]);
    let file = file.to_str().expect("a path in UTF-8");
    let _ = ecosystem.cli(&["install", "Survey", file]).ok();
    let cli = |words: &[&str]| ecosystem.cli(&[&["call", "Survey"], words].concat());
    assert_eq!(cli(&["squares", "3"]).ok().stdout, "1\n4\n9\n");
    assert_eq!(cli(&["visit", r#"["a","b"]"#]).ok().stdout, "2\n");
    let mut guest = ecosystem.guest("Survey");
    assert_eq!(guest.ask("squares", &json!([3])), json!([1, 4, 9]));
    let this = workspace().join("LICENSE");
    let lines = guest.ask("lines", &json!([this]));
    assert!(
        lines.as_array().is_some_and(|lines| lines.len() > 10),
        "{lines}"
    );
}

#[test]
fn the_daemon_of_the_pages_with_codes_answers_as_the_pages_say() {
    let mut ecosystem = Ecosystem::asleep();
    let file = outside(&ecosystem, "shelf");
    ecosystem.wake(&[]);
    let file = file.to_str().expect("a path in UTF-8");
    let _ = ecosystem.cli(&["install", "Shelf", file]).ok();
    let mut guest = ecosystem.guest("Shelf");
    guest.send("count [\"pot\"]\n");
    let line = guest.line();
    let page = page("host/docs/writing-daemons.md");
    assert!(page.contains(&format!("\n`{line}`.\n")), "{line}");
    assert_eq!(guest.ask("count_at", &json!(["Shelf", "cup"])), 7);
    assert_eq!(guest.ask("count_at", &json!(["Shelf", "pot"])), 0);
    let fault = guest.ask_in_vain("count_at", &json!(["Nobody", "cup"]));
    let data = fault.data.expect("the cause");
    assert_eq!(
        (fault.code.as_str(), &data["cause"]["code"]),
        ("failed", &json!("unavailable"))
    );
}

#[test]
fn the_settings_of_the_pages_are_taken() {
    let mut ecosystem = Ecosystem::asleep();
    // The first command makes the home, with the modes that it has to have.
    ecosystem.wake(&[]);
    ecosystem.stop();
    let settings = shown("config.json5");
    // Among tests nobody is looked for, whatever the page says of it.
    let settings = settings.replace("scan_ms: 5000", "scan_ms: 0");
    fs::write(ecosystem.home().join("config.json5"), settings).expect("our own");
    ecosystem.wake(&[]);
    ecosystem.install("Sample", "sample", &[]).expect_alive();
}

fn quick_start() -> [String; 2] {
    let commands: Vec<_> = fences(&section("README.md", "## Quick start"))
        .iter()
        .flat_map(|fence| fence.text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    commands
        .try_into()
        .expect("two commands, and nothing else, under Quick start")
}

#[test]
fn the_quick_start_is_two_commands_and_ci_runs_the_second() {
    let [_, test] = quick_start();
    assert_eq!(test, "cargo test --workspace");
    let mut ci = Command::new(workspace().join(".ci/run"));
    let steps = program::run(ci.arg("--dry-run"), LIMIT).ok().stdout;
    let runs_it = steps
        .lines()
        .any(|step| step == format!("+ {test} --no-fail-fast"));
    assert!(runs_it, "{steps}");
    let is_setup = |fence: &Fence| fence.info == "sh" || fence.info == "bash";
    assert_eq!(
        fences(&page("README.md"))
            .iter()
            .filter(|f| is_setup(f))
            .count(),
        2,
        "fences of shell commands in the whole README"
    );
}

#[test]
fn the_first_command_leads_to_a_daemon_that_answers() {
    let [dev, _] = quick_start();
    let arguments = dev
        .strip_prefix("cargo run -- ")
        .unwrap_or_else(|| panic!("{dev:?} runs the host"));
    let ecosystem = Ecosystem::asleep();
    let mut command = ecosystem.command();
    command
        .args(arguments.split(' '))
        .current_dir(workspace())
        .stderr(Stdio::null());
    let mut dev = Running::start(&mut command);
    let told = dev.line(BUILD_MAX);
    let paste = dev.line(LIMIT);
    assert!(told.contains("Sample"), "{told}");
    let mut shell = Command::new("sh");
    let output = program::run(shell.args(["-c", paste.trim()]), LIMIT).ok();
    assert!(
        output.stdout.starts_with("\"Hello, Ada"),
        "{told:?}, then {paste:?}: {output:?}"
    );
    process::signal(dev.pid(), Signal::INT);
    assert_eq!(dev.end(LIMIT), Some(0));
}

#[test]
fn the_exit_codes_of_the_pages_are_those_of_the_help() {
    let help = Ecosystem::asleep().cli(&["--help"]).ok().stdout;
    let codes = help.split("Exit codes:").nth(1).expect("exit codes");
    let documented: Vec<_> = codes
        .lines()
        .map(str::trim)
        .skip(1)
        .take_while(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    let section = section("host/docs/operating.md", "## Exit codes");
    let rows = section.lines().filter(|line| line.starts_with("| "));
    let shown: Vec<_> = rows
        .skip(1)
        .map(|row| row.trim_matches(['|', ' ']).replace(" | ", "  "))
        .collect();
    assert_eq!(shown, documented);
}

#[test]
fn what_the_architecture_names_is_there() {
    const PAGE: &str = "host/docs/architecture.md";
    let is_path = |name: &&String| name.contains('/') && name.ends_with(".rs");
    let named = quoted(&section(PAGE, "## Tour"));
    let files = named.iter().filter(is_path);
    assert!(files.clone().count() > 20, "{named:?}");
    let is_gone = |path: &&String| !workspace().join(path.as_str()).is_file();
    let gone: Vec<_> = files.filter(is_gone).collect();
    assert!(gone.is_empty(), "files that are not there: {gone:?}");

    let named = quoted(&section(PAGE, "## Invariants"));
    let tests: Vec<_> = named.iter().filter(|name| name.contains('_')).collect();
    assert!(tests.len() > 20, "{named:?}");
    let sources = sources(workspace());
    let is_missing = |test: &&&String| !sources.contains(&format!("fn {test}("));
    let missing: Vec<_> = tests.iter().filter(is_missing).collect();
    assert!(missing.is_empty(), "tests that are not there: {missing:?}");
}

#[test]
fn every_link_leads_to_a_file_of_the_project() {
    let mut broken = Vec::new();
    for path in pages() {
        let directory = path.parent().expect("a file in a directory");
        for link in links(&page(&path)) {
            let file = link.split('#').next().unwrap_or_default();
            let is_elsewhere = link.contains("://") || file.is_empty();
            if !is_elsewhere && !workspace().join(directory).join(file).exists() {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "links that lead nowhere:\n  {}",
        broken.join("\n  ")
    );
}

/// Returns the targets of the links outside of fences.
fn links(markdown: &str) -> Vec<String> {
    let prose: String = markdown.split("```").step_by(2).collect();
    let behind = prose.split("](").skip(1);
    let targets = behind.filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    targets.map(str::to_owned).collect()
}

#[test]
fn the_readme_is_short() {
    let lines = page("README.md").lines().count();
    assert!(
        lines <= README_LINES_MAX,
        "README.md has {lines} lines, at most {README_LINES_MAX}"
    );
}

/// All Rust source of the workspace, one after another.
fn sources(directory: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(directory).expect("a directory of ours") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            text += &sources(&path);
        } else if name.ends_with(".rs") {
            text += &fs::read_to_string(&path).expect("a source file");
        }
    }
    text
}
