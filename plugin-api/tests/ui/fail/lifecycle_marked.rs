//! A lifecycle method marked as a command, one that consumes the daemon, and a `start` with too many parameters.

use dae_plugin_api::prelude::*;

struct Sample;

#[daemon]
impl Sample {
    fn start(eco: Ecosystem, name: String, port: u16) -> Self {
        let _ = (eco, name, port);
        Sample
    }

    #[command]
    fn run(&self) {}

    fn stop(self) {}
}

fn main() {}
