//! Methods of every shape for guests that connect and disconnect, and their entries in the manifest.

use dae_plugin_api::export::Exported;
use dae_plugin_api::prelude::*;

/// A daemon whose `start` takes only the ecosystem API.
struct Host(Credential);

#[daemon]
impl Host {
    fn start(eco: Ecosystem) -> Result<Self> {
        Ok(Host(eco.credential()?))
    }

    /// Takes both arguments and returns a `Result`.
    #[on(connect)]
    async fn welcome(&self, eco: &Ecosystem, guest: Guest) -> Result<()> {
        eco.sleep(std::time::Duration::ZERO).await;
        guest.emit("welcome", (guest.id(),))
    }

    #[on(disconnect)]
    fn farewell(&self) {}

    #[command]
    fn name(&self) -> String {
        self.0.name.clone()
    }
}

fn main() {
    let manifest: json::Value = json::from_str(Host::manifest()).expect("valid JSON");
    assert_eq!(manifest["connect"], "async");
    assert_eq!(manifest["disconnect"], "sync");
    assert_eq!(manifest["commands"].as_array().map(Vec::len), Some(1));
}
