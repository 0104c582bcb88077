//! An ecosystem inside a program of one's own: `embed HOME PLUGIN` runs that plugin until Ctrl-C.
//!
//! The README shows this file, and a test runs it.

use std::time::Duration;

use dae_host::Dae;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(home), Some(plugin)) = (arguments.next(), arguments.next()) else {
        return Err("usage: embed HOME PLUGIN".into());
    };
    let dae = Dae::builder().home(home).start().await?;
    let sample = dae.install("Sample", plugin).await?;
    println!("{} answers on port {}", sample.name, sample.port.unwrap());

    tokio::signal::ctrl_c().await?;
    dae.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
