//! Events, and the streams of them that an author loops over.
//!
//! Each stream has a queue of its own in the host, from the moment it is made. It is bounded (4 MiB): a stream that
//! isn't read ends with an event `disconnect ["slow-guest: …"]`, and nobody else is slowed down by it.

use serde::de::DeserializeOwned;

use crate::feed::Feed;
use crate::{Credential, Error, Result, wire};

/// What another daemon says without being asked: a name, and arguments.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    line: String,
}

impl Event {
    pub(crate) fn new(line: String) -> Self {
        Event { line }
    }

    /// Its name; of a published one, the topic.
    #[must_use]
    pub fn name(&self) -> &str {
        wire::parted(&self.line).0
    }

    /// Its arguments: all of them as a tuple or a `Vec`, or the only one as itself. `()` takes none.
    ///
    /// # Errors
    /// They are something else; the text says what was expected and what came.
    pub fn arguments<T: DeserializeOwned>(&self) -> Result<T> {
        self.read()
            .map_err(|text| Error::new(format!("the event {}: {text}", self.name())))
    }

    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        wire::read_event(wire::parted(&self.line).1)
    }
}

/// As it came: `tick [7]`.
impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.line)
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Event({})", self.line)
    }
}

/// The events of a guest or a topic, in the order in which they came. Dropped, it is closed.
pub struct Events(Feed);

impl Events {
    pub(crate) fn new(feed: Feed) -> Self {
        Events(feed)
    }

    /// Waits for the next one; `None` once there will be no more: the guest has gone for good, this daemon ends, or the
    /// queue was full. A future that is dropped loses no event.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.next().await.map(Event::new)
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

/// What became of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeKind {
    /// It is there now: started, or found.
    Appeared,
    /// It runs as another generation, on another port, or in another process.
    Changed,
    /// It is there no more.
    Gone,
}

/// A daemon that has come, changed or gone.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Change {
    /// What became of it.
    pub kind: ChangeKind,
    /// Who it is, or was.
    pub credential: Credential,
}

impl Change {
    /// `None` for what only later hosts say.
    fn read(event: &Event) -> Option<Self> {
        let kind = match event.name() {
            "appeared" => ChangeKind::Appeared,
            "changed" => ChangeKind::Changed,
            "gone" => ChangeKind::Gone,
            _ => return None,
        };
        let (credential,) = event.read::<(Credential,)>().ok()?;
        Some(Change { kind, credential })
    }
}

/// The daemons that come, change and go, in that order. Dropped, it is closed.
pub struct Changes(Feed);

impl Changes {
    pub(crate) fn new(feed: Feed) -> Self {
        Changes(feed)
    }

    /// Waits for the next one; `None` once there will be no more: this daemon ends, or the queue was full. A future that is
    /// dropped loses no change.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            let event = Event::new(self.0.next().await?);
            if let Some(change) = Change::read(&event) {
                return Some(change);
            }
        }
    }
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Changes")
    }
}
