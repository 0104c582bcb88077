//! Other programs for the same task: Redis with a module, and Node. A note says which are skipped because they are
//! missing.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dae_tests::artefacts::target_directory;

/// The longest time until a peer's first reply.
const START_MAX: Duration = Duration::from_secs(10);

/// The time between two connection attempts.
const LOOK_EVERY: Duration = Duration::from_micros(200);

/// The directory with the source of the module and of the server for Node.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/round_trips");

/// A peer in its own process. Dropping this value ends it.
pub(super) struct Peer {
    child: Child,
    /// The port on the loopback address.
    pub(super) port: u16,
}

impl Peer {
    /// Returns the process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts Node with the commands. Returns `None` if Node is not installed.
///
/// Returns an error if it does not print its port.
pub(super) fn node() -> io::Result<Option<Peer>> {
    let mut command = Command::new("node");
    command.arg(Path::new(FOLDER).join("peer.js"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let Some(child) = spawn(&mut command)? else {
        return Ok(None);
    };
    let mut peer = Peer { child, port: 0 };
    let stdout = peer.child.stdout.take().expect("it was asked for");
    let mut port = String::new();
    BufReader::new(stdout).read_line(&mut port)?;
    peer.port = port.trim().parse().map_err(io::Error::other)?;
    Ok(Some(peer))
}

/// Starts Redis with the commands as a module. Returns `None` if Redis or a C compiler is not installed.
///
/// Returns an error if the module cannot be built, or Redis does not answer.
pub(super) fn redis() -> io::Result<Option<Peer>> {
    let Some(module) = module()? else {
        return Ok(None);
    };
    // Redis accepts no port 0. If another program takes this port in between, Redis ends and the bench reports it.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port();
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
    command.args(["--save", "", "--appendonly", "no", "--maxclients", "12000"]);
    command
        .arg("--loadmodule")
        .arg(module)
        .stdout(Stdio::null());
    let Some(child) = spawn(&mut command)? else {
        return Ok(None);
    };
    let peer = Peer { child, port };
    until_answered(port)?;
    Ok(Some(peer))
}

fn until_answered(port: u16) -> io::Result<()> {
    let start = Instant::now();
    loop {
        match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(START_MAX))?;
                stream.write_all(b"PING\r\n")?;
                return stream.read_exact(&mut [0; 7]);
            }
            Err(error) if start.elapsed() > START_MAX => return Err(error),
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// Builds the module anew, and returns its path.
fn module() -> io::Result<Option<PathBuf>> {
    let directory = target_directory().join("bench");
    std::fs::create_dir_all(&directory)?;
    let module = directory.join("peer.so");
    let mut compiler = Command::new("cc");
    compiler
        .args(["-O2", "-shared", "-fPIC", "-o"])
        .arg(&module);
    compiler.arg(Path::new(FOLDER).join("peer.c"));
    let Some(mut compiler) = spawn(&mut compiler)? else {
        return Ok(None);
    };
    match compiler.wait()?.success() {
        true => Ok(Some(module)),
        false => Err(io::Error::other("cc could not build peer.c")),
    }
}

/// Starts a program. Prints a note and returns `None` if it is not installed.
fn spawn(command: &mut Command) -> io::Result<Option<Child>> {
    match command.spawn() {
        Ok(child) => Ok(Some(child)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let program = command.get_program().display();
            eprintln!("SKIPPED: {program} is not installed");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
