//! Tests of the rules of an install as tables: which requests are refused, and what the registry keeps of the others.

use super::*;
use crate::archive::DepartureReason;
use crate::snapshots::{KeptState, SnapshotOccasion, StoredState};

fn artefact(hash: &str, panic: &str) -> Artefact {
    let manifest = json!({
        "name": "Sample", "version": "0.2.0", "abi": 1, "api_version": "0.1.0", "rustc": "rustc 1.95.0",
        "target": "x86_64-unknown-linux-gnu", "panic": panic, "about": "", "commands": [],
    });
    Artefact {
        hash: hash.to_owned(),
        path: "/store/file.so".into(),
        bytes: 1,
        mapped_bytes: 1,
        manifest: Arc::new(serde_json::from_value(manifest).expect("a manifest")),
        is_built_in: false,
    }
}

fn request(port: Option<u16>) -> InstallRequest {
    InstallRequest {
        file: "/src/libsample.so".into(),
        port,
        replace: true,
        ..InstallRequest::default()
    }
}

fn state() -> KeptState {
    let bytes = br#"{"version":1,"data":5}"#;
    KeptState::of(bytes, SnapshotOccasion::Stop, 1).expect("a state")
}

/// The registry and config of a home that is not on the disk.
struct Scene {
    home: Home,
    config: Config,
    registry: Registry,
    departed: Option<Departure>,
    ignores_case: bool,
    is_stopped: Option<bool>,
}

impl Scene {
    fn new() -> Self {
        Scene {
            home: Home::at("/home/ada/dae"),
            config: Config::default(),
            registry: Registry::default(),
            departed: None,
            ignores_case: false,
            is_stopped: None,
        }
    }

    fn plan_of(
        &self,
        request: &InstallRequest,
        artefact: &Artefact,
    ) -> Result<InstallPlan, InstallRefusal> {
        let before = InstallBasis {
            home: &self.home,
            registry: &self.registry,
            departed: self.departed.as_ref(),
            ignores_case: self.ignores_case,
            is_stopped: self.is_stopped,
        };
        let file = InstallFile {
            artefact,
            is_there: true,
        };
        plan_install(before, request, &self.config, file)
    }

    fn plan(
        &self,
        name: &str,
        request: &InstallRequest,
        hash: &str,
    ) -> Result<InstallPlan, String> {
        let request = InstallRequest {
            name: Some(name.to_owned()),
            ..request.clone()
        };
        let planned = self.plan_of(&request, &artefact(hash, "unwind"));
        planned.map_err(|refusal| refusal.to_string())
    }

    fn decide(&self, name: &str, request: &InstallRequest, hash: &str) -> Result<Entry, String> {
        self.plan(name, request, hash).map(|plan| plan.entry)
    }

    fn install(&mut self, name: &str, request: &InstallRequest, hash: &str) -> Entry {
        let entry = self.decide(name, request, hash).expect("an install");
        self.registry.daemons.insert(name.to_owned(), entry.clone());
        entry
    }

    #[track_caller]
    fn refused(&self, name: &str, request: &InstallRequest, parts: &[&str]) {
        let text = self.decide(name, request, "new").expect_err("a refusal");
        for part in parts {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}

#[test]
fn a_replacement_keeps_what_is_not_said_anew() {
    let mut scene = Scene::new();
    let first = InstallRequest {
        config: Some(json!({"a": 1})),
        settings: Some(json!({"nice": 3})),
        ..request(Some(4000))
    };
    scene.install("A", &first, "one");
    let second = scene.install("A", &request(None), "two");
    assert_eq!((second.port, second.port_pinned), (Some(4000), true));
    assert_eq!(
        (second.config, second.settings),
        (json!({"a": 1}), json!({"nice": 3}))
    );
    assert_eq!(second.previous, ["one"]);
    let back = scene.install("A", &request(Some(5000)), "one");
    assert_eq!((back.port, back.port_pinned), (Some(5000), true));
    assert_eq!(
        back.previous,
        ["two"],
        "what runs is not among what ran before"
    );
    for hash in ["three", "four", "five", "six"] {
        scene.install("A", &request(None), hash);
    }
    assert_eq!(
        scene.registry.daemons["A"].previous,
        ["five", "four", "three"]
    );
}

#[test]
fn what_its_owner_stopped_stays_stopped() {
    let mut scene = Scene::new();
    assert_eq!(
        scene.install("A", &request(None), "one").desired,
        Desired::Running
    );
    scene.registry.daemons.get_mut("A").expect("there").desired = Desired::Stopped;
    assert_eq!(
        scene.install("A", &request(None), "two").desired,
        Desired::Stopped
    );
}

#[test]
fn the_daemons_own_state_counts_more_than_what_was_recorded_of_it() {
    let mut scene = Scene::new();
    scene.install("A", &request(None), "one");
    for (is_stopped, desired) in [(true, Desired::Stopped), (false, Desired::Running)] {
        scene.is_stopped = Some(is_stopped);
        assert_eq!(scene.install("A", &request(None), "two").desired, desired);
    }
}

#[test]
fn the_state_to_start_from_is_the_kept_one_unless_the_request_says_otherwise() {
    let mut scene = Scene::new();
    scene.install("A", &request(None), "one");
    let fresh = InstallRequest {
        fresh: true,
        ..request(None)
    };
    let last = InstallRequest {
        state: Some("last".to_owned()),
        ..request(None)
    };
    let archived = StartState::Archived("last".to_owned());
    for (name, request, expected) in [
        ("A", &request(None), StartState::Kept),
        ("A", &fresh, StartState::Nothing),
        ("A", &last, archived.clone()),
        ("B", &request(None), StartState::Nothing),
        ("B", &last, archived),
    ] {
        let mut plan = scene.plan(name, request, "two").expect("a plan");
        assert_eq!(plan.start_state, expected, "{name} {request:?}");
        plan.note_set_aside(Some("id".to_owned()));
        let aside = plan.entry.set_aside.map(|aside| (aside.hash, aside.state));
        let of_before = (name == "A").then(|| ("one".to_owned(), "id".to_owned()));
        assert_eq!(aside, of_before, "{name} {request:?}");
    }
}

#[test]
fn a_request_is_checked_before_its_file() {
    let scene = Scene::new();
    let refused = |request: InstallRequest, kind, part: &str| {
        let early = check_request(&request).expect_err("a refusal");
        assert_eq!(early.kind(), kind, "{early}");
        assert!(early.to_string().contains(part), "{early}");
        let late = scene.plan_of(&request, &artefact("one", "unwind"));
        assert_eq!(late.expect_err("a refusal").to_string(), early.to_string());
    };
    let contradiction = InstallRequest {
        fresh: true,
        state: Some("last".to_owned()),
        ..request(None)
    };
    refused(contradiction, RefusalKind::BadArguments, "one of the two");
    let named = |name: &str| InstallRequest {
        name: Some(name.to_owned()),
        ..request(None)
    };
    refused(named("Dae"), RefusalKind::Failed, "daemon of daemons");
    refused(named("a b"), RefusalKind::Failed, "A-Z");
    let list = InstallRequest {
        config: Some(json!([1])),
        ..request(None)
    };
    refused(list, RefusalKind::Failed, "got [1]");
}

#[test]
fn a_request_without_a_name_takes_the_plugins_and_a_drop_in_that_has_gone_is_refused() {
    let mut scene = Scene::new();
    let sample = artefact("one", "unwind");
    let dropped = InstallRequest {
        drop_in: true,
        ..request(None)
    };
    let plan = scene.plan_of(&dropped, &sample).expect("a plan");
    assert_eq!(plan.name, "Sample");
    scene.registry.daemons.insert(plan.name, plan.entry);
    let entry = &scene.registry.daemons["Sample"];
    for (is_there, is_same) in [(true, true), (false, false)] {
        let file = InstallFile {
            artefact: &sample,
            is_there,
        };
        assert_eq!(
            is_same_again(entry, &dropped, file, &scene.home.data),
            is_same
        );
    }
    let before = InstallBasis {
        home: &scene.home,
        registry: &scene.registry,
        departed: None,
        ignores_case: false,
        is_stopped: None,
    };
    let gone = InstallFile {
        artefact: &sample,
        is_there: false,
    };
    let refused = plan_install(before, &dropped, &scene.config, gone);
    let refused = refused.expect_err("it has gone").to_string();
    assert!(refused.contains("has gone again"), "{refused}");
}

#[test]
fn no_daemon_shares_the_files_of_another_where_their_names_ignore_case() {
    let mut scene = Scene::new();
    let request = InstallRequest::default();
    scene.install("Clock", &request, "a");
    assert!(scene.plan("clock", &request, "b").is_ok());
    scene.ignores_case = true;
    for (replace, drop_in) in [(false, false), (true, false), (false, true)] {
        let request = InstallRequest {
            replace,
            drop_in,
            ..InstallRequest::default()
        };
        let parts = [
            "share its files with Clock, which is installed",
            "uninstall Clock first",
        ];
        scene.refused("cLOCK", &request, &parts);
        let parts = [
            "share its files with Dae, the daemon of daemons",
            "another name",
        ];
        scene.refused("dae", &request, &parts);
    }
    let again = InstallRequest {
        replace: true,
        ..request
    };
    assert!(scene.plan("Clock", &again, "b").is_ok());
    assert!(scene.plan("Clock2", &again, "b").is_ok());
}

#[test]
fn the_mode_is_that_of_the_request_or_of_before_or_of_the_config() {
    let mut scene = Scene::new();
    scene.config.defaults = json!({"mode": "subprocess"});
    assert_eq!(
        scene.install("A", &request(None), "one").mode,
        Mode::Subprocess
    );
    let embedded = InstallRequest {
        mode: Some(Mode::InProcess),
        ..request(None)
    };
    assert_eq!(scene.install("A", &embedded, "two").mode, Mode::InProcess);
    assert_eq!(
        scene.install("A", &request(None), "three").mode,
        Mode::InProcess
    );
}

#[test]
fn what_can_not_be_is_refused() {
    let mut scene = Scene::new();
    scene.config.defaults = json!({"mode": "in-process"});
    scene.install("A", &request(Some(4000)), "one");
    let new = InstallRequest {
        replace: false,
        ..request(None)
    };
    scene.refused("A", &new, &["A already", "`replace`", "/src/libsample.so"]);
    scene.refused("B", &request(Some(4000)), &["4000", "A"]);
    let with = |settings| InstallRequest {
        settings: Some(settings),
        ..request(None)
    };
    scene.refused("B", &with(json!({"restrat": 1})), &["restrat"]);
    scene.refused(
        "B",
        &with(json!({"after": ["B"]})),
        &["circle", "B after B"],
    );
    scene.install("B", &with(json!({"after": ["A"]})), "one");
    scene.refused("A", &with(json!({"after": ["B"]})), &["A after B after A"]);
    assert!(scene.decide("A", &request(Some(4000)), "two").is_ok());
    let aborts = artefact("abort", "abort");
    let refused = scene.plan_of(&request(None), &aborts);
    let refused = refused.expect_err("it would end the host").to_string();
    assert!(refused.contains("abort"), "{refused}");
}

#[test]
fn a_built_in_daemon_and_a_file_never_replace_each_other() {
    let mut scene = Scene::new();
    let code = |version: &str| Artefact {
        is_built_in: true,
        ..artefact(version, "unwind")
    };
    let named = |name: &str| InstallRequest {
        name: Some(name.to_owned()),
        ..request(None)
    };
    let first = scene
        .plan_of(&named("A"), &code("one"))
        .expect("an install");
    assert!(first.entry.is_built_in && first.entry.source.is_none());
    scene.registry.daemons.insert("A".to_owned(), first.entry);
    // A program that was built anew leaves no earlier code to go back to.
    let second = scene
        .plan_of(&named("A"), &code("two"))
        .expect("an install");
    assert_eq!(second.entry.previous, Vec::<String>::new());
    scene.refused("A", &request(None), &["built into", "uninstall it first"]);
    scene.install("B", &request(None), "one");
    let refused = scene.plan_of(&named("B"), &code("one"));
    let refused = refused.expect_err("a file has the name");
    assert_eq!(refused.kind(), RefusalKind::NameTaken);
    assert!(refused.to_string().contains("plugin file"), "{refused}");
}

#[test]
fn what_is_quarantined_stays_so_until_it_is_forced() {
    let mut scene = Scene::new();
    scene.install("A", &request(None), "one");
    let entry = scene.registry.daemons.get_mut("A").expect("there");
    entry
        .quarantined
        .insert("new".to_owned(), "it crashed".to_owned());
    scene.refused("A", &request(None), &["it crashed", "`force`"]);
    assert_eq!(
        scene.install("A", &request(None), "one").quarantined.len(),
        1
    );
    let forced = InstallRequest {
        force: true,
        ..request(None)
    };
    assert!(scene.install("A", &forced, "new").quarantined.is_empty());
}

fn dropped() -> InstallRequest {
    InstallRequest {
        drop_in: true,
        ..request(None)
    }
}

/// Returns a home from which a stopped drop-in was uninstalled.
fn scene_after_drop_in() -> Scene {
    let mut scene = Scene::new();
    let dropped = dropped();
    let mut departed = scene.install("A", &dropped, "one");
    departed.port = Some(4000);
    departed.config = json!({"a": 1});
    departed.mode = Mode::Subprocess;
    departed.desired = Desired::Stopped;
    departed.previous = vec!["zero".to_owned()];
    scene.registry.daemons.clear();
    scene.departed = Some(Departure {
        entry: Some(departed),
        ..Departure::of(DepartureReason::Uninstalled, StoredState::State(state()))
    });
    scene
}

#[test]
fn a_drop_in_that_returns_has_its_state_and_an_install_is_told_of_it() {
    let scene = scene_after_drop_in();
    let starts = |request: &InstallRequest| scene.plan("A", request, "two").expect("a plan");
    assert_eq!(starts(&dropped()).start_state, StartState::Departed);
    assert_eq!(starts(&request(None)).start_state, StartState::Nothing);
    assert!(starts(&request(None)).ignores_earlier_state());
}

#[test]
fn a_drop_in_that_returns_is_run_as_it_was_and_an_install_gets_the_port() {
    let (mut scene, dropped) = (scene_after_drop_in(), dropped());
    let returned = scene.decide("A", &dropped, "two").expect("it returns");
    assert_eq!((returned.port, returned.port_pinned), (Some(4000), false));
    assert_eq!(
        (returned.mode, returned.desired),
        (Mode::Subprocess, Desired::Stopped)
    );
    assert_eq!(returned.config, json!({"a": 1}));
    assert!(
        returned.previous.is_empty(),
        "its files are gone from the store"
    );
    let installed = scene
        .decide("A", &request(None), "two")
        .expect("an install");
    assert_eq!((installed.port, installed.config), (Some(4000), json!({})));
    assert_eq!(
        (installed.mode, installed.desired),
        (Mode::InProcess, Desired::Running)
    );
    // The port is remembered, not reserved.
    scene.install("B", &request(Some(4000)), "one");
    assert_eq!(
        scene.decide("A", &dropped, "two").expect("it returns").port,
        None
    );
}
