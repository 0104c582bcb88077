//! The tokio that a daemon may have of its own, with the feature `tokio`; without it, the same names and nothing behind.
//!
//! A runtime is entered whenever the daemon's code runs. What the daemon spawns on its host outlives the call that
//! spawned it, so that it takes an [`Entrance`] along.

/// The daemon's own tokio, started when first needed.
#[cfg(feature = "tokio")]
#[derive(Default)]
pub struct Runtime(std::sync::OnceLock<Option<tokio::runtime::Runtime>>);

/// Nothing: the plugin was built without the feature `tokio`.
#[cfg(not(feature = "tokio"))]
#[derive(Default)]
pub struct Runtime(());

/// Marks, as a tokio's guard would, that a runtime was entered.
#[cfg(not(feature = "tokio"))]
pub struct Entered;

#[cfg(feature = "tokio")]
impl Runtime {
    pub fn enter(&self) -> Option<tokio::runtime::EnterGuard<'_>> {
        self.0
            .get_or_init(start_runtime)
            .as_ref()
            .map(tokio::runtime::Runtime::enter)
    }

    /// How long a runtime's blocking tasks may go on once its daemon has ended (ms). Its async tasks end at once.
    const STOP_MS: u64 = 1_000;

    pub fn stop(&mut self) {
        if let Some(Some(runtime)) = self.0.take() {
            runtime.shutdown_timeout(std::time::Duration::from_millis(Self::STOP_MS));
        }
    }
}

/// Where the last handle goes away inside a future, a thread that must not wait; tokio would panic.
#[cfg(feature = "tokio")]
impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(Some(runtime)) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(feature = "tokio")]
fn start_runtime() -> Option<tokio::runtime::Runtime> {
    if let Err(error) = check_threads() {
        crate::log::error("tokio", &format!("no runtime for this daemon: {error}"));
        return None;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("daemon-tokio")
        .enable_all()
        .build();
    runtime
        .inspect_err(|error| {
            crate::log::error("tokio", &format!("no runtime for this daemon: {error}"))
        })
        .ok()
}

/// Makes sure that there is room for the runtime's thread, without which tokio would panic; and for one more, since a
/// thread that has ended is counted for a moment longer.
#[cfg(feature = "tokio")]
fn check_threads() -> std::io::Result<()> {
    let (release, released) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let release = release;
        let waits = move || {
            // It ends when the sender is dropped.
            let _ = released.recv();
        };
        std::thread::Builder::new().spawn_scoped(scope, waits)?;
        std::thread::Builder::new().spawn_scoped(scope, || {})?;
        drop(release);
        Ok(())
    })
}

#[cfg(not(feature = "tokio"))]
impl Runtime {
    #[allow(clippy::unused_self)]
    pub fn enter(&self) -> Entered {
        Entered
    }

    #[allow(clippy::unused_self)]
    pub fn stop(&mut self) {}
}

/// The way into the runtime that was entered when this was made.
#[cfg(feature = "tokio")]
pub struct Entrance(Option<tokio::runtime::Handle>);

/// Nothing, as [`Runtime`].
#[cfg(not(feature = "tokio"))]
pub struct Entrance;

#[cfg(feature = "tokio")]
impl Entrance {
    pub fn here() -> Self {
        Entrance(tokio::runtime::Handle::try_current().ok())
    }

    pub fn enter(&self) -> Option<tokio::runtime::EnterGuard<'_>> {
        self.0.as_ref().map(tokio::runtime::Handle::enter)
    }
}

#[cfg(not(feature = "tokio"))]
impl Entrance {
    pub fn here() -> Self {
        Entrance
    }

    #[allow(clippy::unused_self)]
    pub fn enter(&self) -> Entered {
        Entered
    }
}
