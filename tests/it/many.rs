//! Many daemons in one host: the cost of each at rest, and work done once for all of them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use dae_tests::{Ecosystem, LIMIT, process, spoil, until};
use rustix::process::Resource;
use serde_json::{Value, json};

/// The number of daemons, which is more than the number of log files that stay open.
const NAMES: usize = 200;

/// The log files that stay open, the descriptors of a host with one daemon, and a margin for files open for a moment.
const DESCRIPTORS_BESIDES: usize = 64 + 60;

/// Adds the home's only daemon, `Sample`, to its registry under further names without a port.
fn multiply(ecosystem: &Ecosystem, count: usize) {
    let mut registry = registry(ecosystem);
    let mut entry = registry["daemons"]["Sample"].clone();
    entry.as_object_mut().expect("an entry").remove("port");
    for number in 1..count {
        registry["daemons"][format!("Sample-{number}")] = entry.clone();
    }
    let path = ecosystem.home().join("registry.json");
    fs::write(path, registry.to_string()).expect("no host runs");
}

fn registry(ecosystem: &Ecosystem) -> Value {
    let text = fs::read(ecosystem.home().join("registry.json")).expect("a registry");
    serde_json::from_slice(&text).expect("JSON")
}

/// Returns a home with that many copies of `Sample`. No host runs.
fn home_of(count: usize) -> Ecosystem {
    let mut ecosystem = Ecosystem::start();
    drop(ecosystem.install("Sample", "sample", &[]));
    ecosystem.stop();
    multiply(&ecosystem, count);
    ecosystem
}

#[track_caller]
fn until_all_ready(ecosystem: &Ecosystem, count: usize) {
    until(LIMIT, "all daemons are ready", || {
        let list = ecosystem.cli(&["list", "--json"]).ok().json();
        let all = list.as_array().expect("a list").iter();
        all.filter(|one| one["state"] == "ready").count() == count + 1
    });
}

/// Returns the ports in the registry, each with its daemon's name.
fn ports(ecosystem: &Ecosystem) -> Vec<(String, Value)> {
    let registry = registry(ecosystem);
    let daemons = registry["daemons"].as_object().expect("daemons").iter();
    daemons
        .map(|(name, entry)| (name.clone(), entry["port"].clone()))
        .collect()
}

#[test]
fn each_of_many_holds_one_descriptor_and_keeps_the_port_that_it_got() {
    let mut ecosystem = home_of(NAMES);
    ecosystem.wake(&[]);
    until_all_ready(&ecosystem, NAMES);
    let descriptors = process::descriptors(ecosystem.pid()).len();
    assert!(descriptors <= NAMES + DESCRIPTORS_BESIDES, "{descriptors}");
    until(LIMIT, "all ports are recorded", || {
        ports(&ecosystem).iter().all(|(_, port)| port.is_u64())
    });
    let before = ports(&ecosystem);
    let different: BTreeSet<String> = before.iter().map(|(_, port)| port.to_string()).collect();
    assert_eq!(different.len(), NAMES);
    ecosystem.kill();
    ecosystem.wake(&[]);
    until_all_ready(&ecosystem, NAMES);
    assert_eq!(ports(&ecosystem), before);
    // A log that was closed for others continues where it ended.
    for name in ["Sample-1", "Sample-199"] {
        let logs = ecosystem.cli(&["logs", name]).ok().stdout;
        assert_eq!(logs.matches("generation 1 answers").count(), 2, "{logs}");
    }
}

#[test]
fn a_host_may_open_as_many_files_as_the_system_allows_it() {
    let ecosystem = Ecosystem::start();
    let limits = fs::read_to_string(format!("/proc/{}/limits", ecosystem.pid())).expect("limits");
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let values: Vec<&str> = line.expect("such a line").split_whitespace().collect();
    assert_eq!(values[0], values[1], "the soft limit, and the hard one");
}

#[test]
fn who_is_one_too_many_for_the_descriptors_is_told_so_and_the_others_serve() {
    let mut ecosystem = Ecosystem::start();
    let mut guest = ecosystem.install("Sample", "sample", &[]);
    process::set_bound(ecosystem.pid(), Resource::Nofile, 64);
    let file = ecosystem.plugin("sample");
    let file = file.to_str().expect("UTF-8");
    let install = |number: usize| ecosystem.cli(&["install", &format!("Sample-{number}"), file]);
    let refused = (1..64).map(install).find(|output| output.status != 0);
    let refused = refused.expect("there is no room for so many");
    assert!(
        refused.says(&["64 files and sockets", "LimitNOFILE="]),
        "{refused:#?}"
    );
    // Descriptors are left for guests that connect.
    guest.expect_alive();
    ecosystem.guest("Sample").expect_alive();
    ecosystem.stop();
}

#[test]
fn a_state_that_was_kept_is_not_written_again_when_its_daemon_comes_back() {
    let mut ecosystem = Ecosystem::start();
    let mut guest = ecosystem.install("Counter", "counter", &[]);
    assert_eq!(guest.ask("increment", &json!([])), 1);
    ecosystem.stop();
    let file = ecosystem.home().join("states").join("Counter.json");
    // Writing the state would replace the file by another one.
    let inode = || fs::metadata(&file).expect("its state").ino();
    let before = inode();
    ecosystem.wake(&[]);
    ecosystem.until_state("Counter", "ready");
    assert_eq!(ecosystem.guest("Counter").ask("count", &json!([])), 1);
    assert_eq!(inode(), before);
}

/// After a restart of the host, rolled-back content in a file that the host has not seen before is no change. This must
/// hold for each daemon of the file, not only for the one that is checked first.
#[test]
fn daemons_of_one_file_that_were_rolled_back_stay_so_over_a_restart_of_the_host() {
    let mut ecosystem = Ecosystem::start();
    let plain = fs::read(ecosystem.plugin("recipe")).expect("the plugin");
    let write = |version: u64| {
        let bytes = spoil::of_recipe(plain.clone(), &json!({ "version": version }));
        spoil::write(&ecosystem.scratch(), "source.so", &bytes)
    };
    let file = write(1);
    let file = file.to_str().expect("UTF-8");
    let names = ["One", "Other"];
    let _ = names.map(|name| ecosystem.cli(&["install", name, file]).ok());
    let _ = write(2);
    let version = |ecosystem: &Ecosystem, name| ecosystem.guest(name).ask("version", &json!([]));
    for name in names {
        until(LIMIT, "the new file runs", || {
            version(&ecosystem, name) == 2
        });
        let _ = ecosystem.cli(&["rollback", name]).ok();
    }
    ecosystem.stop();
    ecosystem.wake(&[]);
    // The host looks at all files twice: when it finds this one, and when it finds it gone.
    let dropped = ecosystem.home().join("plugins").join("dropped.so");
    fs::copy(ecosystem.plugin("vectors"), &dropped).expect("the drop-in directory is there");
    ecosystem.until_state("Vectors", "ready");
    fs::remove_file(&dropped).expect("our own file");
    until(LIMIT, "it is gone", || {
        !ecosystem.names().contains(&"Vectors".to_owned())
    });
    assert_eq!(names.map(|name| version(&ecosystem, name)), [1, 1]);
}
