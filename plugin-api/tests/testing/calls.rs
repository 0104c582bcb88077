//! Commands, guests, events and the log.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use dae_plugin_api::json::{Value, json};
use dae_plugin_api::testing::{self, TestDaemon, TestHost};
use dae_plugin_api::{Error, Event, Result, tracing};

use super::subject::{Config, Fate, Subject};

pub fn started() -> (TestHost, TestDaemon) {
    let host = testing::host();
    let subject = host.start::<Subject>(()).expect("it starts");
    (host, subject)
}

pub fn texts(events: &[Event]) -> Vec<String> {
    events.iter().map(Event::to_string).collect()
}

#[track_caller]
fn refused(reply: Result<Value>) -> (String, String) {
    let error = reply.expect_err("a refusal");
    let code = error.code().unwrap_or("no code").to_owned();
    (code, error.to_string())
}

#[test]
fn commands_of_every_kind_are_answered() {
    let (_host, subject) = started();
    assert_eq!(subject.call("greet", ("Ada",)).unwrap(), "Hello, Ada!");
    assert_eq!(subject.call("greet", "Ada").unwrap(), "Hello, Ada!");
    assert_eq!(subject.call("add", (1, 2)).unwrap(), 3);
    assert_eq!(subject.call("add", [1]).unwrap(), 1);
    assert_eq!(subject.call("block", ()).unwrap(), true);
    assert_eq!(subject.call("log_all", ()).unwrap(), Value::Null);
    let large = u64::MAX as i128 * 4;
    assert_eq!(
        subject.call_as::<i128>("add", (large, 1)).unwrap(),
        large + 1
    );
}

#[test]
fn errors_have_the_codes_of_a_real_host() {
    let (_host, subject) = started();
    let (code, text) = refused(subject.call("greet", (1,)));
    assert_eq!(code, "bad-arguments");
    assert!(text.contains("expected a string"), "{text}");
    let (code, text) = refused(subject.call("greet", ()));
    assert_eq!(code, "bad-arguments", "{text}");
    let (code, text) = refused(subject.call("gret", ()));
    assert_eq!(code, "unknown-command");
    assert!(text.contains("there is no command gret"), "{text}");
    let (code, text) = refused(subject.call("no", ()));
    assert_eq!(
        (code.as_str(), text.as_str()),
        ("failed", "it never does (failed, no at Subject)")
    );
    let (code, text) = refused(subject.call("panic", ()));
    assert_eq!(code, "crashed");
    assert!(
        text.contains("subject.rs") && text.contains("on purpose"),
        "{text}"
    );
    let (code, _) = refused(subject.call("no name", ()));
    assert_eq!(code, "no code");
    let error = subject.call_as::<u64>("greet", ("Ada",)).unwrap_err();
    assert!(error.to_string().contains("the reply to greet"), "{error}");
    assert_eq!(
        subject.call("greet", ("Ada",)).unwrap(),
        "Hello, Ada!",
        "it goes on"
    );
}

#[test]
fn every_daemon_has_the_commands_of_the_host() {
    let (_host, subject) = started();
    let options = subject.call("options", ()).unwrap();
    assert_eq!(
        (&options["add"], &options["dae"]),
        (&json!(2), &json!(0)),
        "{options}"
    );
    let help = subject.call("help", ()).unwrap();
    let text = json!({"type": "string"});
    let who = json!({"name": "who", "schema": text});
    assert_eq!(
        help["greet"],
        json!({
            "signature": "greet(who: string)", "doc": "Greets `who`.",
            "schema": {"arguments": [who], "result": text},
        })
    );
    let own = subject.call("dae", ()).unwrap();
    assert_eq!(
        (&own["name"], &own["generation"]),
        (&json!("Subject"), &json!(1))
    );
    let _ = subject.call("panic", ());
    let stats = subject.call("stats", ()).unwrap();
    assert_eq!((&stats["errors"], &stats["panics"]), (&json!(1), &json!(1)));
}

#[test]
fn a_guest_hears_the_events_of_its_commands() {
    let (_host, subject) = started();
    let ada = subject.guest().unwrap();
    let bob = subject.guest().unwrap();
    assert_eq!(texts(&ada.events()), ["welcome []"]);
    let () = ada.call_as("count_to", (2,)).unwrap();
    let events = ada.events();
    assert_eq!(texts(&events), ["number [1]", "number [2]", "done []"]);
    assert_eq!(events[1].arguments::<u32>().unwrap(), 2);
    assert_eq!(texts(&ada.events()), [""; 0], "each is returned once");
    assert_eq!(texts(&bob.events()), ["welcome []"]);
    ada.call("emit_from_a_thread", ()).unwrap();
    let event = ada.next_event().unwrap();
    assert_eq!(event.arguments::<(u8, String)>().unwrap(), (1, "x".into()));
}

#[test]
fn a_daemon_is_told_of_guests_that_come_and_go() {
    let (_host, subject) = started();
    let ada = subject.guest().unwrap();
    let id = ada.id();
    assert_eq!(ada.call("guests", ()).unwrap(), json!([format!("+{id}")]));
    ada.close().unwrap();
    let guests: Vec<String> = subject.call_as("guests", ()).unwrap();
    assert_eq!(guests[..2], [format!("+{id}"), format!("-{id}")]);
}

#[test]
fn a_guest_is_called_back_and_closed_by_the_daemon() {
    let (host, subject) = started();
    let ada = subject.guest().unwrap();
    let asked = ada.begin("ask_back", ()).unwrap();
    assert!(!asked.is_there());
    assert_eq!(texts(&ada.events()), ["welcome []", "number [\"please\"]"]);
    ada.emit("number", (21,)).unwrap();
    assert_eq!(asked.reply().unwrap(), 42);
    let asked = ada.begin("ask_back", ()).unwrap();
    host.advance(Duration::from_secs(30)).unwrap();
    let (code, text) = refused(asked.reply());
    // The command has the same limit, and it began first.
    assert!(code == "timeout" || code == "failed", "{code}: {text}");
    assert!(ada.is_open());
    ada.call("close", ()).unwrap_or_default();
    assert!(!ada.is_open());
    assert!(ada.emit("number", (1,)).is_err());
    let (code, _) = refused(ada.call("guests", ()));
    assert_eq!(code, "unavailable");
}

#[test]
fn an_event_is_a_command_or_goes_to_a_handler_or_comes_back_as_an_error() {
    let (host, subject) = started();
    let ada = subject.guest().unwrap();
    ada.emit("increment", ()).unwrap();
    assert_eq!(subject.call("increment", ()).unwrap(), 2);
    let _ = ada.events();
    ada.emit("note", ("too early",)).unwrap();
    let error = ada.events().remove(0);
    assert_eq!(error.name(), "error");
    let (error,): (Value,) = error.arguments().unwrap();
    assert_eq!(error["code"], "unknown-command");
    ada.call("listen", ()).unwrap();
    ada.emit("note", ("now",)).unwrap();
    let _ = ada.events();
    let noted = texts(&host.published());
    assert!(noted.contains(&"noted [\"now\"]".to_owned()), "{noted:?}");
}

#[test]
fn a_call_without_a_command_is_answered_by_a_handler() {
    let (host, subject) = started();
    let ada = subject.guest().unwrap();
    ada.call("double_events", ()).unwrap();
    assert_eq!(ada.call("double", (4,)).unwrap(), 8);
    let (code, _) = refused(subject.call("double", (4,)));
    assert_eq!(code, "unknown-command", "another guest has no handler");
    let unheard = ada.begin("unheard", ()).unwrap();
    host.advance(Duration::from_secs(30)).unwrap();
    let (code, text) = refused(unheard.reply());
    assert_eq!(code, "timeout", "{text}");
}

#[test]
fn the_log_has_levels_fields_and_what_the_host_says() {
    let (host, subject) = started();
    subject.call("greet", ("Ada",)).unwrap();
    subject.call("log_all", ()).unwrap();
    let _ = subject.call("panic", ());
    let log = subject.log();
    assert_eq!(log[0].to_string(), r#"INFO greeted {"who":"Ada"}"#);
    assert_eq!(log[0].field("who"), Some(&json!("Ada")));
    assert!(log[0].target().ends_with("subject"), "{}", log[0].target());
    let levels: Vec<_> = log[1..4].iter().map(|line| line.level()).collect();
    use tracing::Level;
    assert_eq!(levels, [Level::ERROR, Level::WARN, Level::DEBUG]);
    assert!(log[4].message().contains("on purpose"), "{}", log[4]);
    let config = Config {
        connect: Fate::Fails,
        ..Config::default()
    };
    let other = host.daemon::<Subject>().name("Other").config(config);
    let other = other.start().unwrap();
    assert_eq!(other.call("increment", ()).unwrap(), 1, "it goes on");
    assert_eq!(
        other.log()[0].to_string(),
        "WARN on(connect) failed: as the config says"
    );
    assert_eq!(subject.log().len(), 5, "each has its own");
}

#[test]
fn an_error_says_what_still_waits() {
    let (host, subject) = started();
    host.set_limit(Duration::from_millis(50));
    let error = subject.call("wait_for_ever", ()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("wait_for_ever of Subject has no end within 50ms"),
        "{text}"
    );
    let error = subject.call("increment_in", (2000,)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("the next timer is due in 2s"), "{text}");
    assert!(text.contains("`host.advance`"), "{text}");
    let nothing = subject.guest().unwrap();
    let _ = nothing.events();
    let error = nothing.next_event().unwrap_err().to_string();
    assert!(error.contains("the next event of Subject"), "{error}");
}

#[test]
fn a_command_that_holds_the_thread_is_named() {
    let (host, subject) = started();
    host.set_limit(Duration::from_millis(50));
    let text = subject.call("hold", ()).unwrap_err().to_string();
    assert!(
        text.starts_with("hold of Subject holds the thread of the test host"),
        "{text}"
    );
    assert!(text.contains("#[command(blocking)]"), "{text}");
}

#[test]
fn a_panic_of_a_fakes_handler_fails_the_test() {
    let (host, subject) = started();
    let fake = host.fake("Other");
    fake.on("check", |n: u64| assert_eq!(n, 1, "a wrong number"));
    let right = subject.call("ask", ("Other", "check", (1,)));
    assert!(right.is_ok());
    let wrong = || subject.call("ask", ("Other", "check", (2,)));
    let panic = catch_unwind(AssertUnwindSafe(wrong)).expect_err("the assertion");
    let text = panic.downcast_ref::<String>().expect("its text");
    assert!(text.contains("a wrong number"), "{text}");
}

#[test]
fn hosts_of_several_threads_do_not_disturb_each_other() {
    let counts = |_| {
        std::thread::spawn(|| -> Result<(Value, usize), Error> {
            let (_host, subject) = started();
            for _ in 0..50 {
                subject.call("increment", ())?;
                subject.call("greet", ("Ada",))?;
            }
            Ok((subject.call("increment", ())?, subject.log().len()))
        })
    };
    let threads: Vec<_> = (0..4).map(counts).collect();
    for thread in threads {
        let counted = thread.join().expect("no panic").unwrap();
        assert_eq!(counted, (json!(51), 50));
    }
}
