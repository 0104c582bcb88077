//! Arguments that serde can't read.

use dae_plugin_api::prelude::*;

struct Opaque;

#[derive(Default)]
struct Sample;

#[daemon]
impl Sample {
    #[command]
    fn required(&self, one: Opaque) {
        let _ = one;
    }

    #[command]
    async fn optional(&self, n: u8, one: Option<Opaque>) {
        let _ = (n, one);
    }

    #[command]
    fn rest(&self, #[rest] all: Vec<Opaque>) {
        let _ = all;
    }
}

fn main() {}
