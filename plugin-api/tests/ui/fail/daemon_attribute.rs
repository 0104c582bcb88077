//! Wrong options of `#[daemon]`, wrong places for it, and its other attributes without it. An `impl` with a fault is no
//! daemon, so all of them fit into one crate.

use dae_plugin_api::prelude::*;

#[derive(Default)]
struct Sample;

#[daemon(port = 3502)]
impl Sample {}

#[daemon(exclusiv)]
impl Sample {}

#[daemon("Sample")]
impl Sample {}

#[daemon(name = "two words")]
impl Sample {}

#[daemon(name = 5)]
impl Sample {}

#[daemon(name)]
impl Sample {}

#[daemon(name = "A", name = "B")]
impl Sample {}

#[daemon(exclusive = true)]
impl Sample {}

#[daemon(state = "Count")]
impl Sample {}

#[daemon(state_version = "2")]
impl Sample {}

#[daemon(state_version = 4294967296)]
impl Sample {}

#[daemon(preflight = "run")]
impl Sample {}

#[daemon(preflight = true)]
impl Sample {}

#[daemon(exclusive, preflight = "start")]
impl Sample {}

#[daemon]
#[daemon(exclusive)]
impl Sample {}

/// Nothing in it is a command.
#[daemon]
impl Sample {
    fn stop(&self) {}

    fn greet(&self) {}
}

#[derive(Default)]
struct Dae;

#[daemon]
impl Dae {}

struct Keeper<T>(T);

#[daemon]
impl<T: Send + Sync> Keeper<T> {
    #[command]
    fn ping(&self) {}
}

trait Greets {
    fn hello(&self);
}

#[daemon]
impl Greets for Sample {
    #[command]
    fn hello(&self) {}
}

#[daemon]
impl dyn Greets {}

#[daemon]
#[derive(Default)]
struct OnTheType;

struct Forgotten;

impl Forgotten {
    #[command(blocking)]
    fn shout(&self) {}

    #[on(connect)]
    fn came(&self) {}
}

#[command]
fn free() {}

fn main() {}
