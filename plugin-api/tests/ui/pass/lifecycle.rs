//! All lifecycle methods, each a plain `fn`.

use dae_plugin_api::export::Exported;
use dae_plugin_api::prelude::*;

#[derive(Deserialize)]
struct Config {
    greeting: String,
}

struct Plain(String);

#[daemon]
impl Plain {
    fn start(eco: Ecosystem, config: Config) -> Result<Self> {
        let _ = eco;
        Ok(Plain(config.greeting))
    }

    fn run(&self) -> Result<()> {
        tracing::info!("{}", self.0);
        Ok(())
    }

    fn stop(&self) {}
}

fn main() {
    let manifest: json::Value = json::from_str(Plain::manifest()).expect("valid JSON");
    assert_eq!(manifest["name"], "Plain", "without a name, the type's own");
    for method in ["start", "run", "stop"] {
        assert_eq!(manifest[method], "sync", "{method}");
    }
    for event in ["connect", "disconnect"] {
        assert_eq!(manifest.get(event), None, "{event}");
    }
    assert_eq!(manifest["commands"], json::json!([]));
}
