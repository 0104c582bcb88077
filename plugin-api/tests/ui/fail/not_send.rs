//! An async command that holds a value which can't move between threads.

use std::rc::Rc;

use dae_plugin_api::prelude::*;

#[derive(Default)]
struct Sample;

#[daemon]
impl Sample {
    #[command]
    async fn count(&self, eco: &Ecosystem) -> usize {
        let shared = Rc::new(1);
        eco.sleep(std::time::Duration::ZERO).await;
        Rc::strong_count(&shared)
    }
}

fn main() {}
