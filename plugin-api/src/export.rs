//! Exposes a daemon across the boundary: the functions of its vtable, and the protection around each.
//!
//! Every function here catches the panics of the author's code, marks the thread as running that daemon (for the log),
//! and enters the daemon's own tokio runtime if there is one. A future does the same at each poll and in its drop.

#![allow(unsafe_code)]

mod create;

use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use abi_stable::prefix_type::WithMetadata;
use abi_stable::std_types::{RSlice, RStr};
use async_ffi::FutureExt as _;

#[cfg(feature = "schema")]
use crate::abi;
use crate::abi::{
    CHECK_STATE, CallV1, CheckStateV1, DaemonModV1, DaemonModV1_Ref, HostV1, Output, SinkV1,
    StepV1, status, verb,
};
use crate::parts::{CALL_PARTS, CallPartsV1};
use crate::{Guest, log, panic};
use create::{create, create_from};

pub use create::{CREATE_FROM, CreateFromV1};

pub use crate::arguments::{Optional, Required, Rest, Signature, Text};
pub use crate::daemon::{Call, Exported, Live, StartRequest, Work};
pub use crate::keep::{kept, kept_blocking};
pub use crate::parts::drain;
pub use crate::reply::{CommandValue, Ended, FallibleReply, PlainReply, Started};
pub use crate::saved_state::{SavedState, saved};
#[cfg(feature = "schema")]
pub use crate::schema::run_time::{
    DescribedLater, ResultLater, ResultNever, RunTimeSchemas, UndescribedLater,
};
pub use crate::schema::{ManifestPart, Probe, Returned, Schema, Undescribed, join, joined_len};
pub use abi_stable;

/// Returns the root module of a plugin whose daemon is `D`.
#[must_use]
pub fn root_module<D: Exported>() -> DaemonModV1_Ref {
    struct Holder<D>(std::marker::PhantomData<D>);
    impl<D: Exported> Holder<D> {
        const MODULE: WithMetadata<DaemonModV1> = WithMetadata::new(DaemonModV1 {
            build_info,
            manifest: manifest::<D>,
            create: create::<D>,
            query: query::<D>,
        });
    }
    // SAFETY: `MODULE` is a constant of 'static function pointers, promoted to a static of this library.
    const { DaemonModV1_Ref(unsafe { WithMetadata::as_prefix(&Holder::<D>::MODULE) }) }
}

/// A daemon whose code is part of the running program, rather than of a plugin file.
///
/// Each type with `#[daemon]` is one, since the macro implements [`Exported`] for it. A program that links the author's
/// crate reaches the daemon with it: a host that runs built-in daemons, and a test without a host.
pub trait Compiled: Exported {
    /// Returns the daemon's root module, the same as its plugin file exports.
    #[must_use]
    fn module() -> DaemonModV1_Ref {
        log::be_built_in();
        root_module::<Self>()
    }
}

impl<D: Exported> Compiled for D {}

extern "C" fn build_info() -> RStr<'static> {
    const INFO: &str = concat!(
        "dae-plugin-api ",
        env!("CARGO_PKG_VERSION"),
        ", ",
        env!("DAE_RUSTC"),
        ", ",
        env!("DAE_TARGET")
    );
    INFO.into()
}

extern "C" fn manifest<D: Exported>() -> RStr<'static> {
    D::manifest().into()
}

extern "C" fn query<D: Exported>(name: RStr<'_>) -> *const () {
    match name.as_str() {
        CHECK_STATE => check_state::<D> as CheckStateV1 as *const (),
        #[cfg(feature = "schema")]
        abi::SCHEMAS => schemas::<D> as abi::SchemasV1 as *const (),
        CALL_PARTS => call_parts::<D> as CallPartsV1 as *const (),
        CREATE_FROM => create_from::<D> as CreateFromV1 as *const (),
        _ => std::ptr::null(),
    }
}

unsafe extern "C" fn check_state<D: Exported>(state: RSlice<'_, u8>, sink: *mut SinkV1) -> u32 {
    // SAFETY: the caller keeps the sink valid and leaves it to this function for the length of this call.
    let mut out = unsafe { Output::new(sink) };
    panic::install_hook();
    let checked = panic::caught(|| D::check_state(&SavedState::lent(state.as_slice())?));
    match checked {
        Ok(Ok(())) => status::NOTHING,
        Ok(Err(text)) => {
            out.replace(&text);
            status::FAILED
        }
        Err(text) => {
            out.replace(&text);
            status::CRASHED
        }
    }
}

#[cfg(feature = "schema")]
unsafe extern "C" fn schemas<D: Exported>(sink: *mut SinkV1) -> u32 {
    // SAFETY: the caller keeps the sink valid and leaves it to this function for the length of this call.
    let mut out = unsafe { Output::new(sink) };
    panic::install_hook();
    let described = panic::caught(|| {
        let mut schemas = RunTimeSchemas::default();
        D::describe(&mut schemas);
        schemas.to_json()
    });
    match described {
        Ok(text) if out.push(text.as_bytes()) => status::DONE,
        Ok(_) => {
            out.replace("the schemas are larger than the host takes");
            status::FAILED
        }
        Err(text) => {
            out.replace(&text);
            status::CRASHED
        }
    }
}

/// Borrows the `Arc` behind `this` without changing its count.
///
/// # Safety
/// `this` comes from `InstancePlace::put::<D>`, and `destroy` has not been called.
unsafe fn borrowed<D>(this: *const ()) -> ManuallyDrop<Arc<Live<D>>> {
    // SAFETY: `this` is what `Arc::into_raw` returned; ManuallyDrop leaves that count as it is.
    ManuallyDrop::new(unsafe { Arc::from_raw(this.cast()) })
}

unsafe extern "C" fn call<D: Exported>(
    this: *const (),
    call: &CallV1<'_>,
    sink: *mut SinkV1,
) -> StepV1 {
    // SAFETY: the vtable's contract is that of `called`.
    unsafe { called::<D>(this, call, 0, sink) }
}

unsafe extern "C" fn call_parts<D: Exported>(
    this: *const (),
    call: &CallV1<'_>,
    number: u64,
    sink: *mut SinkV1,
) -> StepV1 {
    // SAFETY: the contract of `CallPartsV1` is that of `called`.
    unsafe { called::<D>(this, call, number, sink) }
}

/// Runs a command. `parts` is the number of a call whose caller takes parts, otherwise 0.
///
/// # Safety
/// The contract is that of the vtable's `call`.
#[inline(always)]
unsafe fn called<D: Exported>(
    this: *const (),
    call: &CallV1<'_>,
    parts: u64,
    sink: *mut SinkV1,
) -> StepV1 {
    // SAFETY: the vtable's contract.
    let live = unsafe { borrowed::<D>(this) };
    // SAFETY: the caller keeps the sink valid and leaves it to the step until the step has ended.
    let out = unsafe { Output::new(sink) };
    // SAFETY: `second` is used only when the code that has the first has panicked.
    let mut second = unsafe { out.second() };
    let _scope = log::Scope::enter(live.host);
    let _entered = live.runtime.enter();
    let call = Call {
        host: live.host,
        command: call.command,
        guest: call.guest,
        parts,
        // SAFETY: the vtable's contract.
        arguments: unsafe { call.text() },
        out,
    };
    panic::caught(|| D::call(&live, call)).unwrap_or_else(|text| {
        second.replace(&text);
        StepV1::ended(status::CRASHED)
    })
}

unsafe extern "C" fn act<D: Exported>(
    this: *const (),
    verb: u32,
    argument: RSlice<'_, u8>,
    sink: *mut SinkV1,
) -> StepV1 {
    // SAFETY: the vtable's contract.
    let live = unsafe { borrowed::<D>(this) };
    // SAFETY: the caller keeps the sink valid and leaves it to the step until the step has ended.
    let mut out = unsafe { Output::new(sink) };
    let _scope = log::Scope::enter(live.host);
    let _entered = live.runtime.enter();
    match verb {
        verb::SAVE => return written(&live, out, D::save),
        verb::SNAPSHOT => return written(&live, out, D::snapshot),
        verb::DELTA => return written(&live, out, D::delta),
        _ => {}
    }
    let start = || match verb {
        verb::PING => Ok(None),
        verb::RUN => Ok(D::run(Arc::clone(&live))),
        verb::STOP => Ok(D::stop(Arc::clone(&live))),
        verb::APPLY => applied::<D>(&live, argument.as_slice()),
        verb::GUEST_CAME | verb::GUEST_GONE => told_of_guest::<D>(&live, verb, argument.as_slice()),
        _ => Err(status::UNKNOWN),
    };
    match panic::caught(start) {
        Ok(Ok(Some(work))) => pending(&live, out, |out| finished(work, out)),
        Ok(Ok(None)) => StepV1::ended(status::NOTHING),
        Ok(Err(status)) => StepV1::ended(status),
        Err(text) => {
            out.replace(&text);
            StepV1::ended(status::CRASHED)
        }
    }
}

/// Returns the work for a guest that has come or gone. The argument is its id (u64, little-endian).
fn told_of_guest<D: Exported>(
    live: &Arc<Live<D>>,
    verb: u32,
    argument: &[u8],
) -> Result<Option<Work<()>>, u32> {
    let id = argument.try_into().map_err(|_| status::BAD_ARGUMENTS)?;
    let guest = Guest::new(live.host, u64::from_le_bytes(id));
    Ok(match verb {
        verb::GUEST_CAME => D::guest_came(Arc::clone(live), guest),
        _ => D::guest_gone(Arc::clone(live), guest),
    })
}

/// Returns the work that carries out the changes in a state.
fn applied<D: Exported>(live: &Arc<Live<D>>, delta: &[u8]) -> Result<Option<Work<()>>, u32> {
    Ok(match SavedState::lent(delta) {
        Ok(delta) => D::apply(Arc::clone(live), &delta),
        Err(text) => Some(Box::pin(async { Err(text) })),
    })
}

/// Writes a state into the sink, or returns `NOTHING` for a daemon that hands none over.
fn written<D: Exported>(
    live: &Arc<Live<D>>,
    mut out: Output,
    write: fn(Arc<Live<D>>, Output) -> Option<Work<()>>,
) -> StepV1 {
    // SAFETY: the other handle is used only when the work that has this one has ended.
    let first = unsafe { out.second() };
    match panic::caught(|| write(Arc::clone(live), first)) {
        Ok(Some(work)) => pending(live, out, |mut out| async move {
            match work.await {
                Ok(()) => status::DONE,
                Err(text) => {
                    out.replace(&text);
                    status::FAILED
                }
            }
        }),
        Ok(None) => StepV1::ended(status::NOTHING),
        Err(text) => {
            out.replace(&text);
            StepV1::ended(status::CRASHED)
        }
    }
}

async fn finished(work: Work<()>, mut out: Output) -> u32 {
    match work.await {
        Ok(()) => status::NOTHING,
        Err(text) => {
            out.replace(&text);
            status::FAILED
        }
    }
}

unsafe extern "C" fn destroy<D: Exported>(this: *const (), sink: *mut SinkV1) -> u32 {
    // SAFETY: `this` is from `InstancePlace::put::<D>`, and only this call takes back its count.
    let live: Arc<Live<D>> = unsafe { Arc::from_raw(this.cast()) };
    // SAFETY: the caller keeps the sink valid and leaves it to this function for the length of this call.
    let mut out = unsafe { Output::new(sink) };
    let _scope = log::Scope::enter(live.host);
    let dropped = panic::caught(move || {
        // The other counts belong to futures of its commands, and the host has dropped those.
        if let Some(live) = Arc::into_inner(live) {
            let Live {
                daemon,
                mut runtime,
                ..
            } = live;
            let outcome = panic::caught(|| {
                let _entered = runtime.enter();
                drop(daemon);
            });
            runtime.stop();
            return outcome;
        }
        Ok(())
    });
    match dropped.and_then(|inner| inner) {
        Ok(()) => status::NOTHING,
        Err(text) => {
            out.replace(&text);
            status::CRASHED
        }
    }
}

/// Returns a step that continues with the author's future.
pub(crate) fn pending<D, F>(
    live: &Arc<Live<D>>,
    out: Output,
    make: impl FnOnce(Output) -> F,
) -> StepV1
where
    D: Exported,
    F: Future<Output = u32> + Send + 'static,
{
    StepV1::pending(Guarded::new(live.host, Some(Arc::clone(live)), out, make).into_ffi())
}

/// A future of the author's code that is protected at each poll and in its drop.
struct Guarded<D: Exported, F> {
    // Dropped explicitly, before `live`, because it may borrow from it through an Arc of its own.
    future: ManuallyDrop<F>,
    host: HostV1,
    live: Option<Arc<Live<D>>>,
    last_words: Output,
}

impl<D: Exported, F: Future<Output = u32> + Send> Guarded<D, F> {
    fn new(
        host: HostV1,
        live: Option<Arc<Live<D>>>,
        out: Output,
        make: impl FnOnce(Output) -> F,
    ) -> Self {
        // SAFETY: `last_words` is used only when the future, which has the first handle, has panicked.
        let last_words = unsafe { out.second() };
        Guarded {
            future: ManuallyDrop::new(make(out)),
            host,
            live,
            last_words,
        }
    }
}

impl<D: Exported, F: Future<Output = u32>> Future for Guarded<D, F> {
    type Output = u32;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<u32> {
        // SAFETY: `future` is pinned with `self`, never moved out of it, and dropped in place.
        let this = unsafe { self.get_unchecked_mut() };
        let _scope = log::Scope::enter(this.host);
        let _entered = this.live.as_ref().map(|live| live.runtime.enter());
        // SAFETY: as above.
        let future = unsafe { Pin::new_unchecked(&mut *this.future) };
        panic::caught(|| future.poll(context)).unwrap_or_else(|text| {
            this.last_words.replace(&text);
            Poll::Ready(status::CRASHED)
        })
    }
}

impl<D: Exported, F> Drop for Guarded<D, F> {
    fn drop(&mut self) {
        let _scope = log::Scope::enter(self.host);
        {
            let _entered = self.live.as_ref().map(|live| live.runtime.enter());
            // The hook logs a panic of this drop; there is nothing left to answer.
            // SAFETY: dropped once, here, in place.
            let _ = panic::caught(|| unsafe { ManuallyDrop::drop(&mut self.future) });
        }
        // This may be the last handle on the daemon, whose Drop is the author's code too.
        let live = self.live.take();
        let _ = panic::caught(|| drop(live));
    }
}

/// Exports the only symbol of a plugin. It does the same as `abi_stable::export_root_module`, but the author's crate
/// need not depend on `abi_stable`. The name equals that crate's `ROOT_MODULE_LOADER_NAME`; a test compares them.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_root_module {
    ($daemon:ty) => {
        #[allow(unsafe_code)]
        const _: () = {
            use $crate::export::abi_stable::library::{
                __call_root_module_loader, CheckTypeLayout, LibHeader, RootModuleResult,
            };

            extern "C" fn load() -> RootModuleResult {
                __call_root_module_loader($crate::export::root_module::<$daemon>)
            }

            #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
            static ROOT_MODULE_LOADER: LibHeader = {
                // SAFETY: `load` erases what `root_module` returned, a `DaemonModV1_Ref`, the type named here.
                unsafe {
                    LibHeader::from_constructor::<$crate::abi::DaemonModV1_Ref>(
                        load,
                        CheckTypeLayout::Yes,
                    )
                }
            };
        };
    };
}

/// Writes a member of the manifest: whether the plugin has schemas that only run time knows.
#[cfg(feature = "schema")]
#[doc(hidden)]
#[macro_export]
macro_rules! __run_time_schemas {
    () => {
        ",\"run_time_schemas\":true"
    };
}

/// Writes nothing: without the feature `schema` a plugin has no schemas at run time.
#[cfg(not(feature = "schema"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __run_time_schemas {
    () => {
        ""
    };
}

/// Writes its tokens, with the feature `schema` alone.
#[cfg(feature = "schema")]
#[doc(hidden)]
#[macro_export]
macro_rules! __with_schemas {
    ($($tokens:tt)*) => { $($tokens)* };
}

/// Writes nothing, without the feature `schema`.
#[cfg(not(feature = "schema"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __with_schemas {
    ($($tokens:tt)*) => {};
}

/// Returns a plugin's panic strategy for its manifest. It is evaluated in the plugin's crate.
#[doc(hidden)]
#[macro_export]
macro_rules! __panic_strategy {
    () => {
        if cfg!(panic = "abort") {
            "abort"
        } else {
            "unwind"
        }
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_exported_symbol_is_the_one_that_loaders_look_for() {
        let name = abi_stable::library::ROOT_MODULE_LOADER_NAME;
        assert!(
            include_str!("export.rs").contains(&format!("export_name = \"{name}\"")),
            "{name}"
        );
    }
}
