//! The program `dae-host`. All of it is in the library, so that what embeds the host has the same code.

use std::process::ExitCode;

fn main() -> ExitCode {
    dae_host::cli::main()
}
