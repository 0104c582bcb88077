//! A `start` that borrows what it is given.

use dae_plugin_api::prelude::*;

struct Sample;

#[daemon]
impl Sample {
    fn start(eco: &Ecosystem) -> Self {
        let _ = eco;
        Sample
    }
}

fn main() {}
