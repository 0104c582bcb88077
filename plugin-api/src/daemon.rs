//! The trait that `#[daemon]` implements: a daemon, independent of the ABI.
//!
//! The macro writes an `impl Exported`, and [`crate::export`] exposes it across the boundary. Nothing here is meant to
//! be written by hand.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::abi::{HostV1, Output, StepV1, status};
use crate::arguments::{self, ArgumentList, Misread, Signature};
use crate::crossing::Config;
use crate::parts::PartsTarget;
use crate::saved_state::{OwnedState, SavedState};
use crate::{Ecosystem, Guest, exact, export, misfit};

/// A boxed future that runs a daemon's code.
pub type Work<T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send>>;

/// A daemon whose glue code the macro has written.
pub trait Exported: Sized + Send + Sync + 'static {
    /// Returns the manifest, JSON.
    fn manifest() -> &'static str;

    /// Constructs the daemon.
    fn start(request: StartRequest) -> Work<Self>;

    /// Runs one command.
    fn call(live: &Arc<Live<Self>>, call: Call<'_>) -> StepV1;

    /// Returns the background work, if there is any.
    fn run(live: Arc<Live<Self>>) -> Option<Work<()>> {
        drop(live);
        None
    }

    /// Returns the last work before the daemon's end, if there is any.
    fn stop(live: Arc<Live<Self>>) -> Option<Work<()>> {
        drop(live);
        None
    }

    /// Returns the work for a new guest, if there is any.
    fn guest_came(live: Arc<Live<Self>>, guest: Guest) -> Option<Work<()>> {
        drop(live);
        let _ = guest;
        None
    }

    /// Returns the work for a guest that has gone, if there is any.
    fn guest_gone(live: Arc<Live<Self>>, guest: Guest) -> Option<Work<()>> {
        drop(live);
        let _ = guest;
        None
    }

    /// Returns work that writes the state as JSON, if the daemon hands one over.
    fn save(live: Arc<Live<Self>>, out: Output) -> Option<Work<()>> {
        drop((live, out));
        None
    }

    /// Returns work that writes the state as [`Exported::save`] does, and notes what changes from then on.
    fn snapshot(live: Arc<Live<Self>>, out: Output) -> Option<Work<()>> {
        drop((live, out));
        None
    }

    /// Returns work that writes what has changed since the last snapshot.
    fn delta(live: Arc<Live<Self>>, out: Output) -> Option<Work<()>> {
        drop((live, out));
        None
    }

    /// Returns work that carries out changes that another instance has noted.
    fn apply(live: Arc<Live<Self>>, delta: &SavedState<'_>) -> Option<Work<()>> {
        drop(live);
        let _ = delta;
        None
    }

    /// Checks whether this code can read an earlier state; the error is the reason why not.
    ///
    /// # Errors
    /// The state can't be read.
    fn check_state(state: &SavedState<'_>) -> Result<(), String> {
        let _ = state;
        Ok(())
    }

    /// Adds the schemas of the types that have none at compile time.
    #[cfg(feature = "schema")]
    fn describe(schemas: &mut crate::export::RunTimeSchemas) {
        let _ = schemas;
    }
}

/// A constructed daemon with its host and its runtime.
pub struct Live<D> {
    /// The value of the author's type.
    pub daemon: D,
    pub(crate) host: HostV1,
    // Dropped after the daemon, whose Drop may still spawn on it.
    pub(crate) runtime: crate::runtime::Runtime,
}

impl<D> Live<D> {
    /// Returns the daemon's ecosystem API.
    #[must_use]
    pub fn ecosystem(&self) -> Ecosystem {
        Ecosystem::new(self.host)
    }
}

/// The input of a start, from the host.
pub struct StartRequest {
    pub(crate) host: HostV1,
    pub(crate) config: Box<RawValue>,
    /// The state that the previous instance left, if any.
    pub state: Option<SavedState<'static>>,
}

/// The start request as it crosses. Later hosts may add members; a plugin ignores those it doesn't know.
#[derive(Deserialize)]
pub(crate) struct StartMessage {
    pub(crate) config: Box<RawValue>,
    #[serde(default)]
    pub(crate) state: Option<OwnedState>,
}

impl StartRequest {
    /// Returns the daemon's ecosystem API.
    #[must_use]
    pub fn ecosystem(&self) -> Ecosystem {
        Ecosystem::new(self.host)
    }

    /// Returns the config as the author's type.
    ///
    /// # Errors
    /// The config doesn't fit `T`; the text shows the place.
    pub fn config<T: Config>(&self) -> Result<T, String> {
        let text = self.config.get();
        exact::from_str(text)
            .map_err(|error| format!("the config doesn't fit: {}", misfit::explain(&error, text)))
    }
}

/// A command on its way to the author's method.
pub struct Call<'a> {
    pub(crate) host: HostV1,
    /// The index into the manifest's commands.
    pub command: u32,
    pub(crate) guest: u64,
    /// The number of a call whose caller takes parts, otherwise 0.
    pub(crate) parts: u64,
    pub(crate) arguments: &'a str,
    pub(crate) out: Output,
}

impl<'a> Call<'a> {
    /// Returns the guest that sent the command.
    #[inline]
    #[must_use]
    pub fn guest(&self) -> Guest {
        Guest::new(self.host, self.guest)
    }

    /// Returns the daemon's ecosystem API.
    #[inline]
    #[must_use]
    pub fn ecosystem(&self) -> Ecosystem {
        Ecosystem::new(self.host)
    }

    /// Returns the destination of the call's parts.
    #[must_use]
    pub fn parts(&self) -> PartsTarget {
        PartsTarget {
            host: self.host,
            guest: self.guest,
            call: self.parts,
        }
    }

    /// Runs a sync method: reads the arguments, and calls `method`, which writes its result.
    #[inline]
    pub fn now<L: ArgumentList<'a>>(
        mut self,
        signature: &'static Signature,
        method: impl FnOnce(L, &mut Output) -> u32,
    ) -> StepV1 {
        StepV1::ended(match arguments::read(self.arguments, signature) {
            Ok(list) => method(list, &mut self.out),
            Err(misread) => refuse(misread, &mut self.out),
        })
    }

    /// Runs an async method: reads the arguments, and returns the future that `method` makes of them to the host.
    pub fn later<D, L, F>(
        mut self,
        live: &Arc<Live<D>>,
        signature: &'static Signature,
        method: impl FnOnce(L, Output) -> F,
    ) -> StepV1
    where
        D: Exported,
        L: ArgumentList<'a>,
        F: Future<Output = u32> + Send + 'static,
    {
        match arguments::read(self.arguments, signature) {
            Ok(list) => export::pending(live, self.out, |out| method(list, out)),
            Err(misread) => StepV1::ended(refuse(misread, &mut self.out)),
        }
    }

    /// Reports an index that the manifest doesn't have.
    #[must_use]
    pub fn unknown(self) -> StepV1 {
        StepV1::ended(status::UNKNOWN)
    }
}

#[cold]
fn refuse(misread: Misread, out: &mut Output) -> u32 {
    match misread {
        Misread::NotJson => status::NOT_JSON,
        Misread::Bad(text) => {
            out.replace(&text);
            status::BAD_ARGUMENTS
        }
    }
}
