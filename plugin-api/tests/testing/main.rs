//! Tests of the test host: a daemon under test behaves as in a real host, and its test sees all that it does.

mod calls;
#[cfg(feature = "client")]
mod client;
mod clock;
#[cfg(feature = "schema")]
mod described;
mod life;
mod peers;
mod slow;
mod subject;
