//! Lifecycle methods with wrong signatures. All are reported at once.

use dae_plugin_api::prelude::*;

#[derive(Default)]
struct Sample;

#[daemon]
impl Sample {
    fn start(&self) -> Self {
        Sample
    }

    fn run(&self, eco: Ecosystem) {
        let _ = eco;
    }

    fn stop() {}
}

fn main() {}
