//! The bare echo: the least that a line server on tokio can do, and the yardstick of every bench.
//!
//! It is the bench's own program, started again with [`ARGUMENT`]: one thread, and for each read one write of all the
//! whole lines in it. It parses nothing, so no host can reach it; it says what the machine, the kernel and the load
//! generator allow.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The argument that makes a bench the bare echo.
pub(crate) const ARGUMENT: &str = "--raw-server";

/// A bare echo in a process of its own, until dropped.
pub(crate) struct RawServer {
    child: Child,
    /// Its port of the loopback address.
    pub(crate) port: u16,
}

impl RawServer {
    /// Starts one; it listens when this returns.
    pub(crate) fn start() -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(ARGUMENT);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = RawServer {
            child: command.spawn()?,
            port: 0,
        };
        let stdout = server.child.stdout.take().expect("it was asked for");
        let mut port = String::new();
        BufReader::new(stdout).read_line(&mut port)?;
        server.port = port.trim().parse().map_err(io::Error::other)?;
        Ok(server)
    }

    /// Its process.
    #[allow(dead_code, reason = "not every bench looks at it")]
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the process does: prints its port, and serves until its standard input ends, which is when the bench ends.
pub(crate) fn main() -> Result<(), String> {
    std::thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let served = runtime.and_then(|runtime| runtime.block_on(serve()));
    served.map_err(|error| format!("the bare echo failed: {error}"))
}

async fn serve() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        // A guest that leaves is no failure of the server's.
        tokio::spawn(async move { echo_lines(stream).await.unwrap_or(()) });
    }
}

async fn echo_lines(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = Vec::with_capacity(64 << 10);
    while stream.read_buf(&mut bytes).await? > 0 {
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |last| last + 1);
        stream.write_all(&bytes[..whole]).await?;
        bytes.drain(..whole);
    }
    Ok(())
}
