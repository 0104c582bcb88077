//! The option `saves` decides where a plain `fn` runs: it waits for the save, and a time limit must still end the wait.

use dae_plugin_api::export::Exported;
use dae_plugin_api::prelude::*;

#[derive(Default)]
struct Saving;

#[daemon]
impl Saving {
    fn start(state: Option<u8>) -> Self {
        let _ = state;
        Saving
    }

    fn save(&self) -> u8 {
        0
    }

    #[command(saves)]
    fn plain(&self) {}

    #[command(saves, timeout_s = 5)]
    fn limited(&self) {}

    #[command(saves, blocking)]
    fn blocking(&self) {}

    #[command(saves, timeout_s = 5)]
    async fn limited_async(&self) {}
}

fn main() {
    let manifest: json::Value = json::from_str(Saving::manifest()).expect("valid JSON");
    let commands = manifest["commands"].as_array().expect("a list");
    let kinds: Vec<_> = commands.iter().map(|command| &command["kind"]).collect();
    assert_eq!(kinds, ["async", "blocking", "blocking", "async"]);
}
