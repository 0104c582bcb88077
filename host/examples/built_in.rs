//! A program with a daemon of its own, without a plugin file, that watches what happens to it: `built_in HOME`.
//!
//! `host/docs/embedding.md` shows this file, and a test runs it.

use std::error::Error;
use std::time::Duration;

use dae_host::Dae;
use dae_host::event::DaeEventKind;

mod greeter {
    use dae_plugin_api::prelude::*;

    #[derive(Default)]
    pub struct Greeter;

    /// Greets people.
    #[daemon(built_in)]
    impl Greeter {
        /// Greets `who`.
        #[command]
        fn greet(&self, who: &str) -> String {
            format!("Hello, {who}!")
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let home = std::env::args().nth(1).ok_or("usage: built_in HOME")?;
    let dae = Dae::builder().home(home).start().await?;
    let mut events = dae.events();
    dae.install_builtin::<greeter::Greeter>().await?;

    let greeting: String = dae.call("Greeter", "greet", ("Ada",)).await?;
    println!("{greeting}");

    while let Some(event) = events.next().await {
        println!("{} {:?}", event.daemon, event.kind);
        if matches!(event.kind, DaeEventKind::Installed { .. }) {
            break;
        }
    }
    dae.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
