//! An option that `#[daemon]` doesn't have.

use dae_plugin_api::prelude::*;

#[derive(Default)]
struct Sample;

#[daemon(port = 3502)]
impl Sample {}

fn main() {}
