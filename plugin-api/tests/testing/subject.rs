//! The daemon under test. A crate has one daemon, so this one has a command or an option for each case.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dae_plugin_api::prelude::*;

/// The way in which a step of the daemon ends.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    #[default]
    Works,
    Fails,
    Panics,
    Ticks,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub start: Fate,
    pub run: Fate,
    pub save: Fate,
    pub stop: Fate,
    pub connect: Fate,
}

pub struct Subject {
    eco: Ecosystem,
    config: Config,
    count: AtomicU64,
    guests: Mutex<Vec<String>>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    count: u64,
}

fn end(fate: Fate) -> Result<()> {
    match fate {
        Fate::Works | Fate::Ticks => Ok(()),
        Fate::Fails => Err(Error::new("as the config says")),
        Fate::Panics => panic!("as the config says"),
    }
}

#[daemon(name = "Subject", state_version = 2)]
impl Subject {
    fn start(eco: Ecosystem, config: Config, state: Option<Saved>) -> Result<Self> {
        eco.publish("life", ("start",))?;
        end(config.start)?;
        Ok(Subject {
            eco,
            config,
            count: AtomicU64::new(state.map_or(0, |state| state.count)),
            guests: Mutex::default(),
        })
    }

    fn save(&self) -> Result<Saved> {
        end(self.config.save)?;
        Ok(Saved {
            count: self.count.load(Ordering::SeqCst),
        })
    }

    fn migrate(version: u32, state: json::Value) -> Result<Saved> {
        let count = state["old"].as_u64();
        let count = count.ok_or_else(|| Error::new(format!("no count in version {version}")))?;
        Ok(Saved { count })
    }

    async fn run(&self) -> Result<()> {
        self.eco.publish("life", ("run",))?;
        if self.config.run == Fate::Ticks {
            let mut every = self.eco.every(Duration::from_secs(1));
            loop {
                let missed = every.tick().await;
                self.eco.publish("tick", (missed,))?;
            }
        }
        end(self.config.run)
    }

    fn stop(&self) -> Result<()> {
        self.eco.publish("life", ("stop",))?;
        end(self.config.stop)
    }

    #[on(connect)]
    async fn came(&self, guest: Guest) -> Result<()> {
        end(self.config.connect)?;
        self.guests.lock().unwrap().push(format!("+{}", guest.id()));
        guest.emit("welcome", ())
    }

    #[on(disconnect)]
    fn left(&self, guest: Guest) {
        self.guests.lock().unwrap().push(format!("-{}", guest.id()));
    }

    /// Greets `who`.
    #[command]
    fn greet(&self, who: &str) -> String {
        tracing::info!(who, "greeted");
        format!("Hello, {who}!")
    }

    /// The sum.
    #[command]
    async fn add(&self, a: i128, b: Option<i128>) -> i128 {
        a + b.unwrap_or(0)
    }

    #[command(name = "no")]
    fn refuse(&self) -> Result<()> {
        Err(Error::new("it never does"))
    }

    #[command]
    fn get(&self, key: String) -> Result<u32> {
        Err(Error::coded("not-found", "no such key").with(json::json!({ "key": key })))
    }

    #[command]
    fn panic(&self) {
        panic!("on purpose");
    }

    #[command]
    async fn panic_later(&self) {
        self.eco.sleep(Duration::from_secs(1)).await;
        panic!("later on purpose");
    }

    #[command]
    fn increment(&self) -> u64 {
        self.count.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Increments, and keeps the state before the answer.
    #[command(saves)]
    fn increment_and_keep(&self) -> u64 {
        self.increment()
    }

    /// Keeps the state now.
    #[command]
    async fn keep(&self) -> Result<()> {
        self.eco.save().await
    }

    /// Increments and keeps the state, after a time on the host's clock.
    #[command]
    async fn keep_in(&self, ms: u64) -> Result<u64> {
        self.eco.sleep(Duration::from_millis(ms)).await;
        let count = self.increment();
        self.eco.save().await?;
        Ok(count)
    }

    /// Increments after a time on the host's clock.
    #[command]
    async fn increment_in(&self, ms: u64) -> u64 {
        self.eco.sleep(Duration::from_millis(ms)).await;
        self.increment()
    }

    #[command(blocking)]
    fn block(&self) -> bool {
        // Another thread answers, so that this one blocks.
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(true));
        receiver.recv().unwrap_or(false)
    }

    /// Holds the thread of the host for longer than a test waits.
    #[command]
    fn hold(&self) {
        let (_sender, receiver) = std::sync::mpsc::channel::<()>();
        let _ = receiver.recv_timeout(Duration::from_secs(5));
    }

    /// Holds a thread for longer than its own limit, on the clock of the test.
    #[command(timeout_s = 2)]
    fn overrun(&self) {
        let (_sender, receiver) = std::sync::mpsc::channel::<()>();
        let _ = receiver.recv_timeout(Duration::from_millis(300));
    }

    #[command]
    async fn wait_for_ever(&self) {
        std::future::pending::<()>().await;
    }

    /// Emits events to the caller: some at once, one from a task.
    #[command]
    fn count_to(&self, guest: Guest, n: u32) -> Result<()> {
        for i in 1..=n {
            guest.emit("number", (i,))?;
        }
        self.eco.spawn(async move {
            let _ = guest.emit("done", ());
        })
    }

    #[command]
    fn emit_from_a_thread(&self, guest: Guest) {
        std::thread::spawn(move || guest.emit("from-a-thread", (1, "x")));
    }

    /// Asks the caller for a number, and returns it doubled.
    #[command]
    async fn ask_back(&self, guest: Guest) -> Result<u64> {
        let answer: u64 = guest.call("number", ("please",)).await?;
        Ok(answer * 2)
    }

    #[command]
    fn close(&self, guest: Guest) {
        guest.close();
    }

    /// Handles the next events `note` of the caller.
    #[command]
    fn listen(&self, guest: Guest) -> Result<()> {
        let eco = self.eco;
        guest.on("note", move |text: String| {
            let _ = eco.publish("noted", (text,));
        })?;
        Ok(())
    }

    /// Doubles the numbers of the next events `double` of the caller.
    #[command]
    fn double_events(&self, guest: Guest) -> Result<()> {
        guest.on("double", move |n: u64| {
            let _ = guest.emit("double", (n * 2,));
        })?;
        Ok(())
    }

    #[command]
    fn guests(&self) -> Vec<String> {
        self.guests.lock().unwrap().clone()
    }

    #[command]
    async fn ask(
        &self,
        daemon: &str,
        command: &str,
        arguments: json::Value,
    ) -> Result<json::Value> {
        self.eco.call(daemon, command, arguments).await
    }

    /// Connects, and publishes each event of that daemon on a topic.
    #[command]
    async fn follow(&self, daemon: &str) -> Result<()> {
        let other = self.eco.connect(daemon).await?;
        let (eco, mut events) = (self.eco, other.events()?);
        eco.spawn(async move {
            while let Some(event) = events.next().await {
                let _ = eco.publish("heard", (event.to_string(),));
            }
        })
    }

    #[command]
    async fn tell(&self, daemon: &str, event: &str) -> Result<()> {
        self.eco.connect(daemon).await?.emit(event, (1,))
    }

    #[command]
    fn repeat(&self, topic: String) -> Result<()> {
        let (eco, mut events) = (self.eco, self.eco.subscribe(&topic)?);
        self.eco.spawn(async move {
            while let Some(event) = events.next().await {
                let _ = eco.publish("repeated", (event.to_string(),));
            }
        })
    }

    #[command]
    async fn names(&self) -> Result<Vec<String>> {
        let all = self.eco.list().await?;
        Ok(all.into_iter().map(|one| one.name).collect())
    }

    #[command]
    async fn port_of(&self, daemon: &str) -> Result<Option<u16>> {
        Ok(self.eco.find(daemon).await?.map(|found| found.port))
    }

    #[command]
    fn watch(&self) -> Result<()> {
        let (eco, mut changes) = (self.eco, self.eco.watch()?);
        self.eco.spawn(async move {
            while let Some(change) = changes.next().await {
                let text = format!("{:?} {}", change.kind, change.credential.name);
                let _ = eco.publish("changed", (text,));
            }
        })
    }

    #[command]
    fn own(&self) -> Result<(String, Option<u64>, json::Value)> {
        let own = self.eco.credential()?;
        Ok((own.name, own.generation, self.eco.config()?))
    }

    #[command]
    fn log_all(&self) {
        tracing::error!("e");
        tracing::warn!(code = 7, "w");
        tracing::debug!("d");
        tracing::trace!("not forwarded");
    }
}
