//! The clock that a test moves, and the limits that follow it.

use std::time::{Duration, Instant};

use dae_plugin_api::testing;

use super::calls::{started, texts};
use super::subject::{Config, Fate, Subject};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_sleep_ends_when_the_test_says_so() {
    let (host, subject) = started();
    let late = subject.begin("increment_in", (2000,)).unwrap();
    let early = subject.begin("increment_in", (500,)).unwrap();
    host.advance(Duration::from_millis(499)).unwrap();
    assert!(!early.is_there());
    host.advance(Duration::from_millis(1)).unwrap();
    assert!(early.is_there() && !late.is_there());
    host.advance(SECOND * 3).unwrap();
    assert_eq!(early.reply().unwrap(), 1);
    assert_eq!(late.reply().unwrap(), 2);
    assert_eq!(host.elapsed(), Duration::from_millis(3500));
}

#[test]
fn timers_fire_in_the_order_of_their_times() {
    let (host, subject) = started();
    let times = [700, 300, 500, 100];
    let all = times.map(|ms| subject.begin("increment_in", (ms,)).unwrap());
    host.advance(SECOND).unwrap();
    let order = all.map(|one| one.reply_as::<u64>().unwrap());
    assert_eq!(order, [4, 2, 3, 1]);
}

#[test]
fn every_ticks_at_each_of_its_times_and_misses_none() {
    let host = testing::host();
    let config = Config {
        run: Fate::Ticks,
        ..Config::default()
    };
    let _subject = host.start::<Subject>(config).unwrap();
    let _ = host.published();
    host.advance(SECOND * 3 + SECOND / 2).unwrap();
    assert_eq!(texts(&host.published()), ["tick [0]"; 3]);
    let began = Instant::now();
    host.advance(SECOND * 3600).unwrap();
    assert_eq!(host.published().len(), 3600);
    assert!(began.elapsed() < SECOND * 60, "it is no real hour");
}

#[test]
fn a_command_runs_for_at_most_30_s_of_the_clock() {
    let (host, subject) = started();
    let command = subject.begin("wait_for_ever", ()).unwrap();
    host.advance(SECOND * 30 - Duration::from_millis(1))
        .unwrap();
    assert!(!command.is_there());
    host.advance(Duration::from_millis(1)).unwrap();
    let error = command.reply().unwrap_err();
    assert_eq!(error.code(), Some("timeout"));
    let text = error.to_string();
    assert!(
        text.starts_with(
            "wait_for_ever ran past its limit and was cancelled; the limit is 30s (timeout"
        ),
        "{text}"
    );
}

#[test]
fn a_command_may_have_a_limit_of_its_own() {
    let (host, subject) = started();
    let help = subject.call("help", ()).unwrap();
    assert_eq!(help["overrun"]["timeout_ms"], 2000);
    let command = subject.begin("overrun", ()).unwrap();
    host.advance(SECOND * 2).unwrap();
    let error = command.reply().unwrap_err();
    assert_eq!(error.code(), Some("timeout"));
    let text = error.to_string();
    assert!(text.contains("goes on; the limit is 2s"), "{text}");
}

#[test]
fn a_panic_after_a_wait_is_answered_crashed() {
    let (host, subject) = started();
    let command = subject.begin("panic_later", ()).unwrap();
    host.advance(SECOND).unwrap();
    let error = command.reply().unwrap_err();
    assert_eq!(error.code(), Some("crashed"));
    assert!(error.to_string().contains("later on purpose"), "{error}");
}
