//! A `start` that takes only its config.

use std::collections::BTreeMap;

use dae_plugin_api::prelude::*;

struct Configured(usize);

#[daemon]
impl Configured {
    async fn start(config: BTreeMap<String, String>) -> Self {
        Configured(config.len())
    }

    #[command]
    fn count(&self) -> usize {
        self.0
    }
}

fn main() {}
