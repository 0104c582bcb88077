//! The hand-off of busy guests to a worker: a shared record of which side has each guest's socket, and of the worker's
//! progress.
//!
//! A busy guest is handed off to its daemon's own process, which then reads its lines and writes its replies itself. So
//! a command costs there what it costs in-process. If the process dies, at any moment, nothing is lost but the command
//! that was running. Bytes that are read and not answered, and replies that are not written, lie in the shared memory,
//! which outlives the process. The kernel reports how many bytes were read and written ([`socket`]).
//!
//! Each hand-off has a slot, whose state determines which side may act. The worker's one thread picks a guest up,
//! answers it, and releases it; that period is a turn. Between two turns the host recalls the guest directly. During a
//! turn it asks for the guest, and the worker hands it back at the next line. If that line does not come,
//! because a command does not end, the host seizes the guest: from then on nothing that the worker does affects it.
//! After a death or a seizure, the host reads the worker's unfinished work ([`HandOffState::lost_work`]).

mod atomics;
mod cursor;
mod line;
mod mapping;
mod memory;
mod progress;
mod slot;
pub(crate) mod socket;
mod state;

pub(crate) use atomics::{SLOTS, TAKEN_BYTES};
pub(crate) use cursor::WorkerCursor;
pub(crate) use memory::{Made, Taken};
pub use progress::{Begun, CommandPosition, monotonic_ns};
pub use slot::Custody;
pub(crate) use slot::{HandOffSlot, Owner};
pub use socket::ByteCounts;
pub use state::Position;
pub(crate) use state::{HandOffState, LostWork};

#[cfg(test)]
mod model;
#[cfg(all(test, target_os = "linux"))]
mod tests;
