//! Types that serde can't read or write, wherever JSON crosses the boundary, and results of a wrong type.

use dae_plugin_api::prelude::*;

struct Opaque;

struct Config;

struct State;

struct Textless;

struct Sample;

#[daemon]
impl Sample {
    fn start(config: Config, state: Option<State>) -> Option<Self> {
        let _ = (config, state);
        None
    }

    fn save(&self) -> State {
        State
    }

    fn run(&self) -> u8 {
        1
    }

    async fn stop(&self) -> Result<u8> {
        Ok(1)
    }

    #[command]
    fn plain(&self) -> Opaque {
        Opaque
    }

    #[command]
    async fn fallible(&self) -> Result<Opaque> {
        Ok(Opaque)
    }

    #[command]
    fn fails_without_a_text(&self) -> Result<u8, Textless> {
        Ok(1)
    }

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

    #[on(connect)]
    fn came(&self) -> u8 {
        1
    }

    #[on(disconnect)]
    async fn left(&self, guest: Guest) -> Result<()> {
        guest.on("moved", |to: Opaque| drop(to))?;
        guest.emit("left", Opaque)
    }
}

fn main() {}
