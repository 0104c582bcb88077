//! Calls to daemons of other hosts.
//!
//! A call is a request of NATS: its payload are the arguments, a JSON array, and the answer's payload is the result. An error
//! has the headers of NATS' services, and the code of Common TCP in `Dae-Code`. A call is never sent twice. It is answered
//! `unavailable` if it was not sent or nobody took it, and `crashed` if the connection or the host is lost while it runs: it
//! may have been carried out then.

use std::sync::Arc;

use async_nats::client::RequestErrorKind;
use async_nats::{HeaderMap, Message, Request};
use dae_plugin_api::bridge::CarriedError;
use dae_plugin_api::json;
use tokio::sync::watch;

use crate::Shared;
use crate::in_flight::InFlight;
use crate::incoming::{ErrorBody, header};
use crate::peers::Way;

/// The sender of calls.
pub(crate) struct Outgoing {
    shared: Arc<Shared>,
    pub(crate) ecosystem: String,
    /// The calls that wait for their answers. The host of this daemon bounds their number.
    pub(crate) running: InFlight,
}

impl Outgoing {
    pub(crate) fn new(shared: Arc<Shared>, ecosystem: String) -> Self {
        Outgoing {
            shared,
            ecosystem,
            running: InFlight::default(),
        }
    }

    /// Returns the daemon that a name stands for, and the way to its host.
    fn way_to<'n>(&self, name: &'n str) -> Result<(&'n str, Way), CarriedError> {
        let Shared { link, peers, .. } = &*self.shared;
        if !link.is_connected() {
            let text =
                format!("{name} can't be reached: this host is not connected to a server of NATS");
            return Err(CarriedError::new("unavailable", text));
        }
        let (daemon, way) = match name.rsplit_once('@') {
            Some((daemon, host)) => (daemon, peers.way_to(host)),
            None => (name, peers.way_to_any(name)),
        };
        way.map(|way| (daemon, way)).ok_or_else(|| nobody(name))
    }

    /// Returns the request for a call, with the trace of the caller.
    fn request(&self, arguments: String) -> Request {
        let request = Request::new().payload(arguments.into()).timeout(None);
        let Some(parent) = self.shared.eco.traceparent() else {
            return request;
        };
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", parent.as_str());
        request.headers(headers)
    }

    /// Sends a command to a daemon of another host, and returns the result as JSON. `name` is `NAME@HOST`, or a name that all
    /// hosts share.
    pub(crate) async fn call(
        &self,
        name: &str,
        command: &str,
        arguments: String,
    ) -> Result<String, CarriedError> {
        let link = &self.shared.link;
        let _running = self.running.begin(usize::MAX);
        let (daemon, way) = self.way_to(name)?;
        let subject = link
            .subjects
            .command_at(&way.host, &way.instance, daemon, command);
        let request = self.request(arguments);
        let crashed = |what: &str| {
            let text =
                format!("{what} before {name} answered {command}; it may have been carried out");
            CarriedError::new("crashed", text)
        };
        let losses = link.losses();
        let answer = tokio::select! {
            answer = link.client.send_request(subject, request) => answer,
            () = lost(losses) => return Err(crashed("the connection to the server of NATS was lost")),
            () = over(way.life) => return Err(crashed("the host was lost")),
        };
        let most = link.client.max_payload();
        match answer {
            Ok(message) => result_of(&message),
            Err(fault) => Err(match fault.kind() {
                RequestErrorKind::NoResponders => nobody(name),
                RequestErrorKind::MaxPayloadExceeded => {
                    let text = format!(
                        "the arguments of {command} are too large: a message of this server of NATS has at most {most} bytes"
                    );
                    CarriedError::new("bad-arguments", text)
                }
                _ => CarriedError::new("unavailable", format!("{name} can't be reached: {fault}")),
            }),
        }
    }
}

fn nobody(name: &str) -> CarriedError {
    CarriedError::new("unavailable", format!("no host answers for {name}"))
}

/// Ends when the connection is lost.
async fn lost(mut losses: watch::Receiver<u64>) {
    // An error means that the instance ends.
    let _ = losses.changed().await;
}

/// Ends when the host is lost.
async fn over(mut life: watch::Receiver<()>) {
    // Nothing is ever sent: the other end is dropped.
    while life.changed().await.is_ok() {}
}

/// Returns the result of an answer, or the error that its headers name.
fn result_of(message: &Message) -> Result<String, CarriedError> {
    let text = String::from_utf8_lossy(&message.payload);
    let named = |name: &str| {
        message
            .headers
            .as_ref()
            .and_then(|headers| headers.get(name))
            .map(ToString::to_string)
    };
    if let Some(code) = named(header::CODE) {
        let body: ErrorBody = json::from_str(&text).unwrap_or_default();
        return Err(CarriedError {
            code,
            message: body
                .message
                .or_else(|| named(header::SERVICE_ERROR))
                .unwrap_or_default(),
            data: body.data.map(|data| data.to_string()),
        });
    }
    if let Some(error) = named(header::SERVICE_ERROR) {
        // Of a service that is no fleet.
        return Err(CarriedError::new("failed", error));
    }
    match json::from_str::<&json::value::RawValue>(&text) {
        Ok(_) => Ok(text.into_owned()),
        Err(fault) => Err(CarriedError::new(
            "failed",
            format!("the answer is no JSON: {fault}"),
        )),
    }
}
