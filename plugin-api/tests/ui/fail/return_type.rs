//! Results that serde can't write.

use dae_plugin_api::prelude::*;

struct Opaque;

#[derive(Default)]
struct Sample;

#[daemon]
impl Sample {
    #[command]
    fn plain(&self) -> Opaque {
        Opaque
    }

    #[command]
    async fn fallible(&self) -> Result<Opaque> {
        Ok(Opaque)
    }
}

fn main() {}
