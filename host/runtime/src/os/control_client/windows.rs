//! A named pipe. Its name is known to all users of the machine, and any of them may create a pipe of that name while no
//! host runs. So the pipe's owner is checked before anything is sent. The process that serves the pipe counts only where
//! no owner is known, as under Wine: it may have ended, and its id be another's.
//!
//! A pipe has no time limits of its own. Each call runs on a small async runtime with a timer.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::future::Future;
use std::io::{self, Read, Write};
use std::os::windows::io::{AsHandle as _, AsRawHandle as _};
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::windows::named_pipe::{ClientOptions, NamedPipeClient};
use tokio::runtime::{self, Runtime};
use windows_sys::Win32::Foundation::ERROR_PIPE_BUSY;
use windows_sys::Win32::System::Pipes::GetNamedPipeServerProcessId;

use crate::os::account;
use dae_store::write_access;

/// The interval for trying to connect to a pipe all of whose instances are taken: a host creates the next one when it
/// has accepted a client.
const BUSY_POLL: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct ControlClient {
    // Drops before the runtime that drives it.
    pipe: NamedPipeClient,
    runtime: Runtime,
    limit: Cell<Option<Duration>>,
}

impl ControlClient {
    /// Connects to a pipe.
    pub(super) fn connect(path: &Path, limit: Duration) -> io::Result<Self> {
        Self::connect_if(path, limit, is_own)
    }

    /// Connects to a pipe if `is_ours` holds for it.
    fn connect_if(
        path: &Path,
        limit: Duration,
        is_ours: impl FnOnce(&NamedPipeClient) -> io::Result<bool>,
    ) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let pipe = runtime.block_on(open(path, limit))?;
        if !is_ours(&pipe)? {
            let text = "that pipe belongs to another user, which got nothing; choose another home";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(ControlClient {
            pipe,
            runtime,
            limit: Cell::new(None),
        })
    }

    pub(super) fn limit(&self, limit: Option<Duration>) -> io::Result<()> {
        if limit == Some(Duration::ZERO) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.limit.set(limit);
        Ok(())
    }
}

async fn open(path: &Path, limit: Duration) -> io::Result<NamedPipeClient> {
    let until = Instant::now() + limit;
    loop {
        match ClientOptions::new().open(path) {
            Err(error) if is_busy(&error) && Instant::now() < until => {
                tokio::time::sleep(BUSY_POLL).await;
            }
            Err(error) if is_busy(&error) => return Err(io::ErrorKind::TimedOut.into()),
            opened => return opened,
        }
    }
}

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(ERROR_PIPE_BUSY.cast_signed())
}

fn is_own(pipe: &NamedPipeClient) -> io::Result<bool> {
    let is_own = write_access::is_own_pipe(pipe.as_handle())?;
    Ok(is_own.unwrap_or_else(|| server_of(pipe).is_some_and(account::is_own_process)))
}

/// Returns the id of the process that made the pipe.
fn server_of(pipe: &NamedPipeClient) -> Option<u32> {
    let mut process = 0;
    // SAFETY: the handle is borrowed, so it is open; the call writes one number, to the place behind the pointer.
    let is_known = unsafe { GetNamedPipeServerProcessId(pipe.as_raw_handle(), &raw mut process) };
    (is_known != 0).then_some(process)
}

/// Runs a call on the pipe to its end, or to the limit.
fn within<T>(
    runtime: &Runtime,
    limit: Option<Duration>,
    call: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    runtime.block_on(async {
        match limit {
            Some(limit) => tokio::time::timeout(limit, call)
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            None => call.await,
        }
    })
}

impl Read for ControlClient {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match within(&self.runtime, self.limit.get(), self.pipe.read(bytes)) {
            // A server that has closed its end.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
            read => read,
        }
    }
}

impl Write for ControlClient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        within(&self.runtime, self.limit.get(), self.pipe.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        within(&self.runtime, self.limit.get(), self.pipe.flush())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::windows::named_pipe::ServerOptions;

    const LIMIT: Duration = Duration::from_millis(100);

    fn name(of_test: &str) -> String {
        format!(r"\\.\pipe\dae-test-{}-{of_test}", std::process::id())
    }

    #[test]
    fn a_pipe_that_is_not_there_means_that_nobody_listens() {
        let error = ControlClient::connect(Path::new(&name("none")), LIMIT).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
    }

    /// Wine has one user, so the test says whose the pipe is.
    #[test]
    fn a_pipe_of_another_user_gets_nothing() {
        let runtime = runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let entered = runtime.enter();
        let name = name("foreign");
        let mut server = ServerOptions::new().create(&name).unwrap();
        drop(entered);
        let error = ControlClient::connect_if(Path::new(&name), LIMIT, |_| Ok(false)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("another user"), "{error}");
        // The end of the client may show late, so the wait for bytes has a limit.
        let read =
            runtime.block_on(async { tokio::time::timeout(LIMIT, server.read(&mut [0; 8])).await });
        assert!(!matches!(read, Ok(Ok(1..))), "{read:?}");
        runtime.block_on(async move { drop(server) });
    }

    #[test]
    fn every_wait_has_an_end() {
        let runtime = runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let entered = runtime.enter();
        let name = name("waits");
        let mut server = ServerOptions::new().create(&name).unwrap();
        drop(entered);
        let mut client = ControlClient::connect(Path::new(&name), LIMIT).unwrap();
        // The only instance is taken.
        let error = ControlClient::connect(Path::new(&name), LIMIT).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        client.limit(Some(LIMIT)).unwrap();
        let mut bytes = [0; 8];
        let error = client.read(&mut bytes).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        assert_eq!(client.write(b"dae\n").unwrap(), 4);
        runtime.block_on(async {
            server.connect().await.unwrap();
            let mut bytes = [0; 4];
            server.read_exact(&mut bytes).await.unwrap();
            server.write_all(b"dae [1]\n").await.unwrap();
        });
        assert_eq!(client.read(&mut bytes).unwrap(), 8);
        runtime.block_on(async move { drop(server) });
        assert_eq!(client.read(&mut bytes).unwrap(), 0, "the end");
    }
}
