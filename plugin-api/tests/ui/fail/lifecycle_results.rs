//! Lifecycle methods that return neither nothing nor a `Result`.

use dae_plugin_api::prelude::*;

struct Sample;

#[daemon]
impl Sample {
    fn start() -> Option<Self> {
        None
    }

    fn run(&self) -> u8 {
        1
    }

    async fn stop(&self) -> Result<u8> {
        Ok(1)
    }
}

fn main() {}
