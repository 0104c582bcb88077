//! The allocator of glibc.

#![allow(unsafe_code)]

/// The step in which memory grows (bytes): that of a whole heap of a thread, of which it may take several.
const STEP_BYTES: libc::c_int = 64 << 20;

pub(super) fn grow_in_large_steps() {
    // SAFETY: it changes a number under the allocator's lock. A refusal changes nothing.
    unsafe { libc::mallopt(libc::M_TOP_PAD, STEP_BYTES) };
}

pub(super) fn give_back() {
    // SAFETY: it takes the lock of each arena, and touches free memory only.
    unsafe { libc::malloc_trim(0) };
}
