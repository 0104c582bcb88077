//! Tests of the registry.

use super::*;
use serde_json::json;

fn entry() -> Entry {
    Entry {
        applied_from: None,
        settings: serde_json::Value::Null,
        quarantined: BTreeMap::new(),
        plugin: "Sample".into(),
        version: "1.2.3".into(),
        hash: "ab".repeat(32),
        source: Some("/src/libsample.so".into()),
        source_in_home: None,
        source_hash: None,
        drop_in: false,
        is_built_in: false,
        port: Some(4711),
        port_pinned: true,
        config: json!({"greeting": "hello"}),
        mode: Mode::Subprocess,
        desired: Desired::Stopped,
        set_aside: None,
        previous: vec!["cd".repeat(32)],
        newer: Vec::new(),
    }
}

/// Returns the newer hashes, the current one, the older ones, and the source's.
fn history(entry: &Entry) -> (String, &str, String, Option<&str>) {
    (
        entry.newer.concat(),
        &entry.hash,
        entry.previous.concat(),
        entry.source_hash.as_deref(),
    )
}

/// Returns an entry that runs C and had B and A before.
fn of_three() -> Entry {
    Entry {
        hash: "C".into(),
        previous: vec!["B".into(), "A".into()],
        ..entry()
    }
}

#[test]
fn versions_keep_their_order_whichever_runs() {
    let mut entry = of_three();
    entry.switch_to("B");
    assert_eq!(history(&entry), ("C".into(), "B", "A".into(), Some("C")));
    entry.switch_to("A");
    assert_eq!(
        history(&entry),
        ("CB".into(), "A", String::new(), Some("C"))
    );
    entry.switch_to("C");
    assert_eq!(history(&entry), (String::new(), "C", "BA".into(), None));
    entry.switch_to("A");
    assert_eq!(entry.previous_after("D", 3), ["A"]);
    assert_eq!(of_three().previous_after("D", 2), ["C", "B"]);
    assert_eq!(of_three().previous_after("B", 3), ["C", "A"]);
    assert_eq!(of_three().previous_after("C", 3), ["B", "A"]);
}

#[test]
fn what_did_not_last_is_recorded_over_whatever_was_recorded_meanwhile() {
    let mut entry = of_three();
    entry.quarantine("C", "it fell", "A");
    assert_eq!(history(&entry), ("B".into(), "A", String::new(), Some("C")));
    assert_eq!(entry.quarantined["C"], "it fell");
    // The report is late: the owner has installed D since.
    let mut entry = Entry {
        hash: "D".into(),
        previous: vec!["C".into()],
        ..of_three()
    };
    entry.quarantine("C", "it fell", "B");
    assert_eq!(history(&entry), (String::new(), "D", "B".into(), None));
    // The reload is not recorded yet.
    let mut entry = Entry {
        hash: "B".into(),
        previous: Vec::new(),
        ..of_three()
    };
    entry.quarantine("C", "it fell", "B");
    assert_eq!(
        history(&entry),
        (String::new(), "B", String::new(), Some("C"))
    );
}

#[test]
fn what_is_saved_is_loaded_and_a_person_can_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry.json");
    let mut registry = Registry::load(&path).unwrap();
    assert_eq!(registry, Registry::default());
    registry.dae_port = Some(3502);
    registry.daemons.insert("A".into(), entry());
    registry.save(&path).unwrap();
    assert_eq!(Registry::load(&path).unwrap(), registry);
    let text = std::fs::read_to_string(&path).unwrap();
    for line in [
        "  \"dae-port\": 3502,",
        "      \"mode\": \"subprocess\",",
        "      \"desired\": \"stopped\",",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in {text}");
    }
}

#[test]
fn what_is_missing_has_a_default_and_what_is_unknown_is_passed_over() {
    let text = r#"{"version":1,"colour":"red","daemons":{"A":
        {"plugin":"A","version":"1","hash":"HASH","colour":["red"]}}}"#;
    let text = text.replace("HASH", &"ab".repeat(32));
    let registry = Registry::parse(&text).unwrap();
    let entry = &registry.daemons["A"];
    assert_eq!(entry.desired, Desired::Running);
    assert_eq!(entry.mode, Mode::InProcess);
    assert!(entry.previous.is_empty() && !entry.port_pinned);
}

#[test]
fn sources_in_the_home_move_with_it_and_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    let mut registry = Registry::default();
    for (name, file) in [
        ("In", old.join("plugins/in.so")),
        ("Out", "/src/out.so".into()),
    ] {
        let mut entry = entry();
        entry.set_source(&old, &file);
        registry.daemons.insert(name.into(), entry);
    }
    std::fs::create_dir_all(&old).unwrap();
    registry.save(&old.join("registry.json")).unwrap();
    std::fs::rename(&old, &new).unwrap();
    let moved = Registry::load(&new.join("registry.json")).unwrap();
    let source = |name: &str| moved.daemons[name].source_in(&new).unwrap();
    assert_eq!(source("In"), new.join("plugins/in.so"));
    assert_eq!(source("Out"), Path::new("/src/out.so"));
}

#[test]
fn absolute_sources_of_before_are_read() {
    let home = Path::new("/new/home");
    for (is_drop_in, source, expected) in [
        (true, "/old/home/plugins/a.so", "/new/home/plugins/a.so"),
        (true, "/new/home/plugins/a.so", "/new/home/plugins/a.so"),
        (false, "/new/home/b.so", "/new/home/b.so"),
        (false, "/old/home/b.so", "/old/home/b.so"),
    ] {
        let mut entry = entry();
        (entry.drop_in, entry.source) = (is_drop_in, Some(source.into()));
        entry.migrate_source(home);
        assert_eq!(entry.source_in(home).as_deref(), Some(Path::new(expected)));
        assert_eq!(
            entry.source.is_some(),
            !expected.starts_with("/new"),
            "{source}"
        );
    }
}

#[test]
fn a_file_that_is_not_understood_is_left_alone_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry.json");
    for (text, part) in [
        ("{\"version\":1,\n\"daemons\":{", "EOF while parsing"),
        (
            "\u{feff}{\"version\":1,\"daemons\":{\"A\":{\"plugin\":5}}}",
            "at .daemons.A.plugin: expected a string",
        ),
        ("", "it is empty"),
        (r#"{"daemons":{}}"#, "the member `version` is missing"),
        (r#"{"version":2,"daemons":[]}"#, "update dae-host"),
        (
            r#"{"version":1,"daemons":{"../x":{"plugin":"A","version":"1","hash":"00"}}}"#,
            "\"../x\" cannot be",
        ),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = format!("{:#}", Registry::load(&path).unwrap_err());
        assert!(error.contains(part), "{error}");
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn a_hash_that_is_none_is_refused_wherever_it_stands() {
    let good = "ab".repeat(32);
    type Change<'c> = &'c dyn Fn(&mut Entry, &str);
    let with = |change: Change<'_>, hash: &str| {
        let mut registry = Registry::default();
        let mut one = entry();
        change(&mut one, hash);
        registry.daemons.insert("A".into(), one);
        Registry::parse(&serde_json::to_string(&registry).unwrap())
    };
    let members: [Change<'_>; 4] = [
        &|entry, hash| entry.hash = hash.to_owned(),
        &|entry, hash| entry.previous.push(hash.to_owned()),
        &|entry, hash| entry.source_hash = Some(hash.to_owned()),
        &|entry, hash| drop(entry.quarantined.insert(hash.to_owned(), "it fell".into())),
    ];
    let short = &good[1..];
    let upper = good.to_uppercase();
    for (number, change) in members.into_iter().enumerate() {
        assert!(with(change, &good).is_ok(), "member {number}");
        for bad in [
            "",
            "../../..",
            "/etc/passwd",
            "00",
            short,
            &upper,
            &"é".repeat(32),
        ] {
            let text = format!("{:#}", with(change, bad).unwrap_err());
            assert!(
                text.contains("daemon A") && text.contains("content hash"),
                "{number}: {text}"
            );
        }
    }
}

#[test]
fn a_registry_that_cannot_be_read_is_not_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let text = Registry::load(dir.path()).unwrap_err().to_string();
    assert!(text.starts_with("cannot read "), "{text}");
}

#[test]
fn a_registry_whose_daemons_would_share_files_is_refused() {
    for (names, ignores_case, reason) in [
        (["Clock", "clock"], false, None),
        (["Clock", "Clock2"], true, None),
        (["Clock", "clock"], true, Some("Clock and clock")),
        (["Sample", "dAE"], true, Some("dAE and Dae")),
    ] {
        let mut registry = Registry::default();
        for name in names {
            registry.daemons.insert(name.to_owned(), entry());
        }
        let checked = registry.check_files_apart(ignores_case);
        let text = checked.err().map(|error| error.to_string());
        let is_as_expected = match (&text, reason) {
            (Some(text), Some(reason)) => text.contains(reason),
            (text, reason) => text.is_none() && reason.is_none(),
        };
        assert!(is_as_expected, "{names:?}: {text:?}");
        let text = registry.text().unwrap();
        let parsed = Registry::parse(std::str::from_utf8(&text).unwrap());
        let is_read = !(FILES_IGNORE_CASE && registry.check_files_apart(true).is_err());
        assert_eq!(parsed.is_ok(), is_read, "{names:?}");
    }
}

#[test]
fn names() {
    let longest = "x".repeat(DAEMON_NAME_BYTES_MAX);
    for good in ["a", "Sample", "my.daemon_2-b", "dae", "...", &longest] {
        assert_eq!(check_name(good), Ok(()), "{good}");
    }
    let too_long = "x".repeat(DAEMON_NAME_BYTES_MAX + 1);
    for bad in [
        "", "a b", "a/b", "a#b", "ä", "a\n", "Dae", ".", "..", &too_long,
    ] {
        assert!(check_name(bad).is_err(), "{bad}");
    }
}
