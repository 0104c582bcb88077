//! The program `dae-host`. All of it is in the library, so that what embeds the host has the same code.

use std::process::ExitCode;

fn main() -> ExitCode {
    // As the process of one daemon it needs nothing of the rest.
    dae_host::worker::become_worker().unwrap_or_else(dae_host::cli::main)
}
