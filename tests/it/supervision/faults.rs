//! Panics in tasks of the host: each is logged with the task's name, and the task starts again.
//!
//! A debug build panics at a fault point if the directory in `DAE_FAULT_POINTS` has a file of the point's name. It does
//! so once per file.

use std::fs;
use std::path::PathBuf;

use dae_tests::{Ecosystem, Guest, LIMIT, process, program, until};
use rustix::process::Signal;

/// A host with `Sample` that panics at given fault points.
struct Faulty {
    // Dropped first: the host works in the directory that the other fields own.
    host: program::Running,
    ecosystem: Ecosystem,
    points: PathBuf,
}

impl Faulty {
    /// Starts a host that panics at these points from the beginning.
    fn start(points: &[&str]) -> Self {
        let ecosystem = Ecosystem::asleep();
        let directory = ecosystem.scratch().join("faults");
        fs::create_dir(&directory).expect("a directory of the test's");
        for point in points {
            fs::write(directory.join(point), "").expect("a file of the test's");
        }
        let mut command = ecosystem.command();
        command.arg("run").env("DAE_FAULT_POINTS", &directory);
        let faulty = Faulty {
            host: program::Running::start(&mut command),
            points: directory,
            ecosystem,
        };
        until(LIMIT, "the host answers", || {
            faulty.ecosystem.cli(&["list"]).status == 0
        });
        drop(faulty.ecosystem.install("Sample", "sample", &[]));
        faulty
    }

    fn panic_at(&self, point: &str) {
        fs::write(self.points.join(point), "").expect("a file of the test's");
    }

    /// Waits until the host has panicked at that point, and until `daemon`'s log has a record of it with `text`.
    #[track_caller]
    fn until_told(&self, point: &str, (daemon, text): (&str, &str)) {
        let file = self.points.join(point);
        until(LIMIT, "it comes to the fault", || !file.exists());
        let told = format!("asked to panic in {point}");
        until(LIMIT, "it is logged", || {
            let all = self.ecosystem.logged(daemon);
            all.iter()
                .any(|line| line.contains(&told) && line.contains(text))
        });
    }

    /// Ends the host, and asserts that it ends in order.
    #[track_caller]
    fn end(mut self) {
        process::signal(self.host.pid(), Signal::TERM);
        assert_eq!(self.host.end(LIMIT), Some(0));
    }
}

const AGAIN: &str = "panicked, and is started again";

#[test]
fn a_listener_that_panics_is_told_and_listens_again() {
    let faulty = Faulty::start(&[]);
    let mut before = faulty.ecosystem.guest("Sample");
    before.expect_alive();
    faulty.panic_at("listener");
    // This connection is accepted and then lost with the task.
    faulty.ecosystem.guest("Sample").expect_closed();
    faulty.until_told("listener", ("Dae", AGAIN));
    faulty.ecosystem.guest("Sample").expect_alive();
    before.expect_alive();
    faulty.end();
}

#[test]
fn a_control_socket_that_panics_is_told_and_answers_again() {
    let faulty = Faulty::start(&[]);
    faulty.panic_at("control");
    // This call may be answered or not.
    let _ = faulty.ecosystem.cli(&["list"]);
    until(LIMIT, "the control socket answers", || {
        faulty.ecosystem.cli(&["list"]).status == 0
    });
    faulty.until_told("control", ("Dae", AGAIN));
    faulty.end();
}

#[test]
fn a_watch_over_files_that_panics_is_told_and_sees_the_next_file() {
    let faulty = Faulty::start(&[]);
    faulty.panic_at("watch");
    let directory = faulty.ecosystem.home().join("plugins");
    let plugin = faulty.ecosystem.plugin("counter");
    fs::copy(plugin, directory.join("counter.so")).expect("the drop-in directory");
    faulty.until_told("watch", ("Dae", AGAIN));
    until(LIMIT, "the drop-in is seen", || {
        faulty.ecosystem.names().contains(&"Counter".to_owned())
    });
    faulty.ecosystem.until_state("Counter", "ready");
    faulty.end();
}

#[test]
fn a_supervisor_that_panics_is_told_and_obeys_the_next_order() {
    let faulty = Faulty::start(&[]);
    let mut before = faulty.ecosystem.guest("Sample");
    faulty.panic_at("supervisor");
    let restarted = faulty.ecosystem.cli(&["restart", "Sample"]);
    assert_eq!(restarted.status, 1, "{restarted:?}");
    assert!(restarted.says(&["panicked"]), "{restarted:?}");
    faulty.until_told("supervisor", ("Sample", "a fault of the host"));
    before.expect_alive();
    let _ = faulty.ecosystem.cli(&["restart", "Sample"]).ok();
    before.expect_alive();
    faulty.end();
}

#[test]
fn the_tasks_of_a_process_that_panic_are_told_and_the_next_process_is_made() {
    for (point, text) in [
        ("spawner", AGAIN),
        ("process supervisor", "the task of its process"),
    ] {
        let faulty = Faulty::start(&[]);
        faulty.panic_at(point);
        let file = faulty.ecosystem.plugin("counter");
        let file = file.to_str().expect("UTF-8");
        let install = || {
            // With such a variable it gets a new process, and none from the reserve.
            let settings = r#"{"env": {"RUST_MIN_STACK": "2097152"}}"#;
            let arguments = [
                "install",
                "Counter",
                file,
                "--isolate",
                "--settings",
                settings,
            ];
            faulty.ecosystem.cli(&arguments)
        };
        let refused = install();
        assert_eq!(refused.status, 1, "{refused:?}");
        assert!(refused.says(&["panicked"]), "{refused:?}");
        faulty.until_told(point, ("Dae", text));
        let _ = install().ok();
        faulty.ecosystem.guest("Counter").expect_alive();
        faulty.end();
    }
}

#[test]
fn a_watchdog_that_panics_is_told_and_relieves_threads_again() {
    let faulty = Faulty::start(&["watchdog"]);
    faulty.until_told("watchdog", ("Dae", AGAIN));
    drop(faulty.ecosystem.install("Misbehave", "misbehave", &[]));
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let guest = || faulty.ecosystem.guest("Misbehave");
    let mut guests: Vec<Guest> = (0..count).map(|_| guest()).collect();
    for guest in &mut guests {
        for _ in 0..10 {
            guest.ask("sleep_here", &serde_json::json!([false]));
        }
    }
    for guest in &mut guests {
        guest.send("sleep_here [true]\n");
    }
    faulty.ecosystem.guest("Sample").expect_alive();
    // The drop kills the host: its handlers never end.
}
