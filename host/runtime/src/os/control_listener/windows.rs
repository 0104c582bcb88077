//! A named pipe. Each connection has an instance of its own, and one more instance waits for the next client.

#![allow(unsafe_code)]

use std::io;
use std::os::windows::io::{AsHandle as _, AsRawHandle as _};
use std::time::Duration;

use tokio::net::windows::named_pipe::NamedPipeServer;
use tokio::sync::Mutex;
use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, ERROR_NO_DATA};
use windows_sys::Win32::System::Pipes::PeekNamedPipe;

use crate::os::account;
use dae_store::home::Home;

/// The interval for checking whether a client is still there.
const HANG_UP_POLL: Duration = Duration::from_millis(100);

/// A connection.
pub type ControlStream = NamedPipeServer;

#[derive(Debug)]
pub(super) struct ControlListener {
    name: String,
    next: Mutex<NamedPipeServer>,
}

impl ControlListener {
    pub(super) fn bind(home: &Home) -> io::Result<Self> {
        let name = home.control_socket().to_string_lossy().into_owned();
        let next = account::own_pipe(&name, true).map_err(in_use)?;
        Ok(ControlListener {
            name,
            next: Mutex::new(next),
        })
    }

    pub(super) async fn accept(&self) -> io::Result<ControlStream> {
        let mut next = self.next.lock().await;
        loop {
            match next.connect().await {
                // The client has gone already.
                Err(error) if is_code(&error, ERROR_NO_DATA) => next.disconnect()?,
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        let another = account::own_pipe(&self.name, false)?;
        Ok(std::mem::replace(&mut *next, another))
    }

    /// Nobody can remove a pipe that is open.
    pub(super) fn is_reachable(&self, _home: &Home) -> bool {
        true
    }

    pub(super) fn remove(&self, _home: &Home) {}
}

/// The system refuses a first instance of a pipe that exists.
fn in_use(error: io::Error) -> io::Error {
    match is_code(&error, ERROR_ACCESS_DENIED) {
        true => io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens there; end it, or choose another home",
        ),
        false => error,
    }
}

fn is_code(error: &io::Error, code: u32) -> bool {
    error.raw_os_error() == Some(code.cast_signed())
}

pub(super) fn is_owner(stream: &ControlStream) -> bool {
    account::is_own_client(stream)
}

/// A client cannot finish sending without closing its end.
pub(super) fn hang_up(stream: &ControlStream) -> impl Future<Output = ()> + Send + use<> {
    let watched = stream.as_handle().try_clone_to_owned();
    async move {
        // Without a watch, reading detects the end.
        let Ok(watched) = watched else {
            return std::future::pending().await;
        };
        let is_there = || {
            let nothing = std::ptr::null_mut();
            // SAFETY: the handle is open, and the call writes nothing: all its pointers are null.
            let peeked = unsafe {
                PeekNamedPipe(
                    watched.as_raw_handle(),
                    nothing,
                    0,
                    nothing.cast(),
                    nothing.cast(),
                    nothing.cast(),
                )
            };
            peeked != 0
        };
        while is_there() {
            tokio::time::sleep(HANG_UP_POLL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::under_test::is_lacking_in_wine;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::windows::named_pipe::{ClientOptions, NamedPipeClient};
    use tokio::runtime;

    /// The longest time for things that should happen at once.
    const LIMIT: Duration = Duration::from_secs(20);

    fn on_runtime<T>(test: impl Future<Output = T>) -> T {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let within = async { tokio::time::timeout(LIMIT, test).await };
        runtime.unwrap().block_on(within).expect("an end")
    }

    fn client_of(home: &Home) -> NamedPipeClient {
        ClientOptions::new().open(home.control_socket()).unwrap()
    }

    #[test]
    fn clients_are_accepted_one_after_the_other_and_are_the_owners() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        on_runtime(async {
            let listener = ControlListener::bind(&home).unwrap();
            assert!(listener.is_reachable(&home));
            let mut connections = Vec::new();
            for number in [1, 2, 3] {
                let mut client = client_of(&home);
                let mut server = listener.accept().await.unwrap();
                assert!(is_owner(&server));
                client.write_all(&[number]).await.unwrap();
                assert_eq!(server.read_u8().await.unwrap(), number);
                connections.push((client, server));
            }
        });
    }

    #[test]
    fn one_process_listens_for_a_home() {
        // The lock of the home keeps a second host away in any case.
        if is_lacking_in_wine("first instances of pipes") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        on_runtime(async {
            let listener = ControlListener::bind(&home).unwrap();
            let error = ControlListener::bind(&home).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
            drop(listener);
            ControlListener::bind(&home).unwrap();
        });
    }

    #[test]
    fn a_client_that_has_gone_before_it_was_accepted_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        on_runtime(async {
            let listener = ControlListener::bind(&home).unwrap();
            drop(client_of(&home));
            let accepted = async {
                loop {
                    let mut server = listener.accept().await.unwrap();
                    // The one that has gone may be accepted or passed over.
                    if let Ok(byte) = server.read_u8().await {
                        return byte;
                    }
                }
            };
            let sent = async {
                let mut client = loop {
                    match ClientOptions::new().open(home.control_socket()) {
                        Ok(client) => break client,
                        Err(_) => tokio::task::yield_now().await,
                    }
                };
                client.write_all(&[9]).await.unwrap();
                client
            };
            let (byte, _client) = tokio::join!(accepted, sent);
            assert_eq!(byte, 9);
        });
    }

    #[test]
    fn a_client_that_hangs_up_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        on_runtime(async {
            let listener = ControlListener::bind(&home).unwrap();
            let client = client_of(&home);
            let server = listener.accept().await.unwrap();
            let mut gone = std::pin::pin!(hang_up(&server));
            let now = futures_util::poll!(&mut gone);
            assert!(now.is_pending(), "it is there");
            drop(client);
            gone.await;
        });
    }
}
