//! Start, reload, stop and crash.

use std::time::Duration;

use dae_plugin_api::json::json;
use dae_plugin_api::testing;

use super::calls::{started, texts};
use super::subject::{Config, Fate, Subject};

fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}

#[test]
fn a_reload_hands_the_state_over_and_keeps_the_guests() {
    let (host, subject) = started();
    let ada = subject.guest().unwrap();
    assert_eq!(ada.call("increment", ()).unwrap(), 1);
    let _ = (ada.events(), host.published());
    subject.reload().unwrap();
    assert_eq!(subject.generation(), 2);
    assert_eq!(ada.call("increment", ()).unwrap(), 2);
    assert_eq!(subject.state().unwrap(), Some(json!({"count": 2})));
    assert_eq!(
        texts(&ada.events()),
        ["welcome []"],
        "the new instance greets its guest again"
    );
    assert_eq!(
        ada.call("guests", ()).unwrap(),
        json!([format!("+{}", ada.id())])
    );
    let life = texts(&host.published());
    let expected = ["start", "run", "stop"].map(|step| format!("life [\"{step}\"]"));
    assert_eq!(
        life, expected,
        "the new one starts before the old one stops"
    );
}

#[test]
fn a_reload_whose_save_fails_is_refused_and_the_old_instance_goes_on() {
    let host = testing::host();
    let fails = config(|config| config.save = Fate::Fails);
    let subject = host.start::<Subject>(fails).unwrap();
    subject.call("increment", ()).unwrap();
    let error = subject.reload().unwrap_err();
    assert_eq!(error.to_string(), "its `save` failed: as the config says");
    assert_eq!(subject.generation(), 1);
    assert_eq!(subject.call("increment", ()).unwrap(), 2);
    assert!(subject.state().is_err());
}

#[test]
fn a_reload_whose_start_fails_is_refused_and_the_old_instance_goes_on() {
    let (_host, subject) = started();
    subject.call("increment", ()).unwrap();
    for fate in [Fate::Fails, Fate::Panics] {
        let error = subject.reload_with(config(|config| config.start = fate));
        let text = error.unwrap_err().to_string();
        assert!(text.contains("as the config says"), "{text}");
    }
    let error = subject.reload_with([1]).unwrap_err().to_string();
    assert!(error.starts_with("a config is a JSON object"), "{error}");
    assert_eq!(subject.call("increment", ()).unwrap(), 2);
    subject.reload().unwrap();
    assert_eq!(subject.call("increment", ()).unwrap(), 3, "the old config");
    subject
        .reload_with(config(|config| config.stop = Fate::Fails))
        .unwrap();
    let (_, _, given) = subject
        .call_as::<(String, u64, dae_plugin_api::json::Value)>("own", ())
        .unwrap();
    assert_eq!(given["stop"], "fails");
}

#[test]
fn a_refused_reload_that_gave_commands_up_leaves_an_instance_that_answers() {
    for (saves, start) in [(Fate::Fails, Fate::Works), (Fate::Works, Fate::Fails)] {
        let host = testing::host();
        let before = config(|config| config.save = saves);
        let subject = host.start::<Subject>(before).unwrap();
        host.set_limit(Duration::from_millis(200));
        let given_up = subject.begin("wait_for_ever", ()).unwrap();
        let after = subject.reload_with(config(|config| config.start = start));
        let text = after.unwrap_err().to_string();
        assert!(text.contains("as the config says"), "{text}");
        let error = given_up.reply().unwrap_err();
        assert_eq!(error.code(), Some("unavailable"));
        assert_eq!(subject.generation(), 1);
        assert_eq!(subject.call("increment", ()).unwrap(), 1);
    }
}

#[test]
fn a_reload_waits_for_commands_and_gives_up_those_that_take_too_long() {
    let (host, subject) = started();
    host.set_limit(Duration::from_millis(200));
    let short = subject.begin("increment_in", (4000,)).unwrap();
    let long = subject.begin("increment_in", (6000,)).unwrap();
    let for_ever = subject.begin("wait_for_ever", ()).unwrap();
    subject.reload().unwrap();
    assert_eq!(short.reply().unwrap(), 1);
    for given_up in [long, for_ever] {
        let error = given_up.reply().unwrap_err();
        assert_eq!(error.code(), Some("unavailable"));
        assert!(error.to_string().contains("it was cancelled"), "{error}");
    }
    assert_eq!(subject.call("increment", ()).unwrap(), 2);
}

#[test]
fn a_state_of_an_earlier_version_is_migrated_or_refused_with_the_reason() {
    let host = testing::host();
    let old = host.daemon::<Subject>().state(1, json!({"old": 41}));
    let subject = old.start().unwrap();
    assert_eq!(subject.call("increment", ()).unwrap(), 42);
    let own = host.daemon::<Subject>().name("Own");
    let own = own.state(2, json!({"count": 1})).start().unwrap();
    assert_eq!(own.call("increment", ()).unwrap(), 2);
    for (version, state, reason) in [
        (1, json!({}), "no count in version 1"),
        (2, json!({"count": "x"}), "at .count: expected"),
    ] {
        let bad = host.daemon::<Subject>().name("Bad");
        let error = bad.state(version, state).start().err().expect("a refusal");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn a_start_that_fails_says_why() {
    let host = testing::host();
    for (fate, code) in [
        (Fate::Fails, "as the config"),
        (Fate::Panics, "panicked at"),
    ] {
        let started = host.start::<Subject>(config(|config| config.start = fate));
        let error = started.err().expect("a refusal").to_string();
        assert!(error.contains(code), "{error}");
    }
    let error = host.start::<Subject>(json!({"stat": 1})).err();
    let error = error.expect("a refusal").to_string();
    assert!(error.contains("stat"), "{error}");
    let error = host.start::<Subject>(7).err().expect("a refusal");
    assert!(error.to_string().contains("got 7"), "{error}");
    let _subject = host.start::<Subject>(()).unwrap();
    let error = host.start::<Subject>(()).err().expect("a refusal");
    assert!(error.to_string().contains("already"), "{error}");
}

#[test]
fn a_stop_returns_its_result_and_keeps_the_state() {
    let (host, subject) = started();
    let ada = subject.guest().unwrap();
    subject.call("increment", ()).unwrap();
    subject.stop().unwrap();
    assert!(!subject.is_running() && !ada.is_open());
    let error = subject.call("increment", ()).unwrap_err();
    assert_eq!(error.code(), Some("unavailable"));
    assert!(error.to_string().contains("Subject is stopped"), "{error}");
    assert!(subject.stop().is_err() && subject.reload().is_err());
    subject.start().unwrap();
    assert_eq!(subject.call("increment", ()).unwrap(), 2);
    assert!(subject.start().is_err(), "it runs");
    let fails = host.daemon::<Subject>().name("Fails");
    let fails = fails.config(config(|config| config.stop = Fate::Fails));
    let error = fails.start().unwrap().stop().unwrap_err().to_string();
    assert_eq!(error, "its `stop` failed: as the config says");
}

#[test]
fn after_a_crash_the_state_saved_last_counts() {
    let (_host, subject) = started();
    let ada = subject.guest().unwrap();
    ada.call("increment", ()).unwrap();
    subject.reload().unwrap();
    ada.call("increment", ()).unwrap();
    let command = ada.begin("wait_for_ever", ()).unwrap();
    subject.crash().unwrap();
    assert_eq!(command.reply().unwrap_err().code(), Some("crashed"));
    assert_eq!(subject.failure().as_deref(), Some("Subject has crashed"));
    assert!(ada.is_open());
    subject.start().unwrap();
    assert_eq!(subject.failure(), None);
    assert_eq!(ada.call("increment", ()).unwrap(), 2);
}

#[test]
fn a_state_that_is_saved_on_request_outlives_a_crash() {
    let (host, subject) = started();
    assert_eq!(subject.call("increment_and_keep", ()).unwrap(), 1);
    subject.call("increment", ()).unwrap();
    subject.crash().unwrap();
    subject.start().unwrap();
    assert_eq!(subject.call("increment", ()).unwrap(), 2);
    subject.call("keep", ()).unwrap();
    subject.crash().unwrap();
    subject.start().unwrap();
    assert_eq!(subject.call("increment", ()).unwrap(), 3);
    let fails = host.daemon::<Subject>().name("Fails");
    let fails = fails.config(config(|config| config.save = Fate::Fails));
    let error = fails.start().unwrap().call("increment_and_keep", ());
    let text = error.unwrap_err().to_string();
    assert!(
        text.starts_with("the command ran, but the state was not kept"),
        "{text}"
    );
}

#[test]
fn a_command_that_ends_while_a_reload_waits_may_keep_the_state() {
    let (_host, subject) = started();
    let kept = subject.begin("keep_in", (1000,)).unwrap();
    subject.reload().unwrap();
    assert_eq!(kept.reply().unwrap(), 1);
    let guest = subject.guest().unwrap();
    let kept = guest.begin("keep_in", (1000,)).unwrap();
    subject
        .reload_with(config(|config| config.start = Fate::Fails))
        .unwrap_err();
    assert_eq!(kept.reply().unwrap(), 2);
    assert_eq!(guest.call("increment_and_keep", ()).unwrap(), 3);
    subject.crash().unwrap();
    subject.start().unwrap();
    assert_eq!(subject.call("increment", ()).unwrap(), 4);
}

#[test]
fn a_run_that_fails_or_panics_ends_the_instance() {
    let host = testing::host();
    for (name, fate, why) in [
        ("A", Fate::Fails, "its `run` failed: as the config says"),
        ("B", Fate::Panics, "as the config says"),
    ] {
        let options = host.daemon::<Subject>().name(name);
        let options = options.config(config(|config| config.run = fate));
        let subject = options.start().unwrap();
        assert!(!subject.is_running());
        let failure = subject.failure().expect("a reason");
        assert!(failure.contains(why), "{failure}");
        let error = subject.call("increment", ()).unwrap_err();
        assert_eq!(error.code(), Some("unavailable"));
        let life = texts(&host.published());
        assert!(life.contains(&"life [\"stop\"]".to_owned()), "{life:?}");
    }
}
