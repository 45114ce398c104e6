//! Would each bind of a configuration succeed now?
//!
//! [`crate::haproxy::binding`] has the kernel's rules; here they meet the owners of the sockets.
//! The listeners of HAProxy's own running generation are never in the way: HAProxy takes them over,
//! shares them, or pauses them while the next one binds.
//!
//! Where the tables leave a doubt, a trial bind settles it; without one the bind may fail.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::facts::{Facts, Network, Owner, Question, Trial, Use};
use super::finding::Finding;
use super::obstacles::{self, Obstacle};
use crate::haproxy::binding::{self, Answer, Bind, Reuse, Terms};
use crate::haproxy::config::{Declared, Listener};
use crate::model::{PortRole, PortUse, Protocol};

/// A bind, and the sockets that it overlaps with.
struct Occupied<'a> {
    listener: &'a Listener,
    bind: Bind<'a>,
    network: &'a Network,
    uses: Vec<&'a Use>,
}

/// A socket that a bind overlaps with, and what it means for the bind.
pub(super) struct Encounter<'a> {
    pub(super) listener: &'a Listener,
    pub(super) port: u16,
    pub(super) network: &'a Network,
    pub(super) used: &'a Use,
    pub(super) obstacle: Obstacle,
}

/// Finds everything that is in the way of the listeners.
#[must_use]
pub fn find(declared: &Declared, facts: &Facts) -> Vec<Finding> {
    let met = encounters(declared, facts);
    met.filter_map(|Encounter { listener, port, network, used, obstacle }| {
        obstacles::finding(listener, port, used, obstacle, network)
    })
    .collect()
}

/// Every socket that the listeners overlap with, those that are not in the way included. The
/// outcomes of trial binds have settled what they could.
pub(super) fn encounters<'a>(
    declared: &'a Declared,
    facts: &'a Facts,
) -> impl Iterator<Item = Encounter<'a>> {
    occupied(declared, facts).flat_map(|occupied| {
        let Occupied { listener, bind, network, .. } = occupied;
        let trial = network.trials.get(&(bind.address, bind.port)).copied();
        let met = occupied.obstacles().map(|(used, obstacle)| {
            let obstacle = settle(obstacle, trial);
            Encounter { listener, port: bind.port, network, used, obstacle }
        });
        met.collect::<Vec<_>>()
    })
}

/// The binds about which the tables leave a doubt that a trial can settle.
#[must_use]
pub fn questions(declared: &Declared, facts: &Facts) -> BTreeSet<Question> {
    let mut questions = BTreeSet::new();
    for occupied in occupied(declared, facts) {
        let mut obstacles = occupied.obstacles();
        let doubtful = obstacles.any(|(_, obstacle)| matches!(obstacle, Obstacle::Doubtful(_)));
        // A listener that is or may be HAProxy's own makes way for HAProxy, but not for a trial.
        let own = occupied.uses.iter().any(|used| {
            used.socket.role == PortRole::Listening
                && matches!(used.owner, Owner::Current(_) | Owner::Unknown)
        });
        // rustix cannot set SO_BINDTODEVICE, and without it the answer could differ.
        let bind = occupied.bind;
        let plain = bind.protocol == Protocol::Tcp && bind.interface.is_none();
        if plain && doubtful && !own {
            questions.insert(Question {
                namespace: occupied.listener.namespace.clone(),
                address: bind.address,
                port: bind.port,
                v6only: bind.v6only,
                reuse_port: bind.reuse_port,
            });
        }
    }
    questions
}

/// Each port of each listener that at least one socket overlaps with; equal binds are given once.
fn occupied<'a>(declared: &'a Declared, facts: &'a Facts) -> impl Iterator<Item = Occupied<'a>> {
    let by_port: BTreeMap<&Option<String>, UsesByPort<'_>> = facts
        .networks
        .iter()
        .map(|(name, network)| (name, UsesByPort::of(network.uses.iter().flatten())))
        .collect();
    let mut seen = HashSet::new();
    declared.endpoints().filter_map(move |(listener, port)| {
        let network = facts.networks.get(&listener.namespace)?;
        let same = by_port.get(&listener.namespace)?.on(listener.protocol, port);
        let terms = Terms {
            noreuseport: declared.globals.noreuseport,
            v6only: network.v6only,
            uid: facts.starter,
        };
        let bind = Bind::of(listener, port, terms);
        let overlaps = |used: &&Use| bind.overlaps(&used.socket) != Some(false);
        let uses: Vec<&Use> = same.iter().copied().filter(overlaps).collect();
        let key = (&listener.namespace, bind.protocol, bind.address, bind.interface, port);
        let first = !uses.is_empty() && seen.insert(key);
        first.then_some(Occupied { listener, bind, network, uses })
    })
}

/// The sockets of one network namespace, sorted by protocol and port. There may be tens of thousands.
struct UsesByPort<'a>(Vec<&'a Use>);

impl<'a> UsesByPort<'a> {
    fn of(uses: impl Iterator<Item = &'a Use>) -> UsesByPort<'a> {
        let mut uses: Vec<&Use> = uses.collect();
        uses.sort_by_key(|used| (used.socket.protocol, used.socket.port));
        UsesByPort(uses)
    }

    fn on(&self, protocol: Protocol, port: u16) -> &[&'a Use] {
        let key = |used: &&Use| (used.socket.protocol, used.socket.port);
        let from = self.0.partition_point(|used| key(used) < (protocol, port));
        let rest = self.0.get(from..).unwrap_or_default();
        let count = rest.iter().take_while(|used| key(used) == (protocol, port)).count();
        rest.get(..count).unwrap_or_default()
    }
}

impl<'a> Occupied<'a> {
    fn obstacles(&self) -> impl Iterator<Item = (&'a Use, Obstacle)> {
        self.uses.iter().map(|used| (*used, self.obstacle(used)))
    }

    fn obstacle(&self, used: &Use) -> Obstacle {
        let Use { socket, owner } = used;
        let takes_clients = binding::takes_clients(socket);
        match (socket.role, owner) {
            (PortRole::Connected(_) | PortRole::TimeWait, _) => {}
            (_, Owner::Current(_)) if !binding::only_sends(socket) => return Obstacle::None,
            (PortRole::Listening, Owner::Unknown) => {
                return Obstacle::Doubtful(
                    "the process that holds this listener could not be seen",
                );
            }
            // The kernel lets them share the port now, and will again.
            (_, Owner::Stale(_)) if takes_clients && self.is_handed_over() => {
                return Obstacle::None;
            }
            _ if takes_clients && self.is_handed_over() => return Obstacle::Shared,
            _ => {}
        }
        let by_haproxy = matches!(owner, Owner::Current(_) | Owner::Stale(_) | Owner::Haproxy(..));
        let beside = self.uses.iter().map(|other| &other.socket);
        let outgoing = binding::is_outgoing(socket, beside, self.network.ephemeral(), false);
        match self.bind.answer(socket, Reuse::of(socket, by_haproxy, outgoing)) {
            Answer::Free if matches!(owner, Owner::Haproxy(..)) => Obstacle::Shared,
            Answer::Free => Obstacle::None,
            Answer::Blocked => Obstacle::Certain(self.why(socket)),
            Answer::Unsure => Obstacle::Doubtful(self.why(socket)),
        }
    }

    /// The running generation listens on exactly this: HAProxy takes that socket over.
    fn is_handed_over(&self) -> bool {
        self.uses.iter().any(|Use { socket, owner }| {
            binding::takes_clients(socket)
                && matches!(owner, Owner::Current(_))
                && socket.address == self.bind.address
                && socket.interface.as_deref() == self.bind.interface
        })
    }

    fn why(&self, used: &PortUse) -> &'static str {
        match used.role {
            PortRole::Listening if !self.bind.reuse_port => {
                "it listens, and this configuration says noreuseport"
            }
            PortRole::Listening if self.bind.uid.is_some_and(|uid| uid != used.uid) => {
                "it listens under another user than the one that starts HAProxy"
            }
            PortRole::Listening => {
                "it listens; another socket may listen beside it only if it set SO_REUSEPORT"
            }
            PortRole::Peerless if binding::only_sends(used) => {
                "a socket that only sends, such as a log socket, got this number from the kernel"
            }
            PortRole::Peerless => "a UDP socket has the port",
            PortRole::Bound => "a socket is bound to the port",
            PortRole::Connected(_) => "an outgoing connection holds its source port",
            PortRole::TimeWait => "a connection that has ended holds its port for a minute",
        }
    }
}

/// Settles a doubt by the outcome of a trial.
fn settle(obstacle: Obstacle, trial: Option<Trial>) -> Obstacle {
    match (obstacle, trial) {
        (Obstacle::Doubtful(why), Some(Trial::InUse)) => Obstacle::Certain(why),
        (Obstacle::Doubtful(_), Some(Trial::Free)) => Obstacle::Shared,
        (obstacle, _) => obstacle,
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::{held, network, read};
    use super::*;
    use crate::model::{ConnectionState, Program};

    const CONNECTED: PortRole = PortRole::Connected(ConnectionState::Established);

    fn program() -> Owner {
        Owner::Program(Program { pid: 9, name: "dnsmasq".to_owned() })
    }

    fn judge(bind: &str, global: &str, uses: Vec<Use>, trial: Option<Trial>) -> (String, usize) {
        let declared = read(&format!("global\n{global}\nfrontend a\n bind {bind}\n"));
        assert_eq!((declared.errors.len(), declared.listeners.len()), (0, 1), "{bind}");
        let mut network = network(uses);
        if let Some(trial) = trial {
            let listener = &declared.listeners[0];
            network.trials.insert((listener.address, listener.ports.first), trial);
        }
        let facts = Facts { networks: [(None, network)].into(), starter: Some(0) };
        let words = find(&declared, &facts);
        let words = words.iter().map(|f| format!("{} {}", f.severity.as_str(), f.kind.as_str()));
        (words.collect::<Vec<_>>().join(", "), questions(&declared, &facts).len())
    }

    #[test]
    fn would_this_bind_succeed() {
        use PortRole::{Bound, Listening, Peerless, TimeWait};
        let blocked = "error port_blocked";
        let may = "warning port_blocked";
        let split = "warning port_split";
        let current = || Owner::Current(1);
        let stale = || Owner::Stale(2);
        let other = || Owner::Haproxy("b".to_owned(), 3);
        let table = [
            ("running holds it", ":80", held(Listening, "0.0.0.0:80", 0, current()), "", 0),
            ("running, on all", "10.0.0.1:80", held(Listening, "0.0.0.0:80", 0, current()), "", 0),
            ("running, other uid", ":80", held(Listening, "0.0.0.0:80", 5, current()), "", 0),
            ("paused", ":80", held(Bound, "0.0.0.0:80", 0, current()), "", 0),
            ("stale", ":80", held(Listening, "0.0.0.0:80", 0, stale()), "", 0),
            ("stale, other uid", ":80", held(Listening, "0.0.0.0:80", 5, stale()), blocked, 0),
            ("another haproxy", ":80", held(Listening, "0.0.0.0:80", 0, other()), split, 0),
            ("another's, other uid", ":80", held(Listening, "0.0.0.0:80", 5, other()), blocked, 0),
            ("a program", ":53", held(Listening, "0.0.0.0:53", 0, program()), may, 1),
            (
                "a program, other uid",
                ":53",
                held(Listening, "127.0.0.1:53", 5, program()),
                blocked,
                0,
            ),
            ("elsewhere", "10.0.0.1:53", held(Listening, "127.0.0.1:53", 5, program()), "", 0),
            ("IPv6 only", ":53", v6only(held(Listening, "[::]:53", 5, program()), true), "", 0),
            (
                "dual stack",
                ":53",
                v6only(held(Listening, "[::]:53", 5, program()), false),
                blocked,
                0,
            ),
            ("over IPv4", ":::53", held(Listening, "0.0.0.0:53", 5, program()), blocked, 0),
            ("beside IPv4", ":::53 v6only", held(Listening, "0.0.0.0:53", 5, program()), "", 0),
            (
                "interface",
                ":53 interface lo",
                on(held(Listening, "0.0.0.0:53", 5, program())),
                "",
                0,
            ),
            ("outgoing", ":59044", held(CONNECTED, "10.0.0.1:59044", 0, current()), may, 1),
            (
                "outgoing from elsewhere",
                "10.0.0.2:59044",
                held(CONNECTED, "10.0.0.1:59044", 0, current()),
                "",
                0,
            ),
            ("TIME_WAIT", ":59044", held(TimeWait, "10.0.0.1:59044", 0, Owner::NoProcess), may, 1),
            (
                "a log socket",
                "quic4@:59044",
                sender(held(Peerless, "0.0.0.0:59044", 0, current())),
                blocked,
                0,
            ),
            ("running QUIC", "quic4@:443", held(Peerless, "0.0.0.0:443", 0, current()), "", 0),
            ("a program's UDP", "quic4@:443", held(Peerless, "0.0.0.0:443", 0, program()), may, 0),
            ("another's QUIC", "quic4@:443", held(Peerless, "0.0.0.0:443", 5, other()), split, 0),
            ("paused, stale, other uid", ":80", held(Bound, "0.0.0.0:80", 5, stale()), "", 0),
            ("bound by a program", ":80", held(Bound, "0.0.0.0:80", 5, program()), may, 1),
            (
                "outgoing over IPv6",
                ":59044",
                held(CONNECTED, "[2001:db8::1]:59044", 0, current()),
                may,
                1,
            ),
            ("the other protocol", ":443", held(Peerless, "0.0.0.0:443", 0, program()), "", 0),
            (
                "a process that could not be seen",
                ":80",
                held(Listening, "0.0.0.0:80", 0, Owner::Unknown),
                may,
                0,
            ),
        ];
        for (what, bind, used, expected, questions) in table {
            let answer = judge(bind, "", vec![used], None);
            assert_eq!(answer, (expected.to_owned(), questions), "{what}");
        }
    }

    fn v6only(mut used: Use, v6only: bool) -> Use {
        used.socket.v6only = Some(v6only);
        used
    }

    fn on(mut used: Use) -> Use {
        used.socket.interface = Some("eth0".to_owned());
        used
    }

    fn sender(mut used: Use) -> Use {
        used.socket.receive_buffer_bytes = Some(2304);
        used
    }

    #[test]
    fn a_trial_settles_the_doubt() {
        let outgoing = || vec![held(CONNECTED, "10.0.0.1:59044", 0, Owner::Current(1))];
        let listening = || vec![held(PortRole::Listening, "0.0.0.0:53", 0, program())];
        let table = [
            (":59044", outgoing(), Trial::InUse, "error port_blocked"),
            (":59044", outgoing(), Trial::Free, ""),
            (":53", listening(), Trial::InUse, "error port_blocked"),
            (":53", listening(), Trial::Free, "warning port_split"),
        ];
        for (bind, uses, trial, expected) in table {
            assert_eq!(judge(bind, "", uses, Some(trial)).0, expected, "{bind} {trial:?}");
        }
    }

    #[test]
    fn accepted_connections_are_not_in_the_way() {
        let uses = vec![
            held(PortRole::Listening, "0.0.0.0:50000", 0, Owner::Current(1)),
            held(CONNECTED, "10.0.0.1:50000", 0, Owner::Current(1)),
            held(CONNECTED, "10.0.0.1:50000", 0, Owner::Stale(2)),
            held(PortRole::TimeWait, "10.0.0.1:50000", 0, Owner::NoProcess),
        ];
        assert_eq!(judge(":50000", "", uses, None), (String::new(), 0));
    }

    #[test]
    fn without_reuseport_only_the_running_generation_makes_way() {
        let listening = |owner| vec![held(PortRole::Listening, "0.0.0.0:80", 0, owner)];
        let of = |owner| judge(":80", " noreuseport\n", listening(owner), None).0;
        assert_eq!(of(Owner::Current(1)), "");
        assert_eq!(of(Owner::Stale(1)), "error port_blocked");
        assert_eq!(of(program()), "error port_blocked");
    }

    #[test]
    fn the_finding_names_the_connection() {
        let declared = read("frontend a\n bind :59044\n");
        let used = held(CONNECTED, "10.0.0.1:59044", 0, Owner::Current(12));
        let mut network = network(vec![used]);
        network.trials.insert(("0.0.0.0".parse().unwrap(), 59044), Trial::InUse);
        let facts = Facts { networks: [(None, network)].into(), starter: Some(0) };
        let findings = find(&declared, &facts);
        let [finding] = findings.as_slice() else { panic!("{findings:?}") };
        assert_eq!(
            finding.what,
            "tcp 0.0.0.0:59044 is held by the connection 10.0.0.1:59044→10.0.0.9:443 of \
             this haproxy itself (pid 12)"
        );
        assert_eq!(finding.holder, "haproxy outgoing");
        assert!(finding.help.iter().any(|help| help.contains("ip_local_reserved_ports=59044")));
    }
}
