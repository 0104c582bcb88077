//! Admission: whether a guest's next line may run now, and on which instance.
//!
//! Guests with a socket and local clients ask the same question ([`GatePhase::admit`]) and get the same answer. A
//! guest's task keeps its lines in the inbox while it waits; a local client waits in [`admitted`].

use std::sync::Arc;
use std::time::Instant;

use dae_common_tcp::ErrorCode;

use crate::connection::guest_handle::GuestHandle;
use crate::connection::pending_calls::CallError;
use crate::session::connect_hooks;
use crate::session::gate::{Gate, GatePhase, Lease};
use crate::session::sleeping::SleepingDaemon;

/// The decision on a guest's next line.
#[derive(Debug)]
pub(crate) enum Admission<'p> {
    /// The line has its answer now.
    Decided(LineTarget<'p>),
    /// The instance's connect hook must end for this guest first.
    Unannounced(&'p Arc<Lease>),
    /// There is no instance, and one is expected. The wait has no limit during a change, whose steps have their own.
    Waits { is_limited: bool },
}

/// The side that answers a line.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LineTarget<'p> {
    /// The instance of that lease.
    Instance(&'p Arc<Lease>),
    /// The host answers for the sleeping daemon, or a command wakes it.
    Asleep(&'p Arc<SleepingDaemon>),
    /// The host refuses each command with this reason.
    Refusal(&'p str),
}

impl GatePhase {
    /// Decides on the next line of a guest.
    #[inline]
    pub(crate) fn admit(&self, guest: &GuestHandle) -> Admission<'_> {
        match self {
            GatePhase::Open(lease) if connect_hooks::is_due(lease, guest) => {
                Admission::Unannounced(lease)
            }
            GatePhase::Open(lease) => Admission::Decided(LineTarget::Instance(lease)),
            GatePhase::Shut(reason) => Admission::Decided(LineTarget::Refusal(reason)),
            GatePhase::Asleep(sleeping) => Admission::Decided(LineTarget::Asleep(sleeping)),
            GatePhase::Waiting => Admission::Waits { is_limited: true },
            GatePhase::Changing => Admission::Waits { is_limited: false },
        }
    }

    /// Returns the lease if a line of the guest may run on the instance now.
    #[inline]
    pub(crate) fn admits(&self, guest: &GuestHandle) -> Option<&Arc<Lease>> {
        match self.admit(guest) {
            Admission::Decided(LineTarget::Instance(lease)) => Some(lease),
            _ => None,
        }
    }

    /// Returns whether the instance's connect hook must still run, or end, for the guest.
    pub(crate) fn is_unannounced(&self, guest: &GuestHandle) -> bool {
        matches!(self.admit(guest), Admission::Unannounced(_))
    }
}

/// Waits for an instance, and until its connect hook has ended for this guest. If the daemon sleeps, the command of that
/// name wakes it. Only one task at a time may do this for a guest, since it runs the hook.
///
/// # Errors
/// The gate is shut, or no instance came within the limit.
pub(crate) async fn admitted(
    gate: &Gate,
    guest: &Arc<GuestHandle>,
    command: &str,
) -> Result<Arc<Lease>, CallError> {
    if let Some(lease) = gate.phase().admits(guest) {
        return Ok(Arc::clone(lease));
    }
    let began = Instant::now();
    loop {
        // Subscribe before looking at the phase, so that no change in between is missed.
        let changed = gate.changed();
        let unannounced = match gate.phase().admit(guest) {
            Admission::Decided(LineTarget::Instance(lease)) => return Ok(Arc::clone(lease)),
            Admission::Decided(LineTarget::Refusal(reason)) => {
                return Err(CallError::new(ErrorCode::Unavailable, reason));
            }
            Admission::Decided(LineTarget::Asleep(_)) => {
                gate.wake(command);
                Err(false)
            }
            Admission::Unannounced(lease) => Ok(Arc::clone(lease)),
            Admission::Waits { is_limited } => Err(is_limited),
        };
        match unannounced {
            Ok(lease) => {
                if let Some(hook) = connect_hooks::due(&lease, guest, gate.limits.command) {
                    hook.await;
                }
                return Ok(lease);
            }
            Err(false) => changed.await,
            Err(true) => {
                let left = gate.limits.instance_wait.saturating_sub(began.elapsed());
                let waited = tokio::time::timeout(left, changed).await;
                waited.map_err(|_| CallError::new(ErrorCode::Unavailable, no_instance(gate)))?;
            }
        }
    }
}

/// Waits until the connect hook has ended for this guest, if it is due.
pub(crate) async fn announced(gate: &Gate, guest: &Arc<GuestHandle>) {
    let hook = match gate.phase().admit(guest) {
        Admission::Unannounced(lease) => connect_hooks::due(lease, guest, gate.limits.command),
        _ => None,
    };
    if let Some(hook) = hook {
        hook.await;
    }
}

/// Returns the error text for a command that waited too long for an instance.
pub(crate) fn no_instance(gate: &Gate) -> String {
    let waited = gate.limits.instance_wait;
    format!(
        "no instance of {} answered within {waited:?}; ask Dae for its state",
        gate.name
    )
}

#[cfg(test)]
mod tests {
    use dae_store::manifest::Manifest;
    use futures_util::FutureExt as _;

    use super::*;
    use crate::session::test_daemon::{TestDaemon, gate_of};

    fn name(admission: &Admission<'_>) -> &'static str {
        match admission {
            Admission::Decided(LineTarget::Instance(_)) => "instance",
            Admission::Decided(LineTarget::Asleep(_)) => "asleep",
            Admission::Decided(LineTarget::Refusal(_)) => "refusal",
            Admission::Unannounced(_) => "unannounced",
            Admission::Waits { is_limited: true } => "waits, limited",
            Admission::Waits { is_limited: false } => "waits",
        }
    }

    #[test]
    fn each_phase_of_the_gate_has_one_decision() {
        let (gate, _lease_return) = gate_of(TestDaemon::that_waits().0, Manifest::default());
        let guest = gate.guests.enter();
        let decision = || name(&gate.phase().admit(&guest));
        assert_eq!(decision(), "instance");
        gate.hold();
        assert_eq!(decision(), "waits, limited");
        gate.hold_for_change();
        assert_eq!(decision(), "waits");
        gate.shut("it is stopped");
        assert_eq!(decision(), "refusal");
    }

    #[tokio::test]
    async fn a_guest_is_admitted_once_the_connect_hook_has_ended() {
        let manifest = Manifest {
            connect: Some("async".to_owned()),
            ..Manifest::default()
        };
        let (gate, _lease_return) = gate_of(TestDaemon::that_waits().0, manifest);
        let guest = gate.guests.enter();
        assert_eq!(name(&gate.phase().admit(&guest)), "unannounced");
        assert!(admitted(&gate, &guest, "add").await.is_ok());
        assert_eq!(name(&gate.phase().admit(&guest)), "instance");
    }

    #[tokio::test]
    async fn the_wait_for_an_instance_has_a_limit_and_a_change_has_none() {
        let (gate, _lease_return) = gate_of(TestDaemon::that_waits().0, Manifest::default());
        let guest = gate.guests.enter();
        gate.hold();
        let refusal = admitted(&gate, &guest, "add").await.unwrap_err();
        assert_eq!(refusal.message, no_instance(&gate));
        gate.hold_for_change();
        let mut waiting = Box::pin(admitted(&gate, &guest, "add"));
        tokio::select! {
            _ = &mut waiting => panic!("no limit"),
            () = tokio::time::sleep(10 * gate.limits.instance_wait) => {}
        }
        gate.shut("it is stopped");
        let refusal = waiting.now_or_never().unwrap().unwrap_err();
        assert_eq!(refusal.message, "it is stopped");
    }
}
