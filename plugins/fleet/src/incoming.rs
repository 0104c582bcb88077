//! Calls to daemons of this host: from other hosts, and from any client of NATS.
//!
//! A daemon's calls come in one order for each subject, and are sent to the daemon in that order. What they answer goes back
//! as each one ends.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use async_nats::{HeaderMap, Message, Subscriber};
use dae_plugin_api::bridge::CarriedError;
use dae_plugin_api::json::Value;
use dae_plugin_api::prelude::*;
use futures_util::StreamExt as _;
use tokio::sync::oneshot;

use crate::in_flight::InFlight;
use crate::{Shared, ended, lock, subject, until_ending};

/// The most calls of others that run at once. Each costs a task and its arguments.
const RUNNING_MAX: usize = 4096;

/// The headers of answers.
pub(crate) mod header {
    /// The number of an error of NATS' services, as in HTTP.
    pub(crate) const SERVICE_ERROR_CODE: &str = "Nats-Service-Error-Code";
    /// The text of an error of NATS' services.
    pub(crate) const SERVICE_ERROR: &str = "Nats-Service-Error";
    /// The code of an error of Common TCP, or of a daemon's author.
    pub(crate) const CODE: &str = "Dae-Code";
}

/// The payload of an error.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct ErrorBody {
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<Value>,
}

/// The counts of a daemon's endpoint.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) time: Duration,
}

/// The calls of others that run, and the counts of all.
#[derive(Default)]
pub(crate) struct Incoming {
    pub(crate) running: InFlight,
    counts: Mutex<BTreeMap<String, BTreeMap<String, Counts>>>,
}

impl Incoming {
    /// Returns the counts of a daemon, by command.
    pub(crate) fn counts(&self, daemon: &str) -> BTreeMap<String, Counts> {
        lock(&self.counts).get(daemon).cloned().unwrap_or_default()
    }

    fn count(&self, daemon: &str, command: &str, begun: Instant, is_error: bool) {
        let mut counts = lock(&self.counts);
        let counts = counts.entry(daemon.to_owned()).or_default();
        let one = counts.entry(command.to_owned()).or_default();
        one.requests += 1;
        one.errors += u64::from(is_error);
        one.time += begun.elapsed();
    }
}

/// The subscriptions that an instance has before it takes the place of another one: nobody finds it without them.
pub(crate) struct Subscribers {
    /// For the calls that name this host.
    pub(crate) host: Subscriber,
    /// For the calls of daemons that name no host, by daemon.
    pub(crate) daemons: BTreeMap<String, Subscriber>,
}

impl Subscribers {
    /// Subscribes to the calls of all daemons that are there, and waits until the server knows.
    pub(crate) async fn open(shared: &Shared) -> Result<Self> {
        let Shared {
            link, peers, local, ..
        } = shared;
        let subject = link.subjects.commands_at(&shared.host, peers.instance());
        let host = link.subscribe(subject, true).await?;
        let mut daemons = BTreeMap::new();
        for credential in local.all() {
            let subject = link.subjects.commands(&credential.name);
            daemons.insert(credential.name, link.subscribe(subject, true).await?);
        }
        link.flushed().await;
        Ok(Subscribers { host, daemons })
    }
}

/// Serves the calls that name this host.
pub(crate) async fn serve_host(
    shared: Arc<Shared>,
    incoming: Arc<Incoming>,
    calls: Subscriber,
) -> Result<()> {
    serve(&shared, &incoming, calls, std::future::pending()).await;
    ended(&shared, "the subscription of this host's calls has ended")
}

/// Serves the calls of a daemon that name no host, until `over`.
pub(crate) async fn serve_daemon(
    shared: Arc<Shared>,
    incoming: Arc<Incoming>,
    (daemon, calls): (String, Option<Subscriber>),
    over: oneshot::Receiver<()>,
) {
    let calls = match calls {
        Some(calls) => Ok(calls),
        None => {
            shared
                .link
                .subscribe(shared.link.subjects.commands(&daemon), true)
                .await
        }
    };
    match calls {
        Ok(calls) => serve(&shared, &incoming, calls, async { drop(over.await) }).await,
        Err(fault) => tracing::error!("cannot subscribe to the calls of {daemon}: {fault}"),
    }
}

/// Serves the calls of a subscription, until `over` or the end of the instance.
async fn serve(
    shared: &Arc<Shared>,
    incoming: &Arc<Incoming>,
    calls: Subscriber,
    over: impl Future<Output = ()>,
) {
    let mut calls = Subscribed { shared, calls };
    let mut over = std::pin::pin!(over);
    loop {
        let message = tokio::select! {
            message = until_ending(shared, calls.calls.next()) => message,
            () = &mut over => None,
        };
        match message {
            Some(message) => begin(shared, incoming, message).await,
            None => break,
        }
    }
    // At the end the server sends no more, and what it has sent is still answered.
    if calls.calls.drain().await.is_ok() {
        while let Some(message) = calls.calls.next().await {
            begin(shared, incoming, message).await;
        }
    }
}

/// A subscription that is counted.
struct Subscribed<'s> {
    shared: &'s Shared,
    calls: Subscriber,
}

impl Drop for Subscribed<'_> {
    fn drop(&mut self) {
        self.shared.link.unsubscribed();
    }
}

/// Begins a call. The next one begins after it.
async fn begin(shared: &Arc<Shared>, incoming: &Arc<Incoming>, message: Message) {
    let Some((daemon, command)) = subject::command_of(&message.subject) else {
        return;
    };
    let running = incoming.running.begin(RUNNING_MAX);
    let (shared, incoming) = (Arc::clone(shared), Arc::clone(incoming));
    let mut call = Box::pin(async move {
        let begun = Instant::now();
        let result = match &running {
            Some(_) => run(&shared, &daemon, &command, &message.payload).await,
            None => Err(CarriedError::new(
                "unavailable",
                format!(
                    "{RUNNING_MAX} calls of other hosts run here already; send this one again later"
                ),
            )),
        };
        let is_unknown = |error: &CarriedError| error.code == "unknown-command";
        // Not for a name that somebody has made up.
        if shared.local.has(&daemon) && !result.as_ref().is_err_and(is_unknown) {
            incoming.count(&daemon, &command, begun, result.is_err());
        }
        if let Some(reply) = message.reply.clone() {
            answer(&shared, reply, &command, result).await;
        }
        drop(running);
    });
    // The first poll sends the command to the daemon.
    let first = poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
    if first.is_pending() {
        tokio::spawn(call);
    }
}

async fn run(
    shared: &Shared,
    daemon: &str,
    command: &str,
    payload: &[u8],
) -> Result<String, CarriedError> {
    if !shared.local.has(daemon) {
        let text = format!("the host {} has no daemon {daemon}", shared.host);
        return Err(CarriedError::new("unavailable", text));
    }
    let text = std::str::from_utf8(payload)
        .map_err(|_| CarriedError::new("not-utf8", "the payload is not UTF-8"))?;
    let arguments = match text.trim() {
        "" => "[]".to_owned(),
        text => {
            let wrong = |fault| {
                CarriedError::new(
                    "bad-arguments",
                    format!("the payload is no JSON: {fault}; expected an array of arguments"),
                )
            };
            let _: &json::value::RawValue = json::from_str(text).map_err(wrong)?;
            match text.starts_with(['[', '{']) {
                true => text.replace('\n', " "),
                // A client of NATS that sends the only argument as it is.
                false => format!("[{text}]"),
            }
        }
    };
    shared.eco.forward(daemon, command, &arguments).await
}

/// Answers a call.
async fn answer(
    shared: &Shared,
    reply: async_nats::Subject,
    command: &str,
    result: Result<String, CarriedError>,
) {
    let client = &shared.link.client;
    let most = client.max_payload();
    let result = result.and_then(|result| match result.len() {
        bytes if bytes <= most => Ok(result),
        bytes => {
            let text = format!(
                "the result of {command} has {bytes} bytes, and a message of this server of NATS at most {most}; the command was carried out"
            );
            Err(CarriedError::new("failed", text))
        }
    });
    // If the connection is lost, the caller knows that itself.
    let _ = match result {
        Ok(result) => client.publish(reply, result.into()).await,
        Err(error) => {
            let (headers, body) = error_message(error);
            client
                .publish_with_headers(reply, headers, body.into())
                .await
        }
    };
}

/// Returns the headers and the payload of an error.
fn error_message(error: CarriedError) -> (HeaderMap, Vec<u8>) {
    let mut headers = HeaderMap::new();
    headers.insert(header::SERVICE_ERROR_CODE, number_of(&error.code));
    headers.insert(header::SERVICE_ERROR, in_a_header(&error.message).as_str());
    headers.insert(header::CODE, error.code.as_str());
    let body = ErrorBody {
        code: error.code,
        message: Some(error.message),
        data: error.data.and_then(|data| json::from_str(&data).ok()),
    };
    (headers, json::to_vec(&body).unwrap_or_default())
}

/// Returns the number that a client of NATS' services gets for a code, as in HTTP.
fn number_of(code: &str) -> &'static str {
    match code {
        "bad-arguments" | "bad-name" | "not-utf8" | "line-too-long" => "400",
        "denied" => "403",
        "unknown-command" => "404",
        "timeout" => "504",
        "unavailable" | "too-many-guests" | "slow-guest" => "503",
        _ => "500",
    }
}

/// Returns a text as one line of at most 1,000 bytes of ASCII.
fn in_a_header(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_graphic() { c } else { ' ' };
    text.chars().take(1000).map(plain).collect()
}
