//! `saves` on a command of a daemon without a state.

use dae_plugin_api::prelude::*;

#[derive(Default)]
struct Stateless;

#[daemon]
impl Stateless {
    #[command(saves)]
    fn change(&self) {}
}

fn main() {}
