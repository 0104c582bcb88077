//! One instance of a daemon: its commands and their code, in this process or in another.
//!
//! Its life: [`start`] constructs it. [`Instance::run`] runs its background work. [`Instance::answer_here`] and
//! [`Instance::answer_later`] run its commands. [`Instance::end`] undoes all that in the reverse order. A caller that
//! runs a command holds a lease of the gate, so that an instance never ends during a command.

mod construct;
mod life;
mod pending;
pub mod reply;
mod start;
mod states;
pub mod worker;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Context;
use std::time::Duration;

use dae_plugin_api::abi::status;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::connection::reply_budget::Reservation;
use crate::hand_off::HandOff;
use crate::plugin::command_table::{CommandTable, RunsOn};
use crate::plugin::completion::{Call, CommandBatch, Completion, InstanceEnd};
use crate::plugin::host_api::HostRegistration;
use crate::plugin::identity::Identity;
use crate::plugin::library::{Command, LiveDaemon, PluginFuture};
use crate::plugin::state_part::StatePart;
use crate::process::subprocess::{BatchCall, Subprocess, UnreadBytes};
use crate::threads::latency::{self, LatencyClasses};
use crate::threads::{trace, watchdog};
use dae_store::blocking;
use dae_store::json5_text;
use dae_store::lock::lock;
use dae_store::manifest::Manifest;
use dae_store::state_text::StateText;
use dae_store::tasks;

use construct::next_number;
pub use construct::{StartPlan, start, start_subprocess};
pub use life::EndFault;
pub(crate) use pending::Pending;
pub use pending::{AnswerFuture, BuiltIn, BuiltInAnswer, WatchedFuture};
pub use start::{CancelPolicy, StartProgress, WithdrawResult};

/// The command index that stands for the steps of a daemon's life.
const LIFE: u32 = u32::MAX;

/// One instance of a daemon.
#[derive(Debug)]
pub struct Instance {
    /// The identity.
    pub identity: Arc<Identity>,
    /// The commands that it answers.
    pub commands: Arc<CommandTable>,
    /// The number among all instances of this process; never reused.
    number: u64,
    latency: Arc<LatencyClasses>,
    manifest: Arc<Manifest>,
    body: Body,
    /// The commands of a subprocess that are futures and did not have to wait the last time, by their index.
    at_once: Box<[AtomicBool]>,
    running: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
enum Body {
    // In this order: the code is dropped before the host API that it may call.
    InProcess(LiveDaemon, HostRegistration),
    Subprocess(Subprocess),
    BuiltIn(Arc<dyn BuiltIn>),
}

impl Instance {
    /// Makes an instance of a built-in daemon.
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
            at_once: Box::default(),
            running: Mutex::default(),
        }
    }

    /// Runs a command directly. Appends its result, or its error's text, to `out`.
    #[inline(always)]
    pub fn answer_here(&self, call: Call<'_>, out: &mut Vec<u8>) -> u32 {
        if !self.latency.trusts(call.index) {
            return self.answer_watched(call, out);
        }
        // The same as below, for the hot path alone.
        let code = || self.answer_plainly(call, out);
        watchdog::during(self.number, call.index, true, code)
    }

    /// Returns whether a command has proven quick.
    #[inline]
    pub(crate) fn is_quick(&self, index: u32) -> bool {
        self.latency.trusts(index)
    }

    #[cold]
    fn answer_watched(&self, call: Call<'_>, out: &mut Vec<u8>) -> u32 {
        self.in_sight(call.index, || self.answer_plainly(call, out))
    }

    /// Runs the plugin's code so that the watchdog can see that it holds a thread.
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
        let Body::InProcess(_, registration) = &self.body else {
            return;
        };
        let name = self.command_name(index);
        let text = format!(
            "the command {name} held a host thread for more than {:?}; let it wait by `await`, or make it #[command(blocking)]",
            latency::SLOW
        );
        registration.log("warn", &text);
    }

    /// Returns the name of a command.
    #[must_use]
    pub fn command_name(&self, index: u32) -> &str {
        let command = self.manifest.commands.get(index as usize);
        command.map_or("run or save", |command| command.name.as_str())
    }

    /// Returns what its plugin says about itself.
    pub(crate) fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// Returns what happens to a command that is cancelled.
    #[must_use]
    pub fn fate(&self, index: u32) -> CancelPolicy {
        let command = self.manifest.commands.get(index as usize);
        match command.is_some_and(|command| command.kind != "async") {
            true => CancelPolicy::GoesOn,
            false => CancelPolicy::Cancelled,
        }
    }

    /// Distrusts all commands after a batch took long. The next batches show which command was slow.
    pub fn doubt(&self) {
        self.latency.doubt();
    }

    /// Returns the commands that run on host threads now. An entry in two results has not returned in between.
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
            parts: 0,
        };
        match live.call(&command, out) {
            status::NOT_JSON => {
                out.truncate(start);
                answer_leniently(live, command, call.arguments, out)
            }
            status => status,
        }
    }

    /// Starts a command that may end later. If it blocks a thread, that thread holds the reservation as long as it
    /// runs.
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

    /// Hands quick commands over to a subprocess; see [`Instance::flush`].
    pub(crate) fn answer_there(&self, batch: &CommandBatch<'_>, guest: &Context<'_>) -> BatchCall {
        match &self.body {
            Body::Subprocess(subprocess) => subprocess.call_all(batch, guest),
            Body::InProcess(..) | Body::BuiltIn(_) => {
                unreachable!("only the table of a daemon in its own process says `There`")
            }
        }
    }

    /// Hands a guest off to the daemon's subprocess; see [`Subprocess::hand_off`].
    ///
    /// # Errors
    /// Returns the socket if it can't be handed off.
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

    /// Returns the command that the daemon's subprocess began for a guest who has come back from the hand-off of that id.
    pub(crate) fn begun_there(&self, hand_off: u64, guest: u64) -> Option<Pending> {
        match &self.body {
            Body::Subprocess(subprocess) => {
                Some(Pending::Subprocess(subprocess.begun_call(hand_off, guest)))
            }
            Body::InProcess(..) | Body::BuiltIn(_) => None,
        }
    }

    /// Notes whether a command, which is a future in a subprocess, had to wait.
    pub(crate) fn note_at_once(&self, index: u32, was_at_once: bool) {
        if let Some(noted) = self.at_once.get(index as usize) {
            noted.store(was_at_once, Ordering::Relaxed);
        }
    }

    /// Returns whether a command, which is a future in a subprocess, did not have to wait the last time.
    pub(crate) fn ends_at_once(&self, index: u32) -> bool {
        let noted = self.at_once.get(index as usize);
        noted.is_some_and(|noted| noted.load(Ordering::Relaxed))
    }

    /// Returns whether its code runs in this process and is not built in.
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
        let span = trace::current();
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
                parts: 0,
            };
            // It may take its time here, and nobody else waits for the thread.
            let number = watchdog::BLOCKING | instance.number;
            let answer = || trace::during(span, || instance.answer_plainly(call, &mut bytes));
            let status = watchdog::during(number, index, false, answer);
            Completion { status, bytes }
        });
        Pending::Blocking(pending::BlockingCommand { thread, begin })
    }

    fn answer_async(self: &Arc<Self>, live: &LiveDaemon, call: Call<'_>) -> Pending {
        let mut command = Command {
            index: call.index,
            guest: call.guest,
            arguments: call.arguments,
            parts: call.parts,
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

    /// Returns whether it saves a state for its successor.
    #[must_use]
    pub fn has_state(&self) -> bool {
        self.manifest.state_version.is_some()
    }

    /// Saves its state and returns it as JSON.
    ///
    /// # Errors
    /// The author's error, or that it took longer than `limit`.
    pub async fn save(self: &Arc<Self>, limit: Duration) -> Result<StateText, String> {
        self.save_part(StatePart::Whole, limit).await
    }

    /// Saves its state or a part of it, as [`Instance::save`] does.
    ///
    /// # Errors
    /// The same as [`Instance::save`].
    pub async fn save_part(
        self: &Arc<Self>,
        part: StatePart,
        limit: Duration,
    ) -> Result<StateText, String> {
        let mut pending = match &self.body {
            // Guests are served meanwhile, so a large state must not hold one of their threads.
            Body::InProcess(..) if self.has_delta() && part != StatePart::Delta => {
                self.start_save_aside(part)
            }
            _ => self.start_save(part),
        };
        let name = part.method();
        // On the runtime of its code: a `save` that blocks holds one of those threads, not the caller's.
        let saving = self.runtime().spawn(async move {
            let ended = timeout(limit, &mut pending).await;
            (ended, pending.take_file())
        });
        match timeout(limit + Duration::from_millis(100), saving).await {
            Ok(Ok((Ok(ended), file))) if ended.status == status::DONE => Ok(match file {
                Some(file) => StateText::of(file),
                None => StateText::of(ended.bytes),
            }),
            Ok(Ok((Ok(ended), _))) => Err(format!(
                "its `{name}` failed: {}",
                String::from_utf8_lossy(&ended.bytes)
            )),
            Ok(Err(error)) => Err(format!(
                "its `{name}` has no result: {}",
                blocking::why(error)
            )),
            Ok(Ok((Err(_), _))) | Err(_) => Err(format!("its `{name}` took longer than {limit:?}")),
        }
    }

    /// Sends the commands that were handed over to the subprocess.
    #[inline]
    pub fn flush(&self) {
        if let Body::Subprocess(subprocess) = &self.body {
            subprocess.flush();
        }
    }

    /// Returns the counter of reply bytes from the subprocess that a guest has not read, and reuses `before` if it is
    /// of the same subprocess. `None` if the code runs in this process.
    pub(crate) fn unread(&self, guest: u64, before: Option<UnreadBytes>) -> Option<UnreadBytes> {
        match &self.body {
            Body::Subprocess(subprocess) => Some(subprocess.unread(guest, before)),
            Body::InProcess(..) | Body::BuiltIn(_) => None,
        }
    }

    /// Returns its number among all instances of this process.
    #[inline]
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns the numbers under which the watchdog sees its code: its handlers, those that may
    /// block, and the work that it has spawned. There are none if the code runs in another process.
    #[must_use]
    pub fn numbers_of_code(&self) -> Vec<u64> {
        match &self.body {
            Body::InProcess(_, registration) => vec![
                self.number,
                watchdog::BLOCKING | self.number,
                registration.spawned_number(),
            ],
            Body::Subprocess(_) | Body::BuiltIn(_) => Vec::new(),
        }
    }

    /// Returns whether it has a connect hook.
    #[inline]
    #[must_use]
    pub fn greets(&self) -> bool {
        self.manifest.connect.is_some()
    }

    /// Runs its connect hook for a new guest.
    pub(crate) fn guest_came(self: &Arc<Self>, guest: u64) -> Pending {
        match &self.body {
            Body::InProcess(live, _) => {
                Pending::InProcess(self.watched(LIFE, || live.guest_came(guest)))
            }
            Body::Subprocess(subprocess) => Pending::Subprocess(subprocess.guest_came(guest)),
            Body::BuiltIn(_) => refused("it hears of no guests".to_owned()),
        }
    }

    /// Runs its disconnect hook for a guest that has left, and holds the lease until the hook has finished.
    pub(crate) fn guest_gone(self: &Arc<Self>, guest: u64, lease: &(impl Clone + Send + 'static)) {
        match &self.body {
            Body::Subprocess(subprocess) => subprocess.guest_gone(guest),
            Body::InProcess(live, registration) if self.manifest.disconnect.is_some() => {
                let pending = self.watched(LIFE, || live.guest_gone(guest));
                let (instance, lease) = (Arc::clone(self), lease.clone());
                let telling = async move {
                    let ended = pending.await;
                    instance.tell_of("on(disconnect)", &ended);
                    drop(lease);
                };
                let telling = tasks::logged("on(disconnect) of a daemon", telling);
                registration.runtime().spawn(telling);
            }
            Body::InProcess(..) | Body::BuiltIn(_) => {}
        }
    }

    /// Logs how something ended that has no caller, unless it ended well.
    pub(crate) fn tell_of(&self, what: &str, ended: &Completion) {
        let Body::InProcess(_, registration) = &self.body else {
            // Its subprocess has logged it already.
            return;
        };
        if !matches!(ended.status, status::DONE | status::NOTHING) {
            let text = String::from_utf8_lossy(&ended.bytes);
            registration.log("warn", &format!("{what} failed: {text}"));
        }
    }

    /// Sends it a ping. A reply increases [`Instance::pulse`] later.
    pub fn ping(&self) {
        match &self.body {
            Body::Subprocess(subprocess) => subprocess.ping(),
            Body::InProcess(..) | Body::BuiltIn(_) => {}
        }
    }

    /// Returns the number of ping replies so far; `None` if it needs no pings.
    #[must_use]
    pub fn pulse(&self) -> Option<u64> {
        match &self.body {
            Body::Subprocess(subprocess) => Some(subprocess.pongs()),
            Body::InProcess(..) | Body::BuiltIn(_) => None,
        }
    }

    /// Kills a subprocess; [`Instance::gone`] then completes. Does nothing if the code runs in this process.
    pub fn kill(&self) {
        if let Body::Subprocess(subprocess) = &self.body {
            subprocess.kill();
        }
    }

    /// Completes when the instance has gone without being asked to end.
    pub fn gone(&self) -> InstanceEnd {
        match &self.body {
            Body::Subprocess(subprocess) => Box::pin(subprocess.died()),
            Body::InProcess(..) | Body::BuiltIn(_) => Box::pin(std::future::pending()),
        }
    }

    /// Returns the runtime that its code runs on.
    fn runtime(&self) -> Handle {
        match &self.body {
            Body::InProcess(_, registration) => registration.runtime(),
            Body::Subprocess(_) | Body::BuiltIn(_) => Handle::current(),
        }
    }

    fn lock_running(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        lock(&self.running)
    }
}

/// Calls the command again, with the arguments converted from JSON5.
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

/// The error for a plugin of an older `dae-plugin-api`, which reports all of these as "not JSON".
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
