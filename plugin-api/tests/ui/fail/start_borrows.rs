//! A `start` that borrows its arguments.

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
