//! The attribute `#[daemon]` on the impl of a trait.

use dae_plugin_api::prelude::*;

trait Greets {
    fn greet(&self);
}

#[derive(Default)]
struct Sample;

#[daemon]
impl Greets for Sample {
    #[command]
    fn greet(&self) {}
}

fn main() {}
