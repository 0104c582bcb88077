//! The event handlers of one connection: the event queues that its events go to.
//!
//! An event without a handler is dropped. A connection that the daemon itself has opened keeps the events that come
//! before its first handler, up to a limit, so that no event is lost between `connect` and `on`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crate::connection::event_queue::EventQueue;
use dae_store::lock::lock;

/// The limit for events kept for a first handler (bytes). A greeting fits, and events without a handler stay bounded.
const EARLY_BYTES_MAX: usize = 64 << 10;

/// Returns whether the host itself emits events of that name. Lines of that name from the other side are not passed on.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    matches!(name, "connect" | "disconnect")
}

/// The event handlers of one connection.
#[derive(Debug, Default)]
pub struct EventHandlers {
    /// True if `notify` has anything to do.
    is_of_use: AtomicBool,
    queues: Mutex<HandlerQueues>,
}

#[derive(Debug, Default)]
struct HandlerQueues {
    event_queues: Vec<Weak<EventQueue>>,
    /// The events before the first handler; `None` if they are not kept.
    early: Option<Vec<u8>>,
    has_ended: bool,
}

impl EventHandlers {
    /// Makes a set of handlers that keeps early events for the first handler.
    #[must_use]
    pub fn from_the_start() -> Self {
        EventHandlers {
            is_of_use: AtomicBool::new(true),
            queues: Mutex::new(HandlerQueues {
                event_queues: Vec::new(),
                early: Some(Vec::new()),
                has_ended: false,
            }),
        }
    }

    /// Returns whether [`EventHandlers::notify`] has anything to do.
    #[inline]
    #[must_use]
    pub fn is_of_use(&self) -> bool {
        self.is_of_use.load(Ordering::Acquire)
    }

    /// Adds a handler's event queue.
    pub fn listen(&self, event_queue: &Arc<EventQueue>) {
        let mut queues = lock(&self.queues);
        for line in queues
            .early
            .take()
            .unwrap_or_default()
            .split(|byte| *byte == b'\n')
        {
            if !line.is_empty() {
                event_queue.push(line);
            }
        }
        if queues.has_ended {
            // The connection ended after the caller looked it up.
            return event_queue.end();
        }
        queues
            .event_queues
            .retain(|event_queue| event_queue.strong_count() > 0);
        queues.event_queues.push(Arc::downgrade(event_queue));
        self.is_of_use.store(true, Ordering::Release);
    }

    /// Queues an event for all handlers, or keeps it for the first one. Returns false if it is dropped: no handler takes
    /// it, or too many bytes are kept already.
    pub fn notify(&self, line: &[u8]) -> bool {
        if !self.is_of_use() {
            return false;
        }
        let mut queues = lock(&self.queues);
        if let Some(early) = &mut queues.early {
            let is_kept = early.len() + line.len() < EARLY_BYTES_MAX;
            if is_kept {
                early.extend_from_slice(line);
                early.push(b'\n');
            }
            return is_kept;
        }
        queues.event_queues.retain(|event_queue| {
            event_queue
                .upgrade()
                .is_some_and(|event_queue| event_queue.push(line))
        });
        let is_heard = !queues.event_queues.is_empty();
        self.is_of_use.store(is_heard, Ordering::Release);
        is_heard
    }

    /// Ends all event queues: no more events come.
    pub fn end(&self) {
        let mut queues = lock(&self.queues);
        queues.early = None;
        queues.has_ended = true;
        for event_queue in queues.event_queues.drain(..) {
            if let Some(event_queue) = event_queue.upgrade() {
                event_queue.end();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(event_queue: &EventQueue) -> String {
        let mut lines = Vec::new();
        event_queue.take_into(&mut lines);
        String::from_utf8(lines).unwrap()
    }

    #[test]
    fn the_first_listener_of_a_client_gets_what_came_before_him() {
        let heard = EventHandlers::from_the_start();
        assert!(heard.notify(b"hello [1]"));
        let (first, second) = (
            Arc::new(EventQueue::default()),
            Arc::new(EventQueue::default()),
        );
        heard.listen(&first);
        heard.listen(&second);
        heard.notify(b"tick [2]");
        assert_eq!(lines(&first), "hello [1]\ntick [2]\n");
        assert_eq!(lines(&second), "tick [2]\n");
    }

    #[test]
    fn an_early_event_past_the_limit_is_reported_as_dropped() {
        let heard = EventHandlers::from_the_start();
        let large = vec![b'x'; EARLY_BYTES_MAX - 10];
        assert!(heard.notify(&large));
        assert!(!heard.notify(b"dropped [1]"));
        let event_queue = Arc::new(EventQueue::default());
        heard.listen(&event_queue);
        assert_eq!(lines(&event_queue).len(), large.len() + 1);
        assert!(heard.notify(b"tick [2]"));
    }

    #[test]
    fn who_listens_after_the_end_is_told_so() {
        let heard = EventHandlers::default();
        heard.end();
        let event_queue = Arc::new(EventQueue::default());
        heard.listen(&event_queue);
        assert!(event_queue.has_ended());
    }

    #[test]
    fn what_nobody_listens_to_is_said_to_be_so() {
        let heard = EventHandlers::default();
        assert!(!heard.notify(b"tick [1]"));
        let event_queue = Arc::new(EventQueue::default());
        heard.listen(&event_queue);
        assert!(heard.notify(b"tick [2]"));
        drop(event_queue);
        assert!(!heard.notify(b"tick [3]"));
    }
}
