//! The functions of a test host that a daemon calls. Each finds the host by the number of the instance.

#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use abi_stable::std_types::{RSlice, RStr};
use async_ffi::{FfiFuture, FutureExt as _};

use super::core::{Answer, Core};
use super::instance::Outcome;
use super::signal::lock;
use crate::abi::{HostV1, HostVtableV1, Output, SinkV1, StepV1, status};

static VTABLE: HostVtableV1 = HostVtableV1 {
    log,
    ask,
    ask_later,
    emit,
    spawn,
    sleep,
    query,
};

/// The hosts of all instances that exist in this process. Tests run at the same time.
static HOSTS: Mutex<BTreeMap<u64, Weak<Core>>> = Mutex::new(BTreeMap::new());

/// Registers a new instance of a host.
pub fn register(core: &Arc<Core>) -> HostV1 {
    static LAST: Mutex<u64> = Mutex::new(0);
    let daemon = {
        let mut last = lock(&LAST);
        *last += 1;
        *last
    };
    lock(&HOSTS).insert(daemon, Arc::downgrade(core));
    HostV1 {
        daemon,
        vtable: &VTABLE,
    }
}

/// Forgets an instance.
pub fn unregister(daemon: u64) {
    lock(&HOSTS).remove(&daemon);
}

/// Returns the time on the clock of a daemon's test host; `None` if it runs in a real host.
pub fn now(host: HostV1) -> Option<Instant> {
    let is_ours = std::ptr::eq(host.vtable, &raw const VTABLE);
    is_ours.then(|| find(host.daemon).map(|core| core.instant()))?
}

fn find(daemon: u64) -> Option<Arc<Core>> {
    lock(&HOSTS).get(&daemon)?.upgrade()
}

unsafe extern "C" fn log(
    daemon: u64,
    level: u32,
    target: RStr<'_>,
    message: RStr<'_>,
    fields: RStr<'_>,
) {
    if let Some(core) = find(daemon) {
        let text = (message.as_str(), fields.as_str());
        core.log(daemon, level, target.as_str(), text);
    }
}

unsafe extern "C" fn ask(
    daemon: u64,
    operation: RStr<'_>,
    request: RSlice<'_, u8>,
    sink: *mut SinkV1,
) -> u32 {
    // SAFETY: the daemon keeps the sink valid, and leaves it to this function for the length of this call.
    let mut out = unsafe { Output::new(sink) };
    match find(daemon) {
        Some(core) => written(
            core.ask(daemon, operation.as_str(), request.as_slice()),
            &mut out,
        ),
        None => status::GONE,
    }
}

unsafe extern "C" fn ask_later(
    daemon: u64,
    operation: RStr<'_>,
    request: RSlice<'_, u8>,
    sink: *mut SinkV1,
) -> StepV1 {
    // SAFETY: the daemon keeps the sink valid, and leaves it to the step until the step has ended.
    let mut out = unsafe { Output::new(sink) };
    let Some(core) = find(daemon) else {
        return StepV1::ended(status::GONE);
    };
    match core.ask_later(daemon, operation.as_str(), request.as_slice()) {
        Answer::Now(outcome) => StepV1::ended(written(outcome, &mut out)),
        Answer::Later(work) => {
            StepV1::pending(async move { written(work.await, &mut out) }.into_ffi())
        }
    }
}

fn written((status, bytes): Outcome, out: &mut Output) -> u32 {
    match out.push(&bytes) {
        true => status,
        false => status::FAILED,
    }
}

unsafe extern "C" fn emit(daemon: u64, guest: u64, line: RSlice<'_, u8>) -> u32 {
    let line = String::from_utf8_lossy(line.as_slice());
    match find(daemon) {
        Some(core) if core.emit(daemon, guest, &line) => status::NOTHING,
        _ => status::GONE,
    }
}

unsafe extern "C" fn spawn(daemon: u64, future: FfiFuture<()>) -> u32 {
    match find(daemon) {
        Some(core) if core.spawn_of(daemon, future) => status::NOTHING,
        _ => status::GONE,
    }
}

unsafe extern "C" fn sleep(daemon: u64, ms: u64) -> FfiFuture<()> {
    match find(daemon) {
        Some(core) => core.sleep_of(daemon, Duration::from_millis(ms)).into_ffi(),
        None => std::future::ready(()).into_ffi(),
    }
}

unsafe extern "C" fn query(_: RStr<'_>) -> *const () {
    std::ptr::null()
}
