//! Tests of the clock in a test host, whose time they move.

use dae_plugin_api::testing::{self, TestGuest};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Returns the numbers of the ticks that a guest was sent.
fn ticks(guest: &TestGuest) -> Vec<u64> {
    let events = guest.events();
    let ticks = events.iter().filter(|event| event.name() == "tick");
    let read = ticks.map(|tick| tick.arguments::<(u64, u64)>().expect("a tick"));
    read.map(|(n, _)| n).collect()
}

#[test]
fn it_ticks_to_those_who_subscribe_and_to_the_topic() -> Result<()> {
    let host = testing::host();
    let clock = host.start::<Clock>(json::json!({"topic": "beat"}))?;
    let (ada, bob) = (clock.guest()?, clock.guest()?);
    ada.call("subscribe", ())?;
    host.advance(SECOND * 3)?;
    assert_eq!(ticks(&ada), [1, 2, 3]);
    assert_eq!(ticks(&bob), [0; 0]);
    assert!(host.published().iter().all(|event| event.name() == "beat"));
    ada.call("unsubscribe", ())?;
    host.advance(SECOND)?;
    assert_eq!(ticks(&ada), [0; 0]);
    assert_eq!(host.published().len(), 1);
    Ok(())
}

#[test]
fn the_period_can_be_changed_but_not_to_nothing() -> Result<()> {
    let host = testing::host();
    let clock = host.start::<Clock>(())?;
    let ada = clock.guest()?;
    ada.call("subscribe", ())?;
    ada.call("every", (100,))?;
    host.advance(SECOND)?;
    assert_eq!(ticks(&ada).len(), 10);
    let refused = ada.call("every", (0,)).unwrap_err();
    assert_eq!(refused.code(), Some("failed"));
    assert!(host.start::<Clock>(json::json!({"every_ms": 0})).is_err());
    Ok(())
}

#[test]
fn count_and_subscribers_survive_a_reload() -> Result<()> {
    let host = testing::host();
    let clock = host.start::<Clock>(())?;
    let (ada, bob) = (clock.guest()?, clock.guest()?);
    ada.call("subscribe", ())?;
    bob.call("subscribe", ())?;
    host.advance(SECOND * 2)?;
    bob.close()?;
    clock.reload()?;
    host.advance(SECOND)?;
    assert_eq!(ticks(&ada), [1, 2, 3]);
    let state = clock.state()?.expect("a state");
    assert_eq!(
        (&state["ticks"], &state["guests"]),
        (&3.into(), &json::json!([ada.id()]))
    );
    Ok(())
}

#[test]
fn a_config_may_leave_out_what_is_usual() {
    let config: Config = json::from_str(r#"{"every_ms":50}"#).unwrap();
    assert_eq!((config.every_ms, config.topic.as_str()), (50, "tick"));
}
