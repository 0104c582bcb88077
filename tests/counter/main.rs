//! A test of the counter in a host that runs in the test's own process.
//!
//! `host/docs/writing-daemons.md` shows this file as a test of the counter's crate. It lies here so that the crate itself
//! needs no host, and can be copied.

use std::error::Error;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use dae_host::Dae;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Builds the plugin, and returns its file.
fn plugin() -> Result<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--package", "dae-plugin-counter"]);
    if !cargo.status()?.success() {
        return Err("cargo has not built the plugin".into());
    }
    // The test is a program in `target/debug/deps`.
    let test = std::env::current_exe()?;
    let target = test.ancestors().nth(2).ok_or("no target directory")?;
    Ok(target.join("libcounter.so"))
}

/// Sends a line to a daemon, and returns the next line that it sends.
async fn ask(daemon: &mut BufReader<TcpStream>, line: &str) -> Result<String> {
    daemon.write_all(format!("{line}\n").as_bytes()).await?;
    let mut reply = String::new();
    daemon.read_line(&mut reply).await?;
    Ok(reply)
}

#[tokio::test]
async fn the_count_and_the_connection_survive_a_reload() -> Result<()> {
    let plugin = plugin()?;
    let home = tempfile::tempdir()?;
    // Any free port for Dae, and no search for daemons of other hosts.
    let settings = "{dae_port: 0, scan_ms: 0}";
    std::fs::write(home.path().join("config.json5"), settings)?;
    let dae = Dae::builder().home(home.path()).start().await?;

    let counter = dae.install("Counter", plugin).await?;
    let port = counter.port.ok_or("Counter has no port")?;
    let mut daemon = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?);
    assert_eq!(ask(&mut daemon, "increment [5]").await?, "increment [5]\n");
    dae.reload("Counter", false).await?;
    assert_eq!(ask(&mut daemon, "increment").await?, "increment [6]\n");

    dae.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
