//! `CLOCK_MONOTONIC`, by the C library: valgrind can't follow rustix to the kernel's own page of clocks.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

pub(super) fn monotonic_ns() -> u64 {
    // The clock is always there.
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    u64::try_from(time.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}
