//! The stream of an ecosystem's events, from the parts of the host that change something to the home's files and to any
//! number of readers.
//!
//! Each reader has a bounded queue. A reader that falls behind loses the oldest events and learns how many. So no
//! reader ever holds the host up.

use std::path::Path;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use dae_store::event::{DaeEvent, DaeEventKind};
use dae_store::event_log::EventLog;
use dae_store::registry::DAE_NAME;

/// The most events that may wait for a reader. A restart of a thousand daemons causes two for each.
const QUEUE_MAX: usize = 4096;

/// The sender of all events of an ecosystem. It also keeps them in the home.
#[derive(Debug)]
pub(crate) struct EventSender {
    readers: broadcast::Sender<DaeEvent>,
    kept: EventLog,
}

impl EventSender {
    /// Returns a sender that keeps events in that directory.
    pub(crate) fn keeping(dir: &Path) -> Self {
        EventSender {
            readers: broadcast::Sender::new(QUEUE_MAX),
            kept: EventLog::in_directory(dir),
        }
    }

    /// Keeps an event and sends it to all readers.
    pub(crate) fn send(&self, daemon: &str, generation: Option<u64>, kind: DaeEventKind) {
        let event = DaeEvent::now(daemon, generation, kind);
        let send = |event: DaeEvent| {
            match &event.kind {
                DaeEventKind::DiskFailed { cause, .. } => tracing::error!("{cause}"),
                DaeEventKind::DiskWorks { .. } | DaeEventKind::HistoryLost { .. } => {
                    tracing::warn!("{}", event.kind)
                }
                _ => {}
            }
            // An error means that there is no reader.
            drop(self.readers.send(event));
        };
        self.kept.write(event, send);
    }

    /// Removes the kept events of a daemon. Returns whether there were any. Blocks.
    ///
    /// # Errors
    /// A disk error.
    pub(crate) fn forget(&self, daemon: &str) -> anyhow::Result<bool> {
        self.kept.forget(daemon)
    }

    pub(crate) fn subscribe(&self) -> DaeEvents {
        DaeEvents(self.readers.subscribe())
    }
}

/// A stream of an ecosystem's events; see [`Dae::events`](crate::Dae::events).
#[derive(Debug)]
pub struct DaeEvents(broadcast::Receiver<DaeEvent>);

impl DaeEvents {
    /// Waits for the next event. Returns `None` once the ecosystem and all of its handles are gone. May be dropped at any
    /// time; no event is lost by that.
    pub async fn next(&mut self) -> Option<DaeEvent> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(count)) => {
                let missed = DaeEventKind::Missed { count };
                Some(DaeEvent::now(DAE_NAME, None, missed))
            }
            Err(RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_reader_is_told_how_many_events_it_missed() {
        let dir = tempfile::tempdir().unwrap();
        let sender = EventSender::keeping(dir.path());
        let mut events = sender.subscribe();
        for number in 0..QUEUE_MAX as u64 + 5 {
            sender.send("A", Some(number), DaeEventKind::Ready);
        }
        let first = events.next().await.unwrap();
        assert_eq!(first.kind, DaeEventKind::Missed { count: 5 });
        assert_eq!(events.next().await.unwrap().generation, Some(5));
        drop(sender);
        let mut left = 0;
        while events.next().await.is_some() {
            left += 1;
        }
        assert_eq!(left, QUEUE_MAX - 1);
    }
}
