//! Tests of guest handles and of the ecosystem API with a fake host, whose answers each test sets.

use std::pin::pin;

use crate::abi::status;
use crate::fake_host::FakeHost;
use crate::{ChangeKind, operation, wire};

#[test]
fn a_call_sends_a_line_and_reads_the_reply() {
    let host = FakeHost::new();
    let guest = host.guest(5);
    host.answer(operation::GUEST_CALL, status::DONE, b"[3]");
    assert_eq!(host.finish(guest.call::<u64>("add", (1, 2))).unwrap(), 3);
    assert_eq!(
        host.asked(operation::GUEST_CALL),
        [wire::numbered(5, b"add [1,2]")]
    );
    let error = host
        .finish(guest.call::<String>("add", (1, 2)))
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with(
            "the reply to add of guest 5: expected a string, got 3; the arguments were [3]"
        ),
        "{text}"
    );
    assert_eq!(error.code(), None);
    let error = host.finish(guest.call::<u64>("a b", ())).unwrap_err();
    assert!(error.to_string().contains("is no name"), "{error}");
}

#[test]
fn a_refused_call_says_by_whom_and_why() {
    let host = FakeHost::new();
    let fault = br#"{"code":"crashed","message":"it panicked"}"#;
    host.answer(operation::CALL, status::FAILED, fault);
    let eco = host.ecosystem();
    let error = host
        .finish(eco.call::<u64>("Counter", "add", (1, 2)))
        .unwrap_err();
    assert_eq!(error.to_string(), "it panicked (crashed, add at Counter)");
    assert_eq!(error.code(), Some("crashed"));
    assert_eq!(
        host.asked(operation::CALL),
        [wire::numbered(7, b"Counteradd [1,2]")]
    );
    host.answer(operation::GUEST_CALL, status::GONE, b"");
    let error = host
        .finish(host.guest(5).call::<()>("add", ()))
        .unwrap_err();
    assert_eq!(error.code(), Some("unavailable"));
}

#[test]
fn a_save_waits_for_the_host_and_an_older_host_knows_none() {
    let host = FakeHost::new();
    let eco = host.ecosystem();
    let error = host.finish(eco.save()).unwrap_err().to_string();
    let expected = "this host knows no `save`: it is older than the plugin; update dae-host";
    assert_eq!(error, expected);
    host.answer(operation::SAVE, status::NOTHING, b"");
    host.finish(eco.save()).unwrap();
    host.answer(operation::SAVE, status::FAILED, b"the disk is full");
    let error = host.finish(eco.save()).unwrap_err().to_string();
    assert!(error.contains("the disk is full"), "{error}");
}

#[test]
fn connecting_finding_and_listing_read_what_the_host_says() {
    let host = FakeHost::new();
    let eco = host.ecosystem();
    let credential = br#"{"name":"Counter","pid":1,"port":2,"generation":3,"mode":"subprocess"}"#;
    host.answer(
        operation::CONNECT,
        status::DONE,
        &wire::numbered(9, credential),
    );
    assert_eq!(host.finish(eco.connect("Counter")).unwrap().id(), 9);
    host.answer(operation::FIND, status::DONE, credential);
    let found = host.finish(eco.find("Counter")).unwrap().unwrap();
    assert_eq!(
        (found.generation, found.mode.as_deref()),
        (Some(3), Some("subprocess"))
    );
    host.answer(operation::FIND, status::NOTHING, b"");
    assert_eq!(host.finish(eco.find("Counter")).unwrap(), None);
    let list = [b"[", &credential[..], b"]"].concat();
    host.answer(operation::LIST, status::DONE, &list);
    assert_eq!(host.finish(eco.list()).unwrap(), [found]);
    host.answer(operation::GUEST_CALL, status::DONE, &list);
    let peer = host.finish(host.guest(9).credential()).unwrap();
    assert_eq!(peer.name, "Counter");
}

#[test]
fn a_host_of_before_is_named_as_the_reason() {
    let host = FakeHost::new();
    let error = host
        .finish(host.ecosystem().connect("Counter"))
        .unwrap_err();
    assert!(error.to_string().contains("update dae-host"), "{error}");
}

#[test]
fn a_stream_gives_what_came_since_it_was_made_and_ends_with_the_guest() {
    let host = FakeHost::new();
    let guest = host.guest(5);
    let mut events = guest.events().unwrap();
    host.say(5, "tick [7]");
    host.say(5, "tock");
    let event = host.finish(events.next()).unwrap();
    assert_eq!((event.name(), event.arguments().unwrap()), ("tick", (7,)));
    assert_eq!(event.to_string(), "tick [7]");
    let error = event.arguments::<bool>().unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("the event tick: expected true or false"),
        "{error}"
    );
    let event = host.finish(events.next()).unwrap();
    assert_eq!((event.name(), event.arguments().unwrap()), ("tock", ()));
    host.end_guest(5);
    assert_eq!(host.finish(events.next()).unwrap().name(), "disconnect");
    assert_eq!(host.finish(events.next()), None);
    assert_eq!(host.finish(events.next()), None, "and stays ended");
    assert!(guest.events().is_err());
}

#[test]
fn a_dropped_wait_loses_nothing_and_a_dropped_stream_is_closed() {
    let host = FakeHost::new();
    let mut events = host.guest(5).events().unwrap();
    assert!(FakeHost::glance(&mut pin!(events.next())).is_pending());
    host.say(5, "tick [1]");
    host.say(5, "tick [2]");
    for n in 1..=2 {
        let event = host.finish(events.next()).unwrap();
        assert_eq!(event.arguments::<u64>().unwrap(), n);
    }
    assert_eq!(host.open_queues(), 1);
    drop(events);
    assert_eq!(host.open_queues(), 0);
}

#[test]
fn a_guest_is_closed_when_it_has_gone_and_not_when_an_event_queue_was_full() {
    let host = FakeHost::new();
    let guest = host.guest(5);
    let mut closed = Box::pin(guest.closed());
    assert!(FakeHost::glance(&mut closed).is_pending());
    host.overflow_queues(5);
    assert!(FakeHost::glance(&mut closed).is_pending());
    host.end_guest(5);
    host.finish(closed);
    host.finish(guest.closed());
    guest.close();
    assert_eq!(host.asked(operation::GUEST_CLOSE), [wire::numbered(5, b"")]);
}

#[test]
fn topics_and_changes_come_as_streams() {
    let host = FakeHost::new();
    let eco = host.ecosystem();
    let mut topic = eco.subscribe("news").unwrap();
    let mut changes = eco.watch().unwrap();
    eco.publish("news", ("late",)).unwrap();
    assert_eq!(
        host.asked(operation::PUBLISH),
        [b"news [\"late\"]".to_vec()]
    );
    assert_eq!(host.finish(topic.next()).unwrap().name(), "news");
    host.say_to_all(r#"appeared [{"name":"Counter","pid":1,"port":2,"foreign":true}]"#);
    host.say_to_all(r#"gone [{"name":"Counter","pid":1,"port":2}]"#);
    let change = host.finish(changes.next()).unwrap();
    assert_eq!(change.kind, ChangeKind::Appeared);
    assert!(change.credential.foreign);
    let change = host.finish(changes.next()).unwrap();
    assert_eq!(
        (change.kind, change.credential.foreign),
        (ChangeKind::Gone, false)
    );
    assert!(eco.subscribe("a b").is_err());
    host.end();
    assert!(eco.subscribe("news").is_err() && eco.publish("news", ()).is_err());
}
