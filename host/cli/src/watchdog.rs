//! The watchdog of the service manager: fed only when the host has proved that it serves commands.
//!
//! The proof is a call of Dae's own port by the way of every guest: a new connection, a command, and its answer. A host
//! whose listener, threads or dispatch hang gives none, and the service manager restarts it. Any answer counts, also a
//! refusal such as `too-many-guests`: a host that refuses is busy and doesn't hang.
//!
//! Without a service manager that wants it (`WatchdogSec=`), nothing is called.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};
use tracing::warn;

use dae_runtime::os::service_manager;

/// The attempts within the time that the service manager waits: one may fail.
const ATTEMPTS: u32 = 3;

/// The command, which costs the same in a home of any size. Its reply names Dae.
const COMMAND: &[u8] = b"find [\"Dae\"]\n";

/// Reports for ever that the host serves commands, while it does. Returns at once if nobody wants to hear it.
pub(super) async fn feed(port: u16) {
    let Some(within) = service_manager::watchdog() else {
        return;
    };
    let every = within / ATTEMPTS;
    let mut turns = interval(every.max(Duration::from_millis(1)));
    loop {
        turns.tick().await;
        match timeout(every, is_served(port)).await {
            Ok(Ok(())) => service_manager::is_alive(),
            Ok(Err(error)) => warn!("the host doesn't serve its own port {port}: {error}"),
            Err(_) => warn!("the host has not answered on its own port {port} within {every:?}"),
        }
    }
}

/// Calls a command of Dae as any guest would, and waits for the answer.
async fn is_served(port: u16) -> io::Result<()> {
    let mut guest = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    guest.write_all(COMMAND).await?;
    let mut byte = [0];
    match guest.read(&mut byte).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn only_an_answer_is_a_proof() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let silent = timeout(Duration::from_millis(50), is_served(port)).await;
        assert!(silent.is_err(), "nobody has answered: {silent:?}");
        let serve = async |answer: &[u8]| {
            let (mut guest, _) = listener.accept().await.expect("a guest");
            let mut command = [0; COMMAND.len()];
            guest.read_exact(&mut command).await.expect("a command");
            guest.write_all(answer).await.expect("it is read");
        };
        // The guest that gave up is still in the queue.
        drop(listener.accept().await);
        let (served, ()) = tokio::join!(is_served(port), serve(b"find [{}]\n"));
        assert!(served.is_ok(), "{served:?}");
        let (closed, ()) = tokio::join!(is_served(port), serve(b""));
        assert!(closed.is_err(), "{closed:?}");
        drop(listener);
        assert!(is_served(port).await.is_err());
    }
}
