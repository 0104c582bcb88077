//! `trial`, the earlier name of the option `preflight`, and a `start` without parameters that can't fail.

use dae_plugin_api::export::Exported;
use dae_plugin_api::prelude::*;

struct Earlier;

#[daemon(trial = "start")]
impl Earlier {
    fn start() -> Self {
        Earlier
    }
}

fn main() {
    let manifest: json::Value = json::from_str(Earlier::manifest()).expect("valid JSON");
    assert_eq!(manifest["preflight"], "start");
}
