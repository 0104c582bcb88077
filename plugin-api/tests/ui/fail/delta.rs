//! A delta without a state, and one without its methods.

use dae_plugin_api::prelude::*;

#[derive(Default)]
struct Stateless;

#[daemon(delta = u64)]
impl Stateless {
    #[command]
    fn count(&self) -> u64 {
        0
    }
}

#[derive(Default)]
struct Half;

#[daemon(delta = u64)]
impl Half {
    fn start(state: Option<u64>) -> Self {
        let _ = state;
        Half
    }

    fn save(&self) -> u64 {
        0
    }

    fn snapshot(&self) -> u64 {
        0
    }

    fn delta(&self) -> u64 {
        0
    }
}

fn main() {}
