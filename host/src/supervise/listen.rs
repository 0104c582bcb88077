//! A daemon's port: bound once, and kept until the daemon is stopped.

use std::io;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::runtime::Handle;

use super::DaemonSpec;
use dae_runtime::session::accept::{Listener, listen_on};
use dae_runtime::session::gate::Gate;
use dae_runtime::threads::fd_limits;

/// Binds the daemon's port, or another if it is taken and not pinned. Accepts guests through `gate`.
pub(super) fn bind(
    spec: &DaemonSpec,
    gate: &Arc<Gate>,
    runtime: &Handle,
) -> Result<Listener, String> {
    let listener = socket(spec, runtime)?;
    fd_limits::check_room(&listener)?;
    Listener::over(listener, Arc::clone(gate), runtime)
        .map_err(|error| format!("its port has no address: {error}"))
}

/// Checks that the daemon's port can be had, and leaves it free.
///
/// # Errors
/// The text of a port that another program has.
pub(crate) fn check(spec: &DaemonSpec, runtime: &Handle) -> Result<(), String> {
    socket(spec, runtime).map(drop)
}

fn socket(spec: &DaemonSpec, runtime: &Handle) -> Result<TcpListener, String> {
    // The socket belongs to the runtime that its guests run on.
    let _entered = runtime.enter();
    let port = spec.port.unwrap_or(0);
    let listener = listen_on(port).or_else(|error| match fd_limits::grow_after(&error) {
        true => listen_on(port),
        false => Err(error),
    });
    listener.or_else(|error| other_port(spec, &error))
}

fn other_port(spec: &DaemonSpec, error: &io::Error) -> Result<TcpListener, String> {
    if let Some(text) = fd_limits::no_room_after(error) {
        return Err(text);
    }
    let port = spec.port.unwrap_or(0);
    if spec.is_port_pinned {
        return Err(format!(
            "port {port} is pinned, but can't be had: {error}; free it, or install the daemon with another `port`"
        ));
    }
    tracing::warn!(daemon = spec.name, port, %error, "its port of before can't be had; it gets another");
    listen_on(0).map_err(|error| format!("no port can be had on the loopback address: {error}"))
}
