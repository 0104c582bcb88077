//! A daemon that can't be shared among guests.

use std::cell::Cell;

use dae_plugin_api::prelude::*;

#[derive(Default)]
struct Sample {
    count: Cell<u64>,
}

#[daemon]
impl Sample {
    #[command]
    fn count(&self) -> u64 {
        self.count.get()
    }
}

fn main() {}
