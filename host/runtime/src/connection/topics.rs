//! Topics: events by name for all subscribers in the ecosystem.
//!
//! Daemons of this host subscribe with an event queue, others with a connection to Dae. A bridge hears all topics, but for
//! what it has published itself, so that no event goes round between two hosts. Publishing never waits for a subscriber,
//! and removes those that have gone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crate::connection::event_queue::EventQueue;
use crate::connection::guest_handle::GuestHandle;
use dae_store::lock::lock;

/// The limit for topics that connections to Dae may subscribe to, in total, since they may use any name.
const TOPICS_MAX: usize = 10_000;
/// The number of topics below which there is no sweep for subscribers that have gone.
const SWEEP_MIN: usize = 64;

/// A receiver of a topic's events.
#[derive(Debug, Clone)]
enum Subscriber {
    Queue(Weak<EventQueue>),
    Guest(Weak<GuestHandle>),
}

impl Subscriber {
    fn push(&self, line: &[u8]) -> bool {
        match self {
            Subscriber::Queue(event_queue) => event_queue
                .upgrade()
                .is_some_and(|event_queue| event_queue.push(line)),
            Subscriber::Guest(guest) => guest.upgrade().is_some_and(|guest| guest.push(line)),
        }
    }

    fn is_there(&self) -> bool {
        match self {
            Subscriber::Queue(event_queue) => event_queue.strong_count() > 0,
            Subscriber::Guest(guest) => guest.upgrade().is_some_and(|guest| !guest.has_left()),
        }
    }

    fn is(&self, guest: &Arc<GuestHandle>) -> bool {
        matches!(self, Subscriber::Guest(own) if own.as_ptr() == Arc::as_ptr(guest))
    }
}

/// A bridge that hears all topics.
#[derive(Debug)]
struct Bridge {
    /// The daemon's name.
    name: String,
    event_queue: Weak<EventQueue>,
}

/// All topics and their subscribers.
#[derive(Debug, Default)]
pub struct Topics {
    by_name: Mutex<HashMap<String, Vec<Subscriber>>>,
    bridges: Mutex<Vec<Bridge>>,
    /// The number of bridges, so that an event needs no second lock without one.
    bridge_count: AtomicUsize,
    /// The number of topics at which the next sweep removes subscribers that have gone.
    sweep_at: AtomicUsize,
}

impl Topics {
    /// Subscribes an event queue to a topic.
    pub fn subscribe(&self, topic: &str, event_queue: &Arc<EventQueue>) {
        let subscriber = Subscriber::Queue(Arc::downgrade(event_queue));
        let mut by_name = lock(&self.by_name);
        // Each time the topics have doubled: on a topic without events, subscribers that have gone would stay forever.
        if by_name.len() >= self.sweep_at.load(Ordering::Relaxed) {
            sweep(&mut by_name);
            let next = SWEEP_MIN.max(2 * by_name.len());
            self.sweep_at.store(next, Ordering::Relaxed);
        }
        let subscribers = by_name.entry(topic.to_owned()).or_default();
        subscribers.retain(Subscriber::is_there);
        subscribers.push(subscriber);
    }

    /// Subscribes a guest to a topic. A second call for the same guest has no effect.
    pub fn subscribe_guest(&self, topic: &str, guest: &Arc<GuestHandle>) -> Result<(), String> {
        let mut by_name = lock(&self.by_name);
        if by_name.len() >= TOPICS_MAX {
            sweep(&mut by_name);
        }
        if by_name.len() >= TOPICS_MAX && !by_name.contains_key(topic) {
            return Err(format!(
                "there are {TOPICS_MAX} topics with subscribers, as many as there may be"
            ));
        }
        let subscribers = by_name.entry(topic.to_owned()).or_default();
        if !subscribers.iter().any(|own| own.is(guest)) {
            subscribers.push(Subscriber::Guest(Arc::downgrade(guest)));
        }
        Ok(())
    }

    /// Unsubscribes a guest from a topic.
    pub fn unsubscribe_guest(&self, topic: &str, guest: &Arc<GuestHandle>) {
        let mut by_name = lock(&self.by_name);
        if let Some(subscribers) = by_name.get_mut(topic) {
            subscribers.retain(|own| !own.is(guest));
        }
    }

    /// Subscribes an event queue of the bridge of that name to all topics.
    pub fn subscribe_bridge(&self, name: &str, event_queue: &Arc<EventQueue>) {
        let mut bridges = lock(&self.bridges);
        bridges.retain(|bridge| bridge.event_queue.strong_count() > 0);
        bridges.push(Bridge {
            name: name.to_owned(),
            event_queue: Arc::downgrade(event_queue),
        });
        self.bridge_count.store(bridges.len(), Ordering::Release);
    }

    /// Queues an event for all subscribers of a topic, and for the bridges. `publisher` is the daemon that publishes it;
    /// `None` for a guest of Dae. Returns how many subscribers it reached.
    pub fn publish(&self, publisher: Option<&str>, topic: &str, line: &[u8]) -> usize {
        if self.bridge_count.load(Ordering::Acquire) > 0 {
            self.tell_bridges(publisher, line);
        }
        let mut by_name = lock(&self.by_name);
        let Some(subscribers) = by_name.get_mut(topic) else {
            return 0;
        };
        subscribers.retain(|subscriber| subscriber.push(line));
        let reached = subscribers.len();
        if reached == 0 {
            by_name.remove(topic);
        }
        reached
    }

    fn tell_bridges(&self, publisher: Option<&str>, line: &[u8]) {
        let mut bridges = lock(&self.bridges);
        bridges.retain(|bridge| {
            let Some(event_queue) = bridge.event_queue.upgrade() else {
                return false;
            };
            publisher == Some(&bridge.name) || event_queue.push(line)
        });
        self.bridge_count.store(bridges.len(), Ordering::Release);
    }
}

fn sweep(by_name: &mut HashMap<String, Vec<Subscriber>>) {
    by_name.retain(|_, subscribers| {
        subscribers.retain(Subscriber::is_there);
        !subscribers.is_empty()
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::guest_handle::Guests;

    #[test]
    fn events_reach_those_who_subscribed_and_are_still_there() {
        let (topics, guests) = (Topics::default(), Guests::default());
        let event_queue = Arc::new(EventQueue::default());
        let guest = guests.enter();
        topics.subscribe("tick", &event_queue);
        topics.subscribe_guest("tick", &guest).unwrap();
        topics.subscribe_guest("tick", &guest).unwrap();
        assert_eq!(topics.publish(None, "tock", b"tock []"), 0);
        assert_eq!(topics.publish(None, "tick", b"tick [1]"), 2);
        let mut got = Vec::new();
        guest.take_into(&mut got);
        assert_eq!(got, b"tick [1]\n", "once, though subscribed twice");
        drop(event_queue);
        assert_eq!(topics.publish(None, "tick", b"tick [2]"), 1);
        topics.unsubscribe_guest("tick", &guest);
        assert_eq!(topics.publish(None, "tick", b"tick [3]"), 0);
    }

    #[test]
    fn event_queues_that_have_gone_are_forgotten_though_nothing_is_published() {
        let topics = Topics::default();
        for n in 0..1000 {
            topics.subscribe(&n.to_string(), &Arc::default());
            topics.subscribe("same", &Arc::default());
        }
        let by_name = lock(&topics.by_name);
        assert!(by_name.len() <= 2 * SWEEP_MIN, "{}", by_name.len());
        assert_eq!(by_name["same"].len(), 1);
    }

    #[test]
    fn topics_of_guests_are_bounded_and_those_of_the_gone_make_room() {
        let (topics, guests) = (Topics::default(), Guests::default());
        let guest = guests.enter();
        for n in 0..TOPICS_MAX {
            topics.subscribe_guest(&n.to_string(), &guest).unwrap();
        }
        assert!(topics.subscribe_guest("more", &guest).is_err());
        guests.leave(guest.id());
        assert!(topics.subscribe_guest("more", &guests.enter()).is_ok());
    }

    #[test]
    fn a_bridge_hears_all_topics_but_for_what_it_publishes() {
        let topics = Topics::default();
        let event_queue = Arc::new(EventQueue::default());
        topics.subscribe_bridge("Fleet", &event_queue);
        topics.publish(None, "a", b"a [1]");
        topics.publish(Some("Fleet"), "b", b"b [2]");
        topics.publish(Some("Clock"), "c", b"c [3]");
        let mut lines = Vec::new();
        event_queue.take_into(&mut lines);
        assert_eq!(String::from_utf8(lines).unwrap(), "a [1]\nc [3]\n");
        drop(event_queue);
        topics.publish(None, "a", b"a [1]");
        assert_eq!(topics.bridge_count.load(Ordering::Relaxed), 0);
    }
}
