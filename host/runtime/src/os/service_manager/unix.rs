//! sd_notify(3). It does nothing without a service manager. If sending fails, the service manager's own timeout shows
//! it.

use std::time::Duration;

use sd_notify::{NotifyState, notify};

/// A person's way to a service on a system without units; `None` here.
pub const INSTEAD: Option<&str> = None;

/// Returns whether systemd runs this machine.
#[must_use]
pub fn is_booted() -> bool {
    sd_notify::booted().unwrap_or(false)
}

/// Returns the time within which the service manager wants to hear of the host again and again; `None` if it doesn't.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero())
}

/// Reports that the host serves commands.
pub fn is_alive() {
    let _ = notify(&[NotifyState::Watchdog]);
}

/// Reports that the host is ready.
pub fn is_ready() {
    let _ = notify(&[NotifyState::Ready]);
}

/// Reports that the host is ending.
pub fn is_stopping() {
    let _ = notify(&[NotifyState::Stopping]);
}

/// Extends the time that the end may take: the next report, or the end, comes `within` this time.
pub fn needs_time(within: Duration, status: &str) {
    let within_us = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
    let extend = NotifyState::ExtendTimeoutUsec(within_us);
    let _ = notify(&[extend, NotifyState::Status(status)]);
}
