//! sd_notify(3). It does nothing without a service manager. If sending fails, the service manager's own timeout shows
//! it.

use std::time::Duration;

use sd_notify::{NotifyState, notify};

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
