//! Discovers the daemons of this machine that this host doesn't run: it looks at which sockets listen, and probes
//! them.
//!
//! A scan asks the system which sockets listen ([`listening_sockets`]), leaves out those that it may not probe (`rules`),
//! sends the others one question, once (`probe`), and distrusts what they reply (`claim`). The results are in `found`:
//! a scan that finds nothing new connects to nothing. A daemon that wasn't ready when it was probed may announce
//! itself ([`Discovery::announce`]). It is probed in the same way.
//!
//! A credential is only a claim. It is checked against the kernel: the process that it names must hold the socket,
//! or be a subprocess of one that does, as a host's worker is.
//!
//! Invariants: a listener gets only one question at a time. After silence it gets no second one, unless it
//! announces itself. At most [`PROBES_MAX`] probes run at once. Only one scan runs at a time.

mod claim;
mod found;
mod probe;
mod rules;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio::sync::{Semaphore, broadcast};

use claim::ProbeReply;
use dae_runtime::os::listening_sockets::{self, ListeningSocket, Process};
use dae_store::blocking;
use dae_store::config::Config;
use dae_store::lock::lock;
use dae_store::report::{Credential, Refused};
use found::{ForeignDaemons, ProbeOutcome, VerifiedClaim};
use rules::{Candidate, Rules};

pub(crate) use found::{ForeignChange, ForeignDaemon};

/// The most probes at once: enough to finish a machine full of silent listeners in seconds, few enough to be no
/// burst.
const PROBES_MAX: usize = 16;

/// The most changes that a subscriber may be behind. After that it misses some and must read the list again.
const CHANGES_MAX: usize = 256;

/// The interval for checking announced daemons if scans are off.
const SWEEP: Duration = Duration::from_secs(5);

/// The shortest time between two announcements of a port.
const ANNOUNCE_PAUSE: Duration = Duration::from_secs(1);

/// The most announcements that are handled at once. Each one looks at all sockets.
const ANNOUNCEMENTS_MAX: usize = 4;

/// The foreign daemons that are known, and what finding them needs.
#[derive(Debug)]
pub(crate) struct Discovery {
    rules: Rules,
    found: Mutex<ForeignDaemons>,
    /// The processes that held the sockets of the last look, by socket id.
    holders: Mutex<HashMap<u64, Vec<Process>>>,
    /// A lock that is held during a scan.
    turn: tokio::sync::Mutex<()>,
    probes: Semaphore,
    announcements: Semaphore,
    /// The times of recent announcements, by port.
    announced: Mutex<HashMap<u16, Instant>>,
    changes: broadcast::Sender<ForeignChange>,
    /// A flag that this failure was logged. Problems are logged once, not at every scan.
    has_told_failure: AtomicBool,
    has_told_hidden: AtomicBool,
}

/// The counts of one scan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ScanCounts {
    /// Listening TCP sockets on this machine.
    pub(crate) sockets: usize,
    /// The number of listeners that were probed.
    pub(crate) probed: usize,
    /// The sockets of this user whose process can't be seen.
    pub(crate) hidden: usize,
}

/// The listeners that may be probed, and the counts so far.
struct Survey {
    candidates: Vec<Candidate>,
    tally: ScanCounts,
}

impl Discovery {
    pub(crate) fn new(config: &Config) -> Arc<Self> {
        Arc::new(Discovery {
            rules: Rules {
                ports_never: config.scan_ports_never.clone(),
            },
            found: Mutex::default(),
            holders: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            probes: Semaphore::new(PROBES_MAX),
            announcements: Semaphore::new(ANNOUNCEMENTS_MAX),
            announced: Mutex::default(),
            changes: broadcast::Sender::new(CHANGES_MAX),
            has_told_failure: AtomicBool::new(false),
            has_told_hidden: AtomicBool::new(false),
        })
    }

    /// Scans forever, at the interval `every`. `ours` returns the processes of this host; `None` ends the scans. If
    /// `every` is zero, no scans are made, but announced daemons are still checked.
    pub(crate) async fn run(
        self: Arc<Self>,
        every: Duration,
        ours: impl Fn() -> Option<Vec<u32>> + Send,
    ) {
        let is_looking = !every.is_zero();
        let mut ticks = tokio::time::interval(if is_looking { every } else { SWEEP });
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(ours) = ours() else { return };
            if is_looking || self.knows_any() {
                // A failure is already logged.
                let _ = self.look(ours, is_looking).await;
            }
        }
    }

    /// Looks at all sockets now, and probes those that weren't probed yet. Waits for a running scan first.
    ///
    /// # Errors
    /// Fails if the system doesn't tell which sockets there are.
    pub(crate) async fn scan(self: &Arc<Self>, ours: Vec<u32>) -> io::Result<ScanCounts> {
        // A task of its own lets a scan finish once it has begun. Otherwise the replies of running probes would be
        // lost.
        let this = Arc::clone(self);
        let scan = tokio::spawn(async move { this.look(ours, true).await });
        scan.await.map_err(io::Error::other)?
    }

    /// Returns all foreign daemons, by name, including those that are not believed.
    pub(crate) fn list(&self) -> Vec<ForeignDaemon> {
        let mut all: Vec<ForeignDaemon> = lock(&self.found).directory().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Returns the foreign daemon that is listed under that name, believed or not.
    pub(crate) fn find(&self, name: &str) -> Option<ForeignDaemon> {
        let found = lock(&self.found);
        found.directory().find(|one| one.name == name).cloned()
    }

    /// Returns the listeners that answer `dae` but are no daemons.
    pub(crate) fn refused(&self) -> Vec<Refused> {
        let found = lock(&self.found);
        let refused = found.refused().map(|(key, reason)| Refused {
            port: key.port,
            pid: key.process.pid,
            reason: reason.to_owned(),
        });
        refused.collect()
    }

    /// Subscribes to changes of the believed daemons. A slow subscriber misses some, and its receiver reports this.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<ForeignChange> {
        self.changes.subscribe()
    }

    /// Reserves the names of this host's daemons. A foreign daemon with such a name is listed with its port.
    pub(crate) fn reserve(&self, names: BTreeSet<String>) {
        let changes = lock(&self.found).reserve(names);
        self.tell(changes);
    }

    /// Handles an announcement of a daemon at that port: probes it, even if it was probed before.
    ///
    /// # Errors
    /// Returns the reason why the daemon isn't listed, for the caller that announced it.
    pub(crate) async fn announce(
        self: &Arc<Self>,
        port: u16,
        ours: Vec<u32>,
    ) -> Result<Credential, String> {
        let _permit = self.announcements.try_acquire().map_err(|_| {
            format!(
                "{ANNOUNCEMENTS_MAX} announcements are being looked into; try again in a second"
            )
        })?;
        self.keep_pause(port)?;
        let survey = self.survey(ours).await.map_err(|error| error.to_string())?;
        let at_port = |one: &Candidate| one.key.port == port;
        let mut refusal = format!(
            "nobody who may be asked listens at port {port}: it takes a socket of this user's, on a loopback address, \
            that is not this host's own, at a port from 1024 up that the config doesn't exclude"
        );
        for one in survey.candidates.into_iter().filter(at_port) {
            match self.ask(&one).await {
                ProbeOutcome::Silence => {
                    refusal = format!("who listens at port {port} doesn't answer `dae` in time");
                }
                outcome => {
                    self.take_note(&one, outcome);
                    match self.verdict(&one) {
                        Ok(credential) => return Ok(credential),
                        Err(reason) => refusal = reason,
                    }
                }
            }
        }
        Err(refusal)
    }

    fn keep_pause(&self, port: u16) -> Result<(), String> {
        let now = Instant::now();
        let mut announced = lock(&self.announced);
        announced.retain(|_, at| now.duration_since(*at) < ANNOUNCE_PAUSE);
        if announced.contains_key(&port) {
            return Err(format!(
                "port {port} was announced less than a second ago; try again in a second"
            ));
        }
        announced.insert(port, now);
        Ok(())
    }

    /// Returns the credential of a listener that has answered, or the reason why it isn't believed.
    fn verdict(&self, one: &Candidate) -> Result<Credential, String> {
        let found = lock(&self.found);
        match found.at(&one.key) {
            Some(foreign) => match &foreign.doubt {
                None => Ok(foreign.credential()),
                Some(doubt) => Err(doubt.clone()),
            },
            None => {
                let mut refused = found.refused().filter(|(key, _)| **key == one.key);
                let reason = refused.next().map(|(_, reason)| reason.to_owned());
                Err(reason.unwrap_or_else(|| "it is gone".to_owned()))
            }
        }
    }

    fn knows_any(&self) -> bool {
        lock(&self.found).directory().next().is_some()
    }

    /// Looks at which sockets listen. If `is_looking`, probes the new ones.
    async fn look(self: &Arc<Self>, ours: Vec<u32>, is_looking: bool) -> io::Result<ScanCounts> {
        let _turn = self.turn.lock().await;
        let survey = self.survey(ours).await;
        let Survey {
            candidates,
            mut tally,
        } = survey.inspect_err(|error| self.tell_failure(error))?;
        self.tell_hidden(&tally);
        if !is_looking {
            let changes = lock(&self.found).sweep(&candidates);
            self.tell(changes);
            return Ok(tally);
        }
        // Many daemons may run in one process, such as those of another host.
        let mut seen = HashMap::new();
        let is_there =
            |process: Process| listening_sockets::start_of(process.pid) == Some(process.start);
        let lives = |process| *seen.entry(process).or_insert_with(|| is_there(process));
        let (to_probe, changes) = lock(&self.found).settle(candidates, lives);
        self.tell(changes);
        tally.probed = to_probe.len();
        // In order, so that of two daemons with one name the same one gets it each time.
        let mut outcomes = futures_util::stream::iter(to_probe)
            .map(|one| async move { (self.ask(&one).await, one) })
            .buffered(PROBES_MAX);
        while let Some((outcome, one)) = outcomes.next().await {
            self.take_note(&one, outcome);
        }
        Ok(tally)
    }

    /// Asks the kernel which sockets listen.
    async fn survey(self: &Arc<Self>, mut ours: Vec<u32>) -> io::Result<Survey> {
        ours.push(std::process::id());
        let this = Arc::clone(self);
        let survey = blocking::run(move || this.survey_now(&ours));
        survey.await.map_err(io::Error::other)?
    }

    fn survey_now(&self, ours: &[u32]) -> io::Result<Survey> {
        let sockets = listening_sockets::listening()?;
        let is_allowed = |socket: &&ListeningSocket| self.rules.allow(socket);
        let allowed: Vec<ListeningSocket> = sockets.iter().filter(is_allowed).copied().collect();
        let mut holders = lock(&self.holders);
        hold_on(&mut holders, &allowed);
        let hidden = allowed.iter().filter(|one| holders[&one.id].is_empty());
        let tally = ScanCounts {
            sockets: sockets.len(),
            probed: 0,
            hidden: hidden.count(),
        };
        let candidates = rules::candidates(&allowed, &sockets, &holders, ours);
        Ok(Survey { candidates, tally })
    }

    /// Probes a listener, and checks its claim with the kernel.
    async fn ask(&self, one: &Candidate) -> ProbeOutcome {
        let reply = {
            let _permit = self.probes.acquire().await;
            probe::ask(&one.addresses).await
        };
        match reply {
            None | Some((_, ProbeReply::None)) => ProbeOutcome::Silence,
            Some((_, ProbeReply::Refused(reason))) => ProbeOutcome::Refused(reason),
            Some((address, ProbeReply::Claim(claim))) => {
                let (pid, one) = (claim.pid, one.clone());
                let process = blocking::run(move || claimed_process(pid, &one));
                ProbeOutcome::Claim(VerifiedClaim {
                    claim,
                    address,
                    process: process.await.unwrap_or_default(),
                })
            }
        }
    }

    fn take_note(&self, one: &Candidate, outcome: ProbeOutcome) {
        let change = lock(&self.found).record(one, outcome);
        self.tell(change);
    }

    /// Logs the changes and sends them to the subscribers, who make events of them: programs come and go all day, so the log
    /// shows them only if asked to.
    fn tell(&self, changes: impl IntoIterator<Item = ForeignChange>) {
        for change in changes {
            match &change {
                ForeignChange::Appeared(now) => {
                    tracing::debug!(name = now.name, address = %now.address, pid = now.pid, "a foreign daemon is there");
                }
                ForeignChange::Changed { was, now } => {
                    tracing::debug!(name = now.name, was, address = %now.address, pid = now.pid, "a foreign daemon has changed");
                }
                ForeignChange::Gone(was) => {
                    tracing::debug!(name = was.name, address = %was.address, "a foreign daemon is gone");
                }
            }
            // There may be no subscribers.
            let _ = self.changes.send(change);
        }
    }

    fn tell_failure(&self, error: &io::Error) {
        if !self.has_told_failure.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "the sockets of this machine can't be looked at: foreign daemons are not found");
        }
    }

    fn tell_hidden(&self, tally: &ScanCounts) {
        if tally.hidden > 0 && !self.has_told_hidden.swap(true, Ordering::Relaxed) {
            let sockets = tally.hidden;
            tracing::info!(
                sockets,
                "some sockets of this user have a process that this host can't see; nobody is asked there"
            );
        }
    }
}

/// Returns the process with that id if it listens there. If it was seen to hold the socket, its file descriptors
/// need no second check.
fn claimed_process(pid: u32, one: &Candidate) -> Option<Process> {
    let start = listening_sockets::start_of(pid)?;
    let process = Process { start, pid };
    let is_its = one.held_by.contains(&process) || listening_sockets::is_process_of(pid, &one.ids);
    is_its.then_some(process)
}

/// Forgets the holders of sockets that are gone, and finds those of new ones, which takes a walk through all
/// processes.
fn hold_on(holders: &mut HashMap<u64, Vec<Process>>, allowed: &[ListeningSocket]) {
    let present: HashSet<u64> = allowed.iter().map(|one| one.id).collect();
    holders.retain(|id, _| present.contains(id));
    let new: HashSet<u64> = present
        .into_iter()
        .filter(|id| !holders.contains_key(id))
        .collect();
    if new.is_empty() {
        return;
    }
    let mut found = listening_sockets::holders(&new);
    holders.extend(
        new.into_iter()
            .map(|id| (id, found.remove(&id).unwrap_or_default())),
    );
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::claim::Claim;
    use super::rules::ProbeKey;
    use super::*;

    /// Returns a listener at port 4000 that claims to be Counter.
    fn counter() -> (Candidate, ProbeOutcome) {
        let process = Process { start: 1, pid: 7 };
        let one = Candidate {
            key: ProbeKey {
                port: 4000,
                process,
            },
            addresses: Vec::new(),
            ids: vec![1],
            held_by: vec![process],
        };
        let claim = Claim {
            name: "Counter".to_owned(),
            pid: 7,
            port: 4000,
            version: None,
            generation: None,
        };
        let claimed = VerifiedClaim {
            claim,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 4000)),
            process: Some(process),
        };
        (one, ProbeOutcome::Claim(claimed))
    }

    #[test]
    fn who_subscribes_is_told_what_changes() {
        let foreign = Discovery::new(&Config::default());
        let mut changes = foreign.subscribe();
        let (one, outcome) = counter();
        foreign.take_note(&one, outcome);
        let listed = foreign.find("Counter").unwrap();
        assert_eq!(
            changes.try_recv().unwrap(),
            ForeignChange::Appeared(listed.clone())
        );
        foreign.reserve(BTreeSet::from(["Counter".to_owned()]));
        let renamed = foreign.find("Counter@4000").unwrap();
        let was = "Counter".to_owned();
        let now = renamed.clone();
        assert_eq!(
            changes.try_recv().unwrap(),
            ForeignChange::Changed { was, now }
        );
        assert_eq!(foreign.find("Counter"), None);
        let swept = lock(&foreign.found).sweep(&[]);
        foreign.tell(swept);
        assert_eq!(changes.try_recv().unwrap(), ForeignChange::Gone(renamed));
        assert!(changes.try_recv().is_err(), "nothing else");
    }
}
