//! A trial that there is not, and one beside a daemon that must be alone.

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
