//! A `start` that takes the ecosystem alone.

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
