//! The start of a host, and many daemons in one host: `cargo bench -p dae-tests --bench scale`.
//!
//! Each home is prepared in advance. The time starts with the spawn of a host in it. With one daemon, the time ends at
//! the first reply to a guest that keeps trying to connect. With 800 daemons from 800 files, and with 10,000 from one
//! file, it ends when the host reports to its service manager that all are up. Then the bench measures, over some
//! seconds without commands, whether the host is idle, and how much memory each daemon takes. The scan for foreign
//! daemons is off meanwhile: the bench `scan` measures its cost.
//!
//! For comparison, a bare tokio server with the same commands is timed from its spawn to its first reply.
//!
//! Flags after `--`: `--starts N`, `--files N`, `--names N`. The table goes to standard output, all figures to
//! `target/bench/scale.json`.

#[path = "../figures/mod.rs"]
mod figures;
mod host;
#[path = "../raw/mod.rs"]
mod raw;
mod usage;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dae_tests::{Artefacts, Ecosystem, LIMIT, process, spoil};
use figures::command_line;
use host::Host;
use raw::RawServer;
use serde_json::{Value, json};
use usage::{Memory, Rest};

const STARTS_DEFAULT: u64 = 20;

const FILES_DEFAULT: u64 = 800;

const NAMES_DEFAULT: u64 = 10_000;

/// The delay between a start and the measurement at rest. Spare threads of the host's runtime end after 10 s.
const SETTLE: Duration = Duration::from_secs(12);

/// The delay after which a daemon's process has been health-checked twice, and has released the memory of its start.
const WORKER_SETTLE: Duration = Duration::from_secs(12);

/// The duration of the measurement at rest (s).
const LOOK_S: u32 = 10;

/// The number of daemons without a port when their host starts, as after many installations without one.
const NAMES_NEW: usize = 1_000;

/// The first port of the daemons. Further ports follow in order.
const PORT_FIRST: u16 = 18_000;

/// The file descriptors of a daemon: its listener.
const DESCRIPTORS_EACH: usize = 1;

/// The host's other file descriptors: the most recently written logs, and its reserve for guests and files.
const DESCRIPTORS_BESIDES: usize = 500;

const KB: f64 = 1_000.0;

fn main() -> ExitCode {
    if std::env::args()
        .nth(1)
        .is_some_and(|one| one == raw::ARGUMENT)
    {
        return command_line::end("scale", raw::main());
    }
    let Some(words) = command_line::words("scale") else {
        return ExitCode::SUCCESS;
    };
    command_line::end("scale", Size::read(&words).and_then(|size| bench(&size)))
}

struct Size {
    starts: usize,
    files: usize,
    names: usize,
}

impl Size {
    fn read(words: &[String]) -> Result<Self, String> {
        let flags = [
            ("--starts", STARTS_DEFAULT),
            ("--files", FILES_DEFAULT),
            ("--names", NAMES_DEFAULT),
        ];
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let [starts, files, names] = command_line::numbers(words, flags)?.map(count);
        Ok(Size {
            starts,
            files,
            names,
        })
    }
}

/// One figure: a label, the value, the target, and the value of a program to compare with.
#[derive(Debug)]
struct Row {
    what: String,
    unit: &'static str,
    value: f64,
    target: Option<f64>,
    beside: Option<(&'static str, f64)>,
}

fn row(what: impl Into<String>, unit: &'static str, value: f64) -> Row {
    Row {
        what: what.into(),
        unit,
        value,
        target: None,
        beside: None,
    }
}

impl Row {
    fn target(self, target: f64) -> Self {
        Row {
            target: Some(target),
            ..self
        }
    }

    fn beside(self, what: &'static str, value: f64) -> Self {
        Row {
            beside: Some((what, value)),
            ..self
        }
    }

    fn line(&self) -> String {
        let Row {
            what, unit, value, ..
        } = self;
        let target = self.target.map_or("-".to_owned(), |one| one.to_string());
        let beside = self
            .beside
            .map_or(String::new(), |(what, value)| format!("{what} {value:.1}"));
        format!("{what:<46} {value:>9.2} {unit:<5} {target:>7}  {beside}")
    }

    fn json(&self) -> Value {
        let beside = self
            .beside
            .map(|(what, value)| json!({"what": what, "value": value}));
        json!({
            "what": self.what, "unit": self.unit, "value": self.value, "target": self.target, "beside": beside,
        })
    }
}

fn bench(size: &Size) -> Result<(), String> {
    let names = possible(size.names);
    println!("{:<46} {:>9} {:<5} {:>7}  beside", "", "here", "", "target");
    let mut rows = Vec::new();
    let mut tell = |some: Vec<Row>| {
        some.iter().for_each(|row| println!("{}", row.line()));
        rows.extend(some);
    };
    tell(one_daemon(size.starts)?);
    tell(many_files(size.files)?);
    tell(many_names(names)?);
    figures::keep(
        "scale",
        json!({"rows": rows.iter().map(Row::json).collect::<Vec<_>>()}),
    )
}

/// Returns as many names as the file descriptor limit allows. Prints a note if that is fewer than `names`.
fn possible(names: usize) -> usize {
    let wanted = names * DESCRIPTORS_EACH + DESCRIPTORS_BESIDES;
    let had = figures::descriptors_up_to(wanted as u64) as usize;
    let possible = names.min(had.saturating_sub(DESCRIPTORS_BESIDES) / DESCRIPTORS_EACH);
    if possible < names {
        eprintln!(
            "LIMITED: {possible} names and not {names}, by {had} descriptors (RLIMIT_NOFILE)"
        );
    }
    possible
}

/// Measures the start of a host, and the memory of a daemon's process.
fn one_daemon(starts: usize) -> Result<Vec<Row>, String> {
    let mut here = Vec::new();
    let mut without = Vec::new();
    let mut there = Vec::new();
    let mut bare = Vec::new();
    let (home, port) = installed("measured", &[])?;
    let (untried, untried_port) = installed("measured", &["--settings", "{\"preflight\":false}"])?;
    let (isolated, isolated_port) = installed("measured", &["--isolate"])?;
    for _ in 0..starts.max(1) {
        let host = spawn(&home)?;
        here.push(ms(host.until_reply(port))?);
        drop(host);
        without.push(ms(spawn(&untried)?.until_reply(untried_port))?);
        let host = spawn(&isolated)?;
        there.push(ms(host.until_reply(isolated_port))?);
        drop(host);
        bare.push(ms(bare_start())?);
    }
    let memory = worker_at_rest(&isolated, isolated_port)?;
    let (bare, bare_memory) = (figures::median(bare), bare_memory()?);
    let beside = "bare tokio";
    Ok(vec![
        row(
            "start to first reply, in-process",
            "ms",
            figures::median(here),
        )
        .target(15.0)
        .beside(beside, bare),
        row(
            "start to first reply, without a preflight",
            "ms",
            figures::median(without),
        )
        .beside(beside, bare),
        row(
            "start to first reply, subprocess",
            "ms",
            figures::median(there),
        )
        .beside(beside, bare),
        row(
            "a daemon's process, its share of all (PSS)",
            "MB",
            memory.proportional / KB / KB,
        )
        .beside(beside, bare_memory.proportional / KB / KB),
        row(
            "a daemon's process, what is its alone",
            "MB",
            memory.anonymous / KB / KB,
        )
        .beside(beside, bare_memory.anonymous / KB / KB),
    ])
}

/// Measures a daemon's process that has answered and then rested.
fn worker_at_rest(ecosystem: &Ecosystem, port: u16) -> Result<Memory, String> {
    let host = spawn(ecosystem)?;
    ms(host.until_reply(port))?;
    std::thread::sleep(WORKER_SETTLE);
    let workers = dae_tests::process::daemons_of(host.pid());
    Memory::of(
        *workers
            .first()
            .ok_or("a worker that has answered is gone")?,
    )
}

/// Measures daemons that each have their own file.
fn many_files(count: usize) -> Result<Vec<Row>, String> {
    let ecosystem = Ecosystem::start_with(Artefacts::released());
    let alone = Memory::of(ecosystem.pid())?;
    let plugin = fs::read(ecosystem.plugin("recipe")).map_err(|error| error.to_string())?;
    let mut control = ecosystem.control();
    for number in 0..count {
        let recipe = spoil::of_recipe(plugin.clone(), &json!({ "version": number }));
        let file = spoil::write(&ecosystem.scratch(), &format!("{number}.so"), &recipe);
        let request = json!({"name": format!("Recipe-{number}"), "file": file, "replace": false});
        let installed = control.ask("install", &request);
        installed.map_err(|fault| format!("file {number}: {}", fault.message))?;
    }
    let many = Many::start(&asleep(ecosystem), count)?;
    let mut rows = many.rows("files", 1.5);
    rows.push(
        row(
            "a daemon with its own file, anonymous",
            "KB",
            many.each(alone, |one| one.anonymous),
        )
        .target(80.0),
    );
    Ok(rows)
}

/// Many daemons that have started and then rested.
struct Many {
    count: usize,
    ready_s: f64,
    /// The CPU time of the host's process until all were ready (s).
    cpu_s: f64,
    rest: Rest,
    memory: Memory,
    descriptors: usize,
}

impl Many {
    /// Starts a host in the given home, and measures it.
    fn start(ecosystem: &Ecosystem, count: usize) -> Result<Self, String> {
        let host = spawn(ecosystem)?;
        let ready_s = ms(host.until_ready())? / KB;
        let cpu_s = process::cpu_ns(host.pid()) as f64 / 1e9;
        all_run(ecosystem, count)?;
        std::thread::sleep(SETTLE);
        Ok(Many {
            count,
            ready_s,
            cpu_s,
            rest: Rest::of(host.pid(), LOOK_S),
            memory: Memory::of(host.pid())?,
            descriptors: process::descriptors(host.pid()).len(),
        })
    }

    fn rows(&self, what: &str, target_s: f64) -> Vec<Row> {
        let Many { count, rest, .. } = self;
        let of = |text: &str| format!("{count} {what}{text}");
        vec![
            row(of(", start to all ready"), "s", self.ready_s).target(target_s),
            row(of(", CPU of the host until then"), "s", self.cpu_s),
            row(of(" at rest, wake-ups a second"), "", rest.wakes),
            row(of(" at rest, CPU a second"), "ms", rest.cpu_ms),
            row(of(" at rest, descriptors"), "", self.descriptors as f64),
        ]
    }

    /// Returns the figure per daemon (kB). `before` is the memory of the host without them.
    fn each(&self, before: Memory, figure: fn(Memory) -> f64) -> f64 {
        (figure(self.memory) - figure(before)) / self.count as f64 / KB
    }
}

/// Measures daemons that share one file.
fn many_names(count: usize) -> Result<Vec<Row>, String> {
    let (ecosystem, _) = installed("measured", &[])?;
    let host = spawn(&ecosystem)?;
    host.until_ready().map_err(|error| error.to_string())?;
    let alone = Memory::of(host.pid())?;
    drop(host);
    multiply(&ecosystem, NAMES_NEW, &[])?;
    let host = spawn(&ecosystem)?;
    let first = ms(host.until_ready())?;
    drop(host);
    multiply(&ecosystem, count, &free_ports(count)?)?;
    let many = Many::start(&ecosystem, count)?;
    let mut rows = vec![row(
        format!("{NAMES_NEW} names, first start, ports chosen"),
        "s",
        first / KB,
    )];
    rows.extend(many.rows("names", 5.0));
    let each = many.each(alone, |one| one.anonymous);
    rows.push(row("a daemon of a file that is there, anonymous", "KB", each).target(10.0));
    Ok(rows)
}

/// Returns a home with one daemon and no running host, and the daemon's port.
fn installed(library: &str, flags: &[&str]) -> Result<(Ecosystem, u16), String> {
    let ecosystem = Ecosystem::start_with(Artefacts::released());
    let _guest = ecosystem.install("Measured", library, flags);
    let port = ecosystem.port_of("Measured");
    Ok((asleep(ecosystem), port))
}

fn asleep(mut ecosystem: Ecosystem) -> Ecosystem {
    ecosystem.stop();
    ecosystem
}

/// Writes the home's only daemon into its registry under `count` names, with the given ports or without one.
fn multiply(ecosystem: &Ecosystem, count: usize, ports: &[u16]) -> Result<(), String> {
    let path = ecosystem.home().join("registry.json");
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read(&path).map_err(|error| failed(&error))?;
    let mut registry: Value = serde_json::from_slice(&text).map_err(|error| failed(&error))?;
    let daemons = registry["daemons"].as_object_mut().ok_or("no daemons")?;
    let mut entry = daemons["Measured"].clone();
    for number in 1..count {
        entry["port"] = json!(ports.get(number));
        daemons.insert(format!("Measured-{number:05}"), entry.clone());
    }
    fs::write(&path, registry.to_string()).map_err(|error| failed(&error))
}

/// Returns ports that are free at the moment, below those that the system assigns.
fn free_ports(count: usize) -> Result<Vec<u16>, String> {
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let ports: Vec<u16> = (PORT_FIRST..).filter(is_free).take(count).collect();
    match ports.len() == count {
        true => Ok(ports),
        false => Err(format!("only {} ports are free", ports.len())),
    }
}

/// Waits until `list` has all daemons.
fn all_run(ecosystem: &Ecosystem, count: usize) -> Result<(), String> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let list = ecosystem.cli(&["list", "--json"]).ok().json();
        let running = list.as_array().map_or(0, |all| {
            all.iter().filter(|one| one["name"] != "Dae").count()
        });
        if running == count {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("{running} of {count} daemons run"));
        }
    }
}

fn spawn(ecosystem: &Ecosystem) -> Result<Host, String> {
    Host::spawn(ecosystem).map_err(|error| format!("the host can't be run: {error}"))
}

fn bare_start() -> std::io::Result<Duration> {
    let spawned = Instant::now();
    let server = RawServer::start_as(raw::Kind::Static)?;
    host::first_reply(server.port, spawned)?;
    Ok(spawned.elapsed())
}

fn bare_memory() -> Result<Memory, String> {
    let server = RawServer::start_as(raw::Kind::Static).map_err(|error| error.to_string())?;
    host::first_reply(server.port, Instant::now()).map_err(|error| error.to_string())?;
    Memory::of(server.pid())
}

fn ms(time: std::io::Result<Duration>) -> Result<f64, String> {
    let time = time.map_err(|error| format!("a start that can't be timed: {error}"))?;
    Ok(time.as_secs_f64() * 1e3)
}
