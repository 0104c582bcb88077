//! Tests of the test host with a daemon that has a tokio runtime of its own.

use std::time::Duration;

use dae_plugin_api::prelude::*;
use dae_plugin_api::testing;

/// A daemon that uses tokio as any program does.
#[derive(Default)]
struct Timed;

#[daemon]
impl Timed {
    async fn run(&self) {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Returns the sum of the numbers up to `n`, each from a task of its own.
    #[command]
    async fn sum(&self, n: u64) -> Result<u64> {
        let tasks: Vec<_> = (1..=n).map(|i| tokio::spawn(async move { i })).collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await?;
        }
        Ok(sum)
    }

    #[command]
    async fn pause(&self, ms: u64) -> u64 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        ms
    }

    /// Calls another daemon, emits an event and logs, all from a task of tokio's.
    #[command]
    fn act_from_a_task(&self, eco: Ecosystem, guest: Guest) {
        tokio::spawn(async move {
            let asked: Result<u64> = eco.call("Other", "number", ()).await;
            tracing::info!("asked from a task");
            guest.emit("asked", (asked.ok(),))
        });
    }
}

#[test]
fn tasks_and_timers_of_tokio_work() -> Result<()> {
    let host = testing::host();
    let timed = host.start::<Timed>(())?;
    assert_eq!(timed.call("sum", (10,))?, 55);
    assert_eq!(timed.call("pause", (5,))?, 5);
    let pause = timed.begin("pause", (20,))?;
    timed.reload()?;
    assert_eq!(pause.reply()?, 20, "the reload waits for it");
    timed.stop()
}

#[test]
fn what_a_task_of_tokio_does_belongs_to_its_daemon() -> Result<()> {
    let host = testing::host();
    host.fake("Other").on("number", |()| 7);
    let timed = host.start::<Timed>(())?;
    let second = host.daemon::<Timed>().name("Second").start()?;
    let ada = timed.guest()?;
    ada.call("act_from_a_task", ())?;
    assert_eq!(ada.next_event()?.to_string(), "asked [7]");
    assert_eq!(timed.log()[0].message(), "asked from a task");
    assert!(second.log().is_empty(), "{:?}", second.log());
    Ok(())
}
