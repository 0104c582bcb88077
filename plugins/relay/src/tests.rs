//! Tests of the relay in a test host, with fakes for the daemons that it calls.

use dae_plugin_api::testing::{self, FakeDaemon, TestDaemon, TestHost};

use super::*;

/// Starts a relay between a fake clock and a fake counter.
fn relay() -> Result<(TestHost, TestDaemon, FakeDaemon, FakeDaemon)> {
    let host = testing::host();
    let (clock, counter) = (host.fake("Clock"), host.fake("Counter"));
    clock.on("subscribe", |()| ());
    let relay = host.start::<Relay>(())?;
    Ok((host, relay, clock, counter))
}

fn texts(events: &[Event]) -> Vec<String> {
    events.iter().map(Event::to_string).collect()
}

#[test]
fn it_asks_other_daemons_and_passes_their_errors_on() -> Result<()> {
    let (_host, relay, clock, _) = relay()?;
    clock.on("now", |()| 7);
    assert_eq!(relay.call("ask", ("Clock", "now"))?, 7);
    clock.on_error("now", "crashed", "it panicked");
    let error = relay.call("ask", ("Clock", "now")).unwrap_err();
    assert!(
        error.to_string().contains("it panicked (crashed"),
        "{error}"
    );
    let error = relay.call("pass", (3,)).unwrap_err();
    assert!(
        error.to_string().contains("nobody to pass on to"),
        "{error}"
    );
    Ok(())
}

#[test]
fn it_forwards_events_and_goes_on_after_absences_and_reloads() -> Result<()> {
    let (host, relay, clock, counter) = relay()?;
    relay.call("forward", ("Clock", "tick", "Counter"))?;
    assert_eq!(texts(&clock.received()), ["subscribe []"]);
    clock.emit("tick", (1,))?;
    clock.emit("chime", ())?;
    assert_eq!(texts(&counter.received()), ["tick [1]"]);

    clock.stop()?;
    clock.start()?;
    assert_eq!(texts(&clock.received()), ["subscribe []"], "again");

    relay.reload()?;
    assert_eq!(relay.call("routes", ())?[0]["from"], "Clock");
    clock.emit("tick", (2,))?;
    assert_eq!(texts(&counter.received()), ["tick [2]"]);
    assert_eq!(
        relay.call("stop_forwarding", ("Clock", "tick", "Counter"))?,
        true
    );
    clock.emit("tick", (3,))?;
    host.advance(RETRY * 2)?;
    assert_eq!(texts(&counter.received()), [""; 0]);
    Ok(())
}

#[test]
fn it_tries_again_while_the_other_daemon_is_away() -> Result<()> {
    let (host, relay, clock, counter) = relay()?;
    relay.call("forward", ("Clock", "tick", "Counter"))?;
    clock.stop()?;
    relay.reload()?;
    clock.start()?;
    host.advance(RETRY)?;
    clock.emit("tick", (1,))?;
    assert_eq!(texts(&counter.received()), ["tick [1]"]);
    let warned = relay
        .log()
        .iter()
        .any(|line| line.message().contains("can't hear it yet"));
    assert!(warned, "{:?}", relay.log());
    Ok(())
}

#[test]
fn relays_of_a_ring_pass_on() -> Result<()> {
    let host = testing::host();
    let next = |name: &str| json::json!({"next": name});
    let first = host
        .daemon::<Relay>()
        .name("First")
        .config(next("Second"))
        .start()?;
    let _second = host
        .daemon::<Relay>()
        .name("Second")
        .config(next("First"))
        .start()?;
    assert_eq!(first.call("pass", (10,))?, 10);
    Ok(())
}

#[test]
fn a_route_is_kept_as_json_and_known_again() {
    let saved = r#"[{"from":"Clock","event":"tick","to":"Counter"}]"#;
    let routes: Vec<Route> = json::from_str(saved).unwrap();
    assert_eq!(json::to_string(&routes).unwrap(), saved);
    let config: Config = json::from_str("{}").unwrap();
    assert_eq!(config.next, None);
}
