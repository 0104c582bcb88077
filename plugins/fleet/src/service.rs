//! The services that NATS' own tools see: each daemon of this host is a service, and each command an endpoint (ADR-32 of NATS).
//!
//! One subscription for each verb answers for all daemons. A generation of a daemon is a service of its own: its id has the
//! generation.

use std::sync::Arc;

use async_nats::Message;
use dae_plugin_api::json::{Map, Value, json};
use dae_plugin_api::prelude::*;
use futures_util::StreamExt as _;
use futures_util::stream::select_all;

use crate::incoming::Incoming;
use crate::{Shared, ended, until_ending};

/// The verbs, as they stand in subjects and in the types of answers.
const VERBS: [(&str, &str); 3] = [
    ("PING", "io.nats.micro.v1.ping_response"),
    ("INFO", "io.nats.micro.v1.info_response"),
    ("STATS", "io.nats.micro.v1.stats_response"),
];

/// Answers NATS' tools.
pub(crate) async fn answer(shared: Arc<Shared>, incoming: Arc<Incoming>) -> Result<()> {
    let mut questions = Vec::new();
    for (verb, _) in VERBS {
        for subject in [format!("$SRV.{verb}"), format!("$SRV.{verb}.>")] {
            questions.push(shared.link.subscribe(subject, false).await?);
        }
    }
    let mut questions = select_all(questions);
    while let Some(question) = until_ending(&shared, questions.next()).await {
        // One after the other: nobody can make this host answer many at once.
        answer_one(&shared, &incoming, question).await;
    }
    ended(&shared, "the subscription of services has ended")
}

async fn answer_one(shared: &Shared, incoming: &Incoming, question: Message) {
    let Some(reply) = question.reply else {
        return;
    };
    let mut words = question.subject.split('.').skip(1);
    let verb = words.next().unwrap_or_default();
    let (name, id) = (words.next(), words.next());
    let Some((_, kind)) = VERBS.iter().find(|(known, _)| *known == verb) else {
        return;
    };
    for credential in shared.local.all() {
        let service = Service::of(shared, &credential);
        let is_meant =
            name.is_none_or(|name| name == service.name) && id.is_none_or(|id| id == service.id);
        if !is_meant {
            continue;
        }
        let mut answer = service.identity(kind);
        match verb {
            "INFO" => answer.extend(service.info(shared, &credential).await),
            "STATS" => answer.extend(stats(shared, incoming, &credential)),
            _ => {}
        }
        let answer = Value::Object(answer).to_string();
        let _ = shared
            .link
            .client
            .publish(reply.clone(), answer.into())
            .await;
    }
}

/// A daemon as NATS' tools see it.
struct Service {
    name: String,
    id: String,
    version: String,
    metadata: Value,
}

impl Service {
    fn of(shared: &Shared, credential: &Credential) -> Self {
        let generation = credential.generation.unwrap_or(0);
        // These names have no more characters than this, and versions are those of Semantic Versioning.
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '_'
            }
        };
        let name: String = credential.name.chars().map(plain).collect();
        let host: String = shared.host.chars().map(plain).collect();
        let version = credential.version.clone().unwrap_or_default();
        Service {
            id: format!("{host}-{}-{}-{generation}", credential.pid, credential.port),
            name,
            version: match version.split('.').count() {
                3 => version,
                _ => "0.0.0".to_owned(),
            },
            metadata: json!({
                "dae-daemon": credential.name,
                "dae-host": shared.host,
                "dae-generation": generation.to_string(),
            }),
        }
    }

    fn identity(&self, kind: &str) -> Map<String, Value> {
        let members = json!({
            "type": kind,
            "name": self.name,
            "id": self.id,
            "version": self.version,
            "metadata": self.metadata,
        });
        members.as_object().cloned().unwrap_or_default()
    }

    async fn info(&self, shared: &Shared, credential: &Credential) -> Map<String, Value> {
        let help = shared.eco.forward(&credential.name, "help", "[]").await;
        let help: Value = help
            .ok()
            .and_then(|help| json::from_str(&help).ok())
            .unwrap_or_default();
        let commands = help.as_object().cloned().unwrap_or_default();
        let endpoint = |command: &String, about: &Value| {
            json!({
                "name": command,
                "subject": shared.link.subjects.command(&credential.name, command),
                "queue_group": "dae",
                "metadata": {"description": about["about"].as_str().unwrap_or_default()},
            })
        };
        let endpoints: Vec<Value> = commands
            .iter()
            .map(|(name, about)| endpoint(name, about))
            .collect();
        let mut info = Map::new();
        let plugin = credential.plugin.as_ref().unwrap_or(&credential.name);
        info.insert(
            "description".to_owned(),
            format!("the daemon {plugin} of {}", shared.host).into(),
        );
        info.insert("endpoints".to_owned(), endpoints.into());
        info
    }
}

fn stats(shared: &Shared, incoming: &Incoming, credential: &Credential) -> Map<String, Value> {
    let counts = incoming.counts(&credential.name);
    let nanoseconds =
        |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let endpoints: Vec<Value> = counts
        .into_iter()
        .map(|(command, counts)| {
            json!({
                "name": command,
                "subject": shared.link.subjects.command(&credential.name, &command),
                "queue_group": "dae",
                "num_requests": counts.requests,
                "num_errors": counts.errors,
                "last_error": "",
                "processing_time": nanoseconds(counts.time),
                "average_processing_time": nanoseconds(counts.time).checked_div(counts.requests).unwrap_or(0),
            })
        })
        .collect();
    let mut stats = Map::new();
    stats.insert("endpoints".to_owned(), endpoints.into());
    stats
}
