//! Nothing: the service manager of Windows hears only from programs that it starts as services of its own kind, and the
//! host is not one. A program that runs others as services ends it by `dae-host shutdown`, or by a Ctrl-C.

use std::time::Duration;

/// A person's way to a service.
pub const INSTEAD: Option<&str> = Some(
    "a program that runs others as services, such as WinSW; the page on platforms shows its file",
);

/// Returns false: systemd doesn't run here.
#[must_use]
pub fn is_booted() -> bool {
    false
}

/// Returns `None`: nobody waits for reports.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    None
}

/// Does nothing: see the file's head.
pub fn is_alive() {}

/// Does nothing: see the file's head.
pub fn is_ready() {}

/// Does nothing: see the file's head.
pub fn is_stopping() {}

/// Does nothing: see the file's head.
pub fn needs_time(_within: Duration, _status: &str) {}
