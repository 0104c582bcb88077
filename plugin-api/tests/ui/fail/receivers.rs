//! Commands without `&self`, and generic ones. All are reported at once.

use dae_plugin_api::prelude::*;

#[derive(Default)]
struct Sample;

#[daemon]
impl Sample {
    #[command]
    fn without_self(who: String) -> String {
        who
    }

    #[command]
    fn without_anything() {}

    #[command]
    fn exclusive(&mut self) {}

    #[command]
    fn by_value(self) {}

    #[command]
    fn boxed(self: Box<Self>) {}

    #[command]
    fn generic<T: Serialize>(&self, any: T) -> T {
        any
    }

    #[command]
    fn argument_of_any_type(&self, any: impl Serialize) {
        let _ = any;
    }
}

fn main() {}
