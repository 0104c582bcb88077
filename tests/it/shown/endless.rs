//! Transcripts of the commands that go on until they are ended: their first lines.

use dae_tests::{LIMIT, Running, process};
use rustix::process::Signal;

use super::scene::{DAEMONS, Scene};
use super::transcript::Transcript;

/// Follows what happens in a scene. Returns the names of the transcripts that differ from the stored ones.
pub(super) fn differing(scene: &Scene) -> Vec<String> {
    let mut follow = Transcript::of("follow");
    for (line, lines) in [
        ("events -f -n 2 Counter", 2),
        ("logs -f -n 2 Counter", 2),
        ("list --watch", DAEMONS + 1),
    ] {
        let mut running = start(scene, line);
        let shown: String = (0..lines).map(|_| running.line(LIMIT) + "\n").collect();
        follow.add(scene, line, &shown);
    }
    let mut listen = Transcript::of("listen");
    let line = "listen Clock subscribe";
    let mut ticks = start(scene, line);
    let _ = scene.ecosystem.cli(&["call", "Clock", "every", "20"]).ok();
    listen.add(scene, line, &(ticks.line(LIMIT) + "\n"));
    drop(ticks);
    let _ = scene
        .ecosystem
        .cli(&["call", "Clock", "every", "3600000"])
        .ok();
    listen.run(scene, &["listen Sample gret", "listen 'a b'"]);
    [follow, listen]
        .into_iter()
        .filter_map(Transcript::differs)
        .collect()
}

/// Starts and ends a host in a home without one. Returns the name of the transcript if it differs.
pub(super) fn host_differs(asleep: &Scene) -> Option<String> {
    let mut host = Transcript::of("run-host");
    let mut running = start(asleep, "run");
    host.add(asleep, "run", &(running.line(LIMIT) + "\n"));
    process::signal(running.pid(), Signal::TERM);
    assert_eq!(running.end(LIMIT), Some(0));
    host.run(asleep, &["run --detach", "shutdown"]);
    host.differs()
}

fn start(scene: &Scene, line: &str) -> Running {
    let words: Vec<&str> = line.split(' ').collect();
    scene.ecosystem.cli_running(&words)
}
