//! The `events` command on the control socket: returns kept events, and then sends every new one, if requested.
//!
//! A reader that follows is subscribed before the kept events are read, so that nothing is lost in between. Ids grow with
//! every event, so an event that is in both is recognized by its id.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::{Dae, Fault, Inner};
use crate::supervise::DaeEvents;
use dae_runtime::connection::guest_handle::GuestHandle;
use dae_store::blocking;
use dae_store::event::{DaeEvent, DaeEventKind};
use dae_store::event_log::{self, EventQuery};
use dae_store::registry::DAE_NAME;

/// The request of `events`.
#[derive(Debug, Deserialize)]
pub(super) struct EventsRequest {
    #[serde(flatten)]
    query: EventQuery,
    #[serde(default)]
    follow: bool,
}

/// The most events that one `events` returns. The files have more.
const EVENT_LINES_MAX: usize = 100_000;
/// The most bytes of the files that one `events` reads.
const EVENT_BYTES_MAX: usize = 16 << 20;
/// The interval for checking whether a reader is still there, if nothing happens.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// A sender of new events to a reader, until the reader leaves.
pub(super) struct EventFollower {
    query: EventQuery,
    events: DaeEvents,
    /// The id of the last event that the reader has.
    last: u64,
}

/// Answers `events`. Returns the kept events, and a follower that sends the new ones once the answer is sent.
pub(super) async fn events(
    dae: &Dae,
    request: EventsRequest,
) -> Result<(Vec<DaeEvent>, Option<EventFollower>), Fault> {
    let inner = &dae.inner;
    let events = request.follow.then(|| dae.events());
    let query = EventQuery {
        lines: request.query.lines.min(EVENT_LINES_MAX),
        ..request.query
    };
    let (dir, asked) = (inner.home.events_dir(), query.clone());
    let reading = blocking::run(move || event_log::read(&dir, &asked, EVENT_BYTES_MAX));
    let past = reading.await.map_err(anyhow::Error::msg).flatten();
    let past = past.map_err(|error| Fault::failed(format!("{error:#}")))?;
    if past.is_empty() && query.after.is_none() {
        inner.check_known(&query.names)?;
    }
    let last = past.last().map_or(query.after.unwrap_or(0), |last| last.id);
    let follower = events.map(|events| EventFollower {
        query,
        events,
        last,
    });
    Ok((past, follower))
}

impl Inner {
    /// Returns an error if one of these names belongs to no daemon.
    fn check_known(&self, names: &[String]) -> Result<(), Fault> {
        let of_others = names.iter().filter(|name| *name != DAE_NAME);
        of_others
            .map(|name| self.status(name))
            .find_map(Result::err)
            .map_or(Ok(()), Err)
    }
}

impl EventFollower {
    /// Sends the new events, until the reader leaves or the ecosystem ends.
    pub(super) async fn run(mut self, guest: Arc<GuestHandle>) {
        while !guest.has_left() {
            match tokio::time::timeout(LOOK_EVERY, self.events.next()).await {
                Ok(Some(event)) if self.is_wanted(&event) => {
                    let json = serde_json::to_string(&event).unwrap_or_default();
                    guest.push(&[b"event [", json.as_bytes(), b"]"].concat());
                }
                Ok(Some(_)) | Err(_) => {}
                Ok(None) => return,
            }
        }
    }

    fn is_wanted(&self, event: &DaeEvent) -> bool {
        // The reader learns that it was too slow, whatever it asked for. That event has no id.
        matches!(event.kind, DaeEventKind::Missed { .. })
            || (event.id > self.last && self.query.selects(event))
    }
}
