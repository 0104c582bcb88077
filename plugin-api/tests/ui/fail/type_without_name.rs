//! A type that has no name to give.

use dae_plugin_api::prelude::*;

trait Greets {}

#[daemon]
impl dyn Greets {}

fn main() {}
