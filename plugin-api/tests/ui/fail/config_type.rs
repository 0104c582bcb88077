//! A config that serde can't read.

use dae_plugin_api::prelude::*;

struct Config;

struct Sample;

#[daemon]
impl Sample {
    fn start(config: Config) -> Self {
        let _ = config;
        Sample
    }
}

fn main() {}
