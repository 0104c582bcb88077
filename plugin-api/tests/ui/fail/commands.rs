//! Names and options that a command can't have. All are reported at once.

use dae_plugin_api::prelude::*;

#[derive(Default)]
struct Sample;

#[daemon]
impl Sample {
    #[command(blocking)]
    async fn both(&self) {}

    #[command]
    fn dae(&self) {}

    #[command(name = "help")]
    fn helps(&self) {}

    #[command(name = "two words")]
    fn two_words(&self) {}

    #[command]
    fn twice(&self) {}

    #[command(name = "twice")]
    fn again(&self) {}

    #[command(timeout = 5)]
    fn unknown_option(&self) {}

    #[command = "name"]
    fn no_option(&self) {}

    #[command]
    #[command(blocking)]
    fn marked_twice(&self) {}

    #[command]
    unsafe fn unsafe_one(&self) {}
}

fn main() {}
