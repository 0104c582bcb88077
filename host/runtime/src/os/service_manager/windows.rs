//! Nothing: the service manager of Windows hears only from programs that it starts as services of its own kind, and the
//! host is not one. A program that runs others as services ends it by `dae-host shutdown`, or by a Ctrl-C.

use std::time::Duration;

/// Does nothing: see the file's head.
pub fn is_ready() {}

/// Does nothing: see the file's head.
pub fn is_stopping() {}

/// Does nothing: see the file's head.
pub fn needs_time(_within: Duration, _status: &str) {}
