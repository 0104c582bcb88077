//! A process with the same work as the reloaded daemon, killed and started again, for comparison.
//!
//! It answers each line with its version on one thread, and accepts connections as soon as it runs. Its guest does what
//! a guest without a host has to do: it reconnects until it gets an answer.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::Times;

/// The argument that makes this program the plain server. Port and version follow it.
pub(super) const FLAG: &str = "--plain-server";

/// The delay after which a guest retries a failed connection.
const TRY_AGAIN: Duration = Duration::from_micros(100);

/// Runs the plain server.
pub(super) fn serve(arguments: &[String]) {
    let number = |at: usize| arguments[at].parse::<u16>().expect("a number");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, number(1))).expect("a free port");
    let version = number(2);
    for stream in listener.incoming().map_while(Result::ok) {
        let mut answers = stream.try_clone().expect("a descriptor");
        for _ in BufReader::new(stream).lines().map_while(Result::ok) {
            // A guest that disconnects is not an error of the server.
            if writeln!(answers, "version [{version}]").is_err() {
                break;
            }
        }
    }
}

struct Server(Child);

impl Server {
    fn start(port: u16, version: u64) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        command.args([FLAG, &port.to_string(), &version.to_string()]);
        Server(command.spawn().expect("this program can be run"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn measure(restarts: u64) -> Times {
    let mut times = Times::new();
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = free.local_addr().expect("its address").port();
    drop(free);
    let mut server = Server::start(port, 0);
    until_answered(port);
    for version in 1..=restarts {
        let began = Instant::now();
        drop(server);
        server = Server::start(port, version);
        until_answered(port);
        // The whole time counts as a pause, because there is no server meanwhile.
        times.add(began.elapsed(), began.elapsed());
    }
    times
}

fn until_answered(port: u16) {
    while ask(port).is_none() {
        std::thread::sleep(TRY_AGAIN);
    }
}

fn ask(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.write_all(b"version\n").ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    (!line.is_empty()).then_some(line)
}
