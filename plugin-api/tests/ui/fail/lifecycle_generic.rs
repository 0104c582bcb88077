//! A generic `start`, and a generic `run`. Both are reported at once.

use dae_plugin_api::prelude::*;

struct Sample;

#[daemon]
impl Sample {
    fn start<T: json::value::Index>(config: T) -> Self {
        let _ = config;
        Sample
    }

    fn run<T>(&self) {}
}

fn main() {}
