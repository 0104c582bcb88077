//! The worker's own record of its daemon's connections and event queues, so that it answers as the host itself would.
//!
//! The host reports each guest that comes and goes, and each connection that the daemon has opened. Requests of the
//! daemon that are answered at once are noted here before the host receives them; see
//! [`crate::plugin::host_request`].

use std::collections::HashSet;
use std::sync::Mutex;

use crate::plugin::completion::{ClientState, Completion};
use crate::plugin::host_request::{EVENT_QUEUES_MAX, Instruction, too_many_event_queues};
use dae_store::lock::lock;

/// The connections and event queues of the worker's daemon.
#[derive(Debug, Default)]
pub(super) struct GuestsOfWorker(Mutex<GuestTables>);

#[derive(Debug, Default)]
struct GuestTables {
    /// Open connections, opened by either side.
    open: HashSet<u64>,
    /// Connections that the daemon has opened and not closed. They may be disconnected at the moment.
    clients: HashSet<u64>,
    /// Connections that the daemon has closed, until the host reports their end.
    closed: HashSet<u64>,
    event_queues: HashSet<u64>,
}

impl GuestsOfWorker {
    /// Notes a guest that has come.
    pub(super) fn guest_came(&self, guest: u64) {
        lock(&self.0).open.insert(guest);
    }

    /// Notes a guest that has left.
    pub(super) fn guest_gone(&self, guest: u64) {
        lock(&self.0).open.remove(&guest);
    }

    /// Returns whether a connection is open.
    pub(super) fn is_open(&self, guest: u64) -> bool {
        lock(&self.0).open.contains(&guest)
    }

    /// Notes the state of a connection that the daemon has opened.
    pub(super) fn client(&self, id: u64, state: ClientState) {
        let mut tables = lock(&self.0);
        match state {
            ClientState::Open if tables.closed.contains(&id) => {}
            ClientState::Open => {
                tables.open.insert(id);
                tables.clients.insert(id);
            }
            ClientState::Away => {
                tables.open.remove(&id);
            }
            ClientState::Over => {
                tables.open.remove(&id);
                tables.clients.remove(&id);
                tables.closed.remove(&id);
            }
        }
    }

    /// Checks and notes an instruction of the daemon.
    ///
    /// # Errors
    /// The answer of the host, if it would refuse the instruction.
    pub(super) fn note(&self, instruction: &Instruction<'_>) -> Result<(), Completion> {
        let mut tables = lock(&self.0);
        match *instruction {
            Instruction::Listen { event_queue, guest } => {
                match tables.open.contains(&guest) || tables.clients.contains(&guest) {
                    true => tables.open_event_queue(event_queue),
                    false => Err(Completion::gone()),
                }
            }
            Instruction::Subscribe { event_queue, .. }
            | Instruction::SubscribeAll(event_queue)
            | Instruction::Watch(event_queue) => tables.open_event_queue(event_queue),
            Instruction::CloseEventQueue(event_queue) => {
                tables.event_queues.remove(&event_queue);
                Ok(())
            }
            Instruction::CloseGuest(guest) => {
                tables.close(guest);
                Ok(())
            }
            Instruction::Publish { .. } => Ok(()),
        }
    }

    /// Notes that an event queue has ended.
    pub(super) fn event_queue_ended(&self, event_queue: u64) {
        lock(&self.0).event_queues.remove(&event_queue);
    }
}

impl GuestTables {
    fn open_event_queue(&mut self, event_queue: u64) -> Result<(), Completion> {
        if self.event_queues.len() >= EVENT_QUEUES_MAX {
            return Err(too_many_event_queues());
        }
        self.event_queues.insert(event_queue);
        Ok(())
    }

    /// Closes a connection. A guest's connection stays open until the guest has left; one that the daemon opened is
    /// closed at once.
    fn close(&mut self, guest: u64) {
        if self.clients.remove(&guest) {
            self.open.remove(&guest);
            self.closed.insert(guest);
        }
    }
}

#[cfg(test)]
mod tests {
    use dae_plugin_api::abi::status;

    use super::*;

    fn listen(known: &GuestsOfWorker, event_queue: u64, guest: u64) -> Result<(), u32> {
        let noted = known.note(&Instruction::Listen { event_queue, guest });
        noted.map_err(|refusal| refusal.status)
    }

    fn close(known: &GuestsOfWorker, guest: u64) {
        let closed = known.note(&Instruction::CloseGuest(guest));
        closed.expect("it is never refused");
    }

    #[test]
    fn a_connection_that_is_away_can_be_listened_to_and_one_that_is_closed_can_not() {
        let known = GuestsOfWorker::default();
        assert_eq!(listen(&known, 1, 5), Err(status::GONE));
        known.client(5, ClientState::Open);
        assert!(known.is_open(5));
        known.client(5, ClientState::Away);
        assert!(!known.is_open(5));
        assert_eq!(listen(&known, 1, 5), Ok(()));
        close(&known, 5);
        // The host sent this before it received the close.
        known.client(5, ClientState::Open);
        assert!(!known.is_open(5));
        assert_eq!(listen(&known, 2, 5), Err(status::GONE));
        known.client(5, ClientState::Over);
        let tables = lock(&known.0);
        assert!(tables.clients.is_empty() && tables.closed.is_empty() && tables.open.is_empty());
    }

    #[test]
    fn a_guest_that_is_asked_to_leave_is_there_until_it_has() {
        let known = GuestsOfWorker::default();
        known.guest_came(7);
        close(&known, 7);
        assert!(known.is_open(7));
        known.guest_gone(7);
        assert_eq!(listen(&known, 1, 7), Err(status::GONE));
    }

    #[test]
    fn event_queues_are_counted_and_those_that_ended_make_room() {
        let known = GuestsOfWorker::default();
        known.guest_came(7);
        let opened =
            (0..EVENT_QUEUES_MAX as u64).all(|event_queue| listen(&known, event_queue, 7).is_ok());
        assert!(opened);
        assert_eq!(listen(&known, 9999, 7), Err(status::FAILED));
        known.event_queue_ended(3);
        assert_eq!(listen(&known, 9999, 7), Ok(()));
        let closed = known.note(&Instruction::CloseEventQueue(4));
        assert!(closed.is_ok() && listen(&known, 10_000, 7).is_ok());
    }
}
