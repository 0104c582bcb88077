//! Transcripts of the commands that read, over the daemons of a scene.

use serde_json::Value;

use super::changing::{CHANGING, SERVICE};
use super::endless;
use super::scene::Scene;
use super::transcript::Transcript;
use crate::service::is_booted;

/// The command lines of a command, with a host and without one.
pub(super) struct Told {
    pub(super) name: &'static str,
    pub(super) with_host: &'static [&'static str],
    pub(super) without_host: &'static [&'static str],
}

pub(super) const fn told(
    name: &'static str,
    with_host: &'static [&'static str],
    without_host: &'static [&'static str],
) -> Told {
    Told {
        name,
        with_host,
        without_host,
    }
}

const READING: [Told; 18] = [
    told(
        "list",
        &[
            "list",
            "list --wide",
            "list --sort state",
            "list --sort size",
            "-q list",
        ],
        &["list"],
    ),
    told(
        "status",
        &[
            "status Dae",
            "status Counter",
            "status Sample",
            "status Index",
            "status Greeter",
            "status Worker",
            "status Sorter",
            "status Batch",
            "status Weather",
            "status Countr",
            "status",
        ],
        &["status Counter"],
    ),
    told(
        "explain",
        &[
            "explain Counter",
            "explain Index",
            "explain Greeter",
            "explain Worker",
            "explain Sorter",
            "explain Sorter -n 2",
            "explain Batch",
            "explain Weather",
            "explain Countr",
        ],
        &["explain Counter"],
    ),
    told(
        "events",
        &[
            "events Counter Greeter Worker Sorter Batch Index",
            "events Sorter -n 4",
            "events Dae -n 1",
            "events Countr",
        ],
        &["events"],
    ),
    told(
        "logs",
        &[
            "logs Counter",
            "logs Sample Sorter Worker",
            "logs Index",
            "logs Weather",
            "logs Countr",
            "logs --level error -n 2",
            "logs --grep '('",
        ],
        &["logs", "logs Counter"],
    ),
    told(
        "log",
        &[
            "log Counter",
            "log Sorter",
            "log Weather",
            "log Countr",
            "log Counter loud",
        ],
        &["log Counter"],
    ),
    told(
        "config",
        &[
            "config Counter",
            "config Sorter",
            "config Worker",
            "config Clock --all",
            "config Weather",
            "config Countr",
        ],
        &["config Counter"],
    ),
    told(
        "graph",
        &["graph", "graph Relay --dot", "graph Countr"],
        &["graph"],
    ),
    told(
        "options",
        &[
            "options Counter",
            "options -v Sample",
            "options Index",
            "options Greeter",
            "options Weather",
            "options Countr",
        ],
        &["options Counter"],
    ),
    told(
        "call",
        &[
            "call Counter increment 5",
            "call Sample greet Ada",
            "call --raw Sample greet Ada",
            "call Sample greet",
            "call Sample gret Ada",
            "call Sample add --b 2 --a x",
            "call Counter help",
            "call Sample help greet",
            "call Greeter greet Ada",
            "call Sorter pid",
            "call Weather greet Ada",
            "call Countr count",
            "call --repeat 100 --concurrency 2 Counter count",
        ],
        &["call Counter count"],
    ),
    told(
        "state",
        &[
            "state Counter",
            "state Sample",
            "state Sorter",
            "state Counter --history",
            "state Weather",
            "state Countr",
        ],
        &["state Counter", "state Counter --history"],
    ),
    told("export", &["export", "export -f libclock.so"], &["export"]),
    told("scan", &["scan"], &["scan"]),
    told(
        "check",
        &[
            "check libcounter.so",
            "check new/libsample.so",
            "check nowhere.so",
        ],
        &["check libcounter.so"],
    ),
    told(
        "client",
        &["client Counter", "client Countr", "client nowhere.so"],
        &["client Counter"],
    ),
    told("connect", &["connect Countr"], &["connect Counter"]),
    told(
        "top",
        &["top", "--json top", "top --interval 1ms"],
        &["top"],
    ),
    told(
        "help",
        &[
            "--help",
            "help stop",
            "no-command",
            "stpo Counter",
            "--version",
        ],
        &[],
    ),
];

/// Runs all command lines, and returns the names of the transcripts that differ from the stored ones.
fn differing(all: &[Told], scene: &Scene, asleep: &Scene) -> Vec<String> {
    let differs = |told: &Told| {
        let mut transcript = Transcript::of(told.name);
        transcript.run(scene, told.with_host);
        if !told.without_host.is_empty() {
            transcript.remark("without a host");
            transcript.run(asleep, told.without_host);
        }
        transcript.differs()
    };
    all.iter().filter_map(differs).collect()
}

/// The kinds of findings that are about the machine.
const OF_MACHINE: [&str; 5] = ["descriptors", "threads", "memory", "disk", "inotify"];

/// Runs `doctor`, unless it finds something of the machine itself.
fn doctor_differs(scene: &Scene, asleep: &Scene) -> Vec<String> {
    let findings = scene.ecosystem.cli(&["doctor", "--json"]).json();
    let is_of_machine = |finding: &Value| OF_MACHINE.iter().any(|kind| finding["kind"] == *kind);
    let findings = findings.as_array().expect("an array").iter();
    let is_well = |finding: &Value| finding["severity"] == "ok" || !is_of_machine(finding);
    if !findings.clone().all(is_well) {
        eprintln!("SKIPPED: `doctor` finds something to cure on this machine");
        return Vec::new();
    }
    differing(&[told("doctor", &["doctor"], &["doctor"])], scene, asleep)
}

#[test]
fn commands_print_what_is_stored() {
    let Some(mut scene) = Scene::start() else {
        return;
    };
    let asleep = Scene::without_host();
    let mut differ = differing(&READING, &scene, &asleep);
    differ.extend(doctor_differs(&scene, &asleep));
    match is_booted() {
        true => eprintln!("SKIPPED: systemd runs here, and its units are left alone"),
        false => differ.extend(differing(&SERVICE, &scene, &asleep)),
    }
    differ.extend(endless::differing(&scene));
    differ.extend(differing(&CHANGING, &scene, &asleep));
    differ.extend(endless::host_differs(&asleep));
    assert_eq!(
        scene.ecosystem.end(),
        0,
        "the last command has ended the host"
    );
    assert!(differ.is_empty(), "{differ:?} differ from the stored texts");
}
