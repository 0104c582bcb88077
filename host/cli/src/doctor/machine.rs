//! The machine: descriptors, threads, memory, disk, the watch over files, and ports.

use std::collections::{BTreeMap, HashSet};
use std::net::TcpListener;
use std::path::Path;

use notify::{RecursiveMode, Watcher as _};

use super::super::run;
use super::super::words::mebibytes;
use super::{Finding, Patient};
use dae_runtime::os::listening_sockets::{holders, listening};
use dae_runtime::os::machine;

/// Descriptors that a host needs for itself and a few guests.
const DESCRIPTORS_MIN: u64 = 1024;

/// Descriptors for each daemon: its listener, its process, and some guests.
const DESCRIPTORS_OF_DAEMON: u64 = 8;

/// Memory below which a host of any size is soon in trouble (bytes), and below which it is already.
const MEMORY_FEW: u64 = 256 << 20;
const MEMORY_TOO_FEW: u64 = 64 << 20;

/// Space below which states and logs soon can't be written (bytes), and below which that may fail any moment.
const DISK_FEW: u64 = 1 << 30;
const DISK_TOO_FEW: u64 = 64 << 20;

/// Checks the machine.
pub(super) fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let mut findings = vec![descriptors(patient), threads(patient)];
    let memory = machine::memory_available();
    findings.extend(memory.map(|bytes| {
        let cure = "ps aux --sort=-rss | head";
        let limits = (MEMORY_FEW, MEMORY_TOO_FEW);
        left("memory", "memory", bytes, (limits, cure))
    }));
    findings.extend(disk(patient));
    findings.push(watch(patient));
    findings.extend(ports(patient));
    findings
}

fn descriptors(patient: &Patient<'_>) -> Finding {
    let host = patient.holder.as_ref().and_then(|held| held.pid);
    let max = machine::descriptors_max(host.unwrap_or_else(std::process::id));
    let daemons = patient.registry.as_ref().map_or(0, |one| one.daemons.len());
    let needed = DESCRIPTORS_MIN + DESCRIPTORS_OF_DAEMON * daemons as u64;
    let of = match host {
        Some(_) => "the host",
        None => "a host that this shell starts",
    };
    match max {
        Some(max) if max < needed => Finding::warning(
            "descriptors",
            format!(
                "{of} may have {max} descriptors of files and sockets; expected at least {needed}"
            ),
            "ulimit -Hn 65536 as root, or LimitNOFILE=65536 in the service's unit",
        ),
        Some(max) => Finding::ok("descriptors", format!("{of} may have {max}")),
        None => Finding::ok("descriptors", format!("{of} has no limit that is known")),
    }
}

fn threads(patient: &Patient<'_>) -> Finding {
    if patient.host.is_some() {
        return Finding::ok("threads", "the host that runs has its threads");
    }
    match run::check_threads() {
        Ok(()) => Finding::ok("threads", "a host can have its threads"),
        Err(error) => Finding::error(
            "threads",
            format!("a host can't have its threads: {error}"),
            "ulimit -u 4096, or TasksMax=infinity in the service's unit",
        ),
    }
}

/// Judges an amount by its limits.
fn left(kind: &'static str, what: &str, bytes: u64, (limits, cure): ((u64, u64), &str)) -> Finding {
    let (few, too_few) = limits;
    let text = format!("{} of {what} are left", mebibytes(bytes));
    match bytes {
        bytes if bytes < too_few => {
            let text = format!("{text}; expected at least {}", mebibytes(few));
            Finding::error(kind, text, cure)
        }
        bytes if bytes < few => {
            let text = format!("{text}; expected at least {}", mebibytes(few));
            Finding::warning(kind, text, cure)
        }
        _ => Finding::ok(kind, text),
    }
}

fn disk(patient: &Patient<'_>) -> Vec<Finding> {
    let home = &patient.session.home;
    let places: HashSet<&Path> = [&home.data, &home.logs]
        .into_iter()
        .filter_map(|dir| dir.ancestors().find(|dir| dir.exists()))
        .collect();
    let judged = places.into_iter().filter_map(|dir| {
        let bytes = machine::disk_available(dir)?;
        let what = format!("the disk of {}", dir.display());
        let cure = format!("du -sh {}/*", super::word(dir));
        Some(left(
            "disk",
            &what,
            bytes,
            ((DISK_FEW, DISK_TOO_FEW), &cure),
        ))
    });
    // The logs usually lie on the same disk.
    let mut judged: Vec<Finding> = judged.collect();
    judged.sort_by(|one, other| one.text.cmp(&other.text));
    judged
}

/// Checks that one more file can be watched: the limits of a user are shared by all programs.
fn watch(patient: &Patient<'_>) -> Finding {
    let home = &patient.session.home.data;
    let dir = home.ancestors().find(|dir| dir.exists());
    let watched = notify::recommended_watcher(|_| ())
        .and_then(|mut watcher| watcher.watch(dir.unwrap_or(home), RecursiveMode::NonRecursive));
    match watched {
        Ok(()) => Finding::ok("inotify", "changes of files are reported"),
        Err(error) => Finding::warning(
            "inotify",
            format!(
                "changes of files are not reported ({error}); a host looks itself, every `drop_in_poll_ms` \
                 ({} ms)",
                patient.config.drop_in_poll_ms
            ),
            "sysctl fs.inotify.max_user_instances=1024 fs.inotify.max_user_watches=524288",
        ),
    }
}

/// Checks the ports that a host will want. A host that runs has them, or has logged why not.
fn ports(patient: &Patient<'_>) -> Vec<Finding> {
    if patient.holder.is_some() {
        return vec![Finding::ok("ports", "the host that runs has its ports")];
    }
    let registry = patient.registry.as_ref();
    let dae = registry.and_then(|registry| registry.dae_port);
    let dae = dae.unwrap_or(patient.config.dae_port);
    let mut wanted = BTreeMap::from([(dae, ("Dae", false))]);
    for (name, entry) in registry.into_iter().flat_map(|registry| &registry.daemons) {
        wanted.extend(
            entry
                .port
                .map(|port| (port, (name.as_str(), entry.port_pinned))),
        );
    }
    wanted.remove(&0);
    let taken = wanted.into_iter().filter(|(port, _)| is_taken(*port));
    let findings: Vec<Finding> = taken.map(|(port, owner)| taken_port(port, owner)).collect();
    match findings.is_empty() {
        true => vec![Finding::ok(
            "ports",
            "the ports of Dae and of all daemons are free",
        )],
        false => findings,
    }
}

fn is_taken(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_err()
}

fn taken_port(port: u16, (name, is_pinned): (&str, bool)) -> Finding {
    let sockets = listening().unwrap_or_default();
    let socket = sockets.iter().find(|socket| socket.address.port() == port);
    let pid = socket.and_then(|socket| {
        let held = holders(&HashSet::from([socket.id]));
        Some(held.get(&socket.id)?.first()?.pid)
    });
    let by = pid.map_or_else(
        || "a process of another user".to_owned(),
        |pid| match machine::program_of(pid) {
            Some(program) => format!("{program} (pid {pid})"),
            None => format!("process {pid}"),
        },
    );
    let cure = pid.map_or_else(
        || format!("ss -ltnp 'sport = :{port}' as root"),
        |pid| format!("kill {pid}"),
    );
    let text = format!("port {port} of {name} is taken by {by}; expected a free port");
    match is_pinned {
        true => Finding::error("ports", text + ", since it is pinned", cure),
        false => Finding::warning("ports", text + ", and another will be chosen", cure),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    #[test]
    fn what_is_left_is_judged_by_two_limits() {
        let judged = |bytes| left("disk", "the disk", bytes, ((100, 10), "rm")).severity;
        assert_eq!(judged(9), Severity::Error);
        assert_eq!(judged(10), Severity::Warning);
        assert_eq!(judged(99), Severity::Warning);
        assert_eq!(judged(100), Severity::Ok);
    }

    #[test]
    fn a_taken_port_has_its_holder() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        assert!(is_taken(port));
        let found = taken_port(port, ("Dae", false));
        let pid = std::process::id();
        assert_eq!(found.severity, Severity::Warning);
        // Wine names no process for a socket.
        let is_named = found.cure == Some(format!("kill {pid}"));
        assert!(
            is_named || found.text.contains("of another user"),
            "{found:?}"
        );
        assert_eq!(taken_port(port, ("A", true)).severity, Severity::Error);
    }
}
