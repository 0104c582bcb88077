//! Methods for an unknown event, for the same event twice, with wrong parameters, or that have another role as well.
//! All are reported at once.

use dae_plugin_api::prelude::*;

#[derive(Default)]
struct Sample;

#[daemon]
impl Sample {
    #[on(connect)]
    fn came(&self, guest: Guest) {
        let _ = guest;
    }

    #[on(connect)]
    fn came_again(&self) {}

    #[on(conect)]
    fn misspelled(&self) {}

    #[on]
    fn on_nothing(&self) {}

    #[on("disconnect")]
    fn on_a_string(&self) {}

    #[on(disconnect)]
    fn left(&self, guest: Guest, reason: String, at: &u64) {
        let _ = (guest, reason, at);
    }

    #[on(disconnect)]
    fn not_a_method(guest: Guest) {
        let _ = guest;
    }

    #[on(disconnect)]
    fn alone(&mut self) {}

    #[on(disconnect)]
    fn generic<T>(&self) {}

    #[on(connect, disconnect)]
    fn on_both(&self) {}

    #[command]
    #[on(disconnect)]
    fn both(&self) {}

    #[on(connect)]
    fn run(&self) {}
}

fn main() {}
