//! The instructions per command, which do not depend on the machine's load: `cargo bench -p dae-tests --bench
//! instructions`.
//!
//! The release host runs under callgrind, on one processor and thus with one worker thread. A guest sends it a fixed
//! number of fixed commands and reads the replies. The instructions of a host without these commands, from its start to
//! its end, are subtracted. The kernel's instructions are not included.
//!
//! The figures of the last intended change are stored in `recorded.json`, with the compiler that they belong to. A
//! figure that differs by more than a tenth fails the bench in either direction, because improvements must be recorded
//! too. `-- --record` writes the file anew, and the commit that does so gives the reason. With another compiler the
//! figures are printed but not judged.

mod counted;
#[path = "../figures/mod.rs"]
mod figures;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use counted::Home;
use figures::command_line;
use serde_json::{Map, Value, json};

/// The largest allowed change of a figure, as a fraction.
const CHANGE_MAX: f64 = 0.1;

/// The counted loads of a daemon in the host's process.
const LOADS: [Load; 5] = [
    ECHO.sent("echo 1x1", 1, 10_000),
    ECHO.sent("echo 1x64", 64, 1_000),
    ADD.sent("add 1x1", 1, 10_000),
    ADD.sent("add 1x64", 64, 1_000),
    ASYNC.sent("async 1x64", 64, 1_000),
];

/// The counted loads of a daemon in a process of its own, whose instructions count as well.
const LOADS_APART: [Load; 2] = [
    ECHO.sent("subprocess echo 1x64", 64, 1_000),
    ASYNC.sent("subprocess async 1x64", 64, 1_000),
];

/// The load that is subtracted together with the start: it contains the one-time work.
const WARM_UP: Load = ADD.sent("warm-up", 1, 10);

const ECHO: Load = Load {
    name: "echo",
    command: "echo [\"text of twenty bytes\"]\n",
    reply: "echo [\"text of twenty bytes\"]",
    at_once: 1,
    times: 1,
};

const ADD: Load = Load {
    name: "add",
    command: "add [1,2]\n",
    reply: "add [3]",
    at_once: 1,
    times: 1,
};

/// A command whose future is ready at once.
const ASYNC: Load = Load {
    name: "async",
    command: "ready [\"text of twenty bytes\"]\n",
    reply: "ready [\"text of twenty bytes\"]",
    at_once: 1,
    times: 1,
};

/// The largest number of counts per load. Fewer are enough if a count shows that the load costs no more than before.
const RUNS: usize = 10;

/// A fixed sequence of commands.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    /// The command, with its LF.
    command: &'static str,
    /// The reply, without its LF.
    reply: &'static str,
    /// The number of commands in one write.
    at_once: usize,
    times: usize,
}

impl Load {
    const fn sent(self, name: &'static str, at_once: usize, times: usize) -> Self {
        Load {
            name,
            at_once,
            times,
            ..self
        }
    }
}

fn main() -> ExitCode {
    let Some(words) = command_line::words("instructions") else {
        return ExitCode::SUCCESS;
    };
    let is_record = words.iter().any(|word| word == "--record");
    command_line::end("instructions", bench(is_record))
}

fn bench(is_record: bool) -> Result<(), String> {
    if !has_valgrind()? {
        return Ok(());
    }
    let recorded = recorded()?;
    let mut figures = Map::new();
    count(
        &Home::make(&[]),
        &LOADS,
        (&recorded, is_record),
        &mut figures,
    )?;
    let apart = Home::make(&["--isolate"]);
    count(&apart, &LOADS_APART, (&recorded, is_record), &mut figures)?;
    let compiler = compiler()?;
    if is_record {
        let recorded = json!({"compiler": compiler, "instructions": figures});
        return fs::write(file(), format!("{recorded:#}\n")).map_err(|error| error.to_string());
    }
    judge(&figures, &recorded, &compiler)
}

/// Counts the instructions a command of each load.
fn count(
    home: &Home,
    loads: &[Load],
    (recorded, is_record): (&Value, bool),
    figures: &mut Map<String, Value>,
) -> Result<(), String> {
    let nothing = fewest(home, &[WARM_UP], |_| false)?;
    for load in loads {
        let each =
            |count: u64| count.saturating_sub(nothing) as f64 / (load.at_once * load.times) as f64;
        let before = recorded["instructions"][load.name].as_f64();
        let is_usual =
            |count| before.is_some_and(|before| each(count) <= before * (1.0 + CHANGE_MAX));
        let count = fewest(home, &[WARM_UP, *load], |count| {
            !is_record && is_usual(count)
        })?;
        let each = each(count);
        figures.insert(load.name.to_owned(), json!(each.round()));
    }
    Ok(())
}

fn recorded() -> Result<Value, String> {
    let recorded = fs::read(file()).map_err(|error| error.to_string())?;
    serde_json::from_slice(&recorded).map_err(|error| error.to_string())
}

/// Counts up to [`RUNS`] times, until a count is `enough`, and returns the smallest count. A machine that stalls can
/// only add instructions: a command that seems slow runs on its own thread.
fn fewest(home: &Home, loads: &[Load], enough: impl Fn(u64) -> bool) -> Result<u64, String> {
    let mut fewest = u64::MAX;
    for _ in 0..RUNS {
        fewest = fewest.min(home.count(loads)?);
        if enough(fewest) {
            break;
        }
    }
    Ok(fewest)
}

/// Returns whether valgrind is installed. Under CI its absence is an error, so that CI never skips the bench silently.
fn has_valgrind() -> Result<bool, String> {
    let probe = Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    match probe {
        Ok(_) => Ok(true),
        Err(_) if std::env::var_os("CI").is_some() => {
            Err("valgrind is not installed; CI needs it".into())
        }
        Err(_) => {
            eprintln!("SKIPPED: valgrind is not installed");
            Ok(false)
        }
    }
}

fn judge(figures: &Map<String, Value>, recorded: &Value, compiler: &str) -> Result<(), String> {
    println!(
        "{:<21} {:>9} {:>9} {:>8}",
        "a command", "here", "recorded", "change"
    );
    let mut changed = Vec::new();
    for (load, here) in figures {
        let (here, before) = (here.as_f64(), recorded["instructions"][load].as_f64());
        let (here, before) = (here.unwrap_or(f64::NAN), before.unwrap_or(f64::NAN));
        let change = here / before - 1.0;
        println!(
            "{load:<21} {here:>9.0} {before:>9.0} {:>7.1}%",
            change * 100.0
        );
        // NaN must not pass as a small change.
        if change
            .abs()
            .partial_cmp(&CHANGE_MAX)
            .is_none_or(std::cmp::Ordering::is_gt)
        {
            changed.push(load.as_str());
        }
    }
    if recorded["compiler"] != compiler {
        eprintln!(
            "SKIPPED: recorded with {}, and this is {compiler}",
            recorded["compiler"]
        );
        return Ok(());
    }
    match changed.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "more than {:.0} % of change in {}; if that is meant, `cargo bench -p dae-tests --bench instructions -- --record`, and the commit says why",
            CHANGE_MAX * 100.0,
            changed.join(", ")
        )),
    }
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions/recorded.json")
}

fn compiler() -> Result<String, String> {
    let output = Command::new("rustc").arg("--version").output();
    let output = output.map_err(|error| format!("rustc can't be run: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
