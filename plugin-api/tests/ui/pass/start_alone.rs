//! A `start` without parameters that can't fail.

use dae_plugin_api::prelude::*;

struct Simple;

#[daemon]
impl Simple {
    fn start() -> Self {
        Simple
    }
}

fn main() {}
