//! A lifecycle method that is a command, one that takes the daemon away, and a `start` that wants too much.

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
