//! Connects guests to instances: accepting, the gate, guests and the dispatch of commands.

pub mod accept;
pub(crate) mod admission;
pub(crate) mod connect_hooks;
pub mod control;
pub(crate) mod dispatch;
pub mod gate;
pub(crate) mod guest;
pub mod sleeping;
#[cfg(test)]
pub(crate) mod test_daemon;
pub mod thread_start;
