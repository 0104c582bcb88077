//! A plugin's library in this process: opened, checked, and called.
//!
//! A library is never closed: Rust code can't be unloaded soundly (thread-locals with destructors, threads and pthread
//! keys outlive any bookkeeping). So a library is opened with `RTLD_NODELETE` from a private copy that is never
//! overwritten, and its handle is forgotten.
//!
//! abi_stable's own loader keeps one root module per process. This file reads the header itself and checks the layout
//! with separate globals for each file. So any number of plugins load, and none can affect the check of another.

#![allow(unsafe_code)]

mod fault;

use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use abi_stable::StableAbi;
use abi_stable::abi_stability::abi_checking::{
    CheckingGlobals, check_layout_compatibility_with_globals,
};
use abi_stable::library::{AbiHeaderRef, LibHeader, ROOT_MODULE_LOADER_NAME_WITH_NUL};
use abi_stable::std_types::{ROption, RSlice};
use async_ffi::FfiFuture;
use dae_plugin_api::abi::{
    CHECK_STATE, CallV1, CheckStateV1, DaemonModV1_Ref, HostV1, InstanceV1, LateSink, SCHEMAS,
    SchemasV1, StepV1, VecSink, status, verb,
};
use dae_plugin_api::export::{CREATE_FROM, CreateFromV1};
use dae_plugin_api::parts::{CALL_PARTS, CallPartsV1};

pub use fault::LoadFault;

use crate::os::library;
use crate::plugin::completion::Completion;
use crate::plugin::state_part::StatePart;
use dae_store::manifest::SCHEMAS_BYTES_MAX;
use dae_store::state_text::StateText;

/// A loaded library. It stays for the life of the process.
#[derive(Clone, Copy)]
pub struct PluginLibrary {
    module: DaemonModV1_Ref,
}

impl fmt::Debug for PluginLibrary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PluginLibrary")
    }
}

impl PluginLibrary {
    /// Loads a file, which runs its static constructors. Blocks for about half a millisecond.
    ///
    /// The file must be a private copy, under a name that was never loaded in this process.
    ///
    /// # Errors
    /// The error of the system's loader with a hint, or how the file's ABI differs from this host's.
    pub fn open(path: &Path) -> Result<Self, LoadFault> {
        let header = open_header(path)?;
        check_layout(header)?;
        // SAFETY: the layout has just been checked against this host's.
        let module = unsafe { header.init_root_module_with_unchecked_layout::<DaemonModV1_Ref>() }
            .map_err(|error| {
                LoadFault::new(format!(
                    "its root module can't be made: {}",
                    essence(&error.to_string())
                ))
            })?;
        Ok(PluginLibrary { module })
    }

    /// Returns the library of a daemon that is part of this program. Its module is of this program's own types, so there
    /// is no layout to check.
    #[must_use]
    pub fn built_in(module: DaemonModV1_Ref) -> Self {
        PluginLibrary { module }
    }

    /// Checks that the library's code can read that state.
    ///
    /// # Errors
    /// The reason why it cannot.
    pub fn check_state(&self, state: &[u8]) -> Result<(), String> {
        let found = (self.module.query())(CHECK_STATE.into());
        if found.is_null() {
            return Ok(());
        }
        // SAFETY: by contract of the ABI, `query` returns under that name a function of this type, of a library that
        // stays.
        let check = unsafe { std::mem::transmute::<*const (), CheckStateV1>(found) };
        let mut bytes = Vec::new();
        let mut sink = VecSink::new(&mut bytes);
        // SAFETY: the sink lives across the call and isn't moved after `raw`.
        let status = unsafe { check(RSlice::from_slice(state), sink.raw()) };
        drop(sink);
        match status {
            status::NOTHING => Ok(()),
            _ => Err(text(bytes)),
        }
    }

    /// Returns the schemas that only the library's code knows, JSON. Returns `None` if it was built without them.
    ///
    /// # Errors
    /// The reason why the code could not make them.
    pub fn schemas(&self) -> Result<Option<String>, String> {
        let found = (self.module.query())(SCHEMAS.into());
        if found.is_null() {
            return Ok(None);
        }
        // SAFETY: by contract of the ABI, `query` returns under that name a function of this type, of a library that
        // stays.
        let schemas = unsafe { std::mem::transmute::<*const (), SchemasV1>(found) };
        let mut bytes = Vec::new();
        let mut sink = VecSink::new(&mut bytes);
        // SAFETY: the sink lives across the call and isn't moved after `raw`.
        let status = unsafe { schemas(sink.raw()) };
        drop(sink);
        match (status, bytes.len() > SCHEMAS_BYTES_MAX) {
            (status::DONE, false) => Ok(Some(text(bytes))),
            (status::DONE, true) => Err(format!(
                "they have {} bytes, and a host takes {SCHEMAS_BYTES_MAX}; shorten the doc comments of its types",
                bytes.len()
            )),
            _ => Err(text(bytes)),
        }
    }

    /// Returns the function that starts a command whose caller takes parts; `None` for a plugin without it.
    fn call_parts(&self) -> Option<CallPartsV1> {
        let found = (self.module.query())(CALL_PARTS.into());
        // SAFETY: by contract of the ABI, `query` returns under that name a function of this type, of a library that
        // stays, or null, which is `None`.
        unsafe { std::mem::transmute::<*const (), Option<CallPartsV1>>(found) }
    }

    /// Returns the address of its `create` function: two libraries never share it.
    #[must_use]
    pub fn entry(&self) -> usize {
        self.module.create() as usize
    }

    /// Returns the function that starts a daemon from a state that it reads where it lies; `None` for a plugin without it.
    fn create_from(&self) -> Option<CreateFromV1> {
        let found = (self.module.query())(CREATE_FROM.into());
        // SAFETY: as in `call_parts`.
        unsafe { std::mem::transmute::<*const (), Option<CreateFromV1>>(found) }
    }

    /// Starts a daemon. The future runs the author's `start`, which may block: poll it on a thread that may block.
    #[must_use]
    pub fn start(&self, host: HostV1, config: &str, state: Option<StateText>) -> StartingDaemon {
        let place = Pinned::new(Box::new(ROption::RNone));
        let mut sink = Pinned::new(LateSink::new());
        let (at, out) = (place.0.as_ptr(), sink.get().raw());
        let create_from = state.as_ref().zip(self.create_from());
        let request = match create_from {
            None => request(config, state.as_ref()),
            Some(_) => request(config, None),
        };
        let slice = RSlice::from_slice(&request);
        // SAFETY: `place`, `sink` and the state stay where they are, and `StartingDaemon` drops them after the step's
        // future.
        let step = unsafe {
            match create_from {
                Some((state, create_from)) => {
                    create_from(host, slice, RSlice::from_slice(state.bytes()), at, out)
                }
                None => (self.module.create())(host, slice, at, out),
            }
        };
        StartingDaemon {
            step: LifecycleStep::of(step),
            call_parts: self.call_parts(),
            place,
            sink,
            _state: state,
        }
    }
}

/// Returns the request to start a daemon with that config, from that state.
fn request(config: &str, state: Option<&StateText>) -> Vec<u8> {
    let state = state.map_or(&b"null"[..], StateText::bytes);
    let parts = [
        &b"{\"config\":"[..],
        config.as_bytes(),
        b",\"state\":",
        state,
        b"}",
    ];
    parts.concat()
}

/// The number of libraries that are being loaded, including those that hang in a constructor.
static LOADING: AtomicUsize = AtomicUsize::new(0);

/// Returns whether a library is being loaded. If loading hangs, the loader's lock is held for ever.
pub fn is_loading() -> bool {
    LOADING.load(Ordering::Relaxed) > 0
}

/// Ends the process. If a library is being loaded, the exit handlers of libraries are skipped, because they wait for
/// the loader's lock.
pub fn exit(code: i32) -> ! {
    if is_loading() {
        library::exit_at_once(code)
    }
    #[expect(clippy::disallowed_methods, reason = "no library is being loaded")]
    std::process::exit(code)
}

fn open_header(path: &Path) -> Result<&'static LibHeader, LoadFault> {
    LOADING.fetch_add(1, Ordering::Relaxed);
    // SAFETY: loading runs the file's constructors, which is what a person who installs it asks for; the manifest was
    // found in it before, and a reload tries the file in a subprocess first.
    let library = unsafe { library::open_for_good(path) };
    LOADING.fetch_sub(1, Ordering::Relaxed);
    let library = library.map_err(|error| LoadFault::of_loader(path, &error))?;
    // SAFETY: abi_stable exports a static of that type under that name; its magic string is checked by `upgrade`.
    let header =
        unsafe { library.get::<AbiHeaderRef>(ROOT_MODULE_LOADER_NAME_WITH_NUL.as_bytes()) }
            .map(|symbol| *symbol)
            .map_err(|_| {
                LoadFault::new(
                    "it exports no daemon; build it with #[daemon] of dae-plugin-api".to_owned(),
                )
            })?;
    // Never closed: see this file's head.
    std::mem::forget(library);
    header.upgrade().map_err(|error| {
        LoadFault::new(format!(
            "it was built with another abi_stable: {}",
            essence(&error.to_string())
        ))
    })
}

fn check_layout(header: &'static LibHeader) -> Result<(), LoadFault> {
    let layout = header.layout().ok_or_else(|| {
        LoadFault::new("it doesn't describe its ABI, so it can't be checked".to_owned())
    })?;
    let ours = <DaemonModV1_Ref as StableAbi>::LAYOUT;
    // New globals: the process-wide ones would keep pointers into this plugin and judge the next one by them.
    let globals = CheckingGlobals::new();
    let checked = check_layout_compatibility_with_globals(ours, layout, &globals);
    // The globals hold references into the library, and their drop runs none of its code.
    checked.map_err(|errors| {
        LoadFault::new(format!(
            "its ABI differs from this host's: {}",
            essence(&errors.to_string())
        ))
    })
}

/// Returns the first lines after `Error:` in abi_stable's report, which has up to 800 lines.
fn essence(report: &str) -> String {
    let told = report.split("Error:").nth(1).unwrap_or(report);
    let lines: Vec<&str> = told
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .take(6)
        .collect();
    lines.join(" ")
}

/// A step in progress, or ended.
enum LifecycleStep {
    Ended(u32),
    Pending(FfiFuture<u32>),
}

impl LifecycleStep {
    fn of(step: StepV1) -> Self {
        match step.future {
            ROption::RSome(future) => LifecycleStep::Pending(future),
            ROption::RNone => LifecycleStep::Ended(step.status),
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<u32> {
        match self {
            LifecycleStep::Ended(status) => Poll::Ready(*status),
            // The plugin catches its panics. async-ffi would turn one that it missed into a panic of the host.
            LifecycleStep::Pending(future) => {
                catch_unwind(AssertUnwindSafe(|| Pin::new(future).poll(context)))
                    .unwrap_or(Poll::Ready(status::CRASHED))
            }
        }
    }
}

/// A value on the heap to which the plugin's code holds a pointer while its owner is moved. A `Box` cannot own it: a move
/// of a `Box` asserts that no other pointer to the value is in use.
struct Pinned<T>(NonNull<T>);

// SAFETY: it owns the value, as a `Box` does.
unsafe impl<T: Send> Send for Pinned<T> {}

impl<T> Pinned<T> {
    fn new(value: Box<T>) -> Self {
        Pinned(NonNull::from(Box::leak(value)))
    }

    /// Returns the value: before its address is passed on, or after the step that got the address has ended.
    fn get(&mut self) -> &mut T {
        // SAFETY: the value lives until this owner is dropped. The plugin's code uses its pointer only during a step,
        // and the callers here keep to the times above.
        unsafe { self.0.as_mut() }
    }
}

impl<T> Drop for Pinned<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer is that of the leaked box, and this owner is the only one. Owners declare it behind the
        // step, so the plugin's future is gone.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// A daemon that is being constructed.
pub struct StartingDaemon {
    // Declared first, so that it drops before what it writes to.
    step: LifecycleStep,
    call_parts: Option<CallPartsV1>,
    place: Pinned<ROption<InstanceV1>>,
    sink: Pinned<LateSink>,
    /// The state, which the plugin reads where it lies.
    _state: Option<StateText>,
}

impl Future for StartingDaemon {
    type Output = Result<LiveDaemon, String>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Poll::Ready(status) = this.step.poll(context) else {
            return Poll::Pending;
        };
        // The author's future is dropped here, before its result is used.
        this.step = LifecycleStep::Ended(status);
        match this.place.get().take() {
            ROption::RSome(raw) if status == status::DONE => {
                let call_parts = this.call_parts;
                Poll::Ready(Ok(LiveDaemon { raw, call_parts }))
            }
            _ => Poll::Ready(Err(text(this.sink.get().take()))),
        }
    }
}

/// A constructed daemon in this process. Dropping it destroys the daemon, which runs the author's `Drop`.
pub struct LiveDaemon {
    raw: InstanceV1,
    call_parts: Option<CallPartsV1>,
}

impl fmt::Debug for LiveDaemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LiveDaemon")
    }
}

impl LiveDaemon {
    /// Runs an immediate command, and appends its result or its error's text to `out`.
    #[inline(always)]
    pub fn call(&self, call: &Command<'_>, out: &mut Vec<u8>) -> u32 {
        let mut sink = VecSink::new(out);
        // SAFETY: the instance is alive, and the sink lives across the call and isn't moved after `raw`.
        let step = unsafe { (self.raw.vtable.call)(self.raw.this, &call.raw(), sink.raw()) };
        match step.future {
            ROption::RNone => step.status,
            // The manifest says that the command is not async. Its future must not outlive the sink.
            ROption::RSome(future) => {
                drop(future);
                status::UNKNOWN
            }
        }
    }

    /// Starts a command that may end later. The caller keeps this instance alive for as long as the returned future.
    #[must_use]
    pub fn call_later(&self, call: &Command<'_>) -> PluginFuture {
        let spare = SPARE.try_with(Cell::take).ok().flatten();
        let mut sink = spare.unwrap_or_else(|| Pinned::new(LateSink::new()));
        let (this, raw) = (self.raw.this, call.raw());
        let call_parts = self.call_parts.filter(|_| call.parts != 0);
        let step = match call_parts {
            // SAFETY: as below.
            Some(call_parts) => unsafe { call_parts(this, &raw, call.parts, sink.get().raw()) },
            // SAFETY: the instance is alive; the sink stays where it is, and is dropped after the step's future.
            None => unsafe { (self.raw.vtable.call)(this, &raw, sink.get().raw()) },
        };
        PluginFuture {
            step: LifecycleStep::of(step),
            sink: Some(sink),
        }
    }

    /// Runs the author's `run`. Ends at once with `NOTHING` if there is none.
    #[must_use]
    pub fn run(&self) -> PluginFuture {
        self.act(verb::RUN)
    }

    /// Runs the author's `stop`.
    #[must_use]
    pub fn stop(&self) -> PluginFuture {
        self.act(verb::STOP)
    }

    /// Saves the daemon's state, or a part of it, as JSON. Ends with `NOTHING` if the daemon has none.
    #[must_use]
    pub fn save(&self, part: StatePart) -> PluginFuture {
        self.act(match part {
            StatePart::Whole => verb::SAVE,
            StatePart::Snapshot => verb::SNAPSHOT,
            StatePart::Delta => verb::DELTA,
        })
    }

    /// Carries out the changes of a delta.
    #[must_use]
    pub fn apply(&self, delta: &[u8]) -> PluginFuture {
        self.act_on(verb::APPLY, delta)
    }

    /// Returns whether the code is there and answers.
    #[must_use]
    pub fn ping(&self) -> bool {
        matches!(
            self.act(verb::PING).step,
            LifecycleStep::Ended(status::NOTHING)
        )
    }

    /// Runs the author's `#[on(connect)]`.
    #[must_use]
    pub fn guest_came(&self, guest: u64) -> PluginFuture {
        self.act_on(verb::GUEST_CAME, &guest.to_le_bytes())
    }

    /// Runs the author's `#[on(disconnect)]`.
    #[must_use]
    pub fn guest_gone(&self, guest: u64) -> PluginFuture {
        self.act_on(verb::GUEST_GONE, &guest.to_le_bytes())
    }

    fn act(&self, verb: u32) -> PluginFuture {
        self.act_on(verb, &[])
    }

    fn act_on(&self, verb: u32, argument: &[u8]) -> PluginFuture {
        let mut sink = Pinned::new(LateSink::new());
        let argument = RSlice::from_slice(argument);
        // SAFETY: as in `call_later`; the argument is borrowed for the call.
        let step =
            unsafe { (self.raw.vtable.act)(self.raw.this, verb, argument, sink.get().raw()) };
        PluginFuture {
            step: LifecycleStep::of(step),
            sink: Some(sink),
        }
    }

    /// Destroys the daemon.
    ///
    /// # Errors
    /// The text of a panic in the author's `Drop`.
    pub fn destroy(self) -> Result<(), String> {
        let raw = self.raw;
        std::mem::forget(self);
        destroy(raw)
    }
}

impl Drop for LiveDaemon {
    fn drop(&mut self) {
        // The plugin's side has logged a panic in there.
        let _ = destroy(self.raw);
    }
}

fn destroy(raw: InstanceV1) -> Result<(), String> {
    let mut bytes = Vec::new();
    let mut sink = VecSink::new(&mut bytes);
    // SAFETY: the one owner is giving it up, and every caller into it held a borrow or a lease that has ended.
    let status = unsafe { (raw.vtable.destroy)(raw.this, sink.raw()) };
    drop(sink);
    match status {
        status::NOTHING => Ok(()),
        _ => Err(text(bytes)),
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One command for a daemon.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    /// The index into the manifest's commands.
    pub index: u32,
    /// The guest that sent it.
    pub guest: u64,
    /// Its arguments, as they came.
    pub arguments: &'a str,
    /// The number of the call for its parts; 0 if its caller takes none.
    pub parts: u64,
}

impl Command<'_> {
    fn raw(&self) -> CallV1<'_> {
        CallV1 {
            command: self.index,
            flags: 0,
            guest: self.guest,
            arguments: RSlice::from_slice(self.arguments.as_bytes()),
        }
    }
}

/// A command that may end later. Dropping it cancels the command.
pub struct PluginFuture {
    // Declared first, so that it drops before what it writes to.
    step: LifecycleStep,
    /// The sink; `None` once it has become [`SPARE`].
    sink: Option<Pinned<LateSink>>,
}

thread_local! {
    /// The sink of a command that has ended, for the next one on this thread.
    static SPARE: Cell<Option<Pinned<LateSink>>> = const { Cell::new(None) };
}

/// The most memory of a spare sink that is kept (bytes). A larger one is freed.
const SPARE_BYTES_MAX: usize = 4 << 10;

impl PluginFuture {
    /// Takes back the bytes of the completion when they are no longer used, so that the next command need not allocate.
    pub fn give_back(&mut self, bytes: Vec<u8>) {
        let has_ended = matches!(self.step, LifecycleStep::Ended(_));
        if has_ended
            && bytes.capacity() <= SPARE_BYTES_MAX
            && let Some(mut sink) = self.sink.take()
        {
            sink.get().give_back(bytes);
            // A thread that is ending cannot store it.
            let _ = SPARE.try_with(|spare| spare.set(Some(sink)));
        }
    }

    /// Returns the status if the command has ended already. Before the first poll that means, for example, that its
    /// arguments were refused.
    #[must_use]
    pub fn at_once(&self) -> Option<u32> {
        match self.step {
            LifecycleStep::Ended(status) => Some(status),
            LifecycleStep::Pending(_) => None,
        }
    }
}

impl Future for PluginFuture {
    type Output = Completion;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Completion> {
        let this = &mut *self;
        let Poll::Ready(status) = this.step.poll(context) else {
            return Poll::Pending;
        };
        this.step = LifecycleStep::Ended(status);
        let bytes = this.sink.as_mut().map(|sink| sink.get().take());
        Poll::Ready(Completion {
            status,
            bytes: bytes.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_that_takes_no_state_apart_gets_it_in_the_request() {
        let state = StateText::from(b"[1]");
        assert_eq!(request("{}", Some(&state)), br#"{"config":{},"state":[1]}"#);
        assert_eq!(request("{}", None), br#"{"config":{},"state":null}"#);
    }
}
