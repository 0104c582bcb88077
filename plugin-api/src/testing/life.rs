//! The life of a daemon in a test host: start, reload, stop and crash, in the order of a real host.
//!
//! These run in the test's thread, which waits for the tasks of each step. Only the end of a `run` comes by itself.

use std::sync::Arc;
use std::time::Duration;

use tracing::Level;

use super::commands::first;
use super::core::Core;
use super::executor::run_here;
use super::instance::{Code, Outcome, text_of};
use super::log_line::LogLine;
use super::pass_time::{LifeStep, Patience};
use super::signal::lock;
use super::slot::{Phase, Revoked, Running, Slot};
use super::vtable;
use super::world::{Opener, Tables};
use crate::abi::{status, verb};
use crate::{Error, Result};

/// The time that a `start` may take. It is the default of a real host.
const START_MAX: Duration = Duration::from_secs(10);

/// The time that running commands get before a reload or a stop ends them, and that `save` and `stop` may take, as in a
/// real host: on the clock of the test, which moves for it, and in real time for what the clock doesn't move.
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
                slot.fail(&error);
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
        let label = format!("`start` of {}", slot.name);
        let step = LifeStep {
            label: &label,
            instance: host.daemon,
            limit: START_MAX,
        };
        let built = match self.run_step(&step, create) {
            Ok(Some(built)) => built.map_err(Error::new),
            Ok(None) => Err(self.too_late(&step)),
            Err(error) => Err(error),
        };
        match built {
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

    /// Lets guests in, announces the instance, and begins its `run`.
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
        let own = Arc::downgrade(self);
        let slot_of_thread = Arc::clone(&slot);
        let thread = std::thread::Builder::new().spawn(move || {
            let outcome = run_here(code.act(verb::RUN, Vec::new()));
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
        slot.fail(&cause);
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
            ..crate::Credential::default()
        };
        world.tell_watchers("gone", &credential);
        world.tell_openers(name, Some(why));
    }

    /// Ends an instance that nobody waits for: its `stop`, and all that is left of it. Returns the faults.
    async fn end(self: Arc<Self>, slot: &Slot, running: Arc<Running>) -> Vec<String> {
        let stopped = first(stop_code(slot, &running), self.sleep(GRACE)).await;
        self.remove(&running, stopped.ok())
    }

    /// Ends the tasks of an instance, its value, and all that the host has for it. Returns the faults, with that of its
    /// `stop`; `None` stands for a `stop` that has not ended.
    fn remove(&self, running: &Running, stopped: Option<Result<(), String>>) -> Vec<String> {
        let late = || Err("its `stop` took longer than the grace".to_owned());
        let mut faults = Vec::from_iter(stopped.unwrap_or_else(late).err());
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
        // Without a thread and without tokio, real time changes nothing.
        let is_elsewhere = cfg!(feature = "tokio") || lock(&self.world).threads > 0;
        let patience = Patience {
            instance: running.id(),
            timers_after: 0,
            on_clock: GRACE,
            real: if is_elsewhere { GRACE } else { Duration::ZERO },
        };
        let drained = self.pass_time_until(&patience, || is_idle().then_some(()))?;
        if drained.is_none() {
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
        let step = LifeStep {
            label: &label,
            instance: running.id(),
            limit: GRACE,
        };
        match self.run_step(&step, code.act(verb::SAVE, Vec::new()))? {
            Some((status::DONE, bytes)) => Ok(Some(text_of(&bytes))),
            Some((_, bytes)) => Err(Error::new(format!(
                "its `save` failed: {}",
                text_of(&bytes)
            ))),
            None => Err(self.too_late(&step)),
        }
    }

    /// Saves the state of an instance at its own request, for the next start.
    pub async fn keep(self: Arc<Self>, daemon: u64) -> Outcome {
        let slot = lock(&self.world).names.get(&daemon).cloned();
        let open = slot.and_then(|slot| Some((slot.saving()?, slot)));
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
            let ended = self.end_now(slot, &old);
            self.log_faults(slot, ended.inspect_err(|error| slot.fail(error))?);
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
        // Commands that end meanwhile may still have their changes kept, as in a real host.
        slot.close_saves();
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
                slot.fail(&error);
                Err(Error::new(format!(
                    "the new instance doesn't start, and the one before doesn't start again: {error}"
                )))
            }
        }
    }

    fn end_now(self: &Arc<Self>, slot: &Arc<Slot>, running: &Arc<Running>) -> Result<Vec<String>> {
        let label = format!("`stop` of {}", slot.name);
        let step = LifeStep {
            label: &label,
            instance: running.id(),
            limit: GRACE,
        };
        let (core, own, ending) = (Arc::clone(self), Arc::clone(slot), Arc::clone(running));
        let stop = async move { stop_code(&own, &ending).await };
        let stopped = self.run_step(&step, stop)?;
        let (label, ending) = (format!("the end of {}", slot.name), Arc::clone(running));
        self.wait_for(&label, async move { core.remove(&ending, stopped) })
    }

    /// Returns the error of a step that has not ended within its limit.
    fn too_late(&self, step: &LifeStep<'_>) -> Error {
        let (label, clock) = (step.label, step.limit);
        let real = step.limit.min(lock(&self.world).limit);
        Error::new(format!(
            "{label} has not ended, neither within {clock:?} of the clock of the test, which moved on for it, nor \
             within {real:?} of real time; it waits for something that doesn't come, or needs a higher \
             `host.set_limit`"
        ))
    }

    fn log_faults(&self, slot: &Slot, faults: Vec<String>) {
        for fault in faults {
            slot.log(LogLine::of_host(Level::WARN, fault));
        }
    }

    /// Stops the daemon: it takes no more commands, and its guests are disconnected; then its commands end, its state is
    /// kept, and its `stop` runs.
    pub fn stop_slot(self: &Arc<Self>, slot: &Arc<Slot>) -> Result<()> {
        let name = &slot.name;
        let Some(running) = slot.open() else {
            return Err(Error::new(format!("{name} doesn't run")));
        };
        slot.set_phase(Phase::Down(format!("{name} is stopped")));
        self.tell_gone(
            slot,
            &format!("{name} has closed the connection: it was stopped"),
        );
        for guest in self.guests_of_test(name) {
            self.leave(guest, "it was stopped");
        }
        self.drain(&running)?;
        slot.close_saves();
        let mut faults = Vec::new();
        match self.save(slot, &running) {
            Ok(None) => {}
            Ok(state) => *lock(&slot.kept) = state,
            Err(error) => faults.push(error.to_string()),
        }
        faults.extend(self.end_now(slot, &running)?);
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
        slot.close_saves();
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

/// Runs the `stop` of an instance, once its commands have ended.
async fn stop_code(slot: &Slot, running: &Running) -> Result<(), String> {
    let is_idle = |leases: &mut usize| (*leases == 0).then_some(());
    running.leases.until(is_idle).await;
    let Some(code) = running.code().filter(|_| slot.manifest.stop.is_some()) else {
        return Ok(());
    };
    match code.act(verb::STOP, Vec::new()).await {
        (status::DONE | status::NOTHING, _) => Ok(()),
        (_, bytes) => Err(format!("its `stop` failed: {}", text_of(&bytes))),
    }
}
