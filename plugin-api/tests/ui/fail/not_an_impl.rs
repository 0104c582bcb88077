//! The attribute `#[daemon]` on the type.

use dae_plugin_api::prelude::*;

#[daemon]
#[derive(Default)]
struct Sample;

fn main() {}
