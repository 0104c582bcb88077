//! The rules for which listeners a scan may probe. They use the kernel's data and are applied before any byte is
//! sent.
//!
//! Most listeners on a machine are no daemons. A printer prints what it is sent, a web server logs it, and other
//! users' programs are not to be disturbed. So only sockets are allowed that this user made and that a guest on
//! this machine can reach, from port 1024 up. Printers' ports and those that the config excludes are left out.
//! Pure.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use dae_runtime::os::listening_sockets::{ListeningSocket, Process};
use dae_store::config::PortRange;

/// The lowest port. Below are the system's services, which speak protocols of their own.
const PORT_MIN: u16 = 1024;

/// The ports of raw printing: what is sent there is printed.
const PRINTER_PORTS: PortRange = PortRange {
    first: 9100,
    last: 9107,
};

/// The rules, with the ports that the config excludes.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) ports_never: Vec<PortRange>,
}

/// A listener that may be probed: a process that listens at a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) key: ProbeKey,
    /// The addresses at which it can be reached, the best first.
    pub(super) addresses: Vec<SocketAddr>,
    /// The ids of all its sockets at that port, and of others that share the address.
    pub(super) ids: Vec<u64>,
    /// The processes that were seen to hold any of these sockets.
    pub(super) held_by: Vec<Process>,
}

/// The key of a listener. Each is probed once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ProbeKey {
    pub(super) port: u16,
    /// The oldest process that holds the socket.
    pub(super) process: Process,
}

impl Candidate {
    fn new(key: ProbeKey) -> Self {
        Candidate {
            key,
            addresses: Vec::new(),
            ids: Vec::new(),
            held_by: Vec::new(),
        }
    }
}

impl Rules {
    /// Returns whether the owner of the socket may be probed, as far as the socket shows.
    pub(super) fn allow(&self, socket: &ListeningSocket) -> bool {
        let port = socket.address.port();
        let is_barred = |ports: &PortRange| ports.contains(port);
        socket.is_own
            && port >= PORT_MIN
            && is_near(socket.address.ip())
            && !is_barred(&PRINTER_PORTS)
            && !self.ports_never.iter().any(is_barred)
    }
}

/// Returns whether the address is loopback or unspecified, so that a guest on this machine can connect.
fn is_near(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ip.is_loopback() || ip.is_unspecified()
}

/// Groups the `allowed` sockets by process and port. Leaves out sockets whose process can't be seen, and those that
/// one of `ours` holds.
pub(super) fn candidates(
    allowed: &[ListeningSocket],
    sockets: &[ListeningSocket],
    holders: &HashMap<u64, Vec<Process>>,
    ours: &[u32],
) -> Vec<Candidate> {
    let mut by_key: BTreeMap<ProbeKey, Candidate> = BTreeMap::new();
    for (address, ids) in by_address(allowed) {
        let held_by = ids.iter().filter_map(|id| holders.get(id)).flatten();
        let held_by: Vec<Process> = held_by.copied().collect();
        let Some(oldest) = held_by.iter().min() else {
            continue;
        };
        if held_by.iter().any(|one| ours.contains(&one.pid)) {
            continue;
        }
        let key = ProbeKey {
            port: address.port(),
            process: *oldest,
        };
        let candidate = by_key.entry(key).or_insert_with(|| Candidate::new(key));
        candidate.addresses.extend(ways_to(address, sockets));
        candidate.held_by.extend(held_by);
        candidate.ids.extend(ids);
    }
    let mut all: Vec<Candidate> = by_key.into_values().collect();
    for one in &mut all {
        // IPv4 first, because guests look there.
        one.addresses.sort_by_key(|way| (way.is_ipv6(), *way));
        one.addresses.dedup();
    }
    all
}

/// Groups sockets by address. Several processes may share an address, each with a socket of its own
/// (`SO_REUSEPORT`). The kernel chooses which of them answers, so they count as one.
fn by_address(sockets: &[ListeningSocket]) -> BTreeMap<SocketAddr, Vec<u64>> {
    let mut by_address: BTreeMap<SocketAddr, Vec<u64>> = BTreeMap::new();
    for socket in sockets {
        by_address
            .entry(socket.address)
            .or_default()
            .push(socket.id);
    }
    by_address
}

/// Returns the addresses at which this listener, and no other, can be reached from this machine.
fn ways_to(address: SocketAddr, sockets: &[ListeningSocket]) -> Vec<SocketAddr> {
    let port = address.port();
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let is_v4_anothers = || {
        let at_port = |one: &&ListeningSocket| one.address.port() == port && one.address.is_ipv4();
        let takes_v4 = |ip: IpAddr| ip == v4.ip() || ip.is_unspecified();
        let mut others = sockets.iter().filter(at_port);
        others.any(|one| takes_v4(one.address.ip()))
    };
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![v4],
        IpAddr::V6(ip) if ip.is_unspecified() && is_v4_anothers() => vec![v6],
        // It accepts IPv4 as well, unless it is set to IPv6 only. Then nothing listens at the IPv4 address.
        IpAddr::V6(ip) if ip.is_unspecified() => vec![v4, v6],
        _ => vec![address],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(address: &str, id: u64) -> ListeningSocket {
        ListeningSocket {
            address: address.parse().unwrap(),
            is_own: true,
            id,
        }
    }

    fn process(pid: u32) -> Process {
        Process { start: 7, pid }
    }

    #[test]
    fn only_this_users_near_sockets_at_harmless_ports_may_be_asked() {
        let rules = Rules {
            ports_never: vec![PortRange {
                first: 5000,
                last: 5001,
            }],
        };
        for (address, may) in [
            ("127.0.0.1:4000", true),
            ("127.8.0.1:4000", true),
            ("0.0.0.0:4000", true),
            ("[::1]:4000", true),
            ("[::]:4000", true),
            ("[::ffff:127.0.0.1]:4000", true),
            ("192.0.2.1:4000", false),
            ("[fe80::1]:4000", false),
            ("127.0.0.1:1024", true),
            ("127.0.0.1:1023", false),
            ("127.0.0.1:9099", true),
            ("127.0.0.1:9100", false),
            ("0.0.0.0:9107", false),
            ("127.0.0.1:9108", true),
            ("127.0.0.1:4999", true),
            ("127.0.0.1:5000", false),
            ("127.0.0.1:5001", false),
            ("127.0.0.1:5002", true),
        ] {
            assert_eq!(rules.allow(&socket(address, 1)), may, "{address}");
            let anothers = ListeningSocket {
                is_own: false,
                ..socket(address, 1)
            };
            assert!(!rules.allow(&anothers), "{address} of another user");
        }
    }

    #[test]
    fn what_one_process_listens_with_at_a_port_is_one_candidate() {
        let all = [
            socket("[::1]:4000", 1),
            socket("127.0.0.1:4000", 2),
            socket("127.0.0.1:4001", 3),
            socket("127.0.0.1:4002", 4),
            socket("127.0.0.1:4003", 5),
        ];
        let holders = HashMap::from([
            (1, vec![process(10)]),
            (2, vec![process(10), process(11)]),
            (3, vec![process(12)]),
            (4, vec![process(13), process(99)]),
        ]);
        let found = candidates(&all, &all, &holders, &[99]);
        let reasons: Vec<_> = found
            .iter()
            .map(|one| (one.key.port, one.key.process.pid, one.ids.clone()))
            .collect();
        assert_eq!(
            reasons,
            [(4000, 10, vec![2, 1]), (4001, 12, vec![3])],
            "4002 is ours, 4003 nobody's"
        );
        assert_eq!(found[0].addresses[0], all[1].address, "IPv4 first");
        assert_eq!(found[0].addresses[1], all[0].address);
    }

    #[test]
    fn processes_that_share_an_address_are_one_candidate() {
        let all = [socket("127.0.0.1:4000", 1), socket("127.0.0.1:4000", 2)];
        let holders = HashMap::from([(1, vec![process(11)]), (2, vec![process(10)])]);
        let found = candidates(&all, &all, &holders, &[]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].key.process, process(10));
        assert_eq!(found[0].ids, [1, 2]);
        assert!(
            candidates(&all, &all, &holders, &[11]).is_empty(),
            "one is ours"
        );
    }

    #[test]
    fn nobody_else_is_asked_in_a_sockets_place() {
        let ways = |address: &str, other: &str| {
            let one = socket(address, 1);
            let ways = ways_to(one.address, &[one, socket(other, 2)]);
            ways.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let elsewhere = "127.0.0.1:1";
        assert_eq!(ways("0.0.0.0:4000", elsewhere), ["127.0.0.1:4000"]);
        assert_eq!(ways("127.0.0.2:4000", elsewhere), ["127.0.0.2:4000"]);
        assert_eq!(ways("[::1]:4000", elsewhere), ["[::1]:4000"]);
        let both = ["127.0.0.1:4000", "[::1]:4000"];
        assert_eq!(ways("[::]:4000", elsewhere), both);
        for other in ["127.0.0.1:4000", "0.0.0.0:4000"] {
            assert_eq!(ways("[::]:4000", other), ["[::1]:4000"], "{other}");
        }
    }
}
