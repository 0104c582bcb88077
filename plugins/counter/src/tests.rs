//! Tests of the counter in a test host: no program, no socket, no plugin file.

use dae_plugin_api::testing;

use super::*;

#[test]
fn it_goes_on_counting_after_a_reload_and_a_stop() -> Result<()> {
    let host = testing::host();
    let counter = host.start::<Counter>(())?;
    assert_eq!(counter.call("increment", (5,))?, 5);
    counter.reload()?;
    assert_eq!(counter.call("increment", ())?, 6);
    counter.stop()?;
    counter.start()?;
    assert_eq!(counter.call("count", ())?, 6);
    assert_eq!(
        counter.log()[1].to_string(),
        r#"INFO counting from here {"count":5}"#
    );
    Ok(())
}

#[test]
fn it_refuses_what_is_no_number_and_a_state_that_it_can_not_read() {
    let host = testing::host();
    let lost = json::json!({"total": 5});
    let error = host.daemon::<Counter>().state(1, lost).start().err();
    let error = error.map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("the member `count` is missing"), "{error}");

    let counter = host.start::<Counter>(()).unwrap();
    let error = counter.call("increment", ("five",)).unwrap_err();
    assert_eq!(error.code(), Some("bad-arguments"));
}
