//! Telling a daemon of its guests: `#[on(connect)]` and `#[on(disconnect)]`.
//!
//! An instance hears of a guest before the guest's first command, once; a successor hears anew of those that are still there.
//! Who tells it is whoever acts for the guest, a connection's task or a visit, so that the two can't cross.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::connection::guest_handle::GuestHandle;
use crate::instance::{CancelPolicy, StartProgress};
use crate::session::gate::Lease;

/// A daemon that is being told of a guest.
pub type ConnectHook = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Whether that instance is still to be told of that guest, or hasn't heard it all.
#[inline]
pub(crate) fn is_due(lease: &Lease, guest: &GuestHandle) -> bool {
    lease.instance.greets() && !guest.is_known_to(lease.instance.number())
}

/// Tells it, if that is due. Until it ends, no command of the guest is to run.
pub fn due(lease: &Arc<Lease>, guest: &Arc<GuestHandle>, limit: Duration) -> Option<ConnectHook> {
    if !is_due(lease, guest) {
        return None;
    }
    guest.set_greeted_by(lease.instance.number());
    let (lease, guest) = (Arc::clone(lease), Arc::clone(guest));
    Some(Box::pin(async move {
        let coming = lease.instance.guest_came(guest.id());
        let of = ("on(connect)", CancelPolicy::Cancelled);
        let given_up = lease.given_up(of, limit, StartProgress::Begun);
        let ended = tokio::select! {
            ended = coming => ended,
            given_up = given_up => given_up,
        };
        guest.set_known_to(lease.instance.number());
        lease.instance.tell_of("on(connect)", &ended);
    }))
}

/// Tells it that a guest has gone. It isn't waited for.
pub(crate) fn goodbye(lease: &Arc<Lease>, guest: &GuestHandle) {
    let was_greeted = guest.is_greeted_by(lease.instance.number());
    if !lease.instance.greets() || was_greeted {
        lease.instance.guest_gone(guest.id(), lease);
    }
}
