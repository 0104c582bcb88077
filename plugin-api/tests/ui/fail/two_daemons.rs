//! Two daemons in one crate, in different modules.

use dae_plugin_api::prelude::*;

#[derive(Default)]
struct First;

#[daemon]
impl First {
    #[command]
    fn one(&self) {}
}

mod other {
    use dae_plugin_api::prelude::*;

    #[derive(Default)]
    struct Second;

    #[daemon]
    impl Second {
        #[command]
        fn two(&self) {}
    }
}

fn main() {}
