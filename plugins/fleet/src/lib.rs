//! `Fleet` joins the daemons of several machines over NATS.
//!
//! Each host has a Fleet. It announces the daemons of its host to the others, provides theirs to its own, and carries
//! calls and topics both ways. The page `host/docs/fleet.md` says what a person sees of it and what is promised; the
//! modules, in reading order:
//!
//! - `config`: what its owner tells it
//! - `subject`: the subjects of NATS that stand for daemons, commands and topics
//! - `link`: the connection to a server
//! - `local`: the daemons of this host, as the others see them
//! - `peers`: the other hosts: heartbeats, lists of daemons, who is lost
//! - `outgoing`: calls to daemons of other hosts
//! - `incoming`: calls to daemons of this host
//! - `topics`: events both ways
//! - `in_flight`: counts the calls that run
//! - `service`: what NATS' own tools see of the daemons (ADR-32)
#![cfg(feature = "nats")]

mod config;
mod in_flight;
mod incoming;
mod link;
mod local;
mod outgoing;
mod peers;
mod service;
mod subject;
mod topics;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Subscriber;
use dae_plugin_api::json::Value;
use dae_plugin_api::prelude::*;
use tokio::sync::watch;
use tokio::task::JoinSet;

use config::Config;
use incoming::{Incoming, Subscribers};
use link::Link;
use local::LocalDaemons;
use outgoing::Outgoing;
use peers::{HostStatus, KnownHost, Peers};

/// The longest wait for calls that run, at the end of an instance: for those of other hosts, and for those to them.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// The time in which the other hosts learn that another instance has replaced this one. The heartbeat of that one is on its
/// way at its first moment.
const HAND_OVER: Duration = Duration::from_millis(500);

/// The parts that all tasks of an instance share.
struct Shared {
    eco: Ecosystem,
    link: Link,
    /// The name of this host.
    host: String,
    local: LocalDaemons,
    peers: Peers,
    /// True once the instance is to end.
    ending: watch::Sender<bool>,
}

impl Shared {
    /// Waits until the instance is to end.
    async fn ending(&self) {
        // The sender lives as long as this.
        let _ = self
            .ending
            .subscribe()
            .wait_for(|is_ending| *is_ending)
            .await;
    }
}

struct Fleet {
    shared: Arc<Shared>,
    incoming: Arc<Incoming>,
    outgoing: Outgoing,
    /// The first subscriptions, until `run` takes them.
    first: Mutex<Option<(Subscribers, Subscriber)>>,
    /// The tasks that work beside `run`. They go on when the host cancels `run`, so that the calls that are there are still answered.
    tasks: Mutex<JoinSet<Result<()>>>,
}

/// The state of the fleet as this host sees it.
#[derive(Serialize, JsonSchema)]
struct FleetStatus {
    /// The name of this host.
    host: String,
    /// The ecosystem that the hosts share.
    ecosystem: String,
    /// Whether a server is connected.
    connected: bool,
    /// The server that is or was connected last: its address, version and name.
    server: Option<String>,
    /// The last failure of the connection.
    last_fault: Option<String>,
    /// The number of times that a lost connection was made again.
    reconnects: u64,
    /// The subscriptions of this host.
    subscriptions: usize,
    /// The daemons of this host that others can call.
    daemons: usize,
    /// The other hosts, by name.
    hosts: BTreeMap<String, HostStatus>,
    /// The faults between the hosts, one sentence each.
    conflicts: Vec<String>,
}

/// Joins the daemons of several machines over NATS.
#[daemon(name = "Fleet")]
impl Fleet {
    async fn start(
        eco: Ecosystem,
        config: Config,
        known: Option<BTreeMap<String, KnownHost>>,
    ) -> Result<Self> {
        let host = config.checked()?;
        let link = Link::open(&config).await?;
        let own = eco.credential()?;
        let boot = peers::boot(&eco, own.generation.unwrap_or(0)).await?;
        let shared = Arc::new(Shared {
            eco,
            link,
            local: LocalDaemons::new(own.name),
            peers: Peers::new(host.clone(), boot),
            ending: watch::Sender::new(false),
            host,
        });
        let first = match own.generation {
            // A preflight, of which the other hosts must see nothing.
            None | Some(0) => None,
            Some(_) => Some(subscribe(&shared, known.unwrap_or_default()).await?),
        };
        Ok(Fleet {
            first: Mutex::new(first),
            incoming: Arc::new(Incoming::default()),
            outgoing: Outgoing::new(Arc::clone(&shared), config.ecosystem),
            shared,
            tasks: Mutex::default(),
        })
    }

    async fn run(&self) -> Result<()> {
        self.begin();
        // Each of the tasks ends at the end of the instance, or fails.
        let ended = poll_fn(|context| lock(&self.tasks).poll_join_next(context)).await;
        match ended {
            Some(Ok(ended)) => ended,
            Some(Err(fault)) => Err(Error::new(fault)),
            None => Ok(()),
        }
    }

    /// Returns the other hosts for the next instance.
    fn save(&self) -> BTreeMap<String, KnownHost> {
        self.shared.peers.known()
    }

    async fn stop(&self) {
        let is_replaced = self.shared.peers.is_replaced(&self.shared).await;
        if is_replaced {
            // The other hosts learn of the new instance, and send their calls there from then on.
            tokio::time::sleep(HAND_OVER).await;
        }
        self.shared.ending.send_replace(true);
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        let ended = async { while tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(DRAIN_MAX, ended).await;
        self.incoming.running.drained(DRAIN_MAX).await;
        // The instance that replaces this one gets the next calls, and the answers to these come here.
        self.outgoing.running.drained(DRAIN_MAX).await;
        if !is_replaced {
            self.shared.peers.say_goodbye(&self.shared).await;
        }
        self.shared.link.close().await;
    }

    /// Runs a command of a daemon of another host: the calls that the host of this daemon sends here.
    #[command]
    async fn provided(
        &self,
        name: String,
        command: String,
        arguments: Vec<Value>,
    ) -> Result<Value> {
        let arguments = json::to_string(&arguments)?;
        let result = self.outgoing.call(&name, &command, arguments).await?;
        Ok(json::from_str(&result)?)
    }

    /// Returns the state of the fleet as this host sees it.
    #[command(read_only)]
    fn status(&self) -> FleetStatus {
        let shared = &self.shared;
        let link = shared.link.status();
        FleetStatus {
            host: shared.host.clone(),
            ecosystem: self.outgoing.ecosystem.clone(),
            connected: link.is_connected,
            server: link.server,
            last_fault: link.last_fault,
            reconnects: link.reconnects,
            subscriptions: link.subscriptions,
            daemons: shared.local.count(),
            hosts: shared.peers.statuses(),
            conflicts: shared.peers.conflicts(),
        }
    }
}

impl Fleet {
    /// Begins all that works beside `run`.
    fn begin(&self) {
        let (shared, incoming) = (&self.shared, &self.incoming);
        let Some((subscribers, beats)) = lock(&self.first).take() else {
            return;
        };
        let mut tasks = lock(&self.tasks);
        tasks.spawn(local::follow(
            Arc::clone(shared),
            Arc::clone(incoming),
            subscribers.daemons,
        ));
        tasks.spawn(incoming::serve_host(
            Arc::clone(shared),
            Arc::clone(incoming),
            subscribers.host,
        ));
        tasks.spawn(peers::hear_heartbeats(Arc::clone(shared), beats));
        tasks.spawn(peers::answer_questions(Arc::clone(shared)));
        tasks.spawn(peers::send_heartbeats(Arc::clone(shared)));
        tasks.spawn(peers::list::answer(Arc::clone(shared)));
        tasks.spawn(topics::send(Arc::clone(shared)));
        tasks.spawn(topics::receive(Arc::clone(shared)));
        tasks.spawn(service::answer(Arc::clone(shared), Arc::clone(incoming)));
    }
}

/// Subscribes to all that an instance needs before it takes the place of another one.
async fn subscribe(
    shared: &Arc<Shared>,
    known: BTreeMap<String, KnownHost>,
) -> Result<(Subscribers, Subscriber)> {
    shared.local.put_all(shared.eco.list().await?);
    shared.link.connected().await;
    shared.peers.take_known(known);
    let subscribers = Subscribers::open(shared).await?;
    let beats = peers::find_hosts(shared).await?;
    Ok((subscribers, beats))
}

/// Waits for the next of something, until the instance is to end.
async fn until_ending<T>(shared: &Shared, next: impl Future<Output = Option<T>>) -> Option<T> {
    tokio::select! {
        next = next => next,
        () = shared.ending() => None,
    }
}

/// Returns the result of a task whose stream has ended: a fault, unless the instance is to end.
fn ended(shared: &Shared, fault: &str) -> Result<()> {
    match *shared.ending.borrow() {
        true => Ok(()),
        false => Err(Error::new(fault)),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
