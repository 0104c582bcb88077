//! Dae as a daemon: its commands on its port, and its owner's commands on the control socket.
//!
//! The two command tables use the same functions. No command on TCP changes a daemon.

mod arguments;

use std::sync::{Arc, Weak};
use std::time::Instant;

use dae_plugin_api::abi::status;
use serde::{Deserialize, Serialize};
use tokio_util::task::AbortOnDropHandle;

use super::events::{self, EventFollower};
use super::logs::{self, Follower};
use super::{Dae, Fault, FaultKind, Inner, foreign};
use arguments::{none, one};
use dae_runtime::connection::guest_handle::GuestHandle;
use dae_runtime::instance::{AnswerFuture, BuiltIn, BuiltInAnswer, Instance};
use dae_runtime::plugin::completion::{Completion, host_status};
use dae_runtime::plugin::identity::Identity;
use dae_store::blocking;
use dae_store::durations;
use dae_store::manifest::{Argument, Command, Manifest, Schema};
use dae_store::registry::DAE_NAME;
use dae_store::report::{Greeting, Mode, ReloadRequest, RollbackRequest, UninstallRequest};
use dae_store::tasks;
use dae_store::usage::{Usage, UsageRequest};

/// A command of Dae's: name, argument (name and type), doc. A trailing `...` of the type stands for any number of
/// further arguments.
type CommandRow = (
    &'static str,
    Option<(&'static str, &'static str)>,
    &'static str,
);

const ON_TCP: [CommandRow; 6] = [
    (
        "list",
        None,
        "The credentials of all running daemons, Dae's own first.",
    ),
    (
        "find",
        Some(("name", "string")),
        "The credential of the daemon of that name.",
    ),
    (
        "announce",
        Some(("credential", "Credential")),
        "Has a daemon that this host doesn't run asked who it is, and listed; its credential as it is listed.",
    ),
    (
        "subscribe",
        Some(("topic", "string")),
        "Sends the topic's events to this connection, as lines of its name, until it ends or unsubscribes.",
    ),
    (
        "unsubscribe",
        Some(("topic", "string")),
        "Sends the topic's events to this connection no longer.",
    ),
    (
        "publish",
        Some(("topic", "string...")),
        "Sends an event, the arguments behind the topic, to all subscribers; returns how many there are.",
    ),
];

const ON_CONTROL: [CommandRow; 24] = [
    (
        "greet",
        Some(("home", "string")),
        "Returns the home of this host; refuses callers that expect another home.",
    ),
    (
        "list",
        None,
        "Returns the status of all daemons, Dae first.",
    ),
    (
        "status",
        Some(("name", "string")),
        "Returns the status of one daemon.",
    ),
    (
        "usage",
        Some(("request", "UsageRequest")),
        "Measures for a moment how much each daemon uses.",
    ),
    (
        "graph",
        None,
        "Returns which daemons call which, how often, and how long that takes.",
    ),
    (
        "find",
        Some(("name", "string")),
        "The credential of a running daemon.",
    ),
    (
        "scan",
        None,
        "Looks for foreign daemons now, and returns all that it finds.",
    ),
    (
        "install",
        Some(("request", "InstallRequest")),
        "Installs a compiled plugin.",
    ),
    (
        "uninstall",
        Some(("request", "UninstallRequest")),
        "Stops a daemon and forgets it; its state and log are kept for a week. A name alone will do.",
    ),
    ("start", Some(("name", "string")), "Starts a daemon."),
    ("stop", Some(("name", "string")), "Stops a daemon."),
    (
        "restart",
        Some(("name", "string")),
        "Has a new instance take over.",
    ),
    (
        "isolate",
        Some(("name", "string")),
        "Moves a daemon to a process of its own.",
    ),
    (
        "embed",
        Some(("name", "string")),
        "Moves a daemon into the host's process.",
    ),
    (
        "reload",
        Some(("request", "ReloadRequest")),
        "Has a daemon's file, as it is now, take over.",
    ),
    (
        "rollback",
        Some(("request", "RollbackRequest")),
        "Has the code of before, or a chosen stored version, take over again.",
    ),
    (
        "versions",
        Some(("name", "string")),
        "The stored versions of a daemon's file, newest first.",
    ),
    ("state", Some(("name", "string")), "A daemon's state."),
    (
        "import_state",
        Some(("request", "ImportRequest")),
        "Has a daemon start from a state from outside.",
    ),
    (
        "config",
        Some(("name", "string")),
        "The values that a daemon runs with, and where each comes from.",
    ),
    (
        "configure",
        Some(("request", "ConfigureRequest")),
        "Changes the values that a daemon runs with, or says what would change.",
    ),
    (
        "log",
        Some(("request", "LogLevelRequest")),
        "The level of a daemon's log, or changes it until the host ends.",
    ),
    (
        "reload_config",
        None,
        "Takes up the changes of config.json5 that need no restart of the host.",
    ),
    (
        "shutdown",
        None,
        "Has the host end in order; returns which host that is, before the end.",
    ),
];

/// The last commands of the control socket. They send events besides their replies.
const FOLLOWED: [CommandRow; 2] = [
    (
        "logs",
        Some(("request", "LogRequest")),
        "The last log records, and new ones as they come.",
    ),
    (
        "events",
        Some(("request", "EventsRequest")),
        "The last events of the ecosystem, and new ones as they come.",
    ),
];

/// The commands that a host still runs while it ends: those that change nothing, and the one that ends it.
const WHILE_ENDING: [&str; 12] = [
    "greet", "list", "status", "usage", "graph", "find", "scan", "state", "config", "logs",
    "events", "shutdown",
];

/// Opens both gates.
pub(super) fn open(inner: &Arc<Inner>) {
    let on_tcp = Answers::instance(inner, &ON_TCP);
    inner.endpoint.gate.open(on_tcp);
    let mut rows = ON_CONTROL.to_vec();
    rows.extend(FOLLOWED);
    inner
        .endpoint
        .control_gate
        .open(Answers::instance(inner, &rows));
}

/// The argument of `uninstall`.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "a daemon's name, or an object with `name` and `purge`"
)]
enum UninstallNames {
    Name(String),
    Request(UninstallRequest),
}

impl From<UninstallNames> for UninstallRequest {
    fn from(wish: UninstallNames) -> Self {
        match wish {
            UninstallNames::Request(request) => request,
            UninstallNames::Name(name) => UninstallRequest { name, purge: false },
        }
    }
}

/// The request of `rollback`: a name, or an object.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a daemon's name, or an object with it")]
enum RollbackNames {
    Name(String),
    Request(RollbackRequest),
}

impl From<RollbackNames> for RollbackRequest {
    fn from(rollback: RollbackNames) -> Self {
        match rollback {
            RollbackNames::Request(request) => request,
            RollbackNames::Name(name) => RollbackRequest {
                name,
                ..RollbackRequest::default()
            },
        }
    }
}

/// One of the two command tables.
#[derive(Debug)]
struct Answers {
    // Weak, because `Inner` owns the gates, and they must not keep it alive.
    inner: Weak<Inner>,
    names: Vec<&'static str>,
    is_control: bool,
}

impl Answers {
    fn instance(inner: &Arc<Inner>, rows: &[CommandRow]) -> Arc<Instance> {
        let code = Arc::new(Answers {
            inner: Arc::downgrade(inner),
            names: rows.iter().map(|row| row.0).collect(),
            is_control: rows.len() > ON_TCP.len(),
        });
        let identity = Identity {
            name: DAE_NAME.to_owned(),
            plugin: DAE_NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            is_shared: false,
            mode: Mode::InProcess,
            pid: std::process::id(),
            port: inner.endpoint.port,
            generation: 1,
            attempt: 0,
            since: Instant::now(),
        };
        Arc::new(Instance::built_in(identity, manifest(rows), code))
    }
}

impl BuiltIn for Answers {
    fn answer(&self, index: u32, arguments: Vec<u8>, guest: u64) -> AnswerFuture {
        let name = self.names.get(index as usize).copied().unwrap_or_default();
        let Some(inner) = self.inner.upgrade() else {
            return Box::pin(std::future::ready(ended(Err::<(), _>(Fault::failed(
                "Dae is ending",
            )))));
        };
        let dae = Dae { inner };
        if !self.is_control {
            return Box::pin(async move { on_tcp(&dae, name, &arguments, guest).await });
        }
        if dae.inner.lifetime.ending.is_cancelled() && !WHILE_ENDING.contains(&name) {
            let text = format!("the host is ending, and begins no {name} any more");
            return Box::pin(std::future::ready(ended(Err::<(), _>(Fault::failed(text)))));
        }
        let end = dae.inner.lifetime.ended.clone();
        // A change that has begun is carried through in a task of its own, even if the caller leaves. One that has
        // not begun ends with this task.
        let work = tokio::spawn(async move { on_control(&dae, name, &arguments, guest).await });
        let work = AbortOnDropHandle::new(work);
        Box::pin(async move {
            let failed = |text| ended(Err::<(), _>(Fault::failed(text)));
            tokio::select! {
                biased;
                done = work => done.unwrap_or_else(|error| {
                    if error.is_panic() {
                        tracing::error!(%error, "an answer to {name} panicked");
                    }
                    failed(format!("{name}: {}", blocking::why(error)))
                }),
                () = end.cancelled() => failed(format!("the host ended before {name} was done")),
            }
        })
    }
}

async fn on_tcp(dae: &Dae, name: &str, arguments: &[u8], guest: u64) -> BuiltInAnswer {
    match name {
        "list" => ended(none(arguments).map(|()| dae.inner.shared.directory.list())),
        "announce" => ended(match one::<foreign::Announced>(arguments) {
            Ok(announced) => dae.announce(&announced).await,
            Err(fault) => Err(fault),
        }),
        "subscribe" => ended(one(arguments).and_then(|topic: String| dae.subscribe(guest, &topic))),
        "unsubscribe" => {
            ended(one(arguments).and_then(|topic: String| dae.unsubscribe(guest, &topic)))
        }
        "publish" => ended(dae.publish(arguments)),
        // On TCP the codes are the protocol's, which has a single code for all faults of a daemon itself.
        _ => ended(
            one(arguments).and_then(|name: String| dae.find(&name).map_err(Fault::into_failed)),
        ),
    }
}

async fn on_control(dae: &Dae, name: &str, arguments: &[u8], guest: u64) -> BuiltInAnswer {
    match name {
        "list" => ended(none(arguments).map(|()| dae.list())),
        "status" => ended(one(arguments).and_then(|name: String| dae.status(&name))),
        "find" => ended(one(arguments).and_then(|name: String| dae.find(&name))),
        "greet" => ended(one(arguments).and_then(|home: String| dae.greet(&home))),
        "logs" => match one(arguments) {
            Ok(request) => followed(dae, guest, logs::logs(dae, request).await, Follower::run),
            Err(fault) => ended(Err::<(), _>(fault)),
        },
        "events" => match one(arguments) {
            Ok(request) => {
                let answered = events::events(dae, request).await;
                followed(dae, guest, answered, EventFollower::run)
            }
            Err(fault) => ended(Err::<(), _>(fault)),
        },
        "graph" => ended(none(arguments).map(|()| dae.graph())),
        "log" => ended(one(arguments).and_then(|request| dae.log_level(&request))),
        "usage" => ended(usage(dae, arguments).await),
        "shutdown" => shutdown(dae, arguments),
        "reload_config" => ended(match none(arguments) {
            Ok(()) => dae.reload_config().await,
            Err(fault) => Err(fault),
        }),
        "scan" => ended(match none(arguments) {
            Ok(()) => dae.scan().await,
            Err(fault) => Err(fault),
        }),
        _ => change(dae, name, arguments).await,
    }
}

/// Answers a command that changes a daemon, or that takes a daemon's name.
async fn change(dae: &Dae, name: &str, arguments: &[u8]) -> BuiltInAnswer {
    match name {
        "install" => ended(match one(arguments) {
            Ok(request) => dae.install_with(request).await,
            Err(fault) => Err(fault),
        }),
        "uninstall" => ended(match one::<UninstallNames>(arguments) {
            Ok(wish) => dae.uninstall_with(wish.into()).await,
            Err(fault) => Err(fault),
        }),
        "import_state" => ended(match one(arguments) {
            Ok(request) => dae.import_state(request).await,
            Err(fault) => Err(fault),
        }),
        "configure" => ended(match one(arguments) {
            Ok(request) => dae.configure(request).await,
            Err(fault) => Err(fault),
        }),
        "reload" => ended(match one::<ReloadRequest>(arguments) {
            Ok(request) => dae.reload_with(request).await,
            Err(fault) => Err(fault),
        }),
        "rollback" => ended(match one::<RollbackNames>(arguments) {
            Ok(request) => dae.rollback_with(request.into()).await,
            Err(fault) => Err(fault),
        }),
        _ => match one::<String>(arguments) {
            Ok(daemon) => change_by_name(dae, name, &daemon).await,
            Err(fault) => ended(Err::<(), _>(fault)),
        },
    }
}

impl Dae {
    fn greeting(&self) -> Greeting {
        Greeting {
            home: self.inner.held.id().to_string(),
            path: self.inner.home.data.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Returns which host serves the home, if it is the home that the guest means.
    fn greet(&self, meant: &str) -> Result<Greeting, Fault> {
        let greeting = self.greeting();
        match greeting.home == meant {
            true => Ok(greeting),
            false => Err(Fault::failed(format!(
                "the host with pid {} serves the home that was at {}, and not the one that is meant; nothing was done",
                greeting.pid,
                greeting.path.display()
            ))),
        }
    }
}

/// Requests the end of the host. The connection's task writes the reply before it sees the end. A repetition changes
/// nothing.
fn shutdown(dae: &Dae, arguments: &[u8]) -> BuiltInAnswer {
    if let Err(fault) = none(arguments) {
        return ended(Err::<(), _>(fault));
    }
    if !dae.inner.lifetime.can_be_ended() {
        let text = format!(
            "this host is part of another program (pid {}), which doesn't allow `shutdown`; end that program",
            std::process::id()
        );
        return ended(Err::<(), _>(Fault::failed(text)));
    }
    let asked = dae.clone();
    BuiltInAnswer {
        after: Some(Box::new(move || asked.inner.lifetime.request_end())),
        ..ended(Ok(dae.greeting()))
    }
}

/// Measures over the requested window, or without an argument over the usual one.
async fn usage(dae: &Dae, arguments: &[u8]) -> Result<Vec<Usage>, Fault> {
    let request = match none(arguments) {
        Ok(()) => UsageRequest::default(),
        Err(_) => one(arguments)?,
    };
    dae.usage(durations::ms(request.window_ms)).await
}

async fn change_by_name(dae: &Dae, what: &str, daemon: &str) -> BuiltInAnswer {
    match what {
        "start" => ended(dae.start(daemon).await),
        "stop" => ended(dae.stop(daemon).await),
        "versions" => ended(dae.versions(daemon).await),
        "state" => ended(dae.state(daemon).await),
        "isolate" => ended(dae.set_mode(daemon, Mode::Subprocess).await),
        "config" => ended(dae.config_of(daemon)),
        "embed" => ended(dae.set_mode(daemon, Mode::InProcess).await),
        _ => ended(dae.restart(daemon).await),
    }
}

/// Returns the answer of a command that reads the past, and then sends what is new to a reader that follows.
fn followed<T: Serialize, F: Send + 'static, R: Future<Output = ()> + Send + 'static>(
    dae: &Dae,
    guest: u64,
    answered: Result<(Vec<T>, Option<F>), Fault>,
    run: fn(F, Arc<GuestHandle>) -> R,
) -> BuiltInAnswer {
    let (past, follower) = match answered {
        Ok(answered) => answered,
        Err(fault) => return ended(Err::<(), _>(fault)),
    };
    let guest = dae.inner.endpoint.control_gate.guests.find(guest);
    let after = follower.zip(guest).map(|(follower, guest)| {
        let follow = move || {
            let following = tasks::logged("a client that follows", run(follower, guest));
            drop(tokio::spawn(following));
        };
        Box::new(follow) as Box<dyn FnOnce() + Send>
    });
    BuiltInAnswer {
        after,
        ..ended(Ok(past))
    }
}

fn ended(result: Result<impl Serialize, Fault>) -> BuiltInAnswer {
    let ended = match result {
        Ok(value) => match serde_json::to_vec(&value).unwrap_or_default() {
            // A command that returns nothing is answered without a result.
            bytes if bytes == b"null" => Completion {
                status: status::NOTHING,
                bytes: Vec::new(),
            },
            bytes => Completion {
                status: status::DONE,
                bytes,
            },
        },
        Err(fault) => Completion {
            status: match fault.kind() {
                FaultKind::UnknownDaemon => host_status::UNKNOWN_DAEMON,
                FaultKind::NotRunning => host_status::NOT_RUNNING,
                FaultKind::BadArguments => status::BAD_ARGUMENTS,
                FaultKind::NameTaken => host_status::NAME_TAKEN,
                FaultKind::Quarantined => host_status::QUARANTINED,
                FaultKind::Incomplete | FaultKind::Unrecorded | FaultKind::Failed => status::FAILED,
            },
            bytes: fault.to_string().into_bytes(),
        },
    };
    ended.into()
}

fn manifest(rows: &[CommandRow]) -> Manifest {
    Manifest {
        name: DAE_NAME.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commands: rows.iter().map(command).collect(),
        ..Manifest::default()
    }
}

fn command((name, argument, doc): &CommandRow) -> Command {
    let takes_more = argument.is_some_and(|(_, type_name)| type_name.ends_with("..."));
    let argument = argument.map(|(name, type_name)| {
        let type_name = type_name.trim_end_matches("...");
        Argument {
            name: name.to_owned(),
            type_name: type_name.to_owned(),
            schema: schema_of(type_name),
            ..Argument::default()
        }
    });
    let more = takes_more.then(|| Argument {
        name: "arguments".to_owned(),
        type_name: "any".to_owned(),
        rest: true,
        schema: schema(r#"{"type":["null","boolean","number","string","array","object"]}"#),
        ..Argument::default()
    });
    Command {
        name: (*name).to_owned(),
        doc: (*doc).to_owned(),
        kind: "async".to_owned(),
        arguments: argument.into_iter().chain(more).collect(),
        result: schema(result_of(name)),
        ..Command::default()
    }
}

/// Returns the schema of the result of a command of Dae. The operator's page describes the objects.
fn result_of(command: &str) -> &'static str {
    match command {
        "list" | "versions" | "history" => r#"{"type":"array","items":{"type":"object"}}"#,
        "publish" => r#"{"type":"integer","minimum":0}"#,
        _ => r#"{"type":["null","boolean","number","string","array","object"]}"#,
    }
}

fn schema(text: &str) -> Schema {
    Schema::new(text).unwrap_or_default()
}

/// Returns the schema of an argument of Dae: a string, or an object that the operator's page describes.
fn schema_of(type_name: &str) -> Schema {
    schema(match type_name {
        "string" => r#"{"type":"string"}"#,
        _ => r#"{"type":["object","string"]}"#,
    })
}
