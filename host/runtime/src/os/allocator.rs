//! Hints for the system's allocator where a large state passes. Only the allocator of glibc gets any: others grow in large
//! steps and give memory back by themselves.

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod elsewhere;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod gnu;

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
use elsewhere as system;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use gnu as system;

/// Lets the allocator grow in large steps from now on. By default it asks the kernel for each page of a thread's memory,
/// which takes as long as the pages themselves. Memory that is not used takes only addresses.
pub fn grow_in_large_steps() {
    system::grow_in_large_steps();
}

/// Gives the memory that was freed back to the system. By default the allocator keeps it for the threads that had it, and
/// other threads take new memory. This may take a tenth of a second.
pub fn give_back() {
    system::give_back();
}
