//! A program that runs an ecosystem, calls a daemon in it, and reads the log: `call HOME PLUGIN`.
//!
//! `host/docs/embedding.md` shows this file, and a test runs it.

use std::error::Error;
use std::time::Duration;

use dae_host::Dae;
use dae_host::home::Home;
use dae_host::log::{Console, Journal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(home), Some(plugin)) = (arguments.next(), arguments.next()) else {
        return Err("usage: call HOME PLUGIN".into());
    };
    let home = Home::at(home);
    let journal = Journal::open(home.logs_dir(), Console::Off)?;
    // Each record that is written from here on arrives in `records`.
    let mut records = journal.subscribe();
    let dae = Dae::builder().home(home).journal(journal.clone());
    let dae = dae.start().await?;
    dae.install("Sample", plugin).await?;

    let greeting: String = dae.call("Sample", "greet", ("Ada",)).await?;
    println!("{greeting}");

    let first = records.recv().await?;
    println!("{}: {}", first.daemon, first.message);
    // At most ten records of Sample, and at most a MiB of them. This reads files, so it must not run on the runtime.
    let read = move || journal.tail(Some("Sample"), 10, 1 << 20);
    for record in tokio::task::spawn_blocking(read).await?? {
        println!("{}: {}", record.daemon, record.message);
    }
    dae.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
