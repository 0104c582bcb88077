//! Topics for guests that connect to Dae: foreign daemons, and people with telnet.

use std::sync::Arc;

use dae_plugin_api::misfit;
use serde_json::value::RawValue;

use super::{Dae, Fault};
use dae_runtime::connection::guest_handle::GuestHandle;
use dae_runtime::plugin::host_request::check_topic;

impl Dae {
    /// Subscribes a guest of Dae's to a topic. Its events come to the guest as lines of the topic's name.
    pub(super) fn subscribe(&self, guest: u64, topic: &str) -> Result<(), Fault> {
        check(topic)?;
        let guest = self.guest(guest)?;
        let topics = &self.inner.shared.directory.topics;
        topics.subscribe_guest(topic, &guest).map_err(Fault::failed)
    }

    /// Unsubscribes a guest of Dae's from a topic.
    pub(super) fn unsubscribe(&self, guest: u64, topic: &str) -> Result<(), Fault> {
        let guest = self.guest(guest)?;
        let topics = &self.inner.shared.directory.topics;
        topics.unsubscribe_guest(topic, &guest);
        Ok(())
    }

    /// Sends an event to all subscribers, and returns how many they are. The first argument is the topic; the rest
    /// are the event's.
    pub(super) fn publish(&self, arguments: &[u8]) -> Result<usize, Fault> {
        let takes = "it takes a topic, and then the event's own arguments";
        let bad = |error: serde_json::Error| {
            let said = misfit::explain(&error, &String::from_utf8_lossy(arguments));
            Fault::bad_arguments(format!("{takes}: {said}"))
        };
        let all: Vec<Box<RawValue>> = match arguments.first() {
            Some(b'[') => serde_json::from_slice(arguments).map_err(bad)?,
            _ => vec![serde_json::from_slice(arguments).map_err(bad)?],
        };
        let (topic, rest) = all
            .split_first()
            .ok_or_else(|| Fault::bad_arguments(format!("{takes}; got none")))?;
        let topic: String = serde_json::from_str(topic.get()).map_err(bad)?;
        check(&topic)?;
        let rest: Vec<&str> = rest.iter().map(|one| one.get()).collect();
        let line = format!("{topic} [{}]", rest.join(",")).replace(['\n', '\r'], " ");
        let topics = &self.inner.shared.directory.topics;
        Ok(topics.publish(None, &topic, line.as_bytes()))
    }

    fn guest(&self, id: u64) -> Result<Arc<GuestHandle>, Fault> {
        let guest = self.inner.endpoint.gate.guests.find(id);
        guest.ok_or_else(|| Fault::failed("the guest has gone"))
    }
}

fn check(topic: &str) -> Result<(), Fault> {
    check_topic(topic).map_err(Fault::bad_arguments)
}
