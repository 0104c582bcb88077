//! Topics both ways: what is published here goes to the other hosts, and what they publish comes here.
//!
//! Each event is carried once. What this fleet publishes here does not come back to it, and the server does not send it its own
//! messages. Events are lost while there is no connection: NATS delivers them at most once.

use std::sync::Arc;

use dae_plugin_api::json::Value;
use dae_plugin_api::prelude::*;
use futures_util::StreamExt as _;

use crate::{Shared, ended, until_ending};

/// Sends the events of this host.
pub(crate) async fn send(shared: Arc<Shared>) -> Result<()> {
    let mut events = shared.eco.subscribe_all()?;
    while let Some(event) = until_ending(&shared, events.next()).await {
        if !shared.link.is_connected() {
            // The client would keep it, and an event is about the moment.
            continue;
        }
        let line = event.to_string();
        let arguments = line
            .split_once(' ')
            .map_or("[]", |(_, arguments)| arguments);
        let subject = shared.link.subjects.topic(event.name());
        let sent = shared
            .link
            .client
            .publish(subject, arguments.to_owned().into())
            .await;
        if let Err(fault) = sent {
            tracing::warn!(
                topic = event.name(),
                "an event is not sent to the other hosts: {fault}"
            );
        }
    }
    ended(
        &shared,
        "the events of this host have ended: this daemon needs the grant `bridge`, or too many events waited to be read",
    )
}

/// Publishes the events of the other hosts.
pub(crate) async fn receive(shared: Arc<Shared>) -> Result<()> {
    let subject = shared.link.subjects.topics();
    let mut messages = shared.link.subscribe(subject, false).await?;
    while let Some(message) = until_ending(&shared, messages.next()).await {
        let topic = shared.link.subjects.topic_of(&message.subject);
        let arguments = arguments_of(&message.payload);
        let (Some(topic), Some(arguments)) = (topic, arguments) else {
            tracing::debug!(subject = %message.subject, "a message that is no event: expected JSON");
            continue;
        };
        if let Err(fault) = shared.eco.publish(&topic, arguments) {
            tracing::debug!(
                topic,
                "an event of another host can't be published: {fault}"
            );
        }
    }
    ended(&shared, "the subscription of topics has ended")
}

/// Returns the arguments in a payload: an array, one value, or nothing. `None` if it is no JSON.
fn arguments_of(payload: &[u8]) -> Option<Vec<Value>> {
    if payload.is_empty() {
        return Some(Vec::new());
    }
    match json::from_slice(payload).ok()? {
        Value::Array(arguments) => Some(arguments),
        other => Some(vec![other]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_an_array_a_value_or_nothing() {
        assert_eq!(arguments_of(b"").unwrap(), Vec::<Value>::new());
        assert_eq!(arguments_of(b"[1,2]").unwrap().len(), 2);
        assert_eq!(arguments_of(br#"{"a":1}"#).unwrap().len(), 1);
        assert_eq!(arguments_of(b"rubbish"), None);
    }
}
