//! Lifecycle methods marked as commands, one that consumes the daemon, and a `start` with too many parameters.

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

    #[command]
    fn save(&self) -> u64 {
        0
    }

    #[command(blocking, name = "upgrade")]
    fn migrate(version: u32, state: json::Value) -> Result<u64> {
        let _ = (version, state);
        Ok(0)
    }
}

fn main() {}
