//! The probe: the one question to an unknown listener, and the limits for its answer.
//!
//! The question has four bytes, on a connection of its own, which is closed as soon as the answer is clear.
//! Whatever the listener does, the probe ends within [`CONNECT`] for each address plus [`ANSWER`], and takes no
//! more memory than a reply. There is no error type: a listener that can't be connected to, or that breaks off,
//! counts as silent.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::claim::{ClaimReader, ProbeReply};
use dae_runtime::peers::self_connection::is_to_itself;

/// The only bytes that are ever sent to a listener that may be no daemon.
const QUESTION: &[u8] = b"dae\n";

/// The limit for connecting. A listener on this machine accepts at once, unless its queue is full.
const CONNECT: Duration = Duration::from_millis(250);

/// The limit from the question to the answer. A daemon answers it without looking anything up.
const ANSWER: Duration = Duration::from_millis(500);

/// Asks at the first of these addresses that accepts a connection. Returns that address and the reply.
pub(super) async fn ask(addresses: &[SocketAddr]) -> Option<(SocketAddr, ProbeReply)> {
    for address in addresses {
        let Ok(Ok(mut stream)) = timeout(CONNECT, TcpStream::connect(address)).await else {
            continue;
        };
        if is_to_itself(&stream) {
            continue;
        }
        let mut reader = ClaimReader::new();
        let answer = timeout(ANSWER, converse(&mut stream, &mut reader)).await;
        let reply = match answer {
            Ok(Ok(Some(reply))) => reply,
            // Closed, broken off, or out of time: the bytes so far may still be a last line.
            _ => reader.finish(),
        };
        return Some((*address, reply));
    }
    None
}

async fn converse(
    stream: &mut TcpStream,
    reader: &mut ClaimReader,
) -> io::Result<Option<ProbeReply>> {
    stream.write_all(QUESTION).await?;
    let mut bytes = [0; 1024];
    loop {
        let wanted = bytes.len().min(reader.wanted_bytes());
        let count = stream.read(&mut bytes[..wanted]).await?;
        if count == 0 {
            return Ok(None);
        }
        let reply = reader.take(&bytes[..count]);
        if reply.is_some() {
            return Ok(reply);
        }
    }
}
