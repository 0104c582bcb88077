//! The door of a daemon: what its guests find behind the port, whichever instance is there at the time.
//!
//! It outlives every instance. A guest looks at it once for each batch of lines: an open door hands out a [`Lease`] on the
//! instance; before a waiting one the lines stay where they are, for a limited time; a shut one answers `unavailable`.
//! When the last lease on an instance that was taken away has been given back, nobody runs code of it any more. This is
//! all there is to quiescing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{oneshot, watch};

use crate::instance::Instance;
use crate::mailbox::Guests;
use crate::stats::Stats;

/// What stands behind the door.
#[derive(Debug)]
pub enum Phase {
    /// An instance answers.
    Open(Arc<Lease>),
    /// None at the moment, but one is expected: lines wait.
    Waiting,
    /// None, and none is expected: the reason is told to each command.
    Shut(String),
}

/// The right to run an instance's code; the supervisor hears when the last one is given back.
#[derive(Debug)]
pub struct Lease {
    /// What may be run.
    pub instance: Arc<Instance>,
    given_back: Mutex<Option<oneshot::Sender<()>>>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let sender = self
            .given_back
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(sender) = sender {
            // Nobody waits if the instance ended in another way.
            let _ = sender.send(());
        }
    }
}

/// Limits of one daemon's guests.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Longest line, in bytes before its LF.
    pub line_bytes_max: usize,
    /// Guests at a time; one more is told `too-many-guests`.
    pub guests_max: usize,
    /// How long one command may run; zero means for ever.
    pub command: Duration,
    /// How long a command waits for an instance.
    pub instance_wait: Duration,
    /// How long half a line may wait for its other half.
    pub half_line: Duration,
}

/// See the file's head.
#[derive(Debug)]
pub struct Door {
    /// The daemon's name.
    pub name: String,
    /// Its guests.
    pub guests: Guests,
    /// Its counts.
    pub stats: Stats,
    /// Its limits.
    pub limits: Limits,
    phase: ArcSwap<Phase>,
    changed: watch::Sender<()>,
}

impl Door {
    /// A door that nobody stands behind yet.
    #[must_use]
    pub fn new(name: &str, limits: Limits) -> Arc<Self> {
        Arc::new(Door {
            name: name.to_owned(),
            guests: Guests::default(),
            stats: Stats::default(),
            limits,
            phase: ArcSwap::from_pointee(Phase::Waiting),
            changed: watch::Sender::new(()),
        })
    }

    /// What stands behind it now.
    #[inline]
    #[must_use]
    pub fn phase(&self) -> arc_swap::Guard<Arc<Phase>> {
        self.phase.load()
    }

    /// Ends when the phase is no longer the one that was seen before this call.
    pub fn changed(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut changed = self.changed.subscribe();
        async move {
            // An error means that the door is gone, which is a change too.
            let _ = changed.changed().await;
        }
    }

    /// Opens it to `instance`. The receiver hears when the last lease is given back after the door was closed.
    pub fn open(&self, instance: Arc<Instance>) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let lease = Lease {
            instance,
            given_back: Mutex::new(Some(sender)),
        };
        self.set(Phase::Open(Arc::new(lease)));
        receiver
    }

    /// From now on lines wait.
    pub fn hold(&self) {
        self.set(Phase::Waiting);
    }

    /// From now on commands are answered `unavailable`, with this reason.
    pub fn shut(&self, reason: impl Into<String>) {
        self.set(Phase::Shut(reason.into()));
    }

    fn set(&self, phase: Phase) {
        self.phase.store(Arc::new(phase));
        self.changed.send_replace(());
    }
}
