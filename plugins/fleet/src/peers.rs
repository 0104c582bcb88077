//! The other hosts: who is there, which daemons they have, and who is lost.
//!
//! Each host sends a heartbeat every second, and one at each change of its daemons. It names the version of its list, which
//! the others then ask for ([`list`]). A host without a heartbeat for
//! longer than two of them, or that says goodbye, is lost: its daemons are withdrawn, and calls to it end.

pub(crate) mod list;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_nats::{Message, Subscriber};
use dae_plugin_api::prelude::*;
use futures_util::StreamExt as _;
use tokio::sync::watch;

use crate::{Shared, config, ended, lock, until_ending};

/// The interval of the heartbeats.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// The silence after which a host is lost: two heartbeats, and half of one for the way.
const LOST_AFTER: Duration = Duration::from_millis(2500);
/// The shortest time between two heartbeats for changes.
const CHANGE_EVERY: Duration = Duration::from_millis(20);
/// The longest wait for the hosts that an earlier instance has known.
const FIND_MAX: Duration = Duration::from_millis(500);
/// The longest text in a heartbeat (bytes): the names of a machine and of a host have at most 64, and some numbers.
const TEXT_BYTES_MAX: usize = 256;
/// The most hosts that are kept. A stranger on the same servers could make up any number.
const HOSTS_MAX: usize = 1000;

/// The life of a host and of its fleet: what tells two hosts of one name apart, and two lists of one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Boot {
    /// The process of the host.
    process: String,
    /// The generation of the fleet.
    generation: u64,
    /// The id of this instance of the fleet, which stands in the subjects of its calls. So the calls that are on their way
    /// to an instance still come there after another one has replaced it.
    instance: String,
}

/// A heartbeat.
#[derive(Debug, Serialize, Deserialize)]
struct Heartbeat {
    host: String,
    boot: Boot,
    /// The version of the list of daemons.
    version: u64,
    /// True for the last one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    goodbye: bool,
}

impl Heartbeat {
    /// Returns whether its texts are no longer than those of a fleet.
    fn is_short(&self) -> bool {
        let texts = [&self.host, &self.boot.process, &self.boot.instance];
        texts.iter().all(|text| text.len() <= TEXT_BYTES_MAX)
    }
}

/// Another host, for a person.
#[derive(Serialize, JsonSchema)]
pub(crate) struct HostStatus {
    /// The number of its daemons.
    daemons: usize,
    /// The time since its last heartbeat (ms).
    seen_ms: u64,
}

/// Another host.
struct Peer {
    boot: Boot,
    /// The version of the list that is provided; `None` before the first one.
    listed: Option<u64>,
    /// The version of the last heartbeat.
    version: u64,
    is_asked: bool,
    seen: Instant,
    /// The full names that are provided.
    names: BTreeSet<String>,
    /// Closed when the host is lost, or another process takes its name.
    lost: watch::Sender<()>,
}

impl Peer {
    fn new(boot: Boot, names: BTreeSet<String>) -> Self {
        Peer {
            boot,
            listed: None,
            version: 0,
            is_asked: false,
            seen: Instant::now(),
            names,
            lost: watch::Sender::new(()),
        }
    }
}

/// The way to a host: the instance of its fleet that takes calls now.
pub(crate) struct Way {
    pub(crate) host: String,
    pub(crate) instance: String,
    /// Closed when the host is lost.
    pub(crate) life: watch::Receiver<()>,
}

/// All that is known of the other hosts.
pub(crate) struct Peers {
    own: String,
    boot: Boot,
    table: Mutex<BTreeMap<String, Peer>>,
    /// The hosts that two processes claim, with the time of the last claim.
    claimed: Mutex<BTreeMap<String, Instant>>,
}

/// Another host as one instance of the fleet hands it over to the next.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct KnownHost {
    boot: Boot,
    names: BTreeSet<String>,
}

/// Returns what tells this host from every other.
pub(crate) async fn boot(eco: &Ecosystem, generation: u64) -> Result<Boot> {
    let dae = eco.find("Dae").await?;
    let (pid, port) = dae.map_or((0, 0), |dae| (dae.pid, dae.port));
    let machine = config::machine().unwrap_or_default();
    Ok(Boot {
        process: format!("{machine}/{pid}/{port}"),
        generation,
        instance: format!("{:016x}", fastrand::u64(..)),
    })
}

impl Peers {
    pub(crate) fn new(own: String, boot: Boot) -> Self {
        Peers {
            own,
            boot,
            table: Mutex::default(),
            claimed: Mutex::default(),
        }
    }

    /// Takes up the hosts that an earlier instance has known.
    pub(crate) fn take_known(&self, known: BTreeMap<String, KnownHost>) {
        let peer = |known: KnownHost| Peer::new(known.boot, known.names);
        let known = known.into_iter().map(|(host, known)| (host, peer(known)));
        lock(&self.table).extend(known);
    }

    /// Returns the hosts for the next instance.
    pub(crate) fn known(&self) -> BTreeMap<String, KnownHost> {
        let known = |peer: &Peer| KnownHost {
            boot: peer.boot.clone(),
            names: peer.names.clone(),
        };
        let table = lock(&self.table);
        table
            .iter()
            .map(|(host, peer)| (host.clone(), known(peer)))
            .collect()
    }

    pub(crate) fn statuses(&self) -> BTreeMap<String, HostStatus> {
        let status = |peer: &Peer| HostStatus {
            daemons: peer.names.len(),
            seen_ms: u64::try_from(peer.seen.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        let table = lock(&self.table);
        table
            .iter()
            .map(|(host, peer)| (host.clone(), status(peer)))
            .collect()
    }

    /// Returns what is wrong between the hosts.
    pub(crate) fn conflicts(&self) -> Vec<String> {
        let mut claimed = lock(&self.claimed);
        claimed.retain(|_, seen| seen.elapsed() < 4 * LOST_AFTER);
        let told = claimed.keys().map(|host| {
            format!("two hosts call themselves {host}; give one of them another name, by `host` in the config of its fleet")
        });
        told.collect()
    }

    /// Returns the id of this instance.
    pub(crate) fn instance(&self) -> &str {
        &self.boot.instance
    }

    /// Returns the way to a host; `None` if it isn't there.
    pub(crate) fn way_to(&self, host: &str) -> Option<Way> {
        let table = lock(&self.table);
        let peer = table.get(host)?;
        Some(Way {
            host: host.to_owned(),
            instance: peer.boot.instance.clone(),
            life: peer.lost.subscribe(),
        })
    }

    /// Returns the way to any of the hosts that have a daemon of that name; `None` if there is none.
    pub(crate) fn way_to_any(&self, daemon: &str) -> Option<Way> {
        let hosts: Vec<String> = {
            let table = lock(&self.table);
            let has_it = |host: &str, peer: &Peer| peer.names.contains(&format!("{daemon}@{host}"));
            let hosts = table.iter().filter(|(host, peer)| has_it(host, peer));
            hosts.map(|(host, _)| host.clone()).collect()
        };
        self.way_to(fastrand::choice(&hosts)?)
    }

    /// Returns whether another instance of this fleet has replaced this one.
    pub(crate) async fn is_replaced(&self, shared: &Shared) -> bool {
        let now = shared.eco.find(shared.local.own()).await;
        let generation = now.ok().flatten().and_then(|now| now.generation);
        generation.is_some_and(|generation| generation > self.boot.generation)
    }

    /// Takes up a heartbeat. Returns whether the list of its host is to be fetched, and the names of a host that has gone.
    fn take(&self, beat: &Heartbeat) -> (bool, BTreeSet<String>) {
        if beat.host == self.own {
            if beat.boot.process != self.boot.process {
                self.claim(&beat.host);
            }
            return (false, BTreeSet::new());
        }
        let mut table = lock(&self.table);
        if beat.goodbye {
            // The goodbye of an instance that another one has replaced is none of the host.
            let is_of_now = |peer: &Peer| peer.boot == beat.boot;
            let gone = table.get(&beat.host).is_some_and(is_of_now);
            let gone = gone.then(|| table.remove(&beat.host)).flatten();
            return (false, gone.map(|peer| peer.names).unwrap_or_default());
        }
        if !table.contains_key(&beat.host) && table.len() >= HOSTS_MAX {
            return (false, BTreeSet::new());
        }
        let new = || Peer::new(beat.boot.clone(), BTreeSet::new());
        let peer = table.entry(beat.host.clone()).or_insert_with(new);
        let is_known = peer.boot == beat.boot;
        if !is_known && !self.take_boot(peer, beat) {
            return (false, BTreeSet::new());
        }
        peer.seen = Instant::now();
        peer.version = beat.version;
        let is_new = peer.listed != Some(beat.version) && !peer.is_asked;
        peer.is_asked |= is_new;
        (is_new, BTreeSet::new())
    }

    /// Takes up another life of a host or of its fleet. Returns false for that of an instance that drains.
    fn take_boot(&self, peer: &mut Peer, beat: &Heartbeat) -> bool {
        let is_same_process = peer.boot.process == beat.boot.process;
        if is_same_process && beat.boot.generation < peer.boot.generation {
            return false;
        }
        if !is_same_process {
            // A host that has started anew is silent for longer, unless it is quick; a second host of its name is told with
            // each of its heartbeats.
            if peer.seen.elapsed() < BEAT_EVERY / 2 {
                self.claim(&beat.host);
            }
            peer.lost = watch::Sender::new(());
        }
        peer.boot = beat.boot.clone();
        peer.listed = None;
        true
    }

    fn claim(&self, host: &str) {
        lock(&self.claimed).insert(host.to_owned(), Instant::now());
    }

    /// Removes the hosts that are lost, and returns the names of their daemons.
    fn take_lost(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        lock(&self.table).retain(|host, peer| {
            let is_there = peer.seen.elapsed() < LOST_AFTER;
            if !is_there {
                tracing::warn!(
                    "the host {host} is lost: it has sent no heartbeat for {LOST_AFTER:?}"
                );
                names.append(&mut peer.names);
            }
            is_there
        });
        names
    }

    /// Sends the last heartbeat.
    pub(crate) async fn say_goodbye(&self, shared: &Shared) {
        self.send_heartbeat(shared, true).await;
    }

    async fn send_heartbeat(&self, shared: &Shared, goodbye: bool) {
        if !shared.link.is_connected() {
            // It would be sent later, when it is wrong.
            return;
        }
        let beat = Heartbeat {
            host: self.own.clone(),
            boot: self.boot.clone(),
            version: shared.local.version(),
            goodbye,
        };
        let subject = shared.link.subjects.heartbeat(&self.own);
        if let Ok(beat) = json::to_vec(&beat) {
            let _ = shared.link.client.publish(subject, beat.into()).await;
        }
    }
}

/// Sends a heartbeat every second and at each change, and notices the hosts that are lost.
pub(crate) async fn send_heartbeats(shared: Arc<Shared>) -> Result<()> {
    while !*shared.ending.borrow() {
        let changed = shared.local.changed.notified();
        shared.peers.send_heartbeat(&shared, false).await;
        withdraw(&shared, shared.peers.take_lost()).await;
        let sent = Instant::now();
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(BEAT_EVERY) => {}
            () = shared.ending() => break,
        }
        tokio::time::sleep(CHANGE_EVERY.saturating_sub(sent.elapsed())).await;
    }
    Ok(())
}

/// Asks all hosts for a heartbeat, and waits for those that an earlier instance has known: an instance may have taken the
/// place of the one that is known here. Returns the subscription of heartbeats.
pub(crate) async fn find_hosts(shared: &Arc<Shared>) -> Result<Subscriber> {
    let link = &shared.link;
    let mut beats = link.subscribe(link.subjects.heartbeat("*"), false).await?;
    let mut missing: BTreeSet<String> = lock(&shared.peers.table).keys().cloned().collect();
    if !link.is_connected() {
        return Ok(beats);
    }
    link.client
        .publish(link.subjects.question(), "".into())
        .await?;
    link.flushed().await;
    let all_found = async {
        while !missing.is_empty()
            && let Some(message) = beats.next().await
        {
            if let Some(host) = on_heartbeat(shared, &message).await {
                missing.remove(&host);
            }
        }
    };
    let _ = tokio::time::timeout(FIND_MAX, all_found).await;
    Ok(beats)
}

/// Sends a heartbeat to each host that asks for one.
pub(crate) async fn answer_questions(shared: Arc<Shared>) -> Result<()> {
    let subject = shared.link.subjects.question();
    let mut asked = shared.link.subscribe(subject, false).await?;
    while until_ending(&shared, asked.next()).await.is_some() {
        shared.local.changed.notify_waiters();
    }
    ended(&shared, "the subscription of questions has ended")
}

/// Hears the heartbeats of the other hosts.
pub(crate) async fn hear_heartbeats(shared: Arc<Shared>, mut beats: Subscriber) -> Result<()> {
    let known = || -> BTreeSet<String> {
        let table = lock(&shared.peers.table);
        let names = table.values().flat_map(|peer| peer.names.iter().cloned());
        names.collect()
    };
    // Names that an earlier instance has provided and that no host has.
    let stale = provided(&shared).await?;
    withdraw(&shared, stale.difference(&known()).cloned().collect()).await;
    while let Some(message) = until_ending(&shared, beats.next()).await {
        on_heartbeat(&shared, &message).await;
    }
    ended(&shared, "the subscription of heartbeats has ended")
}

/// Takes up a heartbeat. Returns its host.
async fn on_heartbeat(shared: &Arc<Shared>, message: &Message) -> Option<String> {
    // A stranger may send anything here.
    let Ok(beat) = json::from_slice::<Heartbeat>(&message.payload) else {
        let bytes = message.payload.len();
        tracing::info!(subject = %message.subject, "no heartbeat: {bytes} bytes");
        return None;
    };
    let is_of_subject = shared.link.subjects.heartbeat(&beat.host) == message.subject.as_str();
    if !is_of_subject || !beat.is_short() {
        return None;
    }
    let (is_new, gone) = shared.peers.take(&beat);
    withdraw(shared, gone).await;
    if is_new {
        let (shared, host) = (Arc::clone(shared), beat.host.clone());
        tokio::spawn(async move { list::fetch(&shared, &host).await });
    }
    Some(beat.host)
}

/// Returns the names that this fleet provides already.
async fn provided(shared: &Shared) -> Result<BTreeSet<String>> {
    let own = shared.eco.credential()?.name;
    let all = shared.eco.list().await?;
    let mine = all
        .into_iter()
        .filter(|one| one.provider.as_ref() == Some(&own));
    Ok(mine.map(|one| one.name).collect())
}

async fn withdraw(shared: &Shared, names: BTreeSet<String>) {
    for name in names {
        if let Err(fault) = shared.eco.withdraw(&name).await {
            tracing::warn!("{name} can't be withdrawn: {fault}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(process: &str, generation: u64) -> Boot {
        Boot {
            process: process.to_owned(),
            generation,
            instance: format!("{process}-{generation}"),
        }
    }

    fn beat(host: &str, boot: Boot, version: u64) -> Heartbeat {
        Heartbeat {
            host: host.to_owned(),
            boot,
            version,
            goodbye: false,
        }
    }

    fn peers() -> Peers {
        Peers::new("a".to_owned(), boot("a/1/1", 1))
    }

    #[test]
    fn a_list_is_fetched_once_for_each_version() {
        let peers = peers();
        assert!(peers.take(&beat("b", boot("b/1/1", 1), 3)).0);
        assert!(
            !peers.take(&beat("b", boot("b/1/1", 1), 3)).0,
            "it is asked for already"
        );
        let done = |peers: &Peers| {
            let mut table = lock(&peers.table);
            let peer = table.get_mut("b").unwrap();
            (peer.is_asked, peer.listed) = (false, Some(peer.version));
        };
        done(&peers);
        assert!(!peers.take(&beat("b", boot("b/1/1", 1), 3)).0);
        assert!(peers.take(&beat("b", boot("b/1/1", 1), 4)).0);
        done(&peers);
        assert!(
            peers.take(&beat("b", boot("b/1/1", 2), 4)).0,
            "a reloaded fleet counts anew"
        );
        done(&peers);
        assert!(
            !peers.take(&beat("b", boot("b/1/1", 1), 9)).0,
            "the instance that drains"
        );
    }

    #[test]
    fn only_the_goodbye_of_the_newest_instance_is_one_of_the_host() {
        let peers = peers();
        peers.take(&beat("b", boot("b/1/1", 2), 1));
        lock(&peers.table)
            .get_mut("b")
            .unwrap()
            .names
            .insert("C@b".to_owned());
        let goodbye = |generation| Heartbeat {
            goodbye: true,
            ..beat("b", boot("b/1/1", generation), 1)
        };
        assert!(peers.take(&goodbye(1)).1.is_empty());
        assert_eq!(peers.take(&goodbye(2)).1.len(), 1);
        assert!(peers.way_to("b").is_none());
    }

    #[test]
    fn a_host_that_starts_anew_ends_the_calls_to_the_one_before() {
        let peers = peers();
        peers.take(&beat("b", boot("b/1/1", 1), 1));
        let life = peers.way_to("b").unwrap().life;
        peers.take(&beat("b", boot("b/1/1", 2), 1));
        assert!(life.has_changed().is_ok(), "a reload ends no call");
        peers.take(&beat("b", boot("b/2/1", 1), 1));
        assert!(life.has_changed().is_err());
    }

    #[test]
    fn two_hosts_of_one_name_are_told() {
        let peers = peers();
        assert!(peers.conflicts().is_empty());
        peers.take(&beat("a", boot("other/1/1", 1), 1));
        assert!(peers.conflicts()[0].contains("two hosts call themselves a"));
        peers.take(&beat("a", boot("a/1/1", 7), 1));
        peers.take(&beat("b", boot("b/1/1", 1), 1));
        peers.take(&beat("b", boot("b/2/2", 1), 1));
        assert_eq!(peers.conflicts().len(), 2);
    }

    #[test]
    fn a_stranger_that_makes_up_hosts_costs_a_bounded_amount() {
        let peers = peers();
        for n in 0..2 * HOSTS_MAX {
            peers.take(&beat(&format!("h{n}"), boot("x", 1), 1));
        }
        assert_eq!(lock(&peers.table).len(), HOSTS_MAX);
    }
}
