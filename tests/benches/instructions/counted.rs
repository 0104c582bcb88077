//! A release host under callgrind, from its start to its end.
//!
//! The host runs on one processor, and therefore has one worker thread: with several, the work depends on which ones
//! are awake. The preflight is off, and valgrind follows into the subprocess of a daemon, whose instructions are added.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dae_tests::{Artefacts, Ecosystem, Guest, process, program, until};
use rustix::process::Signal;

use super::Load;

/// The longest wait for the host. Under callgrind a host takes fifty times as long for everything.
const HOST_MAX: Duration = Duration::from_secs(60);

/// A home with one daemon, in which hosts are started.
pub(super) struct Home {
    ecosystem: Ecosystem,
    port: u16,
}

impl Home {
    /// Creates the home with a host that is not counted. `flags` are those of `install`.
    pub(super) fn make(flags: &[&str]) -> Self {
        process::confine(
            std::process::id(),
            &process::last_of(&process::processors()),
        );
        let mut ecosystem = Ecosystem::start_with(Artefacts::released());
        let flags = [flags, &["--settings", "{\"preflight\":false}"]].concat();
        drop(ecosystem.install("Measured", "measured", &flags));
        let port = ecosystem.port_of("Measured");
        ecosystem.stop();
        Home { ecosystem, port }
    }

    /// Returns the instructions of a host that handles the given loads.
    ///
    /// Returns an error if the host cannot run, or callgrind reports no count.
    pub(super) fn count(&self, loads: &[Load]) -> Result<u64, String> {
        let logs = self.ecosystem.scratch().join("callgrind");
        fs::create_dir_all(&logs).map_err(|error| error.to_string())?;
        let mut host = Counted(spawn(&self.ecosystem, &logs)?);
        until(HOST_MAX, "the host listens", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
        });
        let mut guest = Guest::connect(self.port);
        loads.iter().for_each(|load| drive(&mut guest, *load));
        process::signal(host.0.id(), Signal::TERM);
        program::ends_within(&mut host.0, HOST_MAX).ok_or("the host does not end")?;
        sum(&logs).map_err(|error| error.to_string())?
    }
}

/// Returns the sum of the counts in the logs, and removes them. The program that valgrind runs for a moment before it
/// becomes the worker has a log without a count.
fn sum(logs: &Path) -> io::Result<Result<u64, String>> {
    let (mut counts, mut texts) = (Vec::new(), String::new());
    for log in fs::read_dir(logs)? {
        let path = log?.path();
        let text = fs::read_to_string(&path)?;
        let counted = text.lines().find_map(|line| line.split_once("Collected :"));
        counts.extend(counted.and_then(|(_, count)| count.trim().parse::<u64>().ok()));
        texts += &text;
        fs::remove_file(path)?;
    }
    Ok(match counts.is_empty() {
        true => Err(format!("callgrind tells no count: {texts}")),
        false => Ok(counts.iter().sum()),
    })
}

/// A host under callgrind. Dropping this value kills it.
struct Counted(Child);

impl Drop for Counted {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(ecosystem: &Ecosystem, logs: &Path) -> Result<Child, String> {
    let host = ecosystem.command();
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.arg("--trace-children=yes");
    command.arg(format!("--log-file={}/%p.log", logs.display()));
    command.arg(host.get_program()).arg("run");
    for (variable, value) in host.get_envs() {
        match value {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
    }
    command.stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let spawned = command.spawn();
    spawned.map_err(|error| format!("valgrind can't be run: {error}"))
}

fn drive(guest: &mut Guest, load: Load) {
    let lines = load.command.repeat(load.at_once);
    for _ in 0..load.times {
        guest.send(&lines);
        for _ in 0..load.at_once {
            assert_eq!(guest.line(), load.reply);
        }
    }
}
