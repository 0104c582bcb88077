//! A daemon that can't be shared among guests, that has neither `start` nor `Default`, and whose async command holds a
//! value that can't move between threads.

use std::cell::Cell;
use std::rc::Rc;

use dae_plugin_api::prelude::*;

struct Sample {
    count: Cell<u64>,
}

#[daemon]
impl Sample {
    #[command]
    fn count(&self) -> u64 {
        self.count.get()
    }

    #[command]
    async fn across_an_await(&self, eco: &Ecosystem) -> usize {
        let shared = Rc::new(1);
        eco.sleep(std::time::Duration::ZERO).await;
        Rc::strong_count(&shared)
    }
}

fn main() {}
