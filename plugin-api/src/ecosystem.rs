//! What a daemon may ask of the ecosystem it lives in.
//!
//! Like a guest, it is an id and a table of functions: it can be copied, kept and used from any thread, and after the
//! daemon's end it answers with errors. Logging needs none of it: `tracing::info!` goes to the daemon's log.

use std::future::Future;
use std::time::Duration;

use async_ffi::FutureExt as _;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::abi::{HostV1, status};
use crate::{Error, Result, log, panic};

/// Who a daemon is, as it answers `dae`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Credential {
    /// The name it runs under.
    pub name: String,
    /// The process its code runs in.
    pub pid: u32,
    /// Its Common TCP port on the loopback address.
    pub port: u16,
    /// The plugin's own name, where the host tells it.
    #[serde(default)]
    pub plugin: Option<String>,
    /// The plugin's version, where the host tells it.
    #[serde(default)]
    pub version: Option<String>,
}

/// A daemon's way to its host.
#[derive(Clone, Copy)]
pub struct Ecosystem {
    host: HostV1,
}

impl std::fmt::Debug for Ecosystem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ecosystem(daemon {})", self.host.daemon)
    }
}

impl Ecosystem {
    pub(crate) fn new(host: HostV1) -> Self {
        Ecosystem { host }
    }

    /// This daemon's own credential.
    ///
    /// # Errors
    /// The daemon has ended.
    pub fn credential(&self) -> Result<Credential> {
        Ok(serde_json::from_slice(&self.host.ask("credential", b"")?)?)
    }

    /// The JSON object that was given at install, `{}` if none was, as the author's own type.
    ///
    /// # Errors
    /// The daemon has ended, or the object is not what `T` takes.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_slice(&self.host.ask("config", b"")?)?)
    }

    /// Waits, without a thread.
    pub async fn sleep(&self, duration: Duration) {
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.host.sleep(ms).await;
    }

    /// Runs `future` on the host's runtime until it ends or the daemon does, whichever is first.
    /// A panic in it is logged, and ends it alone.
    ///
    /// # Errors
    /// The daemon has ended.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let host = self.host;
        let mut future = Box::pin(future);
        let guarded = std::future::poll_fn(move |context| {
            let _scope = log::Scope::enter(host);
            // The hook has logged the panic with its place.
            panic::caught(|| future.as_mut().poll(context)).unwrap_or(std::task::Poll::Ready(()))
        });
        match host.spawn(guarded.into_ffi()) {
            status::DONE | status::NOTHING => Ok(()),
            _ => Err(Error::new(
                "this daemon has ended, so nothing more can be spawned",
            )),
        }
    }
}
