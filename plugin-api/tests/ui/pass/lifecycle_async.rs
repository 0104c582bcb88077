//! All lifecycle methods, each an `async fn`, with the arguments of `start` in the other order.

use std::time::Duration;

use dae_plugin_api::export::Exported;
use dae_plugin_api::prelude::*;

struct Later(Ecosystem);

#[daemon]
impl Later {
    async fn start(_: json::Value, eco: Ecosystem) -> std::result::Result<Self, String> {
        eco.sleep(Duration::from_millis(1)).await;
        Ok(Later(eco))
    }

    async fn run(&self) {
        loop {
            self.0.sleep(Duration::from_secs(1)).await;
        }
    }

    async fn stop(&self) -> std::io::Result<()> {
        Ok(())
    }
}

fn main() {
    let manifest: json::Value = json::from_str(Later::manifest()).expect("valid JSON");
    for method in ["start", "run", "stop"] {
        assert_eq!(manifest[method], "async", "{method}");
    }
}
