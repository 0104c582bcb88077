//! Ports that nobody else takes while a test needs them.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// The first port. All are below those that Linux, macOS and Windows give to connections and to listeners that name none:
/// one of these would be gone again by the time that a busy machine lets the test go on.
const FIRST: u16 = 20_000;
/// The number of ports.
const COUNT: u16 = 12_000;

/// Returns a port that is free, and that this process doesn't get a second time.
///
/// # Panics
/// Panics if all are taken.
#[must_use]
pub fn free_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Two test programs that run at once begin at different places.
    let begin = std::process::id() * 97;
    let next = || GIVEN.fetch_add(1, Ordering::Relaxed);
    let mut ports = (0..COUNT).map(|_| {
        let place = (begin + u32::from(next())) % u32::from(COUNT);
        FIRST + u16::try_from(place).expect("less than the number of ports")
    });
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    ports.find(is_free).expect("a free port")
}

/// Listens on a port that is free, and that stays so for others when the listener is dropped.
///
/// # Panics
/// Panics if all ports are taken.
#[must_use]
pub fn taken_port() -> (TcpListener, u16) {
    let port = free_port();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
    (listener, port)
}
