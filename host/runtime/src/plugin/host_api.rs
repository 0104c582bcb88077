//! The host API: the functions behind every `Ecosystem` and `Guest`.
//!
//! A daemon's handles are numbers, and this file has the table that resolves them. It is the only process-wide table,
//! because a C function has no other starting point. An id that is no longer in it is answered with `GONE`. So a handle
//! that is kept after its daemon's end does no harm.

#![allow(unsafe_code)]

mod guard;

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use abi_stable::std_types::{RSlice, RStr};
use async_ffi::{FfiFuture, FutureExt as _};
use dae_plugin_api::abi::{HostV1, HostVtableV1, Output, SinkV1, StepV1, status};
use serde_json::{Map, Value, json};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::plugin::completion::{ClientState, Completion, HostAnswer};
use crate::plugin::host_request::{DeferredRequest, ImmediateRequest, Instruction, RequestBytes};
use crate::plugin::identity::Identity;
use crate::threads::{trace, watchdog};
use dae_store::durations;
use dae_store::log::{self, Journal, LogLimit, Record};
use guard::{GuardedWork, guarded};

/// The bit that marks a daemon's spawned work in the number that [`watchdog`] gets: the work belongs to no instance.
const SPAWNED: u64 = 1 << 63;

/// The host's data for one instance, as long as its code may ask for it.
#[derive(Debug)]
pub struct HostedInstance {
    /// The identity of the instance.
    pub identity: Arc<Identity>,
    /// Its config, a JSON object.
    pub config: String,
    /// The host API that the instance's code uses.
    pub outlet: Arc<dyn HostApi>,
}

/// The host API for one daemon. In the host it uses the host's own tables; in a worker it reaches them by IPC.
pub trait HostApi: std::fmt::Debug + Send + Sync {
    /// Stores a log record.
    fn log(&self, record: Record);
    /// Sends a line to a guest. Returns false if the guest has gone.
    fn emit(&self, guest: u64, line: &[u8]) -> bool;
    /// Returns whether the guest is still there.
    fn is_open(&self, guest: u64) -> bool;
    /// Carries out an instruction, which was read from `bytes`.
    fn instruct(&self, bytes: RequestBytes<'_>, instruction: Instruction<'_>) -> Completion;
    /// Carries out a request whose answer may come later, and which was read from `bytes`.
    fn ask_later(&self, bytes: RequestBytes<'_>, request: DeferredRequest<'_>) -> HostAnswer;
}

/// A listener for the states of a daemon's clients, by their numbers.
pub struct ClientListener(pub Box<dyn Fn(u64, ClientState) + Send + Sync>);

impl std::fmt::Debug for ClientListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientListener")
    }
}

/// The environment of one instance: its guests, and the daemons that it can connect to.
pub trait PeerAccess: std::fmt::Debug + Send + Sync {
    /// Works like [`HostApi::emit`].
    fn emit(&self, guest: u64, line: &[u8]) -> bool;
    /// Works like [`HostApi::is_open`].
    fn is_open(&self, guest: u64) -> bool;
    /// Works like [`HostApi::instruct`].
    fn instruct(&self, instruction: Instruction<'_>) -> Completion;
    /// Works like [`HostApi::ask_later`].
    fn ask_later(&self, request: DeferredRequest<'_>) -> HostAnswer;
    /// Sets the listener for each client that the daemon opens from then on.
    fn tell_of_clients(&self, listener: ClientListener);
}

/// Keeps the state of one instance when its code asks for it.
pub trait StateKeeper: std::fmt::Debug + Send + Sync {
    /// Saves the state and writes it to the disk. Completes with `NOTHING` once it is there.
    fn save(&self) -> Pin<Box<dyn Future<Output = Completion> + Send>>;
}

/// The host API in the host's own process.
#[derive(Debug)]
pub struct LocalHostApi {
    /// The number of the instance.
    pub generation: u64,
    /// The destination of its log.
    pub journal: Journal,
    /// The records that its log keeps.
    pub log_limit: Arc<LogLimit>,
    /// The environment of the instance.
    pub peers: Arc<dyn PeerAccess>,
}

impl HostApi for LocalHostApi {
    fn log(&self, record: Record) {
        if self.log_limit.keeps(&record) {
            self.journal.write(record);
        }
    }

    fn emit(&self, guest: u64, line: &[u8]) -> bool {
        self.peers.emit(guest, line)
    }

    fn is_open(&self, guest: u64) -> bool {
        self.peers.is_open(guest)
    }

    fn instruct(&self, _: RequestBytes<'_>, instruction: Instruction<'_>) -> Completion {
        self.peers.instruct(instruction)
    }

    fn ask_later(&self, _: RequestBytes<'_>, request: DeferredRequest<'_>) -> HostAnswer {
        self.peers.ask_later(request)
    }
}

/// An instance's entry in the table. Dropping it makes the id invalid, and cancels what the daemon has spawned.
#[derive(Debug)]
pub struct HostRegistration {
    id: u64,
    registered: Arc<RegisteredInstance>,
}

#[derive(Debug)]
struct RegisteredInstance {
    hosted: HostedInstance,
    runtime: Handle,
    spawned: TaskTracker,
    ended: CancellationToken,
}

type InstanceTable = HashMap<u64, Arc<RegisteredInstance>>;
static TABLE: RwLock<Option<InstanceTable>> = RwLock::new(None);

impl HostRegistration {
    /// Registers an instance. What the daemon spawns runs on `runtime`.
    #[must_use]
    pub fn take(hosted: HostedInstance, runtime: Handle) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let id = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        let registered = Arc::new(RegisteredInstance {
            hosted,
            runtime,
            spawned: TaskTracker::new(),
            ended: CancellationToken::new(),
        });
        with_table(|table| table.insert(id, Arc::clone(&registered)));
        HostRegistration { id, registered }
    }

    /// Returns the handle for the daemon.
    #[must_use]
    pub fn host(&self) -> HostV1 {
        HostV1 {
            daemon: self.id,
            vtable: &VTABLE,
        }
    }

    /// Returns the number under which the watchdog sees the daemon's spawned work.
    #[must_use]
    pub(crate) fn spawned_number(&self) -> u64 {
        SPAWNED | self.id
    }

    /// Returns the runtime for what the daemon spawns.
    #[must_use]
    pub fn runtime(&self) -> Handle {
        self.registered.runtime.clone()
    }

    /// Cancels what the daemon has spawned, and waits until none of it runs any more.
    pub async fn cancel_spawned(&self) {
        self.registered.ended.cancel();
        self.registered.spawned.close();
        self.registered.spawned.wait().await;
    }

    /// Returns the identity of the instance.
    #[must_use]
    pub fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.registered.hosted.identity)
    }

    /// Returns the config of the instance, a JSON object.
    #[must_use]
    pub fn config(&self) -> &str {
        &self.registered.hosted.config
    }

    /// Writes a record into the daemon's log, on the host's behalf.
    pub fn log(&self, level: &str, message: &str) {
        let identity = &self.registered.hosted.identity;
        let record = Record::about(&identity.name, Some(identity.generation), level, message);
        self.registered.hosted.outlet.log(record);
    }
}

impl Drop for HostRegistration {
    fn drop(&mut self) {
        self.registered.ended.cancel();
        with_table(|table| table.remove(&self.id));
    }
}

impl RegisteredInstance {
    fn record(&self, level: &str, target: &str, message: &str, mut fields: Map<String, Value>) {
        if let Some(parent) = trace::current_parent() {
            fields.insert(
                "trace_id".to_owned(),
                format!("{:032x}", parent.trace_id()).into(),
            );
            fields.insert(
                "span_id".to_owned(),
                format!("{:016x}", parent.span_id()).into(),
            );
        }
        self.hosted.outlet.log(Record {
            time: jiff::Timestamp::now(),
            daemon: self.hosted.identity.name.clone(),
            generation: Some(self.hosted.identity.generation),
            level: level.to_owned(),
            target: target.to_owned(),
            message: message.to_owned(),
            fields,
        });
    }

    fn answer(&self, bytes: RequestBytes<'_>, out: &mut Output) -> u32 {
        let request = match ImmediateRequest::read(bytes) {
            Ok(request) => request,
            Err(refusal) => return written(&refusal, out),
        };
        let outlet = &self.hosted.outlet;
        match request {
            ImmediateRequest::Credential => {
                let credential = json!(self.hosted.identity.credential()).to_string();
                pushed(credential.as_bytes(), out)
            }
            ImmediateRequest::TraceParent => match trace::current_parent() {
                Some(parent) => pushed(parent.to_string().as_bytes(), out),
                None => status::NOTHING,
            },
            ImmediateRequest::Config => pushed(self.hosted.config.as_bytes(), out),
            ImmediateRequest::GuestOpen(guest) => {
                match guest.is_some_and(|guest| outlet.is_open(guest)) {
                    true => status::NOTHING,
                    false => status::GONE,
                }
            }
            ImmediateRequest::Instruction(instruction) => {
                let _entered = self.runtime.enter();
                written(&outlet.instruct(bytes, instruction), out)
            }
        }
    }

    fn ask_later(&self, bytes: RequestBytes<'_>) -> HostAnswer {
        let _entered = self.runtime.enter();
        match DeferredRequest::read(bytes) {
            Ok(request) => self.hosted.outlet.ask_later(bytes, request),
            Err(refusal) => HostAnswer::Now(refusal),
        }
    }

    fn log(&self, level: u32, target: &str, (message, fields): (&str, &str)) {
        let fields = match fields.len() <= log::TEXT_BYTES_MAX {
            true => serde_json::from_str(fields).unwrap_or_default(),
            false => Map::new(),
        };
        let target = log::shortened(target, log::TARGET_BYTES_MAX);
        let message = log::shortened(message, log::TEXT_BYTES_MAX);
        self.record(log::level(level), target, message, fields);
    }

    /// Runs a future of the daemon until it ends or the daemon does.
    fn spawn(&self, daemon: u64, future: FfiFuture<()>) {
        let ended = self.ended.clone();
        let span = trace::current();
        let work = async move {
            // A thread that runs this task ahead of its queue may hold another task that only it can run. After this
            // task has passed through the thread's own queue, the thread holds none.
            tokio::task::yield_now().await;
            let mut future = future;
            // A poll that does not return blocks a thread that all daemons share.
            let watched = poll_fn(|context| {
                watchdog::during(SPAWNED | daemon, 0, true, || {
                    trace::during(span, || Pin::new(&mut future).poll(context))
                })
            });
            // The future is dropped here in every case, while the daemon's code is still there: `cancel_spawned` waits
            // for this task.
            ended.run_until_cancelled_owned(watched).await;
        };
        self.spawned.spawn_on(work, &self.runtime);
    }
}

fn with_table<T>(act: impl FnOnce(&mut InstanceTable) -> T) -> T {
    let mut table = TABLE.write().unwrap_or_else(PoisonError::into_inner);
    act(table.get_or_insert_default())
}

fn find(daemon: u64) -> Option<Arc<RegisteredInstance>> {
    let table = TABLE.read().unwrap_or_else(PoisonError::into_inner);
    table.as_ref()?.get(&daemon).cloned()
}

static VTABLE: HostVtableV1 = HostVtableV1 {
    log: log_record,
    ask,
    ask_later,
    emit,
    spawn,
    sleep,
    query,
};

unsafe extern "C" fn log_record(
    daemon: u64,
    level: u32,
    target: RStr<'_>,
    message: RStr<'_>,
    fields: RStr<'_>,
) {
    // The failure is already in the host's own log, and there is no other place to report it.
    let _ = guarded("log", || {
        if let Some(registered) = find(daemon) {
            registered.log(level, target.as_str(), (message.as_str(), fields.as_str()));
        }
    });
}

unsafe extern "C" fn ask(
    daemon: u64,
    operation: RStr<'_>,
    payload: RSlice<'_, u8>,
    sink: *mut SinkV1,
) -> u32 {
    // SAFETY: the plugin grants the use of the sink for this call.
    let mut out = unsafe { Output::new(sink) };
    let bytes = RequestBytes {
        operation: operation.as_str(),
        payload: payload.as_slice(),
    };
    let answered = guarded(bytes.operation, || match find(daemon) {
        Some(registered) => registered.answer(bytes, &mut out),
        None => status::GONE,
    });
    answered.unwrap_or_else(|broken| written(&broken.ended(), &mut out))
}

unsafe extern "C" fn ask_later(
    daemon: u64,
    operation: RStr<'_>,
    payload: RSlice<'_, u8>,
    sink: *mut SinkV1,
) -> StepV1 {
    // SAFETY: the plugin grants the use of the sink until the step has ended.
    let mut out = unsafe { Output::new(sink) };
    let bytes = RequestBytes {
        operation: operation.as_str(),
        payload: payload.as_slice(),
    };
    let asked = guarded(bytes.operation, || {
        let registered = find(daemon)?;
        Some((registered.ask_later(bytes), registered.runtime.clone()))
    });
    match asked {
        Ok(None) => StepV1::ended(status::GONE),
        Ok(Some((HostAnswer::Now(ended), _))) => StepV1::ended(written(&ended, &mut out)),
        Ok(Some((HostAnswer::Later(work), runtime))) => {
            StepV1::pending(answered(work, runtime, out).into_ffi())
        }
        Err(broken) => StepV1::ended(written(&broken.ended(), &mut out)),
    }
}

/// Returns work for a daemon that any thread may poll, even one of the plugin's own. Its timers are those of `runtime`.
fn answered(
    mut work: Pin<Box<dyn Future<Output = Completion> + Send>>,
    runtime: Handle,
    out: Output,
) -> impl Future<Output = u32> + Send {
    let polled = poll_fn(move |context| {
        let _entered = runtime.enter();
        work.as_mut().poll(context)
    });
    let mut work = GuardedWork::new("ask_later", polled);
    let mut out = Some(out);
    poll_fn(move |context| {
        let polled = Pin::new(&mut work).poll(context);
        polled.map(|ended| match out.take() {
            Some(mut out) => written(&ended.unwrap_or_else(|broken| broken.ended()), &mut out),
            None => status::GONE,
        })
    })
}

/// Writes a result to the sink, and returns the status.
fn pushed(result: &[u8], out: &mut Output) -> u32 {
    match out.push(result) {
        true => status::DONE,
        false => status::FAILED,
    }
}

/// Writes an answer to the sink, and returns its status.
fn written(ended: &Completion, out: &mut Output) -> u32 {
    match out.push(&ended.bytes) {
        true => ended.status,
        false => status::FAILED,
    }
}

unsafe extern "C" fn emit(daemon: u64, guest: u64, line: RSlice<'_, u8>) -> u32 {
    let emitted = guarded("emit", || match find(daemon) {
        Some(registered) if registered.hosted.outlet.emit(guest, line.as_slice()) => {
            status::NOTHING
        }
        _ => status::GONE,
    });
    emitted.unwrap_or(status::FAILED)
}

unsafe extern "C" fn spawn(daemon: u64, future: FfiFuture<()>) -> u32 {
    let spawned = guarded("spawn", || match find(daemon) {
        Some(registered) => {
            registered.spawn(daemon, future);
            status::NOTHING
        }
        None => status::GONE,
    });
    spawned.unwrap_or(status::FAILED)
}

unsafe extern "C" fn sleep(daemon: u64, ms: u64) -> FfiFuture<()> {
    let asleep = guarded("sleep", || {
        let registered = find(daemon)?;
        let _entered = registered.runtime.enter();
        Some(Box::pin(tokio::time::sleep(durations::ms(ms))))
    });
    match asleep {
        Ok(Some(asleep)) => {
            let mut asleep = GuardedWork::new("sleep", asleep);
            // A sleep that cannot be awaited any more counts as over.
            poll_fn(move |context| Pin::new(&mut asleep).poll(context).map(drop)).into_ffi()
        }
        Ok(None) | Err(_) => std::future::ready(()).into_ffi(),
    }
}

unsafe extern "C" fn query(_: RStr<'_>) -> *const () {
    std::ptr::null()
}
