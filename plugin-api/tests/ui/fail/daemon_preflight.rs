//! An unknown value of `preflight`, and `preflight = "start"` for an exclusive daemon.

use dae_plugin_api::prelude::*;

#[derive(Default)]
struct Other;

#[daemon(preflight = "run")]
impl Other {}

#[derive(Default)]
struct Alone;

#[daemon(exclusive, preflight = "start")]
impl Alone {}

fn main() {}
