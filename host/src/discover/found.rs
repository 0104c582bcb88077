//! The known results of probes: what each listener answered, and under which name it is listed. Pure data, without
//! clocks and sockets.
//!
//! Names must be stable, and must not shadow others. A foreign daemon gets its own name if it is free when the
//! daemon is found, and then keeps it. Otherwise it is listed with its port, as `Counter@40123`, until it is gone,
//! even if the name becomes free. There is one exception: if a daemon of this host takes an already listed name,
//! the foreign daemon is renamed to its name with its port. No daemon's own name can have an `@`.
//!
//! A daemon whose credential doesn't match its process is kept too. It is shown but not handed out.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::claim::Claim;
use super::rules::{Candidate, ProbeKey};
use dae_runtime::os::listening_sockets::Process;
use dae_store::registry::DAE_NAME;
use dae_store::report::Credential;

/// A daemon of this machine that this host doesn't run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForeignDaemon {
    /// The name that it is listed under.
    pub(crate) name: String,
    /// The name that it claims.
    pub(crate) own_name: String,
    /// The process that holds its socket, as the kernel says. If several hold it, the one that it claims to be.
    pub(crate) pid: u32,
    /// The address that it answers at.
    pub(crate) address: SocketAddr,
    /// Its version, if it states one.
    pub(crate) version: Option<String>,
    /// Its generation, if it states one. Daemons of other ecosystems do.
    pub(crate) generation: Option<u64>,
    /// The reason why its credential is not believed, for a person. A doubted daemon is not handed out.
    pub(crate) doubt: Option<String>,
}

impl ForeignDaemon {
    /// Returns the credential that others receive.
    pub(crate) fn credential(&self) -> Credential {
        Credential {
            name: self.name.clone(),
            pid: self.pid,
            port: self.address.port(),
            plugin: (self.own_name != self.name).then(|| self.own_name.clone()),
            version: self.version.clone(),
            generation: self.generation,
            foreign: true,
            address: self.unusual_address(),
            ..Credential::default()
        }
    }

    /// Returns its IP address if that isn't the one where guests look by default.
    pub(crate) fn unusual_address(&self) -> Option<IpAddr> {
        let ip = self.address.ip();
        (ip != Ipv4Addr::LOCALHOST).then_some(ip)
    }
}

/// A change among the foreign daemons that are handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ForeignChange {
    Appeared(ForeignDaemon),
    /// Another process, port, name or version. `was` is the name that it was listed under.
    Changed {
        was: String,
        now: ForeignDaemon,
    },
    Gone(ForeignDaemon),
}

/// The result of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ProbeOutcome {
    Silence,
    /// An answer that is no credential, and the reason for a person.
    Refused(String),
    Claim(VerifiedClaim),
}

/// A claim, and what the kernel says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VerifiedClaim {
    pub(super) claim: Claim,
    /// The address at which it was made.
    pub(super) address: SocketAddr,
    /// The process that it names, if that process listens there.
    pub(super) process: Option<Process>,
}

/// All probed listeners, and the names that are reserved.
#[derive(Debug, Default)]
pub(super) struct ForeignDaemons {
    probed: BTreeMap<ProbeKey, ProbeRecord>,
    /// The names of the daemons that this host runs.
    reserved: BTreeSet<String>,
}

#[derive(Debug)]
struct ProbeRecord {
    ids: Vec<u64>,
    answer: ProbeAnswer,
}

#[derive(Debug)]
enum ProbeAnswer {
    /// The probe is running, or got no answer. A silent listener is not probed again.
    Silence,
    Refused(String),
    Daemon {
        foreign: ForeignDaemon,
        process: Option<Process>,
    },
}

impl ForeignDaemons {
    /// Forgets listeners that are gone.
    pub(super) fn sweep(&mut self, present: &[Candidate]) -> Vec<ForeignChange> {
        let keys: HashSet<ProbeKey> = present.iter().map(|one| one.key).collect();
        let gone = self.probed.extract_if(.., |key, _| !keys.contains(key));
        let changes = gone.filter_map(|(_, probed)| change(probed.believed(), None));
        changes.collect()
    }

    /// Records the present listeners. Returns those to probe: the new ones, and each daemon whose socket or process
    /// has changed since its probe.
    pub(super) fn settle(
        &mut self,
        present: Vec<Candidate>,
        mut lives: impl FnMut(Process) -> bool,
    ) -> (Vec<Candidate>, Vec<ForeignChange>) {
        let changes = self.sweep(&present);
        let mut to_probe = present;
        to_probe.retain(|one| match self.probed.get(&one.key) {
            Some(probed) => probed.is_outdated(&one.ids, &mut lives),
            None => {
                self.probed
                    .insert(one.key, ProbeRecord::of(one, ProbeAnswer::Silence));
                true
            }
        });
        (to_probe, changes)
    }

    /// Records the result of a probe.
    pub(super) fn record(
        &mut self,
        one: &Candidate,
        outcome: ProbeOutcome,
    ) -> Option<ForeignChange> {
        let before = self.probed.remove(&one.key);
        let known = before.as_ref().and_then(ProbeRecord::foreign);
        let answer = match outcome {
            // A known daemon may be between two instances. The next scan probes it again.
            ProbeOutcome::Silence if known.is_some() => {
                self.probed.extend(before.map(|before| (one.key, before)));
                return None;
            }
            ProbeOutcome::Silence => ProbeAnswer::Silence,
            ProbeOutcome::Refused(reason) => ProbeAnswer::Refused(reason),
            ProbeOutcome::Claim(claimed) => self.daemon(one, claimed, known),
        };
        let now = ProbeRecord::of(one, answer);
        let change = change(
            before.as_ref().and_then(ProbeRecord::believed),
            now.believed(),
        );
        self.probed.insert(one.key, now);
        change
    }

    /// Returns the daemon that this claim describes. `known` is the daemon that was known before.
    fn daemon(
        &self,
        one: &Candidate,
        claimed: VerifiedClaim,
        known: Option<&ForeignDaemon>,
    ) -> ProbeAnswer {
        let VerifiedClaim {
            claim,
            address,
            process,
        } = claimed;
        let doubt = doubt(&claim, one, process);
        let pid = process.unwrap_or(one.key.process).pid;
        let is_same = |known: &&ForeignDaemon| known.own_name == claim.name;
        let name = match known.filter(is_same) {
            Some(known) if known.doubt.is_some() == doubt.is_some() => known.name.clone(),
            _ => self.name_for(&claim, (one.key.port, pid), doubt.is_some()),
        };
        let foreign = ForeignDaemon {
            name,
            own_name: claim.name,
            pid,
            address,
            version: claim.version,
            generation: claim.generation,
            doubt,
        };
        ProbeAnswer::Daemon { foreign, process }
    }

    /// Returns its own name if that is allowed and free, or else the name with the port.
    fn name_for(&self, claim: &Claim, (port, pid): (u16, u32), is_doubted: bool) -> String {
        let is_taken = |name: &str| {
            let mut listed = self.directory();
            self.reserved.contains(name) || listed.any(|one| one.name == name)
        };
        if !is_doubted && claim.name != DAE_NAME && !is_taken(&claim.name) {
            return claim.name.clone();
        }
        let with_port = format!("{}@{port}", claim.name);
        match is_taken(&with_port) {
            // Two processes may listen at one port, on different addresses.
            true => format!("{with_port}@{pid}"),
            false => with_port,
        }
    }

    /// Sets the names of this host's own daemons. Foreign daemons that are listed under one of them are renamed.
    pub(super) fn reserve(&mut self, names: BTreeSet<String>) -> Vec<ForeignChange> {
        self.reserved = names;
        let mut changes = Vec::new();
        for probed in self.probed.values_mut() {
            let ProbeAnswer::Daemon { foreign, .. } = &mut probed.answer else {
                continue;
            };
            if self.reserved.contains(&foreign.name) {
                let was = foreign.name.clone();
                // This name is free: only a daemon at that port ever gets it.
                foreign.name = format!("{was}@{}", foreign.address.port());
                let now = foreign.clone();
                changes.push(ForeignChange::Changed { was, now });
            }
        }
        changes
    }

    /// Returns all foreign daemons, including doubted ones.
    pub(super) fn directory(&self) -> impl Iterator<Item = &ForeignDaemon> {
        self.probed.values().filter_map(ProbeRecord::foreign)
    }

    /// Returns the foreign daemon with that key.
    pub(super) fn at(&self, key: &ProbeKey) -> Option<&ForeignDaemon> {
        self.probed.get(key).and_then(ProbeRecord::foreign)
    }

    /// Returns the listeners that answered without a credential: port, process, and the reason.
    pub(super) fn refused(&self) -> impl Iterator<Item = (&ProbeKey, &str)> {
        self.probed
            .iter()
            .filter_map(|(key, probed)| match &probed.answer {
                ProbeAnswer::Refused(reason) => Some((key, reason.as_str())),
                _ => None,
            })
    }
}

impl ProbeRecord {
    fn of(one: &Candidate, answer: ProbeAnswer) -> Self {
        ProbeRecord {
            ids: one.ids.clone(),
            answer,
        }
    }

    fn foreign(&self) -> Option<&ForeignDaemon> {
        match &self.answer {
            ProbeAnswer::Daemon { foreign, .. } => Some(foreign),
            _ => None,
        }
    }

    fn believed(&self) -> Option<&ForeignDaemon> {
        self.foreign().filter(|one| one.doubt.is_none())
    }

    /// Returns whether this is a daemon whose answer may have changed since it was probed.
    fn is_outdated(&self, ids: &[u64], mut lives: impl FnMut(Process) -> bool) -> bool {
        let ProbeAnswer::Daemon { process, .. } = &self.answer else {
            return false;
        };
        let is_elsewhere = !self.ids.iter().any(|id| ids.contains(id));
        is_elsewhere || process.is_some_and(|process| !lives(process))
    }
}

/// Returns the reason why a claim is not believed.
fn doubt(claim: &Claim, one: &Candidate, process: Option<Process>) -> Option<String> {
    let ProbeKey { port, process: own } = one.key;
    if claim.port != port {
        let said = claim.port;
        return Some(format!(
            "it says that its port is {said}, and listens at {port}"
        ));
    }
    let (said, own) = (claim.pid, own.pid);
    let text = || format!("it says that its process is {said}; who listens there is process {own}");
    process.is_none().then(text)
}

fn change(before: Option<&ForeignDaemon>, now: Option<&ForeignDaemon>) -> Option<ForeignChange> {
    match (before, now) {
        (None, Some(now)) => Some(ForeignChange::Appeared(now.clone())),
        (Some(before), None) => Some(ForeignChange::Gone(before.clone())),
        (Some(before), Some(now)) if before != now => Some(ForeignChange::Changed {
            was: before.name.clone(),
            now: now.clone(),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(port: u16, pid: u32) -> Candidate {
        let process = Process { start: 1, pid };
        Candidate {
            key: ProbeKey { port, process },
            addresses: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))],
            ids: vec![u64::from(port)],
            held_by: vec![process],
        }
    }

    fn claims(one: &Candidate, name: &str) -> ProbeOutcome {
        let process = one.key.process;
        ProbeOutcome::Claim(VerifiedClaim {
            claim: Claim {
                name: name.to_owned(),
                pid: process.pid,
                port: one.key.port,
                version: None,
                generation: None,
            },
            address: one.addresses[0],
            process: Some(process),
        })
    }

    #[test]
    fn a_daemon_that_claims_another_process_is_listed_with_its_own() {
        let one = candidate(4000, 7);
        let mut found = ForeignDaemons::default();
        found.settle(vec![one.clone()], |_| true);
        let ProbeOutcome::Claim(mut claimed) = claims(&one, "A") else {
            unreachable!("it is a claim");
        };
        claimed.claim.pid = 1;
        claimed.process = None;
        found.record(&one, ProbeOutcome::Claim(claimed));
        let listed = found.directory().next().expect("it is listed");
        assert_eq!((listed.pid, listed.doubt.is_some()), (7, true));
    }

    /// Returns the results after each of these listeners has claimed its name.
    fn found(said: &[(&Candidate, &str)]) -> ForeignDaemons {
        let mut found = ForeignDaemons::default();
        let all = said.iter().map(|(one, _)| (*one).clone()).collect();
        found.settle(all, |_| true);
        for (one, name) in said {
            found.record(one, claims(one, name));
        }
        found
    }

    fn names(found: &ForeignDaemons) -> Vec<&str> {
        found.directory().map(|one| one.name.as_str()).collect()
    }

    #[test]
    fn one_is_asked_once_and_a_daemon_again_when_its_socket_or_process_is_another() {
        let (silent, daemon) = (candidate(4000, 1), candidate(4001, 2));
        let both = || vec![silent.clone(), daemon.clone()];
        let mut found = ForeignDaemons::default();
        assert_eq!(found.settle(both(), |_| true).0, both());
        assert!(found.settle(both(), |_| true).0.is_empty(), "being probed");
        found.record(&silent, ProbeOutcome::Silence);
        found.record(&daemon, claims(&daemon, "A"));
        assert!(
            found.settle(both(), |_| true).0.is_empty(),
            "both were probed"
        );
        assert_eq!(found.sweep(&both()), []);
        assert!(
            found.settle(both(), |_| true).0.is_empty(),
            "nobody is forgotten"
        );
        let anew = |one: &Candidate| Candidate {
            ids: vec![99],
            ..one.clone()
        };
        let moved = vec![anew(&silent), anew(&daemon)];
        assert_eq!(found.settle(moved, |_| true).0, [anew(&daemon)]);
        assert_eq!(
            found.settle(both(), |_| false).0,
            std::slice::from_ref(&daemon)
        );
        // Between two instances it doesn't answer, and stays as it was.
        assert_eq!(found.record(&daemon, ProbeOutcome::Silence), None);
        assert_eq!(names(&found), ["A"]);
        let (to_probe, changes) = found.settle(vec![silent.clone()], |_| true);
        assert!(to_probe.is_empty());
        assert!(matches!(&changes[..], [ForeignChange::Gone(one)] if one.name == "A"));
        assert_eq!(found.settle(both(), |_| true).0, [daemon], "it was gone");
    }

    #[test]
    fn a_taken_name_is_listed_with_its_port_and_stays_so() {
        let [a, b, c, dae] = [1, 2, 3, 4].map(|n| candidate(4000 + n, u32::from(n)));
        let mut found = ForeignDaemons::default();
        found.reserve(BTreeSet::from(["Counter".to_owned()]));
        let all = || vec![a.clone(), b.clone(), c.clone(), dae.clone()];
        found.settle(all(), |_| true);
        for (one, name) in [(&a, "Counter"), (&b, "Clock"), (&c, "Clock"), (&dae, "Dae")] {
            found.record(one, claims(one, name));
        }
        let expected = ["Counter@4001", "Clock", "Clock@4003", "Dae@4004"];
        assert_eq!(names(&found), expected);
        assert_eq!(found.reserve(BTreeSet::new()), [], "Counter is free");
        found.record(&a, claims(&a, "Counter"));
        assert_eq!(names(&found), expected, "and nobody's name has changed");
        found.settle(vec![a.clone(), c.clone()], |_| true);
        found.record(&c, claims(&c, "Clock"));
        assert_eq!(names(&found), ["Counter@4001", "Clock@4003"]);
    }

    #[test]
    fn a_listed_name_gives_way_to_a_daemon_of_this_host() {
        let one = candidate(4001, 1);
        let mut found = found(&[(&one, "Counter")]);
        assert_eq!(names(&found), ["Counter"]);
        let changes = found.reserve(BTreeSet::from(["Counter".to_owned()]));
        assert!(
            matches!(&changes[..], [ForeignChange::Changed { was, now }]
                if was == "Counter" && now.name == "Counter@4001" && now.own_name == "Counter"),
            "{changes:?}"
        );
        assert_eq!(names(&found), ["Counter@4001"]);
    }

    #[test]
    fn two_at_one_port_have_two_names() {
        let (a, b) = (candidate(4001, 1), candidate(4001, 2));
        let found = found(&[(&a, "Dae"), (&b, "Dae")]);
        assert_eq!(names(&found), ["Dae@4001", "Dae@4001@2"]);
    }

    #[test]
    fn a_claim_that_does_not_fit_is_no_daemon_and_takes_no_name() {
        let (one, honest) = (candidate(4001, 1), candidate(4002, 2));
        let mut found = found(&[]);
        let lies = |port, process| {
            let claim = Claim {
                name: "Counter".to_owned(),
                pid: 7,
                port,
                version: None,
                generation: None,
            };
            let address = one.addresses[0];
            ProbeOutcome::Claim(VerifiedClaim {
                claim,
                address,
                process,
            })
        };
        let process = Some(Process { start: 1, pid: 7 });
        for (lie, part) in [
            (
                lies(4001, None),
                "process is 7; who listens there is process 1",
            ),
            (lies(4009, process), "port is 4009, and listens at 4001"),
        ] {
            assert_eq!(found.record(&one, lie), None, "the list stays as it is");
            let doubt = found.directory().next().unwrap().doubt.clone().unwrap();
            assert!(doubt.contains(part), "{doubt}");
            assert_eq!(names(&found), ["Counter@4001"]);
        }
        found.record(&honest, claims(&honest, "Counter"));
        assert_eq!(names(&found), ["Counter@4001", "Counter"]);
        // It may become correct later.
        let change = found.record(&one, lies(4001, process));
        assert!(
            matches!(change, Some(ForeignChange::Appeared(_))),
            "{change:?}"
        );
    }

    #[test]
    fn what_was_no_credential_is_kept_to_be_shown() {
        let one = candidate(4001, 1);
        let mut found = ForeignDaemons::default();
        found.record(&one, ProbeOutcome::Refused("no name".to_owned()));
        let refused: Vec<_> = found.refused().map(|(key, why)| (key.port, why)).collect();
        assert_eq!(refused, [(4001, "no name")]);
        assert_eq!(found.directory().count(), 0);
    }
}
