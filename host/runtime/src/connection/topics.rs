//! Topics: events for whoever in the ecosystem has subscribed, by name.
//!
//! Daemons of this host subscribe with a feed, others by a connection to Dae. Who has gone is left out at the next look;
//! nobody is waited for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crate::connection::event_queue::EventQueue;
use crate::connection::guest_handle::GuestHandle;
use dae_store::lock::lock;

/// Topics that connections to Dae may subscribe to, all together: names are anybody's to invent.
const TOPICS_MAX: usize = 10_000;
/// Fewer topics than this are not worth a look at who has gone.
const SWEEP_MIN: usize = 64;

/// Somebody who gets a topic's events.
#[derive(Debug, Clone)]
enum Subscriber {
    Feed(Weak<EventQueue>),
    Guest(Weak<GuestHandle>),
}

impl Subscriber {
    fn push(&self, line: &[u8]) -> bool {
        match self {
            Subscriber::Feed(event_queue) => event_queue
                .upgrade()
                .is_some_and(|event_queue| event_queue.push(line)),
            Subscriber::Guest(guest) => guest.upgrade().is_some_and(|guest| guest.push(line)),
        }
    }

    fn is_there(&self) -> bool {
        match self {
            Subscriber::Feed(event_queue) => event_queue.strong_count() > 0,
            Subscriber::Guest(guest) => guest.upgrade().is_some_and(|guest| !guest.has_left()),
        }
    }

    fn is(&self, guest: &Arc<GuestHandle>) -> bool {
        matches!(self, Subscriber::Guest(own) if own.as_ptr() == Arc::as_ptr(guest))
    }
}

/// See the file's head.
#[derive(Debug, Default)]
pub struct Topics {
    by_name: Mutex<HashMap<String, Vec<Subscriber>>>,
    /// So many topics, and those whose subscribers have gone are left out.
    sweep_at: AtomicUsize,
}

impl Topics {
    /// From now on the topic's events go into that feed.
    pub fn subscribe(&self, topic: &str, event_queue: &Arc<EventQueue>) {
        let subscriber = Subscriber::Feed(Arc::downgrade(event_queue));
        let mut by_name = lock(&self.by_name);
        // Each time they have doubled: what is never published must not keep those who have gone for ever.
        if by_name.len() >= self.sweep_at.load(Ordering::Relaxed) {
            sweep(&mut by_name);
            let next = SWEEP_MIN.max(2 * by_name.len());
            self.sweep_at.store(next, Ordering::Relaxed);
        }
        let subscribers = by_name.entry(topic.to_owned()).or_default();
        subscribers.retain(Subscriber::is_there);
        subscribers.push(subscriber);
    }

    /// From now on the topic's events go to that guest, once each.
    ///
    /// # Errors
    /// There are too many topics.
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

    /// From now on they don't.
    pub fn unsubscribe_guest(&self, topic: &str, guest: &Arc<GuestHandle>) {
        let mut by_name = lock(&self.by_name);
        if let Some(subscribers) = by_name.get_mut(topic) {
            subscribers.retain(|own| !own.is(guest));
        }
    }

    /// Hands an event to all who subscribed to its name; how many there were.
    pub fn publish(&self, topic: &str, line: &[u8]) -> usize {
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
        assert_eq!(topics.publish("tock", b"tock []"), 0);
        assert_eq!(topics.publish("tick", b"tick [1]"), 2);
        let mut got = Vec::new();
        guest.take_into(&mut got);
        assert_eq!(got, b"tick [1]\n", "once, though subscribed twice");
        drop(event_queue);
        assert_eq!(topics.publish("tick", b"tick [2]"), 1);
        topics.unsubscribe_guest("tick", &guest);
        assert_eq!(topics.publish("tick", b"tick [3]"), 0);
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
}
