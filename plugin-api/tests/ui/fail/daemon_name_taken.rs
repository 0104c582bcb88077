//! A name that is reserved for the host's own daemon.

use dae_plugin_api::prelude::*;

#[derive(Default)]
struct Dae;

#[daemon]
impl Dae {}

fn main() {}
