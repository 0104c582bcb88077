//! The types that cross between the host and a plugin, and nothing else.
//!
//! A key design decision: an ABI generation is frozen. abi_stable refuses a host whose types have grown, so one field
//! added here would turn away every plugin compiled before. What is new comes through `query`, through a new verb of
//! [`DaemonVtableV1::act`], through a new operation of [`HostVtableV1::ask`], or as a V2 beside this one.
//!
//! Only bytes, integers, function pointers and `FfiFuture`s cross. Bytes in are borrowed for the length of the call;
//! bytes out go into a [`SinkV1`] that belongs to the side that called. Nothing allocated on one side is freed on the
//! other. No panic crosses: each function here is called with the promise that it catches its own.

#![allow(unsafe_code, non_local_definitions, non_camel_case_types)]
#![allow(missing_docs, reason = "abi_stable's derive makes undocumented items")]

use std::fmt;

use abi_stable::StableAbi;
use abi_stable::library::RootModule;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::{ROption, RSlice, RStr};
use async_ffi::FfiFuture;

/// The oldest ABI generation that this crate's host loads.
pub const ABI_VERSION_MIN: u32 = 1;
/// The newest ABI generation, and the one that a plugin built with this crate has.
pub const ABI_VERSION_MAX: u32 = 1;

/// How a call ended; what the sink holds depends on it. Numbers, not an enum: an unknown one is a value, not
/// undefined behaviour.
pub mod status {
    /// The sink holds the result as JSON.
    pub const DONE: u32 = 0;
    /// Done, and there is no result.
    pub const NOTHING: u32 = 1;
    /// Not yet: the step's future ends with one of the others.
    pub const PENDING: u32 = 2;
    /// The daemon's own error; the sink holds its text.
    pub const FAILED: u32 = 3;
    /// An argument is missing, too many, or of a wrong type; the sink holds the text.
    pub const BAD_ARGUMENTS: u32 = 4;
    /// The arguments are not strict JSON; the caller may translate and call again.
    pub const NOT_JSON: u32 = 5;
    /// The code panicked; the sink holds message and place.
    pub const CRASHED: u32 = 6;
    /// The callee knows no such command, verb or operation.
    pub const UNKNOWN: u32 = 7;
    /// What the id stands for has ended.
    pub const GONE: u32 = 8;
}

/// What a host asks of an instance besides its commands.
pub mod verb {
    /// Background work for as long as the daemon lives; `NOTHING` at once if it has none.
    pub const RUN: u32 = 1;
    /// The last call before the instance is destroyed.
    pub const STOP: u32 = 2;
    /// Answers at once; shows that the code is there.
    pub const PING: u32 = 3;
    /// Its state, `{"version": …, "data": …}`, into the sink; `NOTHING` where it hands none over.
    pub const SAVE: u32 = 4;
    /// A guest has come; the argument is its id (u64, little-endian). Only where the manifest has the key `connect`.
    pub const GUEST_CAME: u32 = 5;
    /// A guest has gone; as [`GUEST_CAME`], with the key `disconnect`.
    pub const GUEST_GONE: u32 = 6;
}

/// A growable buffer of the caller's, for the callee to append to.
#[repr(C)]
#[derive(StableAbi)]
pub struct SinkV1 {
    /// First byte of the buffer.
    pub start: *mut u8,
    /// Bytes in use; the callee appends behind them.
    pub len: usize,
    /// Bytes there are.
    pub capacity: usize,
    /// What `grow` works on; the callee's hands are off it.
    pub owner: *mut (),
    /// Makes room for at least that many more bytes and refreshes the fields; false where the owner refuses.
    pub grow: unsafe extern "C" fn(sink: *mut SinkV1, additional: usize) -> bool,
}

/// The start of an operation: its status, and its future if that is `PENDING`.
#[repr(C)]
#[derive(StableAbi)]
pub struct StepV1 {
    pub status: u32,
    pub future: ROption<FfiFuture<u32>>,
}

impl StepV1 {
    /// A step that is over.
    #[must_use]
    #[inline]
    pub fn ended(status: u32) -> Self {
        StepV1 {
            status,
            future: ROption::RNone,
        }
    }

    /// A step that goes on.
    #[must_use]
    pub fn pending(future: FfiFuture<u32>) -> Self {
        StepV1 {
            status: status::PENDING,
            future: ROption::RSome(future),
        }
    }
}

/// One command, as it is handed to a daemon.
#[repr(C)]
#[derive(StableAbi)]
pub struct CallV1<'a> {
    /// Index into the manifest's commands.
    pub command: u32,
    /// None defined yet; zero.
    pub flags: u32,
    /// The guest that sent it; 0 is nobody.
    pub guest: u64,
    /// What is behind the name, trimmed: JSON, or what the sender thinks is. UTF-8: every host of this
    /// generation has looked, from the first on.
    pub arguments: RSlice<'a, u8>,
}

impl<'a> CallV1<'a> {
    /// The arguments as text.
    ///
    /// # Safety
    /// They are UTF-8, which every host of this generation keeps to.
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

/// The name by which [`DaemonModV1`]'s `query` gives a [`CheckStateV1`].
pub const CHECK_STATE: &str = "check_state.v1";

/// Whether the plugin can read this state (JSON as `SAVE` gives it): `NOTHING`, or the reason in the sink. Nothing of
/// the daemon runs but its reader.
pub type CheckStateV1 = unsafe extern "C" fn(state: RSlice<'_, u8>, sink: *mut SinkV1) -> u32;

/// What the host calls on a daemon. `this` is from the same [`InstanceV1`], and `destroy` has not been called.
/// A sink outlives the step's future, and nobody else touches it until the step has ended.
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

/// The host, as one daemon sees it: an id into the host's tables and the functions that take it.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct HostV1 {
    /// The daemon's id, never used twice. After the daemon's end it stands for nothing, and calls say `GONE`.
    pub daemon: u64,
    pub vtable: &'static HostVtableV1,
}

/// What a daemon calls on its host. Each may be called from any thread, at any time, also after the daemon's end.
#[repr(C)]
#[derive(StableAbi)]
pub struct HostVtableV1 {
    /// Level 1 (error) to 5 (trace); fields are a JSON object.
    pub log: unsafe extern "C" fn(
        daemon: u64,
        level: u32,
        target: RStr<'_>,
        message: RStr<'_>,
        fields: RStr<'_>,
    ),
    /// An operation by name, JSON in and out, answered at once.
    pub ask: unsafe extern "C" fn(
        daemon: u64,
        operation: RStr<'_>,
        request: RSlice<'_, u8>,
        sink: *mut SinkV1,
    ) -> u32,
    /// An operation by name, JSON in and out, answered when it is.
    pub ask_later: unsafe extern "C" fn(
        daemon: u64,
        operation: RStr<'_>,
        request: RSlice<'_, u8>,
        sink: *mut SinkV1,
    ) -> StepV1,
    /// Pushes one whole line to a guest of this daemon: name, space, JSON array, no line feed.
    pub emit: unsafe extern "C" fn(daemon: u64, guest: u64, line: RSlice<'_, u8>) -> u32,
    /// Runs the future on the host's runtime until it ends or the daemon does.
    pub spawn: unsafe extern "C" fn(daemon: u64, future: FfiFuture<()>) -> u32,
    /// Ends after that many milliseconds.
    pub sleep: unsafe extern "C" fn(daemon: u64, ms: u64) -> FfiFuture<()>,
    /// What later hosts add; null for a name it doesn't know.
    pub query: unsafe extern "C" fn(name: RStr<'_>) -> *const (),
}

/// The root module of a plugin.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = DaemonModV1_Ref, prefix_fields = DaemonModV1_Prefix)))]
#[sabi(missing_field(panic))]
pub struct DaemonModV1 {
    /// Crate version, compiler and target, for people.
    pub build_info: extern "C" fn() -> RStr<'static>,
    /// The same bytes as in the file's manifest section.
    pub manifest: extern "C" fn() -> RStr<'static>,
    /// Starts a daemon. `request` is a JSON object; `place` is written when the step ends as `DONE`, and, like the
    /// sink, outlives the step.
    pub create: unsafe extern "C" fn(
        host: HostV1,
        request: RSlice<'_, u8>,
        place: *mut ROption<InstanceV1>,
        sink: *mut SinkV1,
    ) -> StepV1,
    /// What later plugins add; null for a name it doesn't know.
    #[sabi(last_prefix_field)]
    pub query: extern "C" fn(name: RStr<'_>) -> *const (),
}

impl RootModule for DaemonModV1_Ref {
    abi_stable::declare_root_module_statics! {DaemonModV1_Ref}
    const BASE_NAME: &'static str = "dae_daemon";
    const NAME: &'static str = "dae_daemon";
    // The ABI generation, not the crate's version: a release of the crate alone must not turn a plugin away.
    const VERSION_STRINGS: VersionStrings = VersionStrings::new("1.0.0");
}

/// Why the host could not do what a daemon asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFault {
    /// One of [`status`].
    pub status: u32,
    /// The host's text; may be empty.
    pub message: String,
}

impl fmt::Display for HostFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.status, self.message.is_empty()) {
            (status::GONE, true) => f.write_str("it has ended"),
            (status::UNKNOWN, true) => f.write_str("this host doesn't offer that"),
            (status, true) => write!(f, "the host answered with status {status}"),
            (_, false) => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for HostFault {}

/// A sink over a `Vec<u8>` of the caller's own; a drop gives the bytes back to the `Vec`.
pub struct VecSink<'a> {
    raw: SinkV1,
    bytes: &'a mut Vec<u8>,
}

impl<'a> VecSink<'a> {
    /// A sink that appends to `bytes`. It points to itself only after [`VecSink::raw`].
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

    /// The pointer to hand across. Valid until this sink is moved or dropped.
    #[inline]
    pub fn raw(&mut self) -> *mut SinkV1 {
        self.raw.owner = std::ptr::from_mut::<Vec<u8>>(self.bytes).cast();
        &raw mut self.raw
    }
}

impl Drop for VecSink<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `grow_vec` keeps `raw.start` and `raw.capacity` those of the Vec, and the callee's contract is to have
        // initialised the bytes up to `len`; the `min` keeps a callee that overstates `len` inside the allocation.
        unsafe { self.bytes.set_len(self.raw.len.min(self.bytes.capacity())) };
    }
}

/// A sink that owns its bytes and stays at one address, for what ends later.
pub struct LateSink {
    raw: SinkV1,
    bytes: Vec<u8>,
}

// SAFETY: the pointers inside are to its own `bytes`; a callee's use of them is ordered by the future's end.
unsafe impl Send for LateSink {}

impl LateSink {
    /// An empty one. Boxed, since its address is handed across.
    #[must_use]
    pub fn new() -> Box<Self> {
        let mut sink = Box::new(LateSink {
            raw: SinkV1 {
                start: std::ptr::NonNull::dangling().as_ptr(),
                len: 0,
                capacity: 0,
                owner: std::ptr::null_mut(),
                grow: grow_vec,
            },
            bytes: Vec::new(),
        });
        sink.raw.owner = (&raw mut sink.bytes).cast();
        sink
    }

    /// The pointer to hand across; valid for as long as the box.
    pub fn raw(&mut self) -> *mut SinkV1 {
        &raw mut self.raw
    }

    /// The bytes; only after the step that was given the pointer has ended or its future was dropped.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        // SAFETY: as in `VecSink::drop`.
        unsafe { self.bytes.set_len(self.raw.len.min(self.bytes.capacity())) };
        (self.raw.len, self.raw.capacity) = (0, 0);
        self.raw.start = std::ptr::NonNull::dangling().as_ptr();
        std::mem::take(&mut self.bytes)
    }

    /// Gives the sink the memory of those bytes to be used again, as [`LateSink::take`] says when.
    pub fn give_back(&mut self, mut bytes: Vec<u8>) {
        bytes.clear();
        self.bytes = bytes;
        self.raw.start = self.bytes.as_mut_ptr();
        (self.raw.len, self.raw.capacity) = (0, self.bytes.capacity());
    }
}

/// The most a callee may put in one sink: what a reply of a daemon may be (bytes).
/// A bound, so that a plugin that never ends its output is stopped here, and not by the kernel's memory killer.
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

// SAFETY: whoever holds it is the only one to touch the sink until the step ends (the contract of `DaemonVtableV1`).
unsafe impl Send for Output {}

impl Output {
    /// # Safety
    /// `sink` is valid, and nobody else's, for as long as the returned value is used.
    #[must_use]
    #[inline]
    pub unsafe fn new(sink: *mut SinkV1) -> Self {
        // SAFETY: valid by the caller's promise.
        let base = unsafe { (*sink).len };
        Output { sink, base }
    }

    /// A second handle on the same sink, for the panic message of the code that holds the first.
    ///
    /// # Safety
    /// The two are never used at the same time.
    #[must_use]
    #[inline]
    pub unsafe fn second(&self) -> Self {
        Output {
            sink: self.sink,
            base: self.base,
        }
    }

    /// Appends; false where the owner refuses to grow.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        self.push_all([bytes])
    }

    /// Appends all of these, or nothing; false where the owner refuses to grow.
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
        // SAFETY: the sink has room for all parts behind `len`, and none can overlap it: the room was nobody's.
        unsafe {
            let sink = &mut *self.sink;
            for part in parts {
                std::ptr::copy_nonoverlapping(part.as_ptr(), sink.start.add(sink.len), part.len());
                sink.len += part.len();
            }
        }
        true
    }

    /// Drops what was appended, and appends the text of an error instead. An empty text becomes [`NO_REASON`]: all errors of
    /// a plugin pass here, so that none of them has an empty message.
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

    /// What was appended so far.
    #[must_use]
    pub fn appended(&self) -> &[u8] {
        // SAFETY: `start..start+len` is initialised, and ours alone while `self` is borrowed.
        unsafe {
            let sink = &*self.sink;
            std::slice::from_raw_parts(sink.start.add(self.base), sink.len - self.base)
        }
    }
}

/// The message of an error that the daemon's code gave no text for.
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

    /// An operation that is answered at once, JSON in and out.
    ///
    /// # Errors
    /// The host's: an unknown operation, an ended daemon, or the operation's own.
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

    /// An operation that is answered when it is, JSON in and out. Dropping the future cancels it.
    ///
    /// # Errors
    /// As [`HostV1::ask`].
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

    /// Pushes one line to a guest; the status says whether it is still there.
    #[must_use]
    pub fn emit(&self, guest: u64, line: &[u8]) -> u32 {
        // SAFETY: any id is taken; the line is borrowed for the call.
        unsafe { (self.vtable.emit)(self.daemon, guest, RSlice::from_slice(line)) }
    }

    /// Has the host run a future until it ends or the daemon does.
    #[must_use]
    pub fn spawn(&self, future: FfiFuture<()>) -> u32 {
        // SAFETY: any id is taken; the future is owned.
        unsafe { (self.vtable.spawn)(self.daemon, future) }
    }

    /// Ends after that many milliseconds, on the host's clock.
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
