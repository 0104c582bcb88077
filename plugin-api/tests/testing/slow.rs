//! A daemon whose steps take time, or never end, and one that calls it. They are built in: a crate has one daemon of a
//! plugin.

use std::time::Duration;

use dae_plugin_api::json::json;
use dae_plugin_api::prelude::*;
use dae_plugin_api::testing::{self, TestDaemon, TestHost};

use super::calls::texts;

/// The times that the steps take on the host's clock (milliseconds); `None` for no end.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Times {
    start: Option<u64>,
    stop: Option<u64>,
    connect: Option<u64>,
}

const QUICK: Times = Times {
    start: Some(0),
    stop: Some(0),
    connect: Some(0),
};

struct Slow {
    eco: Ecosystem,
    times: Times,
}

async fn pass(eco: Ecosystem, ms: Option<u64>) {
    match ms {
        Some(0) => {}
        Some(ms) => eco.sleep(Duration::from_millis(ms)).await,
        None => std::future::pending().await,
    }
}

#[daemon(built_in)]
impl Slow {
    async fn start(eco: Ecosystem, times: Times, state: Option<u64>) -> Result<Self> {
        pass(eco, times.start).await;
        eco.publish("started", (state,))?;
        Ok(Slow { eco, times })
    }

    fn save(&self) -> u64 {
        7
    }

    /// Holds a thread for as long as the instance lives.
    fn run(&self) {
        let (_sender, receiver) = std::sync::mpsc::channel::<()>();
        let _ = receiver.recv_timeout(Duration::from_secs(2));
    }

    async fn stop(&self) -> Result<()> {
        pass(self.eco, self.times.stop).await;
        self.eco.publish("stopped", ())
    }

    #[on(connect)]
    async fn came(&self, guest: Guest) -> Result<()> {
        pass(self.eco, self.times.connect).await;
        self.eco.publish("came", (guest.id(),))
    }

    #[on(disconnect)]
    fn left(&self, guest: Guest) -> Result<()> {
        self.eco.publish("left", (guest.id(),))
    }

    #[command]
    fn ping(&self) -> &'static str {
        "pong"
    }

    /// Blocks a thread in real time; its limit is on the host's clock.
    #[command(timeout_s = 1)]
    fn block(&self, ms: u64) -> u64 {
        let (_sender, receiver) = std::sync::mpsc::channel::<()>();
        let _ = receiver.recv_timeout(Duration::from_millis(ms));
        ms
    }

    #[command]
    async fn pause(&self, ms: u64) -> u64 {
        pass(self.eco, Some(ms)).await;
        ms
    }
}

/// A second daemon of the same module.
#[derive(Default)]
struct Asking;

#[daemon(built_in)]
impl Asking {
    #[command]
    async fn ask(&self, eco: Ecosystem) -> Result<String> {
        eco.call("Slow", "ping", ()).await
    }
}

fn started(times: Times) -> (TestHost, TestDaemon) {
    let host = testing::host();
    let slow = host.start::<Slow>(times).expect("it starts");
    let _ = host.published();
    (host, slow)
}

#[test]
fn a_crate_has_any_number_of_daemons_for_its_tests() {
    let (host, _slow) = started(QUICK);
    let asking = host.start::<Asking>(()).unwrap();
    assert_eq!(asking.call("ask", ()).unwrap(), "pong");
}

#[test]
fn a_start_that_sleeps_has_the_clock_moved() {
    let host = testing::host();
    let times = Times {
        start: Some(50),
        ..QUICK
    };
    let slow = host.start::<Slow>(times).unwrap();
    assert_eq!(host.elapsed(), Duration::from_millis(50));
    slow.reload().unwrap();
    assert_eq!(host.elapsed(), Duration::from_millis(100));
    assert_eq!(slow.call("ping", ()).unwrap(), "pong");
}

#[test]
fn a_start_that_takes_too_long_is_refused_and_the_old_instance_goes_on() {
    let (host, slow) = started(QUICK);
    host.set_limit(Duration::from_millis(200));
    for start in [Some(10_001), None] {
        let times = Times { start, ..QUICK };
        let error = slow.reload_with(times).unwrap_err().to_string();
        assert!(
            error.starts_with("`start` of Slow has not ended"),
            "{error}"
        );
        assert_eq!(slow.call("ping", ()).unwrap(), "pong");
    }
}

#[test]
fn a_stop_that_sleeps_has_the_clock_moved() {
    let times = Times {
        stop: Some(4_999),
        ..QUICK
    };
    let (host, slow) = started(times);
    slow.stop().unwrap();
    assert_eq!(texts(&host.published()), ["stopped []"]);
    assert_eq!(host.elapsed(), Duration::from_millis(4_999));
}

#[test]
fn a_stop_that_never_ends_is_an_error_and_later_calls_are_answered() {
    for stop in [Some(5_001), None] {
        let (host, slow) = started(Times { stop, ..QUICK });
        host.set_limit(Duration::from_millis(200));
        let error = slow.stop().unwrap_err().to_string();
        assert_eq!(error, "its `stop` took longer than the grace");
        let error = slow.call("ping", ()).unwrap_err();
        assert_eq!(error.code(), Some("unavailable"));
        slow.start().unwrap();
        let life = texts(&host.published());
        assert_eq!(life, ["started [7]"], "the state was kept");
    }
}

#[test]
fn a_stop_takes_no_more_commands_and_disconnects_the_guests_before_anything_ends() {
    let times = Times {
        stop: Some(1_000),
        ..QUICK
    };
    let (host, slow) = started(times);
    let ada = slow.guest().unwrap();
    let pause = ada.begin("pause", (3_000,)).unwrap();
    let _ = host.published();
    slow.stop().unwrap();
    assert_eq!(pause.reply().unwrap(), 3_000, "the command may end");
    assert!(!ada.is_open());
    let life = texts(&host.published());
    assert_eq!(life, ["stopped []"], "no disconnect hook runs at a stop");
    let error = ada.call("ping", ()).unwrap_err();
    assert_eq!(error.code(), Some("unavailable"));
}

#[test]
fn a_connect_hook_ends_with_its_guest() {
    let times = Times {
        connect: Some(1_000),
        ..QUICK
    };
    let (host, slow) = started(times);
    let ada = slow.guest().unwrap();
    let ping = ada.begin("ping", ()).unwrap();
    let id = ada.id();
    ada.close().unwrap();
    let error = ping.reply().unwrap_err();
    assert_eq!(error.code(), Some("unavailable"));
    host.advance(Duration::from_secs(2)).unwrap();
    let heard = texts(&host.published());
    assert_eq!(heard, [format!("left [{id}]")], "it came to no end");
}

#[test]
fn a_reload_waits_for_threads_in_real_time_before_it_moves_the_clock() {
    let (host, slow) = started(QUICK);
    let block = slow.begin("block", (100,)).unwrap();
    slow.reload().unwrap();
    assert_eq!(block.reply().unwrap(), 100);
    assert_eq!(host.elapsed(), Duration::ZERO);
}

#[test]
fn a_run_on_a_thread_does_not_keep_the_clock_from_moving() {
    let (host, slow) = started(QUICK);
    let pause = slow.begin("pause", (4_000,)).unwrap();
    let began = std::time::Instant::now();
    slow.reload().unwrap();
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(pause.reply().unwrap(), json!(4_000));
    assert_eq!(host.elapsed(), Duration::from_secs(4));
}
