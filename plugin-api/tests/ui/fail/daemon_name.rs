//! A name that the registry doesn't accept.

use dae_plugin_api::prelude::*;

#[derive(Default)]
struct Sample;

#[daemon(name = "two words")]
impl Sample {}

fn main() {}
