//! Resource limits and the nice value.

use std::io;

use dae_store::settings::Bounds;
use rustix::process::{Resource, Rlimit};

pub(super) fn apply(bounds: &Bounds) -> Result<(), String> {
    for (resource, value, name) in [
        (Resource::As, bounds.memory_bytes, "memory_bytes"),
        (Resource::Cpu, bounds.cpu_s, "cpu_s"),
        (Resource::Nofile, bounds.files_max, "files_max"),
        (Resource::Core, bounds.core_bytes, "core_bytes"),
    ] {
        if let Some(value) = value {
            let limit = Rlimit {
                current: Some(value),
                // At the soft limit of CPU time the signal names the reason; at the hard one it is a plain SIGKILL.
                maximum: Some(value.saturating_add(u64::from(resource == Resource::Cpu))),
            };
            rustix::process::setrlimit(resource, limit)
                .map_err(|error| format!("its bound {name} = {value}: {error}"))?;
        }
    }
    Ok(())
}

pub(super) fn set_nice(nice: i32) -> io::Result<()> {
    Ok(rustix::process::setpriority_process(None, nice)?)
}
