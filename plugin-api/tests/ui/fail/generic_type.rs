//! A daemon whose type is generic.

use dae_plugin_api::prelude::*;

struct Keeper<T>(T);

#[daemon]
impl<T: Send + Sync> Keeper<T> {
    #[command]
    fn ping(&self) {}
}

fn main() {}
