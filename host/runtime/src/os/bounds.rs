//! The limits of a worker's process, which the worker sets before it loads any code of the plugin.

use dae_store::settings::Bounds;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

/// Limits this process, with all that it starts.
///
/// # Errors
/// The name and value of a bound that the system refuses or doesn't have, and the reason.
pub fn apply(bounds: &Bounds) -> Result<(), String> {
    system::apply(bounds)
}

/// Lowers or raises the priority of this process. `nice` is between -20, the highest priority, and 19.
///
/// # Errors
/// The value, and the system's error.
pub fn set_nice(nice: i32) -> Result<(), String> {
    system::set_nice(nice).map_err(|error| format!("its nice = {nice}: {error}"))
}
