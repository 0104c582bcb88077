//! A type without a name for the daemon.

use dae_plugin_api::prelude::*;

trait Greets {}

#[daemon]
impl dyn Greets {}

fn main() {}
