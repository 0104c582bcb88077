//! Connect hooks: they report guests to a daemon's `#[on(connect)]` and `#[on(disconnect)]`.
//!
//! An instance hears of a guest once, before the guest's first command. A successor hears again of the guests that
//! stay. The task that acts for the guest runs the hooks, so that connect and disconnect can't overtake each other.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::connection::guest_handle::GuestHandle;
use crate::instance::{CancelPolicy, StartProgress};
use crate::session::gate::Lease;

/// A running connect hook.
pub type ConnectHook = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Returns whether the connect hook for that guest is still to run in that instance, or has not finished.
#[inline]
pub(crate) fn is_due(lease: &Lease, guest: &GuestHandle) -> bool {
    lease.instance.greets() && !guest.is_known_to(lease.instance.number())
}

/// Returns the connect hook, if it is due. No command of the guest may run until the hook ends.
pub fn due(lease: &Arc<Lease>, guest: &Arc<GuestHandle>, limit: Duration) -> Option<ConnectHook> {
    if !is_due(lease, guest) {
        return None;
    }
    guest.set_greeted_by(lease.instance.number());
    let (lease, guest) = (Arc::clone(lease), Arc::clone(guest));
    Some(Box::pin(async move {
        let coming = lease.instance.guest_came(guest.id());
        let given_up = lease.given_up(limit, StartProgress::Begun);
        let ended = tokio::select! {
            ended = coming => ended,
            why = given_up => why.completion("on(connect)", CancelPolicy::Cancelled),
        };
        guest.set_known_to(lease.instance.number());
        lease.instance.tell_of("on(connect)", &ended);
    }))
}

/// Starts the disconnect hook for a guest that has gone. Nothing waits for it.
pub(crate) fn goodbye(lease: &Arc<Lease>, guest: &GuestHandle) {
    let was_greeted = guest.is_greeted_by(lease.instance.number());
    if !lease.instance.greets() || was_greeted {
        lease.instance.guest_gone(guest.id(), lease);
    }
}
