//! The daemon's own tokio runtime, with the feature `tokio`. Without the feature, the same names do nothing.
//!
//! A runtime is entered whenever the daemon's code runs. A task that the daemon spawns on its host outlives the call
//! that spawned it, so the task keeps an [`Entrance`].

/// The daemon's own tokio runtime, started when first needed.
#[cfg(feature = "tokio")]
#[derive(Default)]
pub struct Runtime(std::sync::OnceLock<Option<tokio::runtime::Runtime>>);

/// An empty runtime, because the plugin was built without the feature `tokio`.
#[cfg(not(feature = "tokio"))]
#[derive(Default)]
pub struct Runtime(());

/// An empty replacement for tokio's guard of an entered runtime.
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

    /// The longest time for a runtime's blocking tasks after its daemon has ended (ms). Its async tasks end at once.
    const STOP_MS: u64 = 1_000;

    pub fn stop(&mut self) {
        if let Some(Some(runtime)) = self.0.take() {
            runtime.shutdown_timeout(std::time::Duration::from_millis(Self::STOP_MS));
        }
    }
}

/// Shuts down without waiting. The last handle may be dropped inside a future, on a thread that must not wait; tokio's
/// own drop would panic there.
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
    let daemon = crate::log::here();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("daemon-tokio")
        .on_thread_start(move || {
            if let Some(daemon) = daemon {
                crate::log::adopt(daemon);
            }
        })
        .enable_all()
        .build();
    runtime
        .inspect_err(|error| {
            crate::log::error("tokio", &format!("no runtime for this daemon: {error}"))
        })
        .ok()
}

/// Checks that the runtime's thread can start, because tokio would panic otherwise. Checks for a second thread too,
/// because a thread that has ended is counted for a moment longer.
#[cfg(feature = "tokio")]
fn check_threads() -> std::io::Result<()> {
    let (release, released) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let release = release;
        let waits = move || {
            // The receiver returns when the sender is dropped.
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

/// A handle for entering the runtime that was entered when the handle was made.
#[cfg(feature = "tokio")]
pub struct Entrance(Option<tokio::runtime::Handle>);

/// An empty handle, because the plugin was built without the feature `tokio`.
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
