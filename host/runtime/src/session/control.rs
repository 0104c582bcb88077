//! The control socket, where only the owner of the home changes the ecosystem.
//!
//! It is a Unix socket that only the owner may open, in a directory that only the owner may enter. The kernel is also
//! asked for each peer's user. The socket speaks Common TCP, so its connections are guests like any other.
//!
//! A cleaner of temporary directories, or a user, may delete the socket's file and the home's lock while the host runs.
//! So the host checks both every few seconds and recreates them. It touches only its own files: if the home's path
//! leads to another directory by now, or another process listens on the socket, it logs that once.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::connection::guest_handle::GuestHandle;
use crate::os::control_listener::{self, ControlListener, ControlStream};
use crate::session::gate::Gate;
use crate::session::guest::{self, AdmittedGuest};
use crate::threads::fd_limits;
use dae_store::home::{Home, HomeLock};
use dae_store::lock::lock;
use dae_store::rate_limit::RateLimit;
use dae_store::tasks;

/// The interval for checking the socket's file. The command line waits for the socket a little longer than this.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The shortest time between two log lines about connections of other users.
const KNOCKS_LOGGED_EVERY: Duration = Duration::from_secs(60);

/// A listening control socket. Dropping it stops listening and removes its file.
#[derive(Debug)]
pub struct ControlSocket {
    task: AbortHandle,
    place: Arc<ControlAddress>,
}

/// The home where a host listens, and the lock that entitles it to.
#[derive(Debug)]
struct ControlAddress {
    home: Home,
    held: Arc<HomeLock>,
    /// True once the socket is closed: nothing is recreated after that. Locked while something is recreated.
    is_over: std::sync::Mutex<bool>,
    /// The listener. It stays open when the accepting task panics and is restarted.
    listener: std::sync::Mutex<Option<Arc<ControlListener>>>,
}

impl ControlSocket {
    /// Listens on the control socket. The home's lock entitles the caller to it.
    ///
    /// # Errors
    /// An error of the system, or another process listens there.
    pub fn listen(home: &Home, held: Arc<HomeLock>, gate: Arc<Gate>) -> anyhow::Result<Self> {
        let place = Arc::new(ControlAddress {
            home: home.clone(),
            held,
            is_over: std::sync::Mutex::default(),
            listener: std::sync::Mutex::default(),
        });
        place.bind()?;
        let attended = Arc::clone(&place);
        let make = move || attend(Arc::clone(&attended), Arc::clone(&gate));
        let task = tasks::keep_alive(&Handle::current(), "the control socket", make);
        let task = task.abort_handle();
        Ok(ControlSocket { task, place })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.task.abort();
        // The task may be about to find the file gone.
        *lock(&self.place.is_over) = true;
        if let Some(listener) = &*lock(&self.place.listener) {
            listener.remove(&self.place.home);
        }
    }
}

impl ControlAddress {
    fn bind(&self) -> anyhow::Result<()> {
        let listener = ControlListener::bind(&self.home).with_context(|| {
            let path = self.home.control_socket();
            format!("cannot listen on the control socket {}", path.display())
        })?;
        *lock(&self.listener) = Some(Arc::new(listener));
        Ok(())
    }

    /// Returns whether the socket is still the one that this host created.
    fn is_there(&self) -> bool {
        let listener = lock(&self.listener);
        listener
            .as_ref()
            .is_some_and(|listener| listener.is_reachable(&self.home))
    }

    /// Recreates the files of the lock and the socket where they are gone.
    ///
    /// # Errors
    /// The home is gone or is another directory, or a file can't be recreated.
    fn mend(&self) -> anyhow::Result<()> {
        let is_over = lock(&self.is_over);
        if *is_over {
            return Ok(());
        }
        let home = &self.home.data;
        match self.home.id() {
            Ok(id) if id == self.held.id() => {}
            Ok(_) => bail!(
                "the home {} is another directory now than the one that this host took; end this host and start another",
                home.display()
            ),
            Err(error) => bail!(
                "the home {} has gone ({error}), and what its daemons hand over can't be kept; put it back, or end this host",
                home.display()
            ),
        }
        if self.held.renew(&self.home)? {
            tracing::warn!("somebody has removed the home's lock; it was made anew");
        }
        if self.is_there() {
            return Ok(());
        }
        self.home.create_runtime()?;
        self.bind()?;
        let path = self.home.control_socket();
        tracing::warn!(path = %path.display(), "somebody has removed the control socket; it was made anew");
        Ok(())
    }

    /// Waits for the next client.
    async fn accept(&self) -> io::Result<ControlStream> {
        let listener = lock(&self.listener).clone();
        let listener = listener.ok_or(io::ErrorKind::NotConnected)?;
        listener.accept().await
    }
}

async fn attend(place: Arc<ControlAddress>, gate: Arc<Gate>) {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut logged = None;
    let knocks = RateLimit::new(1, KNOCKS_LOGGED_EVERY);
    loop {
        tokio::select! {
            accepted = place.accept() => take(accepted, &gate, &knocks).await,
            _ = looks.tick() => match place.mend() {
                Ok(()) => logged = None,
                Err(error) => {
                    let text = format!("{error:#}");
                    // Log each error once, and not every two seconds.
                    if logged.as_ref() != Some(&text) {
                        tracing::error!("{text}");
                        logged = Some(text);
                    }
                }
            },
        }
    }
}

async fn take(accepted: io::Result<ControlStream>, gate: &Arc<Gate>, knocks: &RateLimit) {
    tasks::fault_point("control");
    match accepted {
        Ok(stream) if control_listener::is_owner(&stream) => {
            fd_limits::grow(&stream);
            match let_in(gate) {
                Ok(guest_handle) => {
                    let entered = AdmittedGuest {
                        guest_handle,
                        counted: None,
                    };
                    tokio::spawn(serve(stream, Arc::clone(gate), entered));
                }
                Err(text) => guest::reject(&stream, &text),
            }
        }
        Ok(_) => {
            if let Some(skipped) = knocks.is_due() {
                let text = "another user connected to the control socket, and was not let in";
                tracing::warn!(skipped, "{text}");
            }
        }
        Err(error) if fd_limits::grow_after(&error) => {}
        Err(error) => {
            fd_limits::log_trouble(&gate.name, &error);
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

/// Admits a client. If there are too many, one that has sent nothing is closed: a client normally sends its request at
/// once, and a silent one must not keep the owner out.
fn let_in(gate: &Gate) -> Result<Arc<GuestHandle>, String> {
    let max = fd_limits::control_clients_max();
    if let Some(guest_handle) = gate.guests.enter_below(max) {
        return Ok(guest_handle);
    }
    match gate.guests.close_longest_silent() {
        true => Ok(gate.guests.enter()),
        false => Err(format!(
            "the control socket has {max} clients, as many as it may have at a time; end some of them, such as `logs -f`"
        )),
    }
}

/// Serves a client until it has gone. Its commands that have not begun by then never do.
async fn serve(stream: ControlStream, gate: Arc<Gate>, entered: AdmittedGuest) {
    let hang_up = control_listener::hang_up(&stream);
    tokio::select! {
        () = guest::serve(stream, gate, entered) => {}
        () = hang_up => {}
    }
}

// Nobody can remove a pipe, which takes the socket's place on Windows.
#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use dae_store::config::Config;

    #[tokio::test]
    async fn a_look_at_the_socket_during_the_end_leaves_none_behind() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::from(directory.path().join("home"));
        home.create().unwrap();
        let held = Arc::new(home.lock().unwrap());
        let gate = Gate::new("control", Config::default().control_limits());
        let control = ControlSocket::listen(&home, held, gate).unwrap();
        let place = Arc::clone(&control.place);
        assert!(home.control_socket().exists());
        std::fs::remove_file(home.control_socket()).unwrap();
        place.mend().unwrap();
        assert!(place.is_there(), "it is made anew");
        drop(control);
        place.mend().unwrap();
        assert!(!home.control_socket().exists());
    }
}
