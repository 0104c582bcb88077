//! A port that accepts guests, for as long as it is not dropped.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, io};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::session::gate::Gate;
use crate::session::guest::{self, AdmittedGuest};
use crate::threads::fd_limits::{self, CountedConnection};
use dae_store::tasks;

/// Connections that the kernel holds before they are accepted; more than a burst of clients that start at once.
const BACKLOG: u32 = 1024;
/// How long to wait where accepting fails, which it does when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a guest that was asked to end may take, until the one that comes in its place is turned away. It has said
/// nothing and has nothing to be answered, so it ends as soon as its task runs.
const REPLACED_WITHIN: Duration = Duration::from_secs(2);
/// How often it is looked whether it has ended.
const REPLACED_CHECK: Duration = Duration::from_millis(1);

/// A bound port. Dropped, it listens no more; its guests stay.
#[derive(Debug)]
pub struct Listener {
    port: u16,
    task: AbortHandle,
}

impl Listener {
    /// Lets guests in through `gate`.
    pub fn over(listener: TcpListener, gate: Arc<Gate>, runtime: &Handle) -> io::Result<Self> {
        let port = listener.local_addr()?.port();
        let (listener, name) = (Arc::new(listener), ListenerName(Arc::clone(&gate)));
        let make = move || accept(Arc::clone(&listener), Arc::clone(&gate));
        let task = tasks::keep_alive(runtime, name, make).abort_handle();
        Ok(Listener { port, task })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A listener on the loopback address.
pub fn listen_on(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // So that a restart of the host finds its ports free while old connections linger. The system looks for a free port
    // at great length where it might share one: ten thousand take 3 s, and 50 ms where it is said behind.
    socket.set_reuseaddr(port != 0)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    socket.set_reuseaddr(true)?;
    socket.listen(BACKLOG)
}

/// The name of a listener's task.
struct ListenerName(Arc<Gate>);

impl fmt::Display for ListenerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the listener of {}", self.0.name)
    }
}

async fn accept(listener: Arc<TcpListener>, gate: Arc<Gate>) {
    loop {
        match listener.accept().await {
            Ok((mut stream, _)) => {
                tasks::fault_point("listener");
                // A reply is written whole; waiting to fill a packet would only delay it.
                let _ = stream.set_nodelay(true);
                match let_in(&mut stream, &gate).await {
                    Ok(entered) => {
                        tokio::spawn(guest::serve(stream, Arc::clone(&gate), entered));
                    }
                    Err(text) => guest::turn_away(&stream, &text),
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

/// Counts a guest in at once, and not when it is first served: many may come meanwhile.
async fn let_in(stream: &mut TcpStream, gate: &Gate) -> Result<AdmittedGuest, String> {
    let counted = match fd_limits::let_guest_in(stream, gate.guests.count()) {
        Ok(counted) => counted,
        Err(no_room) => {
            fd_limits::log_trouble(&gate.name, &no_room);
            replace_silent(stream, gate, no_room).await?
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

/// Lets a guest in for whom one makes room that has said nothing: connections that say nothing must not keep those out who
/// do. It waits until that one has gone, and so do those behind it: the daemon never has more than its share.
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
