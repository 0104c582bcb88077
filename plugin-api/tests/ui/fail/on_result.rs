//! A method for an event that returns neither nothing nor a `Result`.

use dae_plugin_api::prelude::*;

#[derive(Default)]
struct Sample;

#[daemon]
impl Sample {
    #[on(connect)]
    fn came(&self) -> u8 {
        1
    }

    #[on(disconnect)]
    async fn left(&self, guest: Guest) -> Option<()> {
        let _ = guest;
        None
    }
}

fn main() {}
