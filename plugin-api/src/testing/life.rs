//! The life of a daemon in a test host: start, reload, stop and crash, in the order of a real host.
//!
//! These run in the test's thread, which waits for the tasks of each step. Only the end of a `run` comes by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::Level;

use super::commands::first;
use super::core::{Core, ThreadCount};
use super::executor::run_here;
use super::instance::{Code, Outcome, text_of};
use super::log_line::LogLine;
use super::signal::lock;
use super::slot::{Phase, Revoked, Running, Slot};
use super::vtable;
use super::world::{Opener, Tables};
use crate::abi::{status, verb};
use crate::{Error, Result};

/// The time that running commands get before a reload or a stop ends them, as in a real host: on the clock of the test,
/// which moves for it, and in real time for what the clock doesn't move.
const GRACE: Duration = Duration::from_secs(5);

impl Core {
    /// Starts the daemon of a slot, from the state that was saved last.
    pub fn start_slot(self: &Arc<Self>, slot: &Arc<Slot>) -> Result<()> {
        if slot.open().is_some() {
            let name = &slot.name;
            return Err(Error::new(format!("{name} runs already; stop it first")));
        }
        slot.set_phase(Phase::Held);
        let state = lock(&slot.kept).clone();
        match self.build(slot, state) {
            Ok(running) => {
                self.open_gate(slot, &running);
                self.settle()
            }
            Err(error) => {
                let why = format!("{} has failed: {error}", slot.name);
                slot.set_phase(Phase::Down(why));
                Err(error)
            }
        }
    }

    /// Constructs an instance.
    fn build(self: &Arc<Self>, slot: &Arc<Slot>, state: Option<String>) -> Result<Arc<Running>> {
        let host = vtable::register(self);
        {
            let mut world = lock(&self.world);
            world.instances.insert(host.daemon, Tables::default());
            world.names.insert(host.daemon, Arc::clone(slot));
        }
        let config = lock(&slot.config).clone();
        let state = state.unwrap_or_else(|| "null".to_owned());
        let request = format!("{{\"config\":{config},\"state\":{state}}}");
        let create = Code::create(slot.module, host, request);
        let built = self.wait_for(&format!("`start` of {}", slot.name), create);
        match built.and_then(|code| code.map_err(Error::new)) {
            Ok(code) => {
                let generation = slot.gate.with(|gate| {
                    gate.generation += 1;
                    gate.generation
                });
                Ok(Running::new(host, generation, code))
            }
            Err(error) => {
                self.executor.cancel_all_of(host.daemon);
                self.forget(host.daemon);
                Err(error)
            }
        }
    }

    /// Lets guests in, tells everybody of the instance, and begins its `run`.
    fn open_gate(self: &Arc<Self>, slot: &Arc<Slot>, running: &Arc<Running>) {
        slot.set_phase(Phase::Open(Arc::clone(running)));
        let guests: Vec<u64> = {
            let mut world = lock(&self.world);
            let change = match running.generation {
                1 => "appeared",
                _ => "changed",
            };
            if let Some(credential) = world.credential(&slot.name) {
                world.tell_watchers(change, &credential);
            }
            world.tell_openers(&slot.name, None);
            let connections = world.connections.iter();
            let to_this = connections.filter(|(_, one)| one.to == slot.name);
            to_this.map(|(guest, _)| *guest).collect()
        };
        for guest in guests {
            self.announce(guest);
        }
        self.run(slot, running);
    }

    /// Begins the background work of an instance.
    fn run(self: &Arc<Self>, slot: &Arc<Slot>, running: &Arc<Running>) {
        let (Some(kind), Some(code)) = (slot.manifest.run.as_deref(), running.code()) else {
            return;
        };
        let (core, slot, id) = (Arc::clone(self), Arc::clone(slot), running.id());
        let label = format!("`run` of {}", slot.name);
        if kind == "async" {
            let work = async move {
                let outcome = code.act(verb::RUN, Vec::new()).await;
                core.on_run_ended(&slot, id, &outcome);
            };
            self.executor.spawn(id, &label, work);
            return;
        }
        // It holds a thread for as long as the daemon lives.
        let (own, counted) = (Arc::downgrade(self), ThreadCount::new(self));
        let slot_of_thread = Arc::clone(&slot);
        let thread = std::thread::Builder::new().spawn(move || {
            let outcome = run_here(code.act(verb::RUN, Vec::new()));
            drop(counted);
            if let Some(core) = own.upgrade() {
                core.on_run_ended(&slot_of_thread, id, &outcome);
            }
        });
        if let Err(error) = thread {
            let text = format!("it has no thread: {error}");
            self.on_run_ended(&slot, id, &(status::FAILED, text.into_bytes()));
        }
    }

    /// Ends an instance whose `run` has ended badly.
    fn on_run_ended(self: &Arc<Self>, slot: &Arc<Slot>, id: u64, (status, bytes): &Outcome) {
        let cause = match *status {
            status::DONE | status::NOTHING => return,
            status::CRASHED => text_of(bytes),
            _ => format!("its `run` failed: {}", text_of(bytes)),
        };
        let Some(running) = slot.open().filter(|running| running.id() == id) else {
            return;
        };
        slot.log(LogLine::of_host(Level::ERROR, cause.clone()));
        slot.set_phase(Phase::Down(format!("{} has failed: {cause}", slot.name)));
        self.tell_gone(slot, &cause);
        running.revoked.change(|one| *one = Some(Revoked::Ends));
        let (core, slot) = (Arc::clone(self), Arc::clone(slot));
        let label = format!("the end of {}", slot.name);
        self.executor.spawn(0, &label, async move {
            for fault in core.end(&slot, running).await {
                slot.log(LogLine::of_host(Level::WARN, fault));
            }
        });
    }

    fn tell_gone(&self, slot: &Slot, why: &str) {
        let mut world = lock(&self.world);
        let (pid, name) = (std::process::id(), &slot.name);
        let port = world.members.get(name).map_or(0, |one| one.port);
        let credential = crate::Credential {
            name: name.clone(),
            pid,
            port,
            plugin: None,
            version: None,
            generation: None,
            mode: None,
            foreign: false,
        };
        world.tell_watchers("gone", &credential);
        world.tell_openers(name, Some(why));
    }

    /// Ends an instance: `stop`, its tasks, its value, and all that the host has for it. Returns what has failed.
    async fn end(self: Arc<Self>, slot: &Slot, running: Arc<Running>) -> Vec<String> {
        let mut faults = Vec::new();
        running
            .leases
            .until(|leases| (*leases == 0).then_some(()))
            .await;
        if let Some(code) = running.code().filter(|_| slot.manifest.stop.is_some()) {
            let stop = code.act(verb::STOP, Vec::new());
            match first(stop, self.sleep(GRACE)).await {
                Ok((status::DONE | status::NOTHING, _)) => {}
                Ok((_, bytes)) => faults.push(format!("its `stop` failed: {}", text_of(&bytes))),
                Err(()) => faults.push("its `stop` took longer than the grace".to_owned()),
            }
        }
        self.executor.cancel_all_of(running.id());
        let ended = running.take_code().map_or(Ok(()), Code::end);
        faults.extend(ended.err().map(|text| format!("its Drop panicked: {text}")));
        self.forget(running.id());
        faults
    }

    /// Ends the event queues and the connections of an instance.
    pub fn forget(&self, id: u64) {
        vtable::unregister(id);
        let (tables, opened) = {
            let mut world = lock(&self.world);
            let mut tables = world.instances.remove(&id);
            for queue in tables.iter_mut().flat_map(|one| one.queues.values_mut()) {
                queue.end();
            }
            world.topics.retain(|one| one.instance != id);
            let is_of_it = |opener: &Opener| match opener {
                Opener::Instance { instance, .. } => *instance == id,
                Opener::Test(_) => false,
            };
            let connections = world.connections.iter();
            let opened = connections.filter(|(_, one)| is_of_it(&one.opener));
            let opened: Vec<u64> = opened.map(|(guest, _)| *guest).collect();
            (tables, opened)
        };
        drop(tables);
        for guest in opened {
            self.leave(guest, "the guest has gone");
        }
    }

    /// Waits until the commands of an instance have ended, and gives up those that remain after the grace.
    fn drain(&self, running: &Running) -> Result<()> {
        let is_idle = || running.leases.with(|leases| *leases == 0);
        self.settle()?;
        let end = lock(&self.world).now.saturating_add(GRACE);
        while !is_idle() {
            let Some(next) = self.next_timer(end) else {
                break;
            };
            self.move_to(next);
            self.settle()?;
        }
        // The clock doesn't move what waits for a thread or for tokio.
        let is_elsewhere = cfg!(feature = "tokio") || lock(&self.world).threads > 0;
        if is_elsewhere && !is_idle() {
            let deadline = self.deadline().min(Instant::now() + GRACE);
            while !is_idle() && self.executor.waits_for_work(deadline) {
                self.settle()?;
            }
        }
        if !is_idle() {
            running.revoked.change(|one| *one = Some(Revoked::Ends));
            self.settle()?;
        }
        Ok(())
    }

    /// Returns the state that an instance saves, in the form that crosses the boundary; `None` if it saves none.
    pub fn save(&self, slot: &Slot, running: &Running) -> Result<Option<String>> {
        let Some(code) = running
            .code()
            .filter(|_| slot.manifest.state_version.is_some())
        else {
            return Ok(None);
        };
        let label = format!("`save` of {}", slot.name);
        let (status, bytes) = self.wait_for(&label, code.act(verb::SAVE, Vec::new()))?;
        match status {
            status::DONE => Ok(Some(text_of(&bytes))),
            _ => Err(Error::new(format!(
                "its `save` failed: {}",
                text_of(&bytes)
            ))),
        }
    }

    /// Saves the state of an instance at its own request, for the next start.
    pub async fn keep(self: Arc<Self>, daemon: u64) -> Outcome {
        let slot = lock(&self.world).names.get(&daemon).cloned();
        let open = slot.and_then(|slot| Some((slot.open()?, slot)));
        let failed = |text: String| (status::FAILED, text.into_bytes());
        let Some((running, slot)) = open.filter(|(running, _)| running.id() == daemon) else {
            return failed("this instance has not taken over, or is being replaced".to_owned());
        };
        let code = running.code();
        let Some(code) = code.filter(|_| slot.manifest.state_version.is_some()) else {
            return failed("this daemon has no state; it has no `save`".to_owned());
        };
        match code.act(verb::SAVE, Vec::new()).await {
            (status::DONE, state) => {
                *lock(&slot.kept) = Some(text_of(&state));
                (status::NOTHING, Vec::new())
            }
            (_, bytes) => failed(format!("its `save` failed: {}", text_of(&bytes))),
        }
    }

    /// Replaces the instance by a new one, which is given the state of the old one. If anything fails, the old one goes
    /// on.
    pub fn reload(self: &Arc<Self>, slot: &Arc<Slot>, config: Option<String>) -> Result<()> {
        let Some(old) = slot.open() else {
            let name = &slot.name;
            let text = format!("{name} doesn't run, so it can't be reloaded; `start` starts it");
            return Err(Error::new(text));
        };
        let is_exclusive = slot.manifest.exclusive;
        if is_exclusive || slot.manifest.state_version.is_some() {
            slot.set_phase(Phase::Held);
        }
        let saved = self
            .quiesce(slot, &old)
            .inspect_err(|_| slot.reopen(Arc::clone(&old)))?;
        if is_exclusive {
            self.log_faults(slot, self.end_now(slot, &old)?);
        }
        let config_before = lock(&slot.config).clone();
        if let Some(config) = config {
            *lock(&slot.config) = config;
        }
        match self.build(slot, saved.clone()) {
            Ok(new) => {
                *lock(&slot.kept) = saved;
                self.open_gate(slot, &new);
                if !is_exclusive {
                    self.drain(&old)?;
                    self.log_faults(slot, self.end_now(slot, &old)?);
                }
                self.settle()
            }
            Err(error) => {
                *lock(&slot.config) = config_before;
                self.go_on(slot, old, saved, is_exclusive)?;
                Err(error)
            }
        }
    }

    /// Waits for the commands that run, and saves the state, if the daemon has one.
    fn quiesce(&self, slot: &Slot, old: &Running) -> Result<Option<String>> {
        if slot.manifest.exclusive || slot.manifest.state_version.is_some() {
            self.drain(old)?;
        }
        self.save(slot, old)
    }

    /// Lets the old instance go on. One that has ended is started again from the same state.
    fn go_on(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        old: Arc<Running>,
        state: Option<String>,
        has_ended: bool,
    ) -> Result<()> {
        if !has_ended {
            slot.reopen(old);
            return self.settle();
        }
        match self.build(slot, state) {
            Ok(again) => {
                self.open_gate(slot, &again);
                self.settle()
            }
            Err(error) => {
                let name = &slot.name;
                slot.set_phase(Phase::Down(format!("{name} has failed: {error}")));
                Err(Error::new(format!(
                    "the new instance doesn't start, and the one before doesn't start again: {error}"
                )))
            }
        }
    }

    fn end_now(self: &Arc<Self>, slot: &Arc<Slot>, running: &Arc<Running>) -> Result<Vec<String>> {
        let (core, own, running) = (Arc::clone(self), Arc::clone(slot), Arc::clone(running));
        let label = format!("the end of {}", slot.name);
        self.wait_for(&label, async move { core.end(&own, running).await })
    }

    fn log_faults(&self, slot: &Slot, faults: Vec<String>) {
        for fault in faults {
            slot.log(LogLine::of_host(Level::WARN, fault));
        }
    }

    /// Stops the daemon: its commands end, its state is kept, its guests are disconnected.
    pub fn stop_slot(self: &Arc<Self>, slot: &Arc<Slot>) -> Result<()> {
        let name = &slot.name;
        let Some(running) = slot.open() else {
            return Err(Error::new(format!("{name} doesn't run")));
        };
        slot.set_phase(Phase::Held);
        self.drain(&running)?;
        let saved = self.save(slot, &running);
        let mut faults = self.end_now(slot, &running)?;
        match saved {
            Ok(None) => {}
            Ok(state) => *lock(&slot.kept) = state,
            Err(error) => faults.insert(0, error.to_string()),
        }
        slot.set_phase(Phase::Down(format!("{name} is stopped")));
        self.tell_gone(
            slot,
            &format!("{name} has closed the connection: it was stopped"),
        );
        for guest in self.guests_of_test(name) {
            self.leave(guest, "it was stopped");
        }
        self.settle()?;
        match faults.is_empty() {
            true => Ok(()),
            false => Err(Error::new(faults.join("; "))),
        }
    }

    fn guests_of_test(&self, name: &str) -> Vec<u64> {
        let world = lock(&self.world);
        let connections = world.connections.iter();
        let of_test =
            connections.filter(|(_, one)| one.to == name && matches!(one.opener, Opener::Test(_)));
        of_test.map(|(guest, _)| *guest).collect()
    }

    /// Ends the instance as a crash does: without `save` and `stop`.
    pub fn crash(self: &Arc<Self>, slot: &Arc<Slot>) -> Result<()> {
        let Some(running) = slot.open() else {
            return Err(Error::new(format!("{} doesn't run", slot.name)));
        };
        self.settle()?;
        let why = format!("{} has crashed", slot.name);
        slot.log(LogLine::of_host(Level::ERROR, "it has crashed".to_owned()));
        slot.set_phase(Phase::Down(why.clone()));
        running.revoked.change(|one| *one = Some(Revoked::Crashed));
        self.settle()?;
        self.executor.cancel_all_of(running.id());
        drop(running.take_code());
        self.forget(running.id());
        self.tell_gone(slot, &why);
        self.settle()
    }
}
