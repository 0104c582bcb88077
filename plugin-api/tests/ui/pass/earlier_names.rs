//! `trial`, the earlier name of the option `preflight`.

use dae_plugin_api::prelude::*;

#[derive(Default)]
struct Earlier;

#[daemon(trial = "start")]
impl Earlier {}

fn main() {}
