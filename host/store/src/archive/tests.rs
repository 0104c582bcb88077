//! Tests of keeping, listing, sweeping and purging.

use super::*;
use crate::snapshots::SnapshotOccasion;

fn scene() -> (tempfile::TempDir, Archive) {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path().join("home"));
    home.create().unwrap();
    let archive = Archive::of(&home);
    (dir, archive)
}

fn state(count: u64) -> StoredState {
    let text = format!(r#"{{"version":1,"data":{count}}}"#);
    StoredState::State(KeptState::of(text.as_bytes(), SnapshotOccasion::Stop, 1).unwrap())
}

fn data(state: &KeptState) -> &str {
    std::str::from_utf8(state.state.bytes()).unwrap()
}

#[test]
fn departures_are_listed_by_name_the_newest_first() {
    let (_dir, archive) = scene();
    let first = Departure::of(DepartureReason::Fresh, state(1));
    let mut last = Departure::of(DepartureReason::Uninstalled, state(2));
    last.time = first.time;
    archive.keep("A", &first).unwrap().unwrap();
    archive.keep("A", &last).unwrap().unwrap();
    archive.keep("A.b", &first).unwrap().unwrap();
    let all = archive.list("A").unwrap();
    let reasons: Vec<_> = all.iter().map(|one| one.departure.reason).collect();
    assert_eq!(
        reasons,
        [DepartureReason::Uninstalled, DepartureReason::Fresh]
    );
    assert_eq!(
        data(&archive.state("A", LAST).unwrap()),
        r#"{"version":1,"data":2}"#
    );
    assert_eq!(
        data(&archive.state("A", &all[1].id).unwrap()),
        r#"{"version":1,"data":1}"#
    );
    assert!(
        archive
            .state("A", "nonsense")
            .unwrap_err()
            .to_string()
            .contains(r#"no state "nonsense" of A is kept"#)
    );
    assert!(archive.state("B", LAST).is_err());
}

/// A state that can't be removed stays where it is. Each try leaves the archive as the one before.
#[test]
fn an_uninstall_whose_state_cannot_be_removed_adds_no_departure_each_time() {
    let (dir, archive) = scene();
    let home = Home::at(dir.path().join("home"));
    let states = Snapshots::of(&home);
    let StoredState::State(state) = state(1) else {
        panic!("a state");
    };
    // A directory in the file's place can't be replaced or removed, so the state stays in memory.
    let in_the_way = home.states_dir().join("A.json");
    fs::create_dir(&in_the_way).unwrap();
    states.keep("A", &state).unwrap_err();
    let entry = || {
        let hash = "ab".repeat(32);
        let text = format!(r#"{{"plugin": "Sample", "version": "1", "hash": "{hash}"}}"#);
        serde_json::from_str::<Entry>(&text).unwrap()
    };
    for _ in 0..3 {
        let noted = archive.note_leaving("A", entry()).unwrap();
        assert!(noted.is_some());
        assert!(archive.leave(&states, "A", Some(entry())).is_err());
        assert_eq!(archive.list("A").unwrap().len(), 1, "the note alone");
    }
    fs::remove_dir(&in_the_way).unwrap();
    let noted = archive.note_leaving("A", entry()).unwrap().unwrap();
    assert!(
        archive
            .leave(&states, "A", Some(entry()))
            .unwrap()
            .is_some()
    );
    archive.take_back("A", &noted);
    assert_eq!(archive.list("A").unwrap().len(), 1, "the state");
}

#[test]
fn nothing_is_kept_of_nothing_and_a_damaged_state_is_kept_as_it_is() {
    let (_dir, archive) = scene();
    let nothing = Departure::of(DepartureReason::Fresh, StoredState::Nothing);
    assert_eq!(archive.keep("A", &nothing).unwrap(), None);
    let damaged = Departure::of(DepartureReason::Fresh, StoredState::Damaged("{".to_owned()));
    archive.keep("A", &damaged).unwrap().unwrap();
    assert_eq!(
        archive.list("A").unwrap()[0].departure.damaged.as_deref(),
        Some("{")
    );
    assert!(archive.state("A", LAST).is_err());
}

#[test]
fn a_sweep_removes_what_is_old_and_never_an_installed_daemons_log() {
    let (_dir, archive) = scene();
    archive
        .keep("A", &Departure::of(DepartureReason::Uninstalled, state(1)))
        .unwrap();
    for name in ["A", "B", DAE_NAME] {
        fs::write(archive.logs.join(format!("{name}.log")), "line\n").unwrap();
    }
    fs::write(archive.logs.join("A.log.1"), "line\n").unwrap();
    let registry = HashSet::from(["B".to_owned()]);
    let now = Timestamp::now();
    assert_eq!(archive.sweep(&registry, now).unwrap(), []);
    let later = retention::kept_until(now) + jiff::SignedDuration::from_secs(60);
    let mut gone = archive.sweep(&registry, later).unwrap();
    gone.sort_by_key(|one| one.what);
    let gone: Vec<_> = gone.iter().map(|one| (&*one.daemon, one.what)).collect();
    assert_eq!(gone, [("A", "log"), ("A", "state")]);
    let mut left: Vec<_> = fs::read_dir(&archive.logs)
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["B.log", "Dae.log"]);
    assert!(archive.list("A").unwrap().is_empty());
}

#[test]
fn a_drop_in_is_moved_aside_under_a_free_name() {
    let (dir, _past) = scene();
    let file = dir.path().join("a.so");
    assert_eq!(move_aside(&file).unwrap(), None);
    for expected in ["a.so.uninstalled", "a.so.uninstalled-2"] {
        fs::write(&file, "x").unwrap();
        assert_eq!(move_aside(&file).unwrap(), Some(dir.path().join(expected)));
        assert!(!file.exists());
    }
}

#[test]
fn a_purge_removes_all_of_one_daemon_at_once() {
    let (_dir, archive) = scene();
    for name in ["A", "B"] {
        archive
            .keep(name, &Departure::of(DepartureReason::Uninstalled, state(1)))
            .unwrap();
        fs::write(archive.logs.join(format!("{name}.log")), "line\n").unwrap();
    }
    assert!(archive.purge("A").unwrap());
    assert!(!archive.purge("A").unwrap());
    assert!(archive.list("A").unwrap().is_empty());
    assert_eq!(archive.list("B").unwrap().len(), 1);
    assert!(archive.logs.join("B.log").exists() && !archive.logs.join("A.log").exists());
}
