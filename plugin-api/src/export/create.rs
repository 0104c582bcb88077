//! The start of a daemon behind the boundary, from its request to the instance.

#![allow(unsafe_code)]

use std::sync::Arc;
use std::task::Poll;

use abi_stable::std_types::{ROption, RSlice};
use async_ffi::FutureExt as _;

use super::{Guarded, act, call, destroy};
use crate::abi::{DaemonVtableV1, HostV1, InstanceV1, Output, SinkV1, StepV1, status};
use crate::daemon::{Exported, Live, StartMessage, StartRequest, Work};
use crate::runtime::Runtime;
use crate::saved_state::SavedState;
use crate::{log, panic};

/// The name under which the `query` of [`DaemonModV1`](crate::abi::DaemonModV1) returns a [`CreateFromV1`].
pub const CREATE_FROM: &str = "create_from.v1";

/// A function that starts a daemon from a state as `create` does, with a `request` that has none. The state is JSON in the
/// form that `SAVE` writes. Unlike other input it outlives the step, so it need not be copied.
pub type CreateFromV1 = unsafe extern "C" fn(
    host: HostV1,
    request: RSlice<'_, u8>,
    state: RSlice<'_, u8>,
    place: *mut ROption<InstanceV1>,
    sink: *mut SinkV1,
) -> StepV1;

/// Starts a daemon. The request has its state, if it has one.
pub(super) unsafe extern "C" fn create<D: Exported>(
    host: HostV1,
    request: RSlice<'_, u8>,
    place: *mut ROption<InstanceV1>,
    sink: *mut SinkV1,
) -> StepV1 {
    // SAFETY: the contract of `create` is that of `begin`.
    unsafe { begin::<D>(host, (request.as_slice(), None), place, sink) }
}

/// Starts a daemon from a state that the caller keeps for it.
pub(super) unsafe extern "C" fn create_from<D: Exported>(
    host: HostV1,
    request: RSlice<'_, u8>,
    state: RSlice<'_, u8>,
    place: *mut ROption<InstanceV1>,
    sink: *mut SinkV1,
) -> StepV1 {
    // SAFETY: by contract of `CreateFromV1` the state outlives the step. Only the step's future reads it: it owns the
    // `StartRequest`, of which the author's code gets values of its own.
    let state = unsafe { std::slice::from_raw_parts(state.as_ptr(), state.len()) };
    // SAFETY: the contract of `CreateFromV1` is that of `begin`.
    unsafe { begin::<D>(host, (request.as_slice(), Some(state)), place, sink) }
}

/// Starts a daemon.
///
/// # Safety
/// The place and the sink are valid, and left to the step until it has ended.
unsafe fn begin<D: Exported>(
    host: HostV1,
    (request, state): (&[u8], Option<&'static [u8]>),
    place: *mut ROption<InstanceV1>,
    sink: *mut SinkV1,
) -> StepV1 {
    let _scope = log::Scope::enter(host);
    // SAFETY: the caller keeps the sink valid and leaves it to the step until the step has ended.
    let mut out = unsafe { Output::new(sink) };
    let place = InstancePlace(place);
    // Only the author's code can panic below. It runs inside the polls of `Guarded`, which catch panics.
    panic::install_hook();
    log::install_subscriber(host);
    let request = match read(host, request, state) {
        Ok(request) => request,
        Err(text) => {
            out.replace(&text);
            return StepV1::ended(status::FAILED);
        }
    };
    let started = started::<D>(request);
    let nobody = None::<Arc<Live<D>>>;
    let guarded = Guarded::new(host, nobody, out, |mut out| async move {
        match started.await {
            Ok(live) => {
                place.put(live);
                status::DONE
            }
            Err(text) => {
                out.replace(&text);
                status::FAILED
            }
        }
    });
    StepV1::pending(guarded.into_ffi())
}

fn read(
    host: HostV1,
    request: &[u8],
    state: Option<&'static [u8]>,
) -> Result<StartRequest, String> {
    let message: StartMessage = serde_json::from_slice(request)
        .map_err(|error| format!("the host's start request can't be read: {error}"))?;
    let lent = state.map(SavedState::lent).transpose()?;
    Ok(StartRequest {
        host,
        config: message.config,
        state: lent.or(message.state.map(SavedState::from)),
    })
}

/// Runs the author's `start` within the daemon's own runtime.
async fn started<D: Exported>(request: StartRequest) -> Result<Arc<Live<D>>, String> {
    let host = request.host;
    let runtime = Runtime::default();
    let mut request = Some(request);
    let mut work: Option<Work<D>> = None;
    let daemon = std::future::poll_fn(|context| {
        let _entered = runtime.enter();
        if let Some(request) = request.take() {
            work = Some(D::start(request));
        }
        match &mut work {
            Some(work) => work.as_mut().poll(context),
            None => Poll::Ready(Err("its start was polled after it had panicked".to_owned())),
        }
    })
    .await?;
    Ok(Arc::new(Live {
        daemon,
        host,
        runtime,
    }))
}

/// The place where `create` stores the instance.
struct InstancePlace(*mut ROption<InstanceV1>);

// SAFETY: the caller of `create` leaves the place to the step alone.
unsafe impl Send for InstancePlace {}

impl InstancePlace {
    fn put<D: Exported>(self, live: Arc<Live<D>>) {
        let instance = InstanceV1 {
            this: Arc::into_raw(live).cast(),
            vtable: const {
                &DaemonVtableV1 {
                    call: call::<D>,
                    act: act::<D>,
                    destroy: destroy::<D>,
                }
            },
        };
        // SAFETY: the caller of `create` keeps the place valid until the step has ended, which is after this.
        unsafe { *self.0 = ROption::RSome(instance) };
    }
}
