//! The types that cross the boundary between the host and a plugin.
//!
//! An ABI generation is frozen, which is a key design decision. abi_stable refuses a host whose types have grown, so
//! one field added here would make the host refuse every plugin compiled before. Extensions come through `query`,
//! a new [`status`] or [`verb`], a new operation of [`HostVtableV1::ask`], or as V2 types beside these.
//!
//! Only bytes, integers, function pointers and `FfiFuture`s cross. Input bytes are borrowed for the length of the call.
//! Output bytes go into a [`SinkV1`] of the calling side. No side frees what the other allocated. No panic crosses.

#![allow(unsafe_code, non_local_definitions, non_camel_case_types)]
#![allow(missing_docs, reason = "abi_stable's derive makes undocumented items")]

mod fault;

use abi_stable::StableAbi;
use abi_stable::library::RootModule;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::{ROption, RSlice, RStr};
use async_ffi::FfiFuture;

pub use fault::HostFault;

/// The newest ABI generation, as a literal: both the number and the texts below are made of it.
macro_rules! newest {
    () => {
        1
    };
}

/// The oldest ABI generation that this crate's host loads.
pub const ABI_VERSION_MIN: u32 = 1;
/// The newest ABI generation. A plugin built with this crate has this one.
pub const ABI_VERSION_MAX: u32 = newest!();
/// The same as a text, for the manifest.
#[doc(hidden)]
pub const ABI_VERSION_TEXT: &str = concat!(newest!());

/// The outcome of a call, which also determines what the sink holds. These are numbers, not an enum, because an unknown
/// number is a valid value and not undefined behaviour.
pub mod status {
    /// The sink holds the result as JSON.
    pub const DONE: u32 = 0;
    /// The call is done and has no result.
    pub const NOTHING: u32 = 1;
    /// The call goes on: the step's future ends with one of the other values.
    pub const PENDING: u32 = 2;
    /// The daemon returned an error; the sink holds its text.
    pub const FAILED: u32 = 3;
    /// An argument is missing, superfluous or of a wrong type; the sink holds the message.
    pub const BAD_ARGUMENTS: u32 = 4;
    /// The arguments are not strict JSON; the caller may translate and call again.
    pub const NOT_JSON: u32 = 5;
    /// The code panicked; the sink holds the message and the place.
    pub const CRASHED: u32 = 6;
    /// The callee knows no such command, verb or operation.
    pub const UNKNOWN: u32 = 7;
    /// The daemon, guest or event queue of this id has ended.
    pub const GONE: u32 = 8;
    /// The daemon returned an error with a code or data; the sink holds `{"code": …, "message": …, "data": …}`.
    pub const CODED: u32 = 9;
}

/// The calls of a host to an instance besides its commands.
pub mod verb {
    /// Runs the background work for as long as the daemon lives; returns `NOTHING` at once if there is none.
    pub const RUN: u32 = 1;
    /// Makes the last call before the instance is destroyed.
    pub const STOP: u32 = 2;
    /// Answers at once, to show that the code responds.
    pub const PING: u32 = 3;
    /// Writes the state, `{"version": …, "data": …}`, into the sink; returns `NOTHING` if the daemon hands none over.
    pub const SAVE: u32 = 4;
    /// Reports a new guest; the argument is its id (u64, little-endian). Used only if the manifest has the key
    /// `connect`.
    pub const GUEST_CAME: u32 = 5;
    /// Reports a guest that has gone, as [`GUEST_CAME`] does. Used only if the manifest has the key `disconnect`.
    pub const GUEST_GONE: u32 = 6;
    /// Writes the state as [`SAVE`] does, and has what changes noted from then on. This and the next two are used only if
    /// the manifest has the key `delta`.
    pub const SNAPSHOT: u32 = 7;
    /// Writes what has changed since the last [`SNAPSHOT`], in the form of a state.
    pub const DELTA: u32 = 8;
    /// Carries out these changes in an instance that was started from the snapshot.
    pub const APPLY: u32 = 9;
}

/// A growable buffer that belongs to the caller and that the callee appends to.
#[repr(C)]
#[derive(StableAbi)]
pub struct SinkV1 {
    /// The first byte of the buffer.
    pub start: *mut u8,
    /// The number of bytes in use; the callee appends after them.
    pub len: usize,
    /// The number of bytes allocated.
    pub capacity: usize,
    /// The owner's own data for `grow`; the callee must not touch it.
    pub owner: *mut (),
    /// Makes space for at least that many more bytes and updates the fields. Returns false if the owner refuses.
    pub grow: unsafe extern "C" fn(sink: *mut SinkV1, additional: usize) -> bool,
}

/// The start of an operation: its status, and its future if the status is `PENDING`.
#[repr(C)]
#[derive(StableAbi)]
pub struct StepV1 {
    pub status: u32,
    pub future: ROption<FfiFuture<u32>>,
}

impl StepV1 {
    /// Returns a step that has ended.
    #[must_use]
    #[inline]
    pub fn ended(status: u32) -> Self {
        StepV1 {
            status,
            future: ROption::RNone,
        }
    }

    /// Returns a step that goes on.
    #[must_use]
    pub fn pending(future: FfiFuture<u32>) -> Self {
        StepV1 {
            status: status::PENDING,
            future: ROption::RSome(future),
        }
    }
}

/// A command for a daemon.
#[repr(C)]
#[derive(StableAbi)]
pub struct CallV1<'a> {
    /// The index into the manifest's commands.
    pub command: u32,
    /// Reserved; zero, because no flags are defined yet.
    pub flags: u32,
    /// The guest that sent the command; 0 if no guest did.
    pub guest: u64,
    /// The trimmed text after the command's name: JSON, or whatever the sender wrote. It is always UTF-8, because every
    /// host of this generation checks that.
    pub arguments: RSlice<'a, u8>,
}

impl<'a> CallV1<'a> {
    /// Returns the arguments as text.
    ///
    /// # Safety
    /// The arguments must be UTF-8. Every host of this generation guarantees that.
    #[must_use]
    #[inline]
    pub unsafe fn text(&self) -> &'a str {
        let bytes = self.arguments.as_slice();
        debug_assert!(std::str::from_utf8(bytes).is_ok());
        // SAFETY: by the caller's promise.
        unsafe { std::str::from_utf8_unchecked(bytes) }
    }
}

/// A constructed daemon.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct InstanceV1 {
    pub this: *const (),
    pub vtable: &'static DaemonVtableV1,
}

// SAFETY: `this` points to a type that is Send and Sync (`export::Exported` demands both); the vtable is immutable.
unsafe impl Send for InstanceV1 {}
// SAFETY: as above.
unsafe impl Sync for InstanceV1 {}

/// The name under which [`DaemonModV1`]'s `query` returns a [`CheckStateV1`].
pub const CHECK_STATE: &str = "check_state.v1";

/// A function that checks whether the plugin can read this state, JSON in the form that `SAVE` writes. It returns
/// `NOTHING`, or an error with the reason in the sink. It runs no code of the daemon except the reader of the state.
pub type CheckStateV1 = unsafe extern "C" fn(state: RSlice<'_, u8>, sink: *mut SinkV1) -> u32;

/// The name under which [`DaemonModV1`]'s `query` returns a [`SchemasV1`].
pub const SCHEMAS: &str = "schema.v1";

/// A function that writes the schemas which only run time knows into the sink, JSON. It runs the author's `JsonSchema`
/// and no other code of the daemon. It returns `DONE`, or an error with the reason in the sink.
pub type SchemasV1 = unsafe extern "C" fn(sink: *mut SinkV1) -> u32;

/// The functions of a daemon that the host calls. `this` is from the same [`InstanceV1`], and `destroy` has not been
/// called. A sink outlives the step's future, and nothing else touches it until the step has ended.
#[repr(C)]
#[derive(StableAbi)]
pub struct DaemonVtableV1 {
    pub call: unsafe extern "C" fn(this: *const (), call: &CallV1<'_>, sink: *mut SinkV1) -> StepV1,
    pub act: unsafe extern "C" fn(
        this: *const (),
        verb: u32,
        argument: RSlice<'_, u8>,
        sink: *mut SinkV1,
    ) -> StepV1,
    pub destroy: unsafe extern "C" fn(this: *const (), sink: *mut SinkV1) -> u32,
}

/// The host, as one daemon sees it: an id for the host's tables, and the functions that take it.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct HostV1 {
    /// The daemon's id, never used twice. After the daemon's end, calls with it return `GONE`.
    pub daemon: u64,
    pub vtable: &'static HostVtableV1,
}

/// The functions of the host that a daemon calls. Any thread may call them at any time, even after the daemon's end.
#[repr(C)]
#[derive(StableAbi)]
pub struct HostVtableV1 {
    /// Logs a message. The level is from 1 (error) to 5 (trace); the fields are a JSON object.
    pub log: unsafe extern "C" fn(
        daemon: u64,
        level: u32,
        target: RStr<'_>,
        message: RStr<'_>,
        fields: RStr<'_>,
    ),
    /// Runs the operation of this name at once, with bytes in and out.
    pub ask: unsafe extern "C" fn(
        daemon: u64,
        operation: RStr<'_>,
        request: RSlice<'_, u8>,
        sink: *mut SinkV1,
    ) -> u32,
    /// Starts the operation of this name, with bytes in and out.
    pub ask_later: unsafe extern "C" fn(
        daemon: u64,
        operation: RStr<'_>,
        request: RSlice<'_, u8>,
        sink: *mut SinkV1,
    ) -> StepV1,
    /// Sends one whole line to a guest of this daemon: name, space, JSON array, no line feed.
    pub emit: unsafe extern "C" fn(daemon: u64, guest: u64, line: RSlice<'_, u8>) -> u32,
    /// Runs the future on the host's runtime until it ends or the daemon does.
    pub spawn: unsafe extern "C" fn(daemon: u64, future: FfiFuture<()>) -> u32,
    /// Returns a future that ends after that many milliseconds.
    pub sleep: unsafe extern "C" fn(daemon: u64, ms: u64) -> FfiFuture<()>,
    /// Returns what later hosts add, or null for an unknown name.
    pub query: unsafe extern "C" fn(name: RStr<'_>) -> *const (),
}

/// The root module of a plugin.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = DaemonModV1_Ref, prefix_fields = DaemonModV1_Prefix)))]
#[sabi(missing_field(panic))]
pub struct DaemonModV1 {
    /// Returns the crate version, the compiler and the target, for people.
    pub build_info: extern "C" fn() -> RStr<'static>,
    /// Returns the same bytes as the file's manifest section.
    pub manifest: extern "C" fn() -> RStr<'static>,
    /// Starts a daemon. `request` is a JSON object. `place` is written when the step ends as `DONE`. Like the sink, it
    /// outlives the step.
    pub create: unsafe extern "C" fn(
        host: HostV1,
        request: RSlice<'_, u8>,
        place: *mut ROption<InstanceV1>,
        sink: *mut SinkV1,
    ) -> StepV1,
    /// Returns what later plugins add, or null for an unknown name.
    #[sabi(last_prefix_field)]
    pub query: extern "C" fn(name: RStr<'_>) -> *const (),
}

impl RootModule for DaemonModV1_Ref {
    abi_stable::declare_root_module_statics! {DaemonModV1_Ref}
    const BASE_NAME: &'static str = "dae_daemon";
    const NAME: &'static str = "dae_daemon";
    // The ABI generation, not the crate's version: a mere release of the crate must not make the host refuse a plugin.
    const VERSION_STRINGS: VersionStrings = VersionStrings::new(concat!(newest!(), ".0.0"));
}

/// A sink over a `Vec<u8>` of the caller. Dropping the sink updates the length of the `Vec`.
pub struct VecSink<'a> {
    raw: SinkV1,
    bytes: &'a mut Vec<u8>,
}

impl<'a> VecSink<'a> {
    /// Creates a sink that appends to `bytes`. Its `owner` is set only by [`VecSink::raw`].
    #[inline]
    pub fn new(bytes: &'a mut Vec<u8>) -> Self {
        let raw = SinkV1 {
            start: bytes.as_mut_ptr(),
            len: bytes.len(),
            capacity: bytes.capacity(),
            owner: std::ptr::null_mut(),
            grow: grow_vec,
        };
        VecSink { raw, bytes }
    }

    /// Returns the pointer for the callee. It is valid until this sink is moved or dropped.
    #[inline]
    pub fn raw(&mut self) -> *mut SinkV1 {
        self.raw.owner = std::ptr::from_mut::<Vec<u8>>(self.bytes).cast();
        &raw mut self.raw
    }
}

impl Drop for VecSink<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `grow_vec` keeps `raw.start` and `raw.capacity` those of the Vec, and by contract the callee has
        // initialised the bytes up to `len`; the `min` keeps a callee that overstates `len` inside the allocation.
        unsafe { self.bytes.set_len(self.raw.len.min(self.bytes.capacity())) };
    }
}

/// A sink that owns its bytes and stays at one address, for operations that end later.
pub struct LateSink {
    raw: SinkV1,
    bytes: Vec<u8>,
}

// SAFETY: the pointers inside are to its own `bytes`; a callee's use of them is ordered by the future's end.
unsafe impl Send for LateSink {}

impl LateSink {
    /// Creates an empty sink. It is boxed because its address crosses the boundary.
    #[must_use]
    pub fn new() -> Box<Self> {
        Box::new(LateSink {
            raw: SinkV1 {
                start: std::ptr::NonNull::dangling().as_ptr(),
                len: 0,
                capacity: 0,
                owner: std::ptr::null_mut(),
                grow: grow_vec,
            },
            bytes: Vec::new(),
        })
    }

    /// Returns the pointer for the callee. It is valid until this sink, or a box of it, is moved or dropped.
    pub fn raw(&mut self) -> *mut SinkV1 {
        // Set here, because a move of the box since then would have made an earlier pointer invalid.
        self.raw.owner = (&raw mut self.bytes).cast();
        &raw mut self.raw
    }

    /// Takes the bytes. Call this only after the step that got the pointer has ended or its future was dropped.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        // SAFETY: as in `VecSink::drop`.
        unsafe { self.bytes.set_len(self.raw.len.min(self.bytes.capacity())) };
        (self.raw.len, self.raw.capacity) = (0, 0);
        self.raw.start = std::ptr::NonNull::dangling().as_ptr();
        std::mem::take(&mut self.bytes)
    }

    /// Lets the sink use the memory of these bytes again. The condition of [`LateSink::take`] applies.
    pub fn give_back(&mut self, mut bytes: Vec<u8>) {
        bytes.clear();
        self.bytes = bytes;
        self.raw.start = self.bytes.as_mut_ptr();
        (self.raw.len, self.raw.capacity) = (0, self.bytes.capacity());
    }
}

/// The most that a callee may write into one sink, and so the longest reply of a daemon (bytes). Without this limit, a
/// plugin with endless output would run until the kernel kills the process for its memory.
pub const SINK_BYTES_MAX: usize = 256 << 20;

unsafe extern "C" fn grow_vec(sink: *mut SinkV1, additional: usize) -> bool {
    // SAFETY: the sink is one of the two above, alive by contract, and `owner` was set to its Vec.
    let (sink, bytes) = unsafe {
        let sink = &mut *sink;
        let bytes = &mut *sink.owner.cast::<Vec<u8>>();
        (sink, bytes)
    };
    if sink.len > bytes.capacity() || sink.len.saturating_add(additional) > SINK_BYTES_MAX {
        return false;
    }
    // SAFETY: the callee has initialised `len` bytes, which the line above checked against the capacity.
    unsafe { bytes.set_len(sink.len) };
    if bytes.try_reserve(additional).is_err() {
        return false;
    }
    sink.start = bytes.as_mut_ptr();
    sink.capacity = bytes.capacity();
    true
}

/// The callee's side of a sink.
pub struct Output {
    sink: *mut SinkV1,
    base: usize,
}

// SAFETY: the holder is the only one to touch the sink until the step ends (the contract of `DaemonVtableV1`).
unsafe impl Send for Output {}

impl Output {
    /// Creates the callee's side of `sink`.
    ///
    /// # Safety
    /// `sink` must be valid, and used by nothing else, for as long as the returned value is used.
    #[must_use]
    #[inline]
    pub unsafe fn new(sink: *mut SinkV1) -> Self {
        // SAFETY: valid by the caller's promise.
        let base = unsafe { (*sink).len };
        Output { sink, base }
    }

    /// Returns a second handle on the same sink, for the panic message of the code that holds the first.
    ///
    /// # Safety
    /// The two must never be used at the same time.
    #[must_use]
    #[inline]
    pub unsafe fn second(&self) -> Self {
        Output {
            sink: self.sink,
            base: self.base,
        }
    }

    /// Appends the bytes. Returns false if the owner refuses to grow.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        self.push_all([bytes])
    }

    /// Appends all parts or none. Returns false if the owner refuses to grow.
    #[inline]
    pub fn push_all<const N: usize>(&mut self, parts: [&[u8]; N]) -> bool {
        let additional = parts.iter().map(|part| part.len()).sum();
        // SAFETY: valid and ours alone by the promise given to `new`.
        let sink = unsafe { &mut *self.sink };
        if sink.capacity - sink.len < additional {
            // SAFETY: `grow` is the owner's, for this sink.
            let grown = unsafe { (sink.grow)(self.sink, additional) };
            if !grown {
                return false;
            }
        }
        // SAFETY: the sink has space for all parts behind `len`, and none can overlap it: nothing else uses that space.
        unsafe {
            let sink = &mut *self.sink;
            for part in parts {
                std::ptr::copy_nonoverlapping(part.as_ptr(), sink.start.add(sink.len), part.len());
                sink.len += part.len();
            }
        }
        true
    }

    /// Drops what was appended, and appends the text of an error instead. An empty text becomes [`NO_REASON`]. All
    /// errors of a plugin pass through here, so none of them has an empty message.
    pub fn replace(&mut self, text: &str) {
        let text = if text.trim().is_empty() {
            NO_REASON
        } else {
            text
        };
        // SAFETY: as in `push`; `base` is not above `len`, since `len` only grows from it.
        unsafe { (*self.sink).len = self.base };
        self.push(text.as_bytes());
    }

    /// Returns what was appended so far.
    #[must_use]
    pub fn appended(&self) -> &[u8] {
        // SAFETY: `start..start+len` is initialised, and ours alone while `self` is borrowed.
        unsafe {
            let sink = &*self.sink;
            std::slice::from_raw_parts(sink.start.add(self.base), sink.len - self.base)
        }
    }
}

/// The message for an error of the daemon's code that has no text.
pub const NO_REASON: &str = "the daemon's code gave no reason";

impl std::io::Write for Output {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.push(bytes) {
            Ok(())
        } else {
            Err(std::io::Error::other(
                "the result is larger than the host takes",
            ))
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl HostV1 {
    /// Sends one record to the daemon's log.
    pub fn log(&self, level: u32, target: &str, message: &str, fields: &str) {
        // SAFETY: the table's functions take any id; the strings are borrowed for the call.
        unsafe {
            (self.vtable.log)(
                self.daemon,
                level,
                target.into(),
                message.into(),
                fields.into(),
            )
        }
    }

    /// Runs an operation at once, with bytes in and out.
    ///
    /// # Errors
    /// The host doesn't know the operation, the daemon has ended, or the operation fails.
    pub fn ask(&self, operation: &str, request: &[u8]) -> Result<Vec<u8>, HostFault> {
        let mut bytes = Vec::new();
        let mut sink = VecSink::new(&mut bytes);
        // SAFETY: the sink lives across the call and is not moved after `raw`.
        let status = unsafe {
            (self.vtable.ask)(
                self.daemon,
                operation.into(),
                RSlice::from_slice(request),
                sink.raw(),
            )
        };
        drop(sink);
        ended(status, bytes)
    }

    /// Runs an operation that may take time, with bytes in and out. Dropping the future cancels it.
    ///
    /// # Errors
    /// The same as [`HostV1::ask`].
    pub async fn ask_later(self, operation: &str, request: Vec<u8>) -> Result<Vec<u8>, HostFault> {
        let mut sink = LateSink::new();
        let step = {
            let raw = sink.raw();
            // SAFETY: the box `sink` is declared before the future below, so it is dropped after it.
            unsafe {
                (self.vtable.ask_later)(
                    self.daemon,
                    operation.into(),
                    RSlice::from_slice(&request),
                    raw,
                )
            }
        };
        let status = match step.future {
            ROption::RSome(future) => future.await,
            ROption::RNone => step.status,
        };
        ended(status, sink.take())
    }

    /// Sends one line to a guest. The status shows whether the guest is still there.
    #[must_use]
    pub fn emit(&self, guest: u64, line: &[u8]) -> u32 {
        // SAFETY: any id is taken; the line is borrowed for the call.
        unsafe { (self.vtable.emit)(self.daemon, guest, RSlice::from_slice(line)) }
    }

    /// Has the host run a future until it ends or the daemon ends.
    #[must_use]
    pub fn spawn(&self, future: FfiFuture<()>) -> u32 {
        // SAFETY: any id is taken; the future is owned.
        unsafe { (self.vtable.spawn)(self.daemon, future) }
    }

    /// Returns a future that ends after that many milliseconds on the host's clock.
    #[must_use]
    pub fn sleep(&self, ms: u64) -> FfiFuture<()> {
        // SAFETY: any id is taken.
        unsafe { (self.vtable.sleep)(self.daemon, ms) }
    }
}

fn ended(status: u32, bytes: Vec<u8>) -> Result<Vec<u8>, HostFault> {
    if matches!(status, status::DONE | status::NOTHING) {
        return Ok(bytes);
    }
    let message = String::from_utf8_lossy(&bytes).into_owned();
    Err(HostFault { status, message })
}
