//! Tests of requests as tables: which ones are refused, and what the registry keeps of the others.

use super::*;

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

/// The registry and config of a home that is not on the disk.
struct Scene {
    home: Home,
    config: Config,
    registry: Registry,
    departed: Option<Entry>,
}

impl Scene {
    fn new() -> Self {
        Scene {
            home: Home::at("/home/ada/dae"),
            config: Config::default(),
            registry: Registry::default(),
            departed: None,
        }
    }

    fn decide(&self, name: &str, request: &InstallRequest, hash: &str) -> Result<Entry, String> {
        let known = InstallBasis {
            home: &self.home,
            config: &self.config,
            registry: &self.registry,
            departed: self.departed.as_ref(),
        };
        let decided = decide(name, request, &artefact(hash, "unwind"), known);
        decided
            .map(|decided| decided.entry)
            .map_err(|fault| fault.to_string())
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
    scene.refused("A", &new, &["A already", "--replace", "/src/libsample.so"]);
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
    let known = InstallBasis {
        home: &scene.home,
        config: &scene.config,
        registry: &scene.registry,
        departed: None,
    };
    let aborts = artefact("abort", "abort");
    let refused = decide("C", &request(None), &aborts, known).expect_err("it would end the host");
    assert!(refused.to_string().contains("abort"), "{refused}");
}

#[test]
fn what_is_quarantined_stays_so_until_it_is_forced() {
    let mut scene = Scene::new();
    scene.install("A", &request(None), "one");
    let entry = scene.registry.daemons.get_mut("A").expect("there");
    entry
        .quarantined
        .insert("new".to_owned(), "it crashed".to_owned());
    scene.refused("A", &request(None), &["it crashed", "--force"]);
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

#[test]
fn a_drop_in_that_returns_is_run_as_it_was_and_an_install_gets_the_port() {
    let mut scene = Scene::new();
    let dropped = InstallRequest {
        drop_in: true,
        ..request(None)
    };
    let mut departed = scene.install("A", &dropped, "one");
    departed.port = Some(4000);
    departed.config = json!({"a": 1});
    departed.mode = Mode::Subprocess;
    departed.desired = Desired::Stopped;
    departed.previous = vec!["zero".to_owned()];
    scene.registry.daemons.clear();
    scene.departed = Some(departed);
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
