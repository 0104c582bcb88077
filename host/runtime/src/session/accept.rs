//! A port that accepts guests until it is dropped.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};
use std::{fmt, io};

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::os::port;
use crate::session::gate::Gate;
use crate::session::guest::{self, AdmittedGuest};
use crate::threads::fd_limits::{self, CountedConnection};
use dae_store::lock::lock;
use dae_store::tasks;

/// The connections that the kernel queues before they are accepted; more than a burst of clients that start at once.
const BACKLOG: u32 = 1024;
/// The pause after a failed accept, which fails when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The longest wait for a silent guest to end before the new one is refused. A silent guest has no replies to wait
/// for, so it ends as soon as its task runs.
const REPLACED_WITHIN: Duration = Duration::from_secs(2);
/// The interval for checking whether the silent guest has ended.
const REPLACED_CHECK: Duration = Duration::from_millis(1);

/// A bound port. Dropping it stops listening, and the port is free at once; its guests stay.
#[derive(Debug)]
pub struct Listener {
    port: u16,
    socket: Arc<SharedSocket>,
    task: AbortHandle,
}

/// The socket of a listener. Its task ends a moment after it is aborted, so the socket isn't the task's own.
type SharedSocket = Mutex<Option<TcpListener>>;

impl Listener {
    /// Accepts guests through `gate`.
    pub fn over(listener: TcpListener, gate: Arc<Gate>, runtime: &Handle) -> io::Result<Self> {
        let port = listener.local_addr()?.port();
        let socket = Arc::new(Mutex::new(Some(listener)));
        let (accepted, name) = (Arc::clone(&socket), ListenerName(Arc::clone(&gate)));
        let make = move || accept(Arc::clone(&accepted), Arc::clone(&gate));
        let task = tasks::keep_alive(runtime, name, make).abort_handle();
        Ok(Listener { port, socket, task })
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
        drop(lock(&self.socket).take());
    }
}

/// Listens on the loopback address.
///
/// # Errors
/// The system's error; [`port::is_taken`] tells whether another program has the port.
pub fn listen_on(port: u16) -> io::Result<TcpListener> {
    port::bind(port)?.listen(BACKLOG)
}

/// The name of a listener's task.
struct ListenerName(Arc<Gate>);

impl fmt::Display for ListenerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the listener of {}", self.0.name)
    }
}

async fn accept(socket: Arc<SharedSocket>, gate: Arc<Gate>) {
    loop {
        match next_connection(&socket).await {
            Ok((mut stream, _)) => {
                tasks::fault_point("listener");
                // A reply is written whole; waiting to fill a packet would only delay it.
                let _ = stream.set_nodelay(true);
                match let_in(&mut stream, &gate).await {
                    Ok(entered) => {
                        tokio::spawn(guest::serve(stream, Arc::clone(&gate), entered));
                    }
                    Err(text) => guest::reject(&stream, &text),
                }
            }
            Err(error) if fd_limits::grow_after(&error) => {}
            Err(error) => {
                fd_limits::log_trouble(&gate.name, &error);
                if fd_limits::is_none_left(&error) {
                    gate.guests.close_longest_silent();
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Waits for a connection; for ever if the socket is closed.
async fn next_connection(socket: &SharedSocket) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|cx| match &*lock(socket) {
        Some(listener) => listener.poll_accept(cx),
        None => Poll::Pending,
    })
    .await
}

/// Admits a guest. It is counted at once and not when it is first served, because many may come in between.
async fn let_in(stream: &mut TcpStream, gate: &Gate) -> Result<AdmittedGuest, String> {
    let counted = match fd_limits::let_guest_in(stream, gate.guests.count()) {
        Ok(counted) => counted,
        Err(no_room) => {
            fd_limits::log_trouble(&gate.name, &no_room);
            let replaced = replace_silent(stream, gate, no_room).await;
            replaced.inspect_err(|_| gate.guests.count_no_descriptors())?
        }
    };
    let max = gate.limits.guests_max;
    let guest_handle = gate.guests.enter_below(max).ok_or_else(|| {
        format!("this daemon has {max} guests, as many as it may have at a time; try again later")
    })?;
    Ok(AdmittedGuest {
        guest_handle,
        counted: Some(counted),
    })
}

/// Closes a guest that has sent nothing in favour of a new one: silent connections must not keep active ones out.
/// Waits until the silent guest has gone, and so do the connections behind: the daemon never exceeds its share.
async fn replace_silent(
    stream: &mut TcpStream,
    gate: &Gate,
    no_room: String,
) -> Result<CountedConnection, String> {
    if !gate.guests.close_longest_silent() {
        return Err(no_room);
    }
    let began = Instant::now();
    loop {
        tokio::time::sleep(REPLACED_CHECK).await;
        match fd_limits::let_guest_in(stream, gate.guests.count()) {
            Err(_) if began.elapsed() < REPLACED_WITHIN => {}
            counted => return counted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dae_store::config::Config;

    #[test]
    fn a_listener_that_is_dropped_leaves_its_port_at_once() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let gate = Gate::new("A", Config::default().limits());
        let listen = |port| {
            let _entered = runtime.enter();
            let listener = listen_on(port).expect("the port is free");
            Listener::over(listener, Arc::clone(&gate), runtime.handle()).expect("an address")
        };
        let listener = listen(0);
        let port = listener.port();
        // Its task runs, and waits for a connection.
        runtime.block_on(tokio::task::yield_now());
        drop(listener);
        // The runtime has run nothing since.
        let listener = listen(port);
        assert_eq!(listener.port(), port);
    }
}
