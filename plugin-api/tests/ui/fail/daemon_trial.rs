//! An unknown value of `trial`, and `trial = "start"` for an exclusive daemon.

use dae_plugin_api::prelude::*;

#[derive(Default)]
struct Other;

#[daemon(trial = "run")]
impl Other {}

#[derive(Default)]
struct Alone;

#[daemon(exclusive, trial = "start")]
impl Alone {}

fn main() {}
