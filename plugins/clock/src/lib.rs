//! A clock daemon: it sends ticks to a topic, and to each guest that subscribed. Its count and its subscribers survive
//! a reload.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dae_plugin_api::prelude::*;
use tokio::sync::Notify;

/// The time after the start in which a subscriber of the previous instance is recognised by its number. After a
/// restart, the host's numbers begin again and stand for other guests.
const RETURN_GRACE: Duration = Duration::from_secs(10);

/// Ticks.
struct Clock {
    eco: Ecosystem,
    topic: String,
    started: Instant,
    ticks: AtomicU64,
    every_ms: AtomicU64,
    was_reset: Notify,
    audience: Mutex<Audience>,
}

/// The guests that receive each tick.
#[derive(Default)]
struct Audience {
    guests: HashSet<Guest>,
    /// The numbers of the previous instance's subscribers, until they connect.
    expected: HashSet<u64>,
}

#[derive(Deserialize)]
#[serde(default)]
struct Config {
    /// The period, until `every` changes it.
    every_ms: u64,
    /// Where it publishes its ticks.
    topic: String,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            every_ms: 1_000,
            topic: "tick".to_owned(),
        }
    }
}

/// The state that one generation hands to the next.
#[derive(Serialize, Deserialize)]
struct Saved {
    ticks: u64,
    every_ms: u64,
    guests: Vec<u64>,
}

/// Ticks to those who subscribe: `tick [n, unix_ms]`.
#[daemon(name = "Clock")]
impl Clock {
    fn start(eco: Ecosystem, config: Config, state: Option<Saved>) -> Result<Self> {
        let saved = state.unwrap_or(Saved {
            ticks: 0,
            every_ms: config.every_ms,
            guests: Vec::new(),
        });
        Ok(Clock {
            eco,
            topic: config.topic,
            started: Instant::now(),
            ticks: AtomicU64::new(saved.ticks),
            every_ms: AtomicU64::new(checked(saved.every_ms)?),
            was_reset: Notify::new(),
            audience: Mutex::new(Audience {
                guests: HashSet::new(),
                expected: HashSet::from_iter(saved.guests),
            }),
        })
    }

    fn save(&self) -> Saved {
        Saved {
            ticks: self.ticks.load(Ordering::SeqCst),
            every_ms: self.every_ms.load(Ordering::SeqCst),
            guests: self.audience().guests.iter().map(Guest::id).collect(),
        }
    }

    async fn run(&self) -> Result<()> {
        loop {
            let period = Duration::from_millis(self.every_ms.load(Ordering::SeqCst));
            let mut every = self.eco.every(period);
            loop {
                tokio::select! {
                    missed = every.tick() => self.tick(missed + 1)?,
                    () = self.was_reset.notified() => break,
                }
            }
        }
    }

    /// A guest of the instance before is told of the ticks as before.
    #[on(connect)]
    fn came(&self, guest: Guest) {
        let mut audience = self.audience();
        if audience.expected.remove(&guest.id()) && self.started.elapsed() < RETURN_GRACE {
            audience.guests.insert(guest);
        }
    }

    #[on(disconnect)]
    fn left(&self, guest: Guest) {
        self.audience().guests.remove(&guest);
    }

    /// Sends each tick to the caller, as an event, from now on.
    #[command]
    fn subscribe(&self, guest: Guest) {
        self.audience().guests.insert(guest);
    }

    /// Sends the caller no more ticks.
    #[command]
    fn unsubscribe(&self, guest: Guest) {
        self.left(guest);
    }

    /// The time, in milliseconds since 1970.
    #[command]
    fn now(&self) -> u64 {
        unix_ms()
    }

    /// Ticks every `ms` milliseconds, the first time that long from now.
    #[command]
    fn every(&self, ms: u64) -> Result<()> {
        self.every_ms.store(checked(ms)?, Ordering::SeqCst);
        self.was_reset.notify_one();
        Ok(())
    }
}

impl Clock {
    /// Sends the last of `passed` ticks to the topic and all subscribers; the ticks before it were missed.
    fn tick(&self, passed: u64) -> Result<()> {
        let n = self.ticks.fetch_add(passed, Ordering::SeqCst) + passed;
        let tick = (n, unix_ms());
        self.eco.publish(&self.topic, tick)?;
        // A guest that has just gone is removed without an error.
        self.audience()
            .guests
            .retain(|guest| guest.emit("tick", tick).is_ok());
        Ok(())
    }

    fn audience(&self) -> MutexGuard<'_, Audience> {
        self.audience.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn checked(every_ms: u64) -> Result<u64> {
    match every_ms {
        0 => Err(Error::new("a clock ticks every 1 ms or more, not every 0")),
        ms => Ok(ms),
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests;
