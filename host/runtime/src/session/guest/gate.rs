//! The waits of a guest's lines for an instance: until the gate changes, and until the connect hook has ended.
//!
//! Both may be under way at the same time: a hook goes on while its instance is being replaced.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;

use crate::connection::guest_handle::GuestHandle;
use crate::session::connect_hooks::{self, ConnectHook};
use crate::session::gate::{Gate, GatePhase, Lease};

/// The waits that hold up a guest's lines.
#[derive(Default)]
pub(super) struct GateWait {
    /// Ends when the gate has changed; set while lines wait at the gate.
    change: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// The connect hook for this guest, while it runs.
    hook: Option<ConnectHook>,
}

impl GateWait {
    /// Returns whether lines wait for anything.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.change.is_some() || self.hook.is_some()
    }

    /// Returns whether the connect hook runs.
    #[inline]
    pub(super) fn has_hook(&self) -> bool {
        self.hook.is_some()
    }

    /// Returns whether lines wait for an instance, for a limited time.
    pub(super) fn is_limited(&self, gate: &Gate) -> bool {
        self.change.is_some() && matches!(**gate.phase(), GatePhase::Waiting)
    }

    /// Ends the wait for a change of the gate.
    #[inline]
    pub(super) fn end(&mut self) {
        self.change = None;
    }

    /// Has the task woken when an instance may be there.
    pub(super) fn watch(&mut self, gate: &Gate, context: &mut Context<'_>) {
        let change = self.change.get_or_insert_with(|| Box::pin(gate.changed()));
        if change.as_mut().poll(context).is_ready() {
            self.change = None;
            context.waker().wake_by_ref();
        } else if !gate.phase().is_waiting() {
            // The gate changed between the caller's check and the subscription.
            context.waker().wake_by_ref();
        }
    }

    /// Returns whether the connect hook for this guest is running. Lines wait until it ends.
    #[inline]
    pub(super) fn poll_hook(&mut self, context: &mut Context<'_>) -> bool {
        let is_on = match &mut self.hook {
            Some(hook) => hook.as_mut().poll(context).is_pending(),
            None => false,
        };
        if !is_on {
            self.hook = None;
        }
        is_on
    }

    /// Starts the connect hook for this guest. Returns whether it is still running.
    #[cold]
    pub(super) fn start_hook(
        &mut self,
        (gate, lease): (&Gate, &Arc<Lease>),
        guest: &Arc<GuestHandle>,
        context: &mut Context<'_>,
    ) -> bool {
        self.hook = connect_hooks::due(lease, guest, gate.limits.command);
        self.poll_hook(context)
    }
}
