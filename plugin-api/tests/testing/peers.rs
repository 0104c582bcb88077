//! Other daemons: fakes, a second daemon under test, topics, and the names of all.

use std::sync::Arc;

use dae_plugin_api::Error;
use dae_plugin_api::json::json;

use super::calls::{started, texts};
use super::subject::Subject;

#[test]
fn a_fake_answers_with_values() {
    let (host, subject) = started();
    let counter = host.fake("Counter");
    let mut count = 40;
    counter
        .on("increment", move |by: u64| {
            count += by;
            count
        })
        .on("nothing", |()| ());
    let ask = |command: &str, arguments| subject.call("ask", ("Counter", command, arguments));
    assert_eq!(ask("increment", json!([2])).unwrap(), 42);
    assert_eq!(ask("increment", json!([2])).unwrap(), 44);
    assert_eq!(ask("nothing", json!([])).unwrap(), json!(null));
    let received = texts(&counter.received());
    assert_eq!(received[..2], ["increment [2]", "increment [2]"]);
    assert_eq!(counter.connections(), 1, "calls by name share one");
    assert_eq!(ask("options", json!([])).unwrap()["increment"], json!(1));
}

#[test]
fn a_handler_that_owns_its_fake_ends_with_the_host() {
    let (host, subject) = started();
    let (counter, owned) = (host.fake("Counter"), Arc::new(()));
    let (own, token) = (counter.clone(), Arc::clone(&owned));
    counter.on("increment", move |()| {
        let _ = &token;
        own.emit("incremented", ()).is_ok()
    });
    let asked = subject.call("ask", ("Counter", "increment", json!([])));
    assert_eq!(asked.unwrap(), true);
    drop((host, subject));
    assert_eq!(Arc::strong_count(&owned), 1, "the handler was dropped");
    let error = counter.emit("late", ()).unwrap_err().to_string();
    assert!(
        error.contains("the fake Counter has ended; keep the host"),
        "{error}"
    );
    assert_eq!(counter.connections(), 0);
}

#[test]
fn a_fake_refuses_as_the_test_says() {
    let (host, subject) = started();
    host.fake("Counter")
        .on("increment", |by: u64| by)
        .try_on("reset", |()| Err::<(), _>("only upwards"))
        .on_error("save", "crashed", "it panicked");
    let ask = |command: &str, arguments| subject.call("ask", ("Counter", command, arguments));
    for (command, arguments, text) in [
        (
            "reset",
            json!([]),
            "only upwards (failed, reset at Counter)",
        ),
        (
            "save",
            json!([1, 2]),
            "it panicked (crashed, save at Counter)",
        ),
        ("increment", json!(["x"]), "(bad-arguments, increment"),
        (
            "decrement",
            json!([]),
            "`on(\"decrement\", …)` (unknown-command",
        ),
    ] {
        let error = ask(command, arguments).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    let error = subject.call("ask", ("Nobody", "x", ())).unwrap_err();
    assert!(error.to_string().contains("no daemon Nobody"), "{error}");
}

#[test]
fn an_error_keeps_its_code_and_its_data_and_that_of_another_daemon_too() {
    let (host, subject) = started();
    let error = subject.call("get", ("a",)).unwrap_err();
    assert_eq!(
        (error.code(), error.data()),
        (Some("not-found"), Some(&json!({"key": "a"})))
    );
    assert_eq!(error.to_string(), "no such key (not-found, get at Subject)");
    host.fake("Store")
        .try_on("get", |key: String| {
            Err::<(), _>(Error::coded("not-found", "no such key").with(json!({ "key": key })))
        })
        .on_error("put", "crashed", "it panicked");
    let error = subject
        .call("ask", ("Store", "get", json!(["b"])))
        .unwrap_err();
    assert_eq!(
        (error.code(), error.data()),
        (Some("not-found"), Some(&json!({"key": "b"})))
    );
    let error = subject
        .call("ask", ("Store", "put", json!([])))
        .unwrap_err();
    let cause = json!({
        "code": "crashed", "command": "put", "daemon": "Store", "message": "it panicked",
    });
    assert_eq!(
        (error.code(), error.data()),
        (Some("failed"), Some(&json!({ "cause": cause })))
    );
    let guest = subject.guest().unwrap();
    guest.emit("get", ("c",)).unwrap();
    let events = texts(&guest.events());
    let refused = r#"error [{"code":"not-found","command":"get","message":"no such key","data":{"key":"c"}}]"#;
    assert_eq!(events.last().map(String::as_str), Some(refused));
}

#[test]
fn events_of_a_fake_reach_those_connected_and_its_absence_is_told() {
    let (host, subject) = started();
    let clock = host.fake("Clock");
    let error = subject.call("follow", ("Clok",)).unwrap_err();
    assert!(error.to_string().contains("no daemon Clok"), "{error}");
    subject.call("follow", ("Clock",)).unwrap();
    let _ = host.published();
    clock.emit("tick", (1, "x")).unwrap();
    clock.stop().unwrap();
    let error = subject.call("ask", ("Clock", "now", ())).unwrap_err();
    assert!(error.to_string().contains("unavailable"), "{error}");
    clock.start().unwrap();
    let heard: Vec<String> = host
        .published()
        .iter()
        .map(|event| event.arguments().unwrap())
        .collect();
    assert_eq!(heard[0], "tick [1,\"x\"]");
    assert!(
        heard[1].starts_with("disconnect [\"Clock has closed"),
        "{heard:?}"
    );
    assert!(
        heard[2].starts_with("connect [{\"name\":\"Clock\""),
        "{heard:?}"
    );
    subject.call("tell", ("Clock", "wind")).unwrap();
    assert_eq!(texts(&clock.received()), ["wind [1]"]);
    subject.reload().unwrap();
    assert_eq!(clock.connections(), 0, "those of the old instance end");
}

#[test]
fn two_daemons_of_one_host_reach_each_other_and_one_reaches_itself() {
    let (host, subject) = started();
    let other = host.daemon::<Subject>().name("Other").start().unwrap();
    let ask = |daemon: &str, command: &str| subject.call("ask", (daemon, command, ()));
    assert_eq!(ask("Other", "increment").unwrap(), 1);
    assert_eq!(other.call("increment", ()).unwrap(), 2);
    assert_eq!(ask("Subject", "increment").unwrap(), 1);
    let nested = subject.call("ask", ("Other", "ask", ("Subject", "increment", ())));
    assert_eq!(nested.unwrap(), 2);
    subject.call("follow", ("Other",)).unwrap();
    let _ = host.published();
    other.reload().unwrap();
    let heard = texts(&host.published());
    let is_heard = |text: &str| heard.iter().any(|one| one.contains(text));
    assert!(is_heard("welcome"), "the new one greets: {heard:?}");
    assert!(
        !is_heard("disconnect"),
        "a reload is not noticed: {heard:?}"
    );
    other.crash().unwrap();
    assert_eq!(
        ask("Other", "increment").unwrap_err().code(),
        Some("failed")
    );
    other.start().unwrap();
    let heard = texts(&host.published()).join("\n");
    assert!(
        heard.contains("disconnect") && heard.contains("connect"),
        "{heard}"
    );
    assert_eq!(ask("Other", "increment").unwrap(), 3);
}

#[test]
fn topics_reach_the_daemon_and_the_test() {
    let (host, subject) = started();
    subject.call("repeat", ("alarm",)).unwrap();
    let _ = host.published();
    host.publish("alarm", ("fire",)).unwrap();
    host.publish("other", ()).unwrap();
    assert_eq!(
        texts(&host.published()),
        [
            r#"alarm ["fire"]"#,
            r#"repeated ["alarm [\"fire\"]"]"#,
            "other []"
        ]
    );
    assert_eq!(texts(&host.published()), [""; 0]);
}

#[test]
fn a_daemon_finds_the_others_and_itself() {
    let (host, subject) = started();
    subject.call("watch", ()).unwrap();
    let _ = host.published();
    let clock = host.fake("Clock");
    assert_eq!(
        subject.call("names", ()).unwrap(),
        json!(["Dae", "Clock", "Subject"])
    );
    assert!(subject.call("port_of", ("Clock",)).unwrap().is_u64());
    assert!(subject.call("port_of", ("Clok",)).unwrap().is_null());
    clock.stop().unwrap();
    assert!(subject.call("port_of", ("Clock",)).unwrap().is_null());
    let changed = texts(&host.published());
    assert_eq!(
        changed,
        ["changed [\"Appeared Clock\"]", "changed [\"Gone Clock\"]"]
    );
    let own = subject.call("own", ()).unwrap();
    assert_eq!(own, json!(["Subject", 1, {}]));
}
