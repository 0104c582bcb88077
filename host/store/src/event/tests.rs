//! Events as JSON, over versions, and as sentences.

use super::*;

fn event(kind: DaeEventKind) -> DaeEvent {
    DaeEvent {
        id: 7,
        time: Timestamp::UNIX_EPOCH,
        daemon: "A".to_owned(),
        generation: Some(2),
        kind,
    }
}

#[test]
fn an_event_is_one_flat_object_and_a_later_one_can_be_read() {
    let event = event(DaeEventKind::RestartPlanned {
        cause: "it fell".to_owned(),
        cause_kind: CauseKind::Panicked,
        wait_ms: 100,
        rule: None,
    });
    let text = serde_json::to_string(&event).unwrap();
    let expected = concat!(
        r#"{"id":7,"time":"1970-01-01T00:00:00.000000Z","daemon":"A","generation":2,"#,
        r#""event":"restart-planned","cause":"it fell","cause_kind":"panicked","wait_ms":100,"rule":null}"#
    );
    assert_eq!(text, expected);
    assert_eq!(serde_json::from_str::<DaeEvent>(&text).unwrap(), event);
    let later = text.replace("restart-planned", "danced");
    let later: DaeEvent = serde_json::from_str(&later).unwrap();
    assert_eq!(later.kind, DaeEventKind::Unknown);
}

#[test]
fn an_event_of_an_earlier_version_can_be_read() {
    for text in [
        r#"{"time":"1970-01-01T00:00:00Z","daemon":"A","event":"installed","version":"1"}"#,
        r#"{"time":"1970-01-01T00:00:00Z","daemon":"A","event":"reloaded","version":"1"}"#,
        r#"{"time":"1970-01-01T00:00:00Z","daemon":"A","event":"crash-loop","cause":"it fell"}"#,
        r#"{"time":"1970-01-01T00:00:00Z","daemon":"A","event":"rolled-back","cause":"it fell"}"#,
        r#"{"time":"1970-01-01T00:00:00Z","daemon":"A","event":"settings-changed","changed":["config.a"]}"#,
    ] {
        let event: DaeEvent = serde_json::from_str(text).unwrap();
        assert_ne!(event.kind, DaeEventKind::Unknown, "{text}");
    }
}

#[test]
fn an_event_is_a_sentence() {
    let (cause, hash) = ("it fell".to_owned(), "31f94cbfe149aabb".to_owned());
    let told = |kind| event(kind).to_string();
    let version = "0.1.0".to_owned();
    assert_eq!(
        told(DaeEventKind::Installed { version, hash }),
        "A#2: installed: version 0.1.0 (31f94cbfe149)"
    );
    let reloaded = DaeEventKind::Reloaded {
        version: "0.2.0".to_owned(),
        hash: String::new(),
        changes: "+shout".to_owned(),
    };
    let expected = "A#2: took over: version 0.2.0; its commands have changed: +shout";
    assert_eq!(told(reloaded), expected);
    let planned = DaeEventKind::RestartPlanned {
        cause: cause.clone(),
        cause_kind: CauseKind::Unknown,
        wait_ms: 0,
        rule: None,
    };
    assert_eq!(told(planned), "A#2: restart at once: it fell");
    assert_eq!(
        told(DaeEventKind::RolledBack {
            cause,
            cause_kind: CauseKind::RunFailed
        }),
        "A#2: rolled back: it fell"
    );
    let started = DaeEventKind::HostStarted {
        version: "1".to_owned(),
        pid: 5,
        after_crash: true,
    };
    let expected = "A#2: host 1 started (pid 5); the host before it did not end in order";
    assert_eq!(told(started), expected);
}

/// Changes as earlier versions wrote them, each with the members that it has now.
const SENTENCES: [(&str, &str); 5] = [
    (
        r#""settings.restart.burst_max: 5 → 9""#,
        r#"{"setting":"restart.burst_max","before":5,"after":9,"hidden":false,"temporary":false}"#,
    ),
    (
        r#""config.run_ms""#,
        r#"{"setting":"config.run_ms","before":null,"after":null,"hidden":true,"temporary":false}"#,
    ),
    (
        r#""mode: \"in-process\" → \"subprocess\"""#,
        r#"{"setting":"mode","before":"in-process","after":"subprocess","hidden":false,"temporary":false}"#,
    ),
    (
        r#""port: - → 4000""#,
        r#"{"setting":"port","before":null,"after":4000,"hidden":false,"temporary":false}"#,
    ),
    (
        r#""log level: debug → warn (until the host ends)""#,
        r#"{"setting":"log_level","before":"debug","after":"warn","hidden":false,"temporary":true}"#,
    ),
];

#[test]
fn a_changed_value_has_members_in_whatever_version_it_was_written() {
    for (earlier, members) in SENTENCES {
        let change: ChangedSetting = serde_json::from_str(earlier).expect(earlier);
        assert_eq!(serde_json::to_string(&change).unwrap(), members);
        let again: ChangedSetting = serde_json::from_str(members).unwrap();
        assert_eq!(again, change, "{earlier}");
    }
    let told = |sentence: &str| -> String {
        let change: ChangedSetting = serde_json::from_str(sentence).unwrap();
        change.to_string()
    };
    assert_eq!(told(SENTENCES[0].0), "restart.burst_max: 5 → 9");
    assert_eq!(told(SENTENCES[1].0), "config.run_ms");
    let level = r#"log_level: "debug" → "warn" (until the host ends)"#;
    assert_eq!(told(SENTENCES[4].0), level);
}

#[test]
fn a_cause_without_a_kind_or_with_a_later_one_is_unknown() {
    for kind in ["", r#","cause_kind":"moonstruck""#] {
        let text = format!(
            r#"{{"time":"1970-01-01T00:00:00Z","daemon":"A","event":"crashed","cause":"it fell"{kind}}}"#
        );
        let event: DaeEvent = serde_json::from_str(&text).unwrap();
        let DaeEventKind::Crashed { cause_kind, .. } = event.kind else {
            panic!("{text}");
        };
        assert_eq!(cause_kind, CauseKind::Unknown);
    }
}
