//! One instance of a daemon: its commands and the code behind them, wherever that runs.
//!
//! A life: [`start`] constructs it; [`Instance::run`] is its background work; [`Instance::answer_here`] and
//! [`Instance::answer_later`] run its commands; [`Instance::end`] undoes it all, in the reverse order. Whoever runs a
//! command holds a lease of the gate, so that an instance never ends under a command.

mod life;
mod pending;
pub mod reply;
mod start;
pub mod worker;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Context;
use std::time::Duration;

use dae_plugin_api::abi::status;
use serde_json::value::RawValue;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::connection::reply_budget::Reservation;
use crate::plugin::command_table::{CommandTable, RunsOn};
use crate::plugin::completion::{Call, CommandBatch, Completion, InstanceEnd};
use crate::plugin::host_api::{HostRegistration, HostedInstance};
use crate::plugin::identity::Identity;
use crate::plugin::library::{Command, LiveDaemon, PluginFuture, PluginLibrary};
use crate::process::subprocess::{BatchCall, HandOff, LoadedSubprocess, Subprocess, UnreadBytes};
use crate::threads::latency::{self, LatencyClasses};
use crate::threads::watchdog;
use dae_store::blocking;
use dae_store::json5_text;
use dae_store::manifest::Manifest;
use dae_store::tasks;

pub use life::is_left_behind;
pub(crate) use pending::Pending;
pub use pending::{AnswerFuture, BuiltIn, BuiltInAnswer, WatchedFuture};
pub use start::{CancelPolicy, StartProgress, WithdrawResult};

/// Stands for the steps of a daemon's life, where a command's index is asked for.
const LIFE: u32 = u32::MAX;

/// What starts: a file, and who it will be.
#[derive(Debug)]
pub struct StartPlan {
    /// Its code.
    pub image: PluginLibrary,
    /// What the file says about itself.
    pub manifest: Arc<Manifest>,
    /// Its table of commands; the same for all daemons of the file.
    pub commands: Arc<CommandTable>,
    /// What its code may ask for.
    pub resident: HostedInstance,
    /// Where its code runs.
    pub runtime: Handle,
    /// What the instance before has left, as it crosses.
    pub state: Option<Box<RawValue>>,
    /// How long `start` may take.
    pub limit: Duration,
}

/// Why a daemon did not start, for a person.
#[derive(Debug)]
pub struct StartFault(String);

impl fmt::Display for StartFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartFault {}

/// See the file's head.
#[derive(Debug)]
pub struct Instance {
    /// Who it is.
    pub identity: Arc<Identity>,
    /// What it answers.
    pub commands: Arc<CommandTable>,
    /// Of all instances in this process; never used twice.
    number: u64,
    latency: Arc<LatencyClasses>,
    manifest: Arc<Manifest>,
    body: Body,
    running: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
enum Body {
    // In this order: the code ends before what it may ask of the host.
    InProcess(LiveDaemon, HostRegistration),
    Subprocess(Subprocess),
    BuiltIn(Arc<dyn BuiltIn>),
}

/// Constructs a daemon, and has it answer once.
///
/// # Errors
/// What `start` returned, or that it took too long. Nothing of the instance is left then, but for a thread where `start`
/// itself never returned.
pub async fn start(plan: StartPlan) -> Result<Instance, StartFault> {
    let residence = HostRegistration::take(plan.resident, plan.runtime.clone());
    let state = plan.state.as_ref().map_or("null", |state| state.get());
    let request = format!("{{\"config\":{},\"state\":{state}}}", residence.config());
    let host = residence.host();
    let runtime = plan.runtime;
    let (image, limit) = (plan.image, plan.limit);
    // A thread that may block, since the author's `start` may.
    let started = blocking::run(move || {
        let live = runtime.block_on(async { timeout(limit, image.start(host, &request)).await });
        live.map_err(|_| too_long(limit)).flatten()
    });
    // The inner limit ends a `start` that waits; this one, a little later, gives up on one that blocks.
    let started = timeout(limit + Duration::from_millis(100), started).await;
    let live = match started {
        Ok(Ok(result)) => result.map_err(StartFault)?,
        Ok(Err(why)) => return Err(StartFault(format!("it can't be started: {why}"))),
        Err(_) => return Err(StartFault(too_long(limit))),
    };
    if !live.ping() {
        return Err(StartFault(
            "it started, but doesn't answer a ping".to_owned(),
        ));
    }
    let number = next_number();
    Ok(Instance {
        identity: residence.identity(),
        commands: plan.commands,
        number,
        latency: LatencyClasses::of(number, plan.manifest.commands.len()),
        manifest: plan.manifest,
        body: Body::InProcess(live, residence),
        running: Mutex::default(),
    })
}

/// Starts a daemon in the process that has loaded it. `identity` is asked for that process.
///
/// # Errors
/// As [`start`], or how the process ended.
pub async fn start_subprocess(
    loaded: LoadedSubprocess,
    identity: impl FnOnce(u32) -> Identity,
    state: Option<Box<RawValue>>,
) -> Result<Instance, StartFault> {
    let manifest = Arc::new(loaded.manifest().clone());
    let subprocess = loaded.start(state).await.map_err(StartFault)?;
    let number = next_number();
    Ok(Instance {
        identity: Arc::new(identity(subprocess.pid())),
        commands: Arc::new(CommandTable::of(&manifest).elsewhere()),
        number,
        // Nothing of it runs on threads of this process.
        latency: LatencyClasses::of(number, 0),
        manifest,
        body: Body::Subprocess(subprocess),
        running: Mutex::default(),
    })
}

fn next_number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

fn too_long(limit: Duration) -> String {
    format!("its start took longer than {limit:?}; a start must not wait for what may never come")
}

impl Instance {
    /// A daemon of the host's own.
    #[must_use]
    pub fn built_in(identity: Identity, manifest: Manifest, code: Arc<dyn BuiltIn>) -> Self {
        let number = next_number();
        Instance {
            identity: Arc::new(identity),
            commands: Arc::new(CommandTable::of(&manifest)),
            number,
            latency: LatencyClasses::of(number, manifest.commands.len()),
            manifest: Arc::new(manifest),
            body: Body::BuiltIn(code),
            running: Mutex::default(),
        }
    }

    /// Runs a command on the spot, appending its result, or its error's text, to `out`.
    #[inline(always)]
    pub fn answer_here(&self, call: Call<'_>, out: &mut Vec<u8>) -> u32 {
        if !self.latency.trusts(call.index) {
            return self.answer_watched(call, out);
        }
        // The same as below, for the hot path alone.
        let code = || self.answer_plainly(call, out);
        watchdog::during(self.number, call.index, true, code)
    }

    /// Whether a command has shown that it ends soon.
    #[inline]
    pub(crate) fn is_quick(&self, index: u32) -> bool {
        self.latency.trusts(index)
    }

    #[cold]
    fn answer_watched(&self, call: Call<'_>, out: &mut Vec<u8>) -> u32 {
        self.in_sight(call.index, || self.answer_plainly(call, out))
    }

    /// Runs the plugin's code where it can be seen that it holds a thread.
    fn in_sight<T>(&self, command: u32, code: impl FnOnce() -> T) -> T {
        let run = |holds| watchdog::during(self.number, command, holds, code);
        let (result, is_slow) = self.latency.run(command, run);
        if is_slow {
            self.tell_slow(command);
        }
        result
    }

    #[cold]
    fn tell_slow(&self, index: u32) {
        let Body::InProcess(_, residence) = &self.body else {
            return;
        };
        let name = self.command_name(index);
        let text = format!(
            "the command {name} held a host thread for more than {:?}; let it wait by `await`, or make it #[command(blocking)]",
            latency::SLOW
        );
        residence.log("warn", &text);
    }

    /// The name of a command.
    #[must_use]
    pub fn command_name(&self, index: u32) -> &str {
        let command = self.manifest.commands.get(index as usize);
        command.map_or("run or save", |command| command.name.as_str())
    }

    /// What becomes of a command that is given up on.
    #[must_use]
    pub fn fate(&self, index: u32) -> CancelPolicy {
        let command = self.manifest.commands.get(index as usize);
        match command.is_some_and(|command| command.kind != "async") {
            true => CancelPolicy::GoesOn,
            false => CancelPolicy::Cancelled,
        }
    }

    /// A batch of commands took long: which of them, the next ones will show.
    pub fn doubt(&self) {
        self.latency.doubt();
    }

    /// The commands that run on host threads now, for two looks to be compared.
    pub fn seen_running(&self) -> Vec<watchdog::RunningHandler> {
        watchdog::seen(self.number)
    }

    #[inline(always)]
    fn answer_plainly(&self, call: Call<'_>, out: &mut Vec<u8>) -> u32 {
        let Body::InProcess(live, _) = &self.body else {
            return status::UNKNOWN;
        };
        let start = out.len();
        let command = Command {
            index: call.index,
            guest: call.guest,
            arguments: call.arguments,
        };
        match live.call(&command, out) {
            status::NOT_JSON => {
                out.truncate(start);
                answer_leniently(live, command, call.arguments, out)
            }
            status => status,
        }
    }

    /// Starts a command that may end later. Where it blocks a thread, that one holds the reservation as long as it runs.
    #[must_use]
    pub(crate) fn answer_later(
        self: &Arc<Self>,
        runs: RunsOn,
        call: Call<'_>,
        reservation: Option<&Arc<Reservation>>,
    ) -> Pending {
        match &self.body {
            Body::BuiltIn(code) => built_in_answer(code, call),
            Body::Subprocess(subprocess) => Pending::Subprocess(subprocess.call(call)),
            Body::InProcess(..) if runs == RunsOn::Blocking => {
                self.answer_blocking(call, reservation.cloned())
            }
            Body::InProcess(live, _) => self.answer_async(live, call),
        }
    }

    /// Hands commands over that run on the spot in a process of their own; see [`Instance::flush`].
    pub(crate) fn answer_there(&self, batch: &CommandBatch<'_>, guest: &Context<'_>) -> BatchCall {
        match &self.body {
            Body::Subprocess(subprocess) => subprocess.call_all(batch, guest),
            Body::InProcess(..) | Body::BuiltIn(_) => {
                unreachable!("only the table of a daemon in its own process says `TcpClient`")
            }
        }
    }

    /// Lends a guest to the daemon's own process; see [`Subprocess::hand_off`].
    ///
    /// # Errors
    /// Its socket is given back where it can't be lent.
    pub(crate) fn hand_off(
        &self,
        guest: u64,
        socket: std::net::TcpStream,
        limits: (usize, Duration),
    ) -> Result<HandOff, std::net::TcpStream> {
        match &self.body {
            Body::Subprocess(subprocess) => subprocess.hand_off(guest, socket, limits),
            Body::InProcess(..) | Body::BuiltIn(_) => Err(socket),
        }
    }

    /// Whether its code runs in this process, and isn't the host's own.
    #[inline]
    pub(crate) fn is_in_process(&self) -> bool {
        matches!(self.body, Body::InProcess(..))
    }

    fn answer_blocking(
        self: &Arc<Self>,
        call: Call<'_>,
        reservation: Option<Arc<Reservation>>,
    ) -> Pending {
        let instance = Arc::clone(self);
        let (index, guest, arguments) = (call.index, call.guest, call.arguments.to_owned());
        let begin = Arc::new(start::BeginFlag::default());
        let begins = Arc::clone(&begin);
        let thread = blocking::run(move || {
            let _held = reservation;
            let mut bytes = Vec::new();
            if !begins.begin() {
                // Nobody waits for it any more.
                let status = status::GONE;
                return Completion { status, bytes };
            }
            let call = Call {
                index,
                guest,
                arguments: &arguments,
            };
            // It may take its time here, and nobody else waits for the thread.
            let status = instance.answer_plainly(call, &mut bytes);
            Completion { status, bytes }
        });
        Pending::Blocking(pending::BlockingCommand { thread, begin })
    }

    fn answer_async(self: &Arc<Self>, live: &LiveDaemon, call: Call<'_>) -> Pending {
        let mut command = Command {
            index: call.index,
            guest: call.guest,
            arguments: call.arguments,
        };
        let pending = self.watched(call.index, || live.call_later(&command));
        if pending.later.at_once() != Some(status::NOT_JSON) {
            return Pending::InProcess(pending);
        }
        match json5_text::to_strict(call.arguments) {
            Ok(strict) => {
                command.arguments = &strict;
                let again = self.watched(call.index, || live.call_later(&command));
                match again.later.at_once() {
                    Some(status::NOT_JSON) => refused(NOT_READ.to_owned()),
                    _ => Pending::InProcess(again),
                }
            }
            Err(text) => refused(text),
        }
    }

    fn watched(
        self: &Arc<Self>,
        command: u32,
        start: impl FnOnce() -> PluginFuture,
    ) -> WatchedFuture {
        WatchedFuture {
            later: self.in_sight(command, start),
            instance: Arc::clone(self),
            command,
        }
    }

    /// Whether it hands a state over.
    #[must_use]
    pub fn has_state(&self) -> bool {
        self.manifest.state_version.is_some()
    }

    /// Its state, as it crosses.
    ///
    /// # Errors
    /// The author's, or that it took longer than `limit`.
    pub async fn save(self: &Arc<Self>, limit: Duration) -> Result<Vec<u8>, String> {
        let pending = self.start_save();
        // On the runtime of its code: a `save` that blocks holds one of those threads, and not the one that asks.
        let saving = self
            .runtime()
            .spawn(async move { timeout(limit, pending).await });
        match timeout(limit + Duration::from_millis(100), saving).await {
            Ok(Ok(Ok(ended))) if ended.status == status::DONE => Ok(ended.bytes),
            Ok(Ok(Ok(ended))) => Err(format!(
                "its `save` failed: {}",
                String::from_utf8_lossy(&ended.bytes)
            )),
            Ok(Err(error)) => Err(format!(
                "its `save` has no result: {}",
                blocking::why(error)
            )),
            Ok(Ok(Err(_))) | Err(_) => Err(format!("its `save` took longer than {limit:?}")),
        }
    }

    /// Its state on the way. Whoever polls it keeps the instance.
    pub(crate) fn start_save(self: &Arc<Self>) -> Pending {
        match &self.body {
            Body::InProcess(live, _) => Pending::InProcess(self.watched(LIFE, || live.save())),
            Body::Subprocess(subprocess) => Pending::Subprocess(subprocess.save()),
            Body::BuiltIn(_) => refused("it has no state".to_owned()),
        }
    }

    /// What a batch of commands has left to do: hand it over to the child's process.
    #[inline]
    pub fn flush(&self) {
        if let Body::Subprocess(subprocess) = &self.body {
            subprocess.flush();
        }
    }

    /// What that guest has not read of the replies of a process of its own; none of those of this process.
    pub(crate) fn unread(&self, guest: u64, before: Option<UnreadBytes>) -> Option<UnreadBytes> {
        match &self.body {
            Body::Subprocess(subprocess) => Some(subprocess.unread(guest, before)),
            Body::InProcess(..) | Body::BuiltIn(_) => None,
        }
    }

    /// Its number among all instances of this process.
    #[inline]
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether it wants to hear of guests that come.
    #[inline]
    #[must_use]
    pub fn greets(&self) -> bool {
        self.manifest.connect.is_some()
    }

    /// Tells it of a guest that has come.
    pub(crate) fn guest_came(self: &Arc<Self>, guest: u64) -> Pending {
        match &self.body {
            Body::InProcess(live, _) => {
                Pending::InProcess(self.watched(LIFE, || live.guest_came(guest)))
            }
            Body::Subprocess(subprocess) => Pending::Subprocess(subprocess.guest_came(guest)),
            Body::BuiltIn(_) => refused("it hears of no guests".to_owned()),
        }
    }

    /// Tells it of a guest that has gone; the lease is held for as long as that takes.
    pub(crate) fn guest_gone(self: &Arc<Self>, guest: u64, lease: &(impl Clone + Send + 'static)) {
        match &self.body {
            Body::Subprocess(subprocess) => subprocess.guest_gone(guest),
            Body::InProcess(live, residence) if self.manifest.disconnect.is_some() => {
                let pending = self.watched(LIFE, || live.guest_gone(guest));
                let (instance, lease) = (Arc::clone(self), lease.clone());
                let telling = async move {
                    let ended = pending.await;
                    instance.tell_of("on(disconnect)", &ended);
                    drop(lease);
                };
                let telling = tasks::told("on(disconnect) of a daemon", telling);
                residence.runtime().spawn(telling);
            }
            Body::InProcess(..) | Body::BuiltIn(_) => {}
        }
    }

    /// Tells its log how something ended that nobody hears of otherwise, if it didn't end well.
    pub(crate) fn tell_of(&self, what: &str, ended: &Completion) {
        let Body::InProcess(_, residence) = &self.body else {
            // Its own process has told it already.
            return;
        };
        if !matches!(ended.status, status::DONE | status::NOTHING) {
            let text = String::from_utf8_lossy(&ended.bytes);
            residence.log("warn", &format!("{what} failed: {text}"));
        }
    }

    /// Asks it whether it is well. The answer is in what [`Instance::pulse`] says a while later.
    pub fn ping(&self) {
        match &self.body {
            Body::Subprocess(subprocess) => subprocess.ping(),
            Body::InProcess(..) | Body::BuiltIn(_) => {}
        }
    }

    /// A number that grows with each sign of life that was asked for; `None` where none need be.
    #[must_use]
    pub fn pulse(&self) -> Option<u64> {
        match &self.body {
            Body::Subprocess(subprocess) => Some(subprocess.pongs()),
            Body::InProcess(..) | Body::BuiltIn(_) => None,
        }
    }

    /// Ends it by force; its end is told by [`Instance::gone`]. Nothing happens to what is in the host's own process.
    pub fn kill(&self) {
        if let Body::Subprocess(subprocess) = &self.body {
            subprocess.kill();
        }
    }

    /// Ends when the instance is gone without anybody having asked for it.
    pub fn gone(&self) -> InstanceEnd {
        match &self.body {
            Body::Subprocess(subprocess) => Box::pin(subprocess.died()),
            Body::InProcess(..) | Body::BuiltIn(_) => Box::pin(std::future::pending()),
        }
    }

    /// Where its code runs.
    fn runtime(&self) -> Handle {
        match &self.body {
            Body::InProcess(_, residence) => residence.runtime(),
            Body::Subprocess(_) | Body::BuiltIn(_) => Handle::current(),
        }
    }

    fn lock_running(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Once more, with what the arguments mean as JSON5.
#[cold]
fn answer_leniently(
    live: &LiveDaemon,
    command: Command<'_>,
    arguments: &str,
    out: &mut Vec<u8>,
) -> u32 {
    let start = out.len();
    let text = match json5_text::to_strict(arguments) {
        Ok(strict) => {
            let command = Command {
                arguments: &strict,
                ..command
            };
            match live.call(&command, out) {
                status::NOT_JSON => NOT_READ.to_owned(),
                status => return status,
            }
        }
        Err(text) => text,
    };
    out.truncate(start);
    out.extend_from_slice(text.as_bytes());
    status::BAD_ARGUMENTS
}

/// What a plugin of an older `dae-plugin-api` is answered for, which calls all of this "not JSON".
const NOT_READ: &str = "the arguments are JSON, but hold what this daemon's code can't read: a number that is too large, an \
                        array that is too long for its type, nesting deeper than 127 levels, or half a surrogate pair";

fn built_in_answer(code: &Arc<dyn BuiltIn>, call: Call<'_>) -> Pending {
    let is_strict = call.arguments.is_empty()
        || serde_json::from_str::<serde::de::IgnoredAny>(call.arguments).is_ok();
    let arguments = match is_strict {
        true => call.arguments.as_bytes().to_vec(),
        false => match json5_text::to_strict(call.arguments) {
            Ok(strict) => strict.into_bytes(),
            Err(text) => return refused(text),
        },
    };
    Pending::BuiltIn(code.answer(call.index, arguments, call.guest))
}

fn refused(text: String) -> Pending {
    let ended = Completion {
        status: status::BAD_ARGUMENTS,
        bytes: text.into_bytes(),
    };
    Pending::BuiltIn(Box::pin(std::future::ready(ended.into())))
}
