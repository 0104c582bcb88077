//! What `#[daemon]` implements: a daemon, without a word of ABI.
//!
//! The macro writes an `impl Exported`; [`crate::export`] puts it behind the boundary. Nothing here is meant to be
//! written by hand.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::abi::{HostV1, Output, StepV1, status};
use crate::arguments::{self, ArgumentList, Misread, Signature};
use crate::{Ecosystem, Guest, exact, export, misfit, reply};

/// A boxed future of a daemon's code.
pub type Work<T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send>>;

/// A daemon that the macro has prepared.
pub trait Exported: Sized + Send + Sync + 'static {
    /// Its manifest, JSON.
    fn manifest() -> &'static str;

    /// Constructs it.
    fn start(request: StartRequest) -> Work<Self>;

    /// Runs one command.
    fn call(live: &Arc<Live<Self>>, call: Call<'_>) -> StepV1;

    /// Its background work, if it has any.
    fn run(live: Arc<Live<Self>>) -> Option<Work<()>> {
        drop(live);
        None
    }

    /// Its last work, if it has any.
    fn stop(live: Arc<Live<Self>>) -> Option<Work<()>> {
        drop(live);
        None
    }

    /// What it does when a guest has come, if anything.
    fn guest_came(live: Arc<Live<Self>>, guest: Guest) -> Option<Work<()>> {
        drop(live);
        let _ = guest;
        None
    }

    /// What it does when a guest has gone, if anything.
    fn guest_gone(live: Arc<Live<Self>>, guest: Guest) -> Option<Work<()>> {
        drop(live);
        let _ = guest;
        None
    }

    /// Its state as JSON, if it hands one over.
    fn save(live: Arc<Live<Self>>) -> Option<Work<String>> {
        drop(live);
        None
    }

    /// Whether a state of before can be read; the text says why not.
    ///
    /// # Errors
    /// The reader's.
    fn check_state(state: &SavedState) -> Result<(), String> {
        let _ = state;
        Ok(())
    }
}

/// A state on its way from one instance to the next.
#[derive(Deserialize)]
pub struct SavedState {
    /// The author's number for its shape.
    pub version: u32,
    pub(crate) data: Box<RawValue>,
}

impl SavedState {
    /// The state as the author's type; one of another version by way of `migrate`, where there is one.
    ///
    /// # Errors
    /// It is not what `T` takes, or of a version that nobody can read; the text says where.
    pub fn read<T: DeserializeOwned>(
        &self,
        version: u32,
        migrate: Option<&dyn Fn(u32, serde_json::Value) -> Result<T, String>>,
    ) -> Result<T, String> {
        if self.version == version {
            return self.parse();
        }
        let Some(migrate) = migrate else {
            return Err(format!(
                "the state is of version {}, this code reads version {version} and has no `migrate`",
                self.version
            ));
        };
        migrate(self.version, self.parse()?).map_err(|text| {
            format!(
                "the state of version {} can't be migrated: {text}",
                self.version
            )
        })
    }

    fn parse<T: DeserializeOwned>(&self) -> Result<T, String> {
        let text = self.data.get();
        exact::from_str(text)
            .map_err(|error| format!("the state can't be read: {}", misfit::explain(&error, text)))
    }
}

/// A state of the author's as it crosses.
///
/// # Errors
/// It can't be written as JSON.
pub fn saved<T: serde::Serialize>(version: u32, state: &T) -> Result<String, String> {
    let data = reply::to_json(state)
        .map_err(|error| format!("the state can't be written as JSON: {error}"))?;
    Ok(format!("{{\"version\":{version},\"data\":{data}}}"))
}

/// A constructed daemon and what belongs to it.
pub struct Live<D> {
    /// The author's value.
    pub daemon: D,
    pub(crate) host: HostV1,
    // Dropped after the daemon, whose Drop may still spawn on it.
    pub(crate) runtime: crate::runtime::Runtime,
}

impl<D> Live<D> {
    /// The daemon's way to its host.
    #[must_use]
    pub fn ecosystem(&self) -> Ecosystem {
        Ecosystem::new(self.host)
    }
}

/// What the host hands to a start.
pub struct StartRequest {
    pub(crate) host: HostV1,
    pub(crate) config: Box<RawValue>,
    /// What the instance before has left, if it has.
    pub state: Option<SavedState>,
}

/// The request as it crosses. More members may come; a plugin ignores what it doesn't know.
#[derive(Deserialize)]
pub(crate) struct StartMessage {
    pub(crate) config: Box<RawValue>,
    #[serde(default)]
    pub(crate) state: Option<SavedState>,
}

impl StartRequest {
    /// The daemon's way to its host.
    #[must_use]
    pub fn ecosystem(&self) -> Ecosystem {
        Ecosystem::new(self.host)
    }

    /// The config as the author's type.
    ///
    /// # Errors
    /// It is not what `T` takes; the text says where.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, String> {
        let text = self.config.get();
        exact::from_str(text)
            .map_err(|error| format!("the config doesn't fit: {}", misfit::explain(&error, text)))
    }
}

/// One command on its way to the author's method.
pub struct Call<'a> {
    pub(crate) host: HostV1,
    /// Index into the manifest's commands.
    pub command: u32,
    pub(crate) guest: u64,
    pub(crate) arguments: &'a str,
    pub(crate) out: Output,
}

impl<'a> Call<'a> {
    /// The guest that sent it.
    #[inline]
    #[must_use]
    pub fn guest(&self) -> Guest {
        Guest::new(self.host, self.guest)
    }

    /// The daemon's way to its host.
    #[inline]
    #[must_use]
    pub fn ecosystem(&self) -> Ecosystem {
        Ecosystem::new(self.host)
    }

    /// A sync method: reads the arguments, runs `method`, which writes its result.
    #[inline]
    pub fn now<L: ArgumentList<'a>>(
        mut self,
        signature: Signature,
        method: impl FnOnce(L, &mut Output) -> u32,
    ) -> StepV1 {
        StepV1::ended(match arguments::read(self.arguments, signature) {
            Ok(list) => method(list, &mut self.out),
            Err(misread) => refuse(misread, &mut self.out),
        })
    }

    /// An async method: reads the arguments, and leaves the future that `method` makes of them to the host.
    pub fn later<D, L, F>(
        mut self,
        live: &Arc<Live<D>>,
        signature: Signature,
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

    /// An index that the manifest doesn't have.
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
