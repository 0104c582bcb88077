//! Events, and streams of them that an author's loop can read.
//!
//! Each stream has its own queue in the host from the moment it is created. The queue holds up to 4 MiB. A stream that
//! isn't read in time ends with the event `disconnect ["slow-guest: …"]`, and doesn't slow down anything else.

use serde::de::DeserializeOwned;

use crate::crossing::Received;
use crate::event_stream::EventStream;
use crate::{Credential, Error, Result, wire};

/// A message that another daemon sends without being asked: a name and arguments.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    line: String,
}

impl Event {
    pub(crate) fn new(line: String) -> Self {
        Event { line }
    }

    /// Returns the name; for a published event, that is the topic.
    #[must_use]
    pub fn name(&self) -> &str {
        wire::parted(&self.line).0
    }

    /// Returns the arguments: all of them as a tuple or a `Vec`, or a single one as itself. `()` takes none.
    ///
    /// # Errors
    /// The arguments don't fit `T`; the text shows what was expected and what came.
    pub fn arguments<T: Received>(&self) -> Result<T> {
        self.read()
            .map_err(|text| Error::new(format!("the event {}: {text}", self.name())))
    }

    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        wire::read_event(wire::parted(&self.line).1)
    }
}

/// The line as it came: `tick [7]`.
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

/// The events of a guest or a topic, in the order in which they came. Dropping the stream closes it.
pub struct Events(EventStream);

impl Events {
    pub(crate) fn new(stream: EventStream) -> Self {
        Events(stream)
    }

    /// Waits for the next event. Returns `None` once there will be no more: the guest has gone for good, this daemon
    /// ends, or the queue was full. Dropping the future loses no event.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.next().await.map(Event::new)
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

/// The kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeKind {
    /// The daemon was started or found.
    Appeared,
    /// The daemon runs as another generation, on another port, or in another process.
    Changed,
    /// The daemon is no longer there.
    Gone,
}

/// A daemon that has appeared, changed or gone.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Change {
    /// The kind of the change.
    pub kind: ChangeKind,
    /// The daemon's credential; for one that has gone, the last one known.
    pub credential: Credential,
}

impl Change {
    /// Returns the change, or `None` for an event that only later hosts send.
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

/// The daemons that appear, change and go, in that order of time. Dropping the stream closes it.
pub struct Changes(EventStream);

impl Changes {
    pub(crate) fn new(stream: EventStream) -> Self {
        Changes(stream)
    }

    /// Waits for the next change. Returns `None` once there will be no more: this daemon ends, or the queue was full.
    /// Dropping the future loses no change.
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
