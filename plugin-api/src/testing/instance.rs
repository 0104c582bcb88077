//! Calls into a daemon's exported functions, as a host makes them: bytes in, bytes and a status out.

#![allow(unsafe_code)]

use std::sync::Arc;

use abi_stable::std_types::{ROption, RSlice};

use crate::abi::{
    CallV1, DaemonModV1_Ref, HostV1, InstanceV1, LateSink, SinkV1, StepV1, VecSink, status,
};

/// A constructed daemon. Its end destroys it.
pub struct Code {
    instance: InstanceV1,
    is_destroyed: bool,
}

/// The outcome of a call: a value of [`status`], and the bytes in the sink.
pub type Outcome = (u32, Vec<u8>);

/// A command for a daemon: its index in the manifest, its guest, and its arguments (JSON).
pub struct Sent {
    pub index: u32,
    pub guest: u64,
    pub arguments: String,
}

impl Code {
    /// Constructs a daemon.
    ///
    /// # Errors
    /// The text of the error or the panic of its `start`.
    pub async fn create(
        module: DaemonModV1_Ref,
        host: HostV1,
        request: String,
    ) -> Result<Code, String> {
        let mut place = Box::new(ROption::RNone);
        let (status, bytes) = stepped(|sink| {
            let place = &raw mut *place;
            let request = RSlice::from_slice(request.as_bytes());
            // SAFETY: `place` is a box that is declared before the step and read only after the step has ended.
            unsafe { (module.create())(host, request, place, sink) }
        })
        .await;
        match *place {
            ROption::RSome(instance) if status == status::DONE => Ok(Code {
                instance,
                is_destroyed: false,
            }),
            _ => Err(text_of(&bytes)),
        }
    }

    /// Runs a command. It begins at the first poll.
    pub async fn call(self: Arc<Self>, sent: Sent) -> Outcome {
        let instance = self.instance;
        stepped(|sink| {
            let InstanceV1 { this, vtable } = whole(&instance);
            let call = CallV1 {
                command: sent.index,
                flags: 0,
                guest: sent.guest,
                arguments: RSlice::from_slice(sent.arguments.as_bytes()),
            };
            // SAFETY: `self` keeps the instance for the length of this future, and the arguments are a `String`.
            unsafe { (vtable.call)(this, &call, sink) }
        })
        .await
    }

    /// Runs a step of its life; see [`crate::abi::verb`]. It begins at the first poll.
    pub async fn act(self: Arc<Self>, verb: u32, argument: Vec<u8>) -> Outcome {
        let instance = self.instance;
        stepped(|sink| {
            let InstanceV1 { this, vtable } = whole(&instance);
            let argument = RSlice::from_slice(&argument);
            // SAFETY: `self` keeps the instance for the length of this future.
            unsafe { (vtable.act)(this, verb, argument, sink) }
        })
        .await
    }

    /// Destroys the daemon, unless one of its own threads still runs its code.
    ///
    /// # Errors
    /// Its `Drop` has panicked.
    pub fn end(self: Arc<Self>) -> Result<(), String> {
        match Arc::into_inner(self) {
            Some(mut code) => code.destroy(),
            None => Ok(()),
        }
    }

    fn destroy(&mut self) -> Result<(), String> {
        if std::mem::replace(&mut self.is_destroyed, true) {
            return Ok(());
        }
        let InstanceV1 { this, vtable } = self.instance;
        let mut bytes = Vec::new();
        let mut sink = VecSink::new(&mut bytes);
        // SAFETY: the instance has not been destroyed before, and this is the last handle on it.
        let status = unsafe { (vtable.destroy)(this, sink.raw()) };
        drop(sink);
        match status {
            status::NOTHING => Ok(()),
            _ => Err(text_of(&bytes)),
        }
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        // The panic is in the daemon's log.
        let _ = self.destroy();
    }
}

/// Returns the instance. A closure that calls this captures the instance, which is `Send`, and not its bare pointer.
fn whole(instance: &InstanceV1) -> InstanceV1 {
    *instance
}

/// Runs a step to its end.
async fn stepped(begin: impl FnOnce(*mut SinkV1) -> StepV1) -> Outcome {
    // Declared before the step, so that it is dropped after the step's future.
    let mut sink = LateSink::new();
    let step = begin(sink.raw());
    let status = match step.future {
        ROption::RSome(future) => future.await,
        ROption::RNone => step.status,
    };
    (status, sink.take())
}

/// Returns the text of an error.
pub fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
