//! The parts of a connection that incoming and outgoing connections share.

pub(crate) mod event_handlers;
pub mod event_queue;
pub mod guest_handle;
pub mod pending_calls;
pub(crate) mod reply_budget;
pub mod topics;
