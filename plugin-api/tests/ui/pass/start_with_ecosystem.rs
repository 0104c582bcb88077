//! A `start` that takes only the ecosystem API.

use dae_plugin_api::prelude::*;

struct Knowing(Credential);

#[daemon]
impl Knowing {
    fn start(eco: Ecosystem) -> Result<Self> {
        Ok(Knowing(eco.credential()?))
    }

    #[command]
    fn name(&self) -> String {
        self.0.name.clone()
    }
}

fn main() {}
