//! Linux: a datagram socket with one entry per datagram (systemd's "Native Journal Protocol").

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::fs::fstat;

/// The socket of the journal.
const SOCKET: &str = "/run/systemd/journal/socket";

/// Returns whether standard error leads to the journal.
pub(crate) fn is_standard_error() -> bool {
    let named = std::env::var("JOURNAL_STREAM");
    let named = named
        .as_deref()
        .ok()
        .and_then(|named| named.split_once(':'));
    let (Some((device, inode)), Ok(stat)) = (named, fstat(io::stderr())) else {
        return false;
    };
    device == stat.st_dev.to_string() && inode == stat.st_ino.to_string()
}

/// A writer of entries to the journal. An empty line ends an entry, and a line without `=` is a message by itself.
#[derive(Debug)]
pub(crate) struct JournaldSocket {
    socket: UnixDatagram,
    unsent: Vec<u8>,
}

impl JournaldSocket {
    /// Connects to the journal of this machine.
    ///
    /// # Errors
    /// No journal listens.
    pub(crate) fn connect() -> io::Result<Self> {
        JournaldSocket::connect_to(Path::new(SOCKET))
    }

    fn connect_to(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        Ok(JournaldSocket {
            socket,
            unsent: Vec::new(),
        })
    }

    fn send(&self, entry: &[u8]) -> io::Result<()> {
        match entry.contains(&b'=') {
            true => self.socket.send(entry)?,
            false => self.socket.send(&[b"MESSAGE=", entry].concat())?,
        };
        Ok(())
    }
}

impl Write for JournaldSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unsent.extend_from_slice(bytes);
        let text = std::mem::take(&mut self.unsent);
        let mut rest = &text[..];
        while let Some(end) = rest.windows(2).position(|pair| pair == b"\n\n") {
            // An entry that the journal doesn't take is lost here; the log files have it.
            let _ = self.send(&rest[..=end]);
            rest = &rest[end + 2..];
        }
        self.unsent = rest.to_vec();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_is_a_datagram_however_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let mut sink = JournaldSocket::connect_to(&path).unwrap();
        for part in [
            "MESSAGE=a\nPRI",
            "ORITY=3\n",
            "\nMESSAGE=b\n\n3 lines were lost\n\n",
        ] {
            sink.write_all(part.as_bytes()).unwrap();
        }
        let mut bytes = [0; 100];
        for expected in [
            "MESSAGE=a\nPRIORITY=3\n",
            "MESSAGE=b\n",
            "MESSAGE=3 lines were lost\n",
        ] {
            let length = journal.recv(&mut bytes).unwrap();
            assert_eq!(std::str::from_utf8(&bytes[..length]).unwrap(), expected);
        }
    }

    #[test]
    fn a_machine_without_a_journal_has_no_socket() {
        let dir = tempfile::tempdir().unwrap();
        JournaldSocket::connect_to(&dir.path().join("none")).unwrap_err();
    }
}
