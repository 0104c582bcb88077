//! A daemon with neither `start` nor `Default`.

use dae_plugin_api::prelude::*;

struct Sample;

#[daemon]
impl Sample {
    #[command]
    fn ping(&self) {}
}

fn main() {}
