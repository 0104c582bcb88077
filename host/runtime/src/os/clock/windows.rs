//! The performance counter, whose frequency is fixed at the system's start.

#![allow(unsafe_code)]

use windows_sys::Win32::System::Performance::{QueryPerformanceCounter, QueryPerformanceFrequency};

/// Nanoseconds of a second.
const SECOND_NS: u128 = 1_000_000_000;

pub(super) fn monotonic_ns() -> u64 {
    let (mut count, mut frequency) = (0_i64, 0_i64);
    // SAFETY: each call writes one number, to the place behind the pointer. Neither fails since Windows XP.
    unsafe {
        QueryPerformanceCounter(&raw mut count);
        QueryPerformanceFrequency(&raw mut frequency);
    }
    let (count, frequency) = (count.unsigned_abs(), frequency.unsigned_abs().max(1));
    let ns = u128::from(count) * SECOND_NS / u128::from(frequency);
    u64::try_from(ns).unwrap_or(u64::MAX)
}
