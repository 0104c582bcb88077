//! A program that runs an ecosystem, calls a daemon in it, and reads the log: `call HOME PLUGIN`.
//!
//! `host/docs/embedding.md` shows this file, and a test runs it.

use std::error::Error;
use std::time::Duration;

use dae_host::Dae;
use dae_host::home::Home;
use dae_host::log::{Console, Journal};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

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
    let sample = dae.install("Sample", plugin).await?;
    let port = sample.port.ok_or("Sample has no port")?;

    println!("{}", call(port, "greet", &json!(["Ada"])).await?);

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

/// Sends one command to the daemon on that port, and returns the result.
async fn call(port: u16, command: &str, arguments: &Value) -> Result<Value, Box<dyn Error>> {
    let mut daemon = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?);
    let line = format!("{command} {arguments}\n");
    daemon.write_all(line.as_bytes()).await?;
    let mut lines = daemon.lines();
    while let Some(line) = lines.next_line().await? {
        // Any other line is an event.
        match line.split_once(' ') {
            Some(("error", why)) => return Err(why.into()),
            Some((name, results)) if name == command => {
                let results: Vec<Value> = serde_json::from_str(results)?;
                return Ok(results.into_iter().next().unwrap_or_default());
            }
            _ => {}
        }
    }
    Err("the daemon closed the connection".into())
}
