//! Rules about ports.

use std::collections::{BTreeMap, BTreeSet};

use super::explain;
use super::processes::instance;
use super::{Case, Finding, Judgement};
use crate::haproxy::lineage::generations::Generation;
use crate::haproxy::listeners;
use crate::judge::case::{self, PortSockets, Scene, port_key};
use crate::judge::verdict::{PortKey, Subject};
use crate::model::{NamespaceId, NetworkNamespace, ProcessId, Protocol, numbers};

/// The holder when it is a stale process of the same haproxy.
pub const STALE_HOLDER: &str = "haproxy stale";

/// The current generation listens outside the allowed ports.
pub fn port_out_of_range(case: &Case<'_>) -> Judgement {
    let rules = case.scene.rules;
    let complete = rules.allowed_ports.is_none() || case.knows_ports_of(Generation::Current);
    let outside = case
        .by_port(Generation::Current)
        .filter(|(key, _)| !rules.allows(key.protocol, key.address, key.port));
    let findings = outside.map(|(key, holders)| Finding {
        subject: Subject { port: Some(key.clone()), ..Subject::default() },
        evidence: vec![format!("{} listens there; allowed_ports has no entry for it", pids(holders))],
        advice: format!(
            "remove the bind of {} port {} from the configuration and reload, or add it to allowed_ports",
            key.protocol, key.port
        ),
        ..Finding::default()
    });
    Judgement::if_known(complete, findings.collect())
}

/// A stale process still holds a listening socket, alone or shared with the current generation.
///
/// Ports in `explained` have another kind, and so have those of processes in `racing`.
pub fn port_stale_listener(
    case: &Case<'_>,
    racing: &BTreeSet<ProcessId>,
    explained: &BTreeSet<PortKey>,
) -> Judgement {
    let scene = case.scene;
    let current: BTreeSet<u64> = case
        .of(Generation::Current)
        .flat_map(|port| port.sockets.iter().map(|s| s.inode))
        .collect();
    let mut findings = Vec::new();
    for member in scene.living(Generation::Stale) {
        let id = member.id();
        if racing.contains(&id) {
            continue;
        }
        let mut ports: Vec<Option<&PortSockets<'_>>> = case
            .of(Generation::Stale)
            .filter(|port| port.holder == id && !explained.contains(&port.key))
            .map(Some)
            .collect();
        let holding = scene.holdings.get(&id);
        if holding.is_some_and(|holding| holding.unix && holding.listeners.is_empty()) {
            ports.push(None); // only a unix socket, which has no port
        }
        for port in ports {
            let mut evidence = vec![match port {
                Some(port) if port.sockets.iter().any(|s| current.contains(&s.inode)) => format!(
                    "pid {} shares the listening socket with the current generation and takes \
                     some of its clients with the old configuration",
                    id.pid
                ),
                Some(_) => format!(
                    "pid {} holds a listening socket of its own that no current process has",
                    id.pid
                ),
                None => format!("pid {} still accepts on a unix socket", id.pid),
            }];
            evidence.extend(port.and_then(|port| still_declared(case, port)));
            evidence.extend(explain::it_lives(scene, member));
            findings.push(Finding {
                grace_seconds: whole_grace(scene, id),
                subject: Subject {
                    port: port.map(|port| port.key.clone()),
                    holder: STALE_HOLDER.to_owned(),
                },
                instance: instance(id),
                since: scene.generations.superseded.get(&id).copied(),
                evidence,
                advice: explain::how_to_end(member),
            });
        }
    }
    Judgement::if_known(case.knows_ports_of(Generation::Stale), findings)
}

/// How long a stale process may keep its listeners, where HAProxy's own `grace` prolongs it.
fn whole_grace(scene: &Scene<'_>, id: ProcessId) -> Option<f64> {
    let own = scene.pasts.get(&id).and_then(|past| past.own_grace_seconds)?;
    Some(own + scene.rules.stale_grace_seconds)
}

/// Whether the next reload would ask for the port again.
fn still_declared(case: &Case<'_>, port: &PortSockets<'_>) -> Option<String> {
    let configuration = case.scene.configuration.as_ref()?;
    let key = &port.key;
    let declared = case.scene.places.declares(&configuration.ports, &port.endpoint());
    let unsure = configuration.declared.may_bind(key.protocol, key.address, key.port);
    match (declared, unsure || !configuration.complete) {
        (Some(true), _) => Some("the configuration on disk still declares it".to_owned()),
        (Some(false), false) => Some("the configuration on disk no longer declares it".to_owned()),
        _ => None,
    }
}

/// One port accepted through separate sockets by the current and a stale generation, or by two
/// haproxys: the kernel spreads clients over both.
pub fn port_split(case: &Case<'_>) -> Judgement {
    let scene = case.scene;
    let mut findings = Vec::new();
    let alone = case.others.is_empty() && case.of(Generation::Stale).next().is_none();
    for (key, current) in case.by_port(Generation::Current).filter(|_| !alone) {
        let is_own = |inode: &u64| current.iter().any(|port| port.inodes().contains(inode));
        let separate = |port: &&PortSockets<'_>| !port.inodes().iter().any(is_own);
        let stale = on_port(case.ports, key).iter().filter(|p| p.generation == Generation::Stale);
        for stale in stale.filter(separate) {
            let Some(member) = scene.member(stale.holder) else { continue };
            let mut evidence = vec![format!(
                "{} of the current generation and stale pid {} accept through separate sockets",
                pids(current),
                stale.holder.pid
            )];
            evidence.extend(explain::it_lives(scene, member));
            findings.push(Finding {
                grace_seconds: whole_grace(scene, stale.holder),
                subject: Subject { port: Some(key.clone()), holder: STALE_HOLDER.to_owned() },
                instance: instance(stale.holder),
                since: scene.generations.superseded.get(&stale.holder).copied(),
                evidence,
                advice: explain::how_to_end(member),
            });
        }
        for (name, ports) in case.others {
            let theirs: Vec<_> = on_port(ports, key)
                .iter()
                .filter(|port| port.generation == Generation::Current)
                .filter(separate)
                .collect();
            if theirs.is_empty() {
                continue;
            }
            findings.push(Finding {
                subject: Subject { port: Some(key.clone()), holder: (*name).to_owned() },
                evidence: vec![format!(
                    "{} of {} and {} of {name} accept through separate sockets; clients reach either",
                    pids(current),
                    scene.name,
                    pids(theirs),
                )],
                advice: format!(
                    "decide which of {} and {name} shall have the port, and remove the bind from the other",
                    scene.name
                ),
                ..Finding::default()
            });
        }
    }
    let complete =
        case.knows_ports_of(Generation::Current) && case.knows_ports_of(Generation::Stale);
    Judgement::if_known(complete, findings)
}

/// Those of a port; they are in the order of their ports.
fn on_port<'a, 'b>(ports: &'a [PortSockets<'b>], key: &PortKey) -> &'a [PortSockets<'b>] {
    let first = ports.partition_point(|port| port.key < *key);
    let from_there = ports.get(first..).unwrap_or_default();
    let count = from_there.partition_point(|port| port.key == *key);
    from_there.get(..count).unwrap_or_default()
}

/// A declared or bound port may be given to an outgoing connection while HAProxy is down.
pub fn port_ephemeral(case: &Case<'_>) -> Judgement {
    let scene = case.scene;
    let mut complete = case.knows_ports_of(Generation::Current);
    let mut exposed: BTreeMap<PortKey, &NetworkNamespace> = BTreeMap::new();
    let mut weigh = |port: u16, network: NamespaceId, key: &dyn Fn() -> PortKey| {
        let network = scene.snapshot.networks.get(&network);
        match network.and_then(|network| Some((listeners::is_ephemeral(port, network)?, network))) {
            Some((true, network)) => drop(exposed.insert(key(), network)),
            Some((false, _)) => {}
            None => complete = false,
        }
    };
    for port in case.of(Generation::Current) {
        weigh(port.key.port, port.network, &|| port.key.clone());
    }
    for at in &scene.unbound {
        weigh(at.port, at.network, &|| port_key(scene.snapshot, at));
    }
    if let Some(configuration) = &scene.configuration {
        complete &= scene.places.know_all(&configuration.ports);
    }
    // One line of advice for each network namespace, and the same for all its ports.
    let mut advice: BTreeMap<&str, String> = BTreeMap::new();
    for (key, network) in &exposed {
        advice.entry(&network.label).or_insert_with(|| {
            let ports: BTreeSet<u16> =
                exposed.keys().filter(|other| other.netns == key.netns).map(|k| k.port).collect();
            numbers::reserve_command(&network.label, &network.reserved, ports)
        });
    }
    let findings = exposed.iter().map(|(key, network)| Finding {
        subject: Subject { port: Some(key.clone()), ..Subject::default() },
        evidence: network
            .ephemeral
            .iter()
            .map(|range| {
                let (low, high) = (range.start(), range.end());
                format!("the kernel gives ports {low}-{high} to outgoing connections; this one is not reserved")
            })
            .collect(),
        advice: advice.get(network.label.as_str()).cloned().unwrap_or_default(),
        ..Finding::default()
    });
    Judgement::if_known(complete, findings.collect())
}

/// Connections were dropped at a full accept queue, or it stays full.
pub fn port_backlog(case: &Case<'_>) -> Judgement {
    let known = case.scene.listeners_known(Protocol::Tcp, Generation::Current);
    // Without netlink neither limits nor drops can be had.
    let mut complete = known;
    let mut findings = Vec::new();
    for (key, holders) in case.by_port(Generation::Current) {
        if key.protocol != Protocol::Tcp {
            continue;
        }
        let queues = holders.iter().flat_map(|port| &port.sockets);
        let mut fullest: Option<(u32, u32)> = None;
        for socket in queues {
            match (socket.queue_length, socket.queue_limit) {
                (Some(length), Some(limit)) if fullest.is_none_or(|(l, _)| length >= l) => {
                    fullest = Some((length, limit));
                }
                (Some(_), Some(_)) => {}
                _ => complete = false,
            }
        }
        let Some((length, limit)) = fullest else { continue };
        let full = limit > 0 && length >= limit;
        if !full && !case.dropping.contains(key) {
            continue;
        }
        findings.push(Finding {
            subject: Subject { port: Some(key.clone()), ..Subject::default() },
            evidence: vec![
                format!("{length} connections wait in an accept queue of {limit}"),
                if case.dropping.contains(key) {
                    format!("the kernel dropped connections there; held by {}", pids(holders))
                } else {
                    format!("{} does not accept them", pids(holders))
                },
            ],
            advice: "look whether HAProxy is at maxconn, stopped or short of CPU \
                     (show info: CurrConns, Idle_pct), then raise backlog and net.core.somaxconn"
                .to_owned(),
            ..Finding::default()
        });
    }
    Judgement::if_known(complete, findings)
}

impl<'a> Case<'a> {
    /// What the processes of one generation listen on.
    pub(in crate::judge) fn of(
        &self,
        generation: Generation,
    ) -> impl Iterator<Item = &'a PortSockets<'a>> {
        self.ports.iter().filter(move |port| port.generation == generation)
    }

    /// The same by port.
    pub(in crate::judge) fn by_port(
        &self,
        generation: Generation,
    ) -> impl Iterator<Item = (&'a PortKey, &'a [PortSockets<'a>])> {
        let ports = case::by_port(self.ports);
        let of = ports.filter(move |(first, _)| first.generation == generation);
        of.map(|(first, group)| (&first.key, group))
    }

    pub(in crate::judge) fn knows_ports_of(&self, generation: Generation) -> bool {
        [Protocol::Tcp, Protocol::Udp]
            .into_iter()
            .all(|protocol| self.scene.listeners_known(protocol, generation))
    }
}

/// `pid 7`, `pids 7, 8`.
pub(in crate::judge) fn pids<'a>(ports: impl IntoIterator<Item = &'a PortSockets<'a>>) -> String {
    let pids: BTreeSet<i32> = ports.into_iter().map(|port| port.holder.pid).collect();
    let list = pids.iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
    format!("{} {list}", if pids.len() == 1 { "pid" } else { "pids" })
}

#[cfg(test)]
mod tests {
    use crate::judge::verdict::{Kind, StaleState};
    use crate::model::ConnectionState::Established;
    use crate::policy::{AllowedPort, Ignore, Policy, Rules};
    use crate::stage::{Actor, Film, actor};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";
    const NEXT: &str = "haproxy -D -f /a.cfg -p /run/p -sf 9";
    const OTHER: &str = "haproxy -D -f /b.cfg";

    /// What stands of `kind` after a while, for the haproxy that is called `p` by its pidfile.
    fn findings(policy: Policy, kind: Kind, actors: &[Actor]) -> Vec<String> {
        let verdict = Film::with(policy).settle(1000.0, actors);
        let haproxy = verdict.haproxys.iter().find(|haproxy| haproxy.name == "p").unwrap();
        let prefix = kind.as_str();
        haproxy.findings().into_iter().filter(|finding| finding.starts_with(prefix)).collect()
    }

    fn allowing(ports: std::ops::RangeInclusive<u16>) -> Policy {
        let entry = AllowedPort { protocol: None, address: None, ports };
        let defaults = Rules { allowed_ports: Some(vec![entry]), ..Rules::default() };
        Policy { defaults, ..Policy::default() }
    }

    #[test]
    fn port_out_of_range() {
        let table: [(&str, Vec<Actor>, &[&str]); 4] = [
            ("inside", vec![actor(10, 1, LINE).tcp(80, 1)], &[]),
            (
                "outside",
                vec![actor(10, 1, LINE).tcp(80, 1).tcp(200, 2).udp(443, 3)],
                &["port_out_of_range tcp 200", "port_out_of_range udp 443"],
            ),
            (
                "a stale one's is another kind",
                vec![actor(10, 1, LINE).tcp(200, 1), actor(11, 2, NEXT).tcp(80, 2)],
                &[],
            ),
            (
                "an outgoing connection is no listener",
                vec![actor(10, 1, LINE).tcp(80, 1).connected(5, Established)],
                &[],
            ),
        ];
        for (what, actors, expected) in table {
            let found = findings(allowing(80..=100), Kind::PortOutOfRange, &actors);
            assert_eq!(found, expected, "{what}");
        }
        let outside = [actor(10, 1, LINE).tcp(200, 1)];
        assert!(findings(Policy::default(), Kind::PortOutOfRange, &outside).is_empty());
    }

    #[test]
    fn what_is_ignored_is_not_found() {
        let mut policy = allowing(80..=100);
        policy.defaults.ignore =
            vec![Ignore { kind: Some(Kind::PortOutOfRange), port: Some(200), address: None }];
        let actors = [actor(10, 1, LINE).tcp(200, 1).tcp(201, 2)];
        let found = findings(policy, Kind::PortOutOfRange, &actors);
        assert_eq!(found, ["port_out_of_range tcp 201"]);
    }

    #[test]
    fn port_stale_listener() {
        let table: [(&str, Vec<Actor>, &[&str]); 7] = [
            (
                "the number the current generation has, in another network namespace",
                vec![actor(10, 1, LINE).tcp_in_blue(80, 1), actor(11, 2, NEXT).tcp(80, 2)],
                &["port_stale_listener tcp 80@blue haproxy stale"],
            ),
            (
                "shared with the current generation",
                vec![actor(10, 1, LINE).tcp(80, 1), actor(11, 2, NEXT).tcp(80, 1)],
                &["port_stale_listener tcp 80 haproxy stale"],
            ),
            (
                "alone, on a port that was deleted",
                vec![actor(10, 1, LINE).tcp(81, 1), actor(11, 2, NEXT).tcp(80, 2)],
                &["port_stale_listener tcp 81 haproxy stale"],
            ),
            (
                "through another socket: a split",
                vec![actor(10, 1, LINE).tcp(80, 1), actor(11, 2, NEXT).tcp(80, 2)],
                &[],
            ),
            (
                "a unix socket only",
                vec![actor(10, 1, LINE).unix(1), actor(11, 2, NEXT).tcp(80, 2)],
                &["port_stale_listener haproxy stale"],
            ),
            (
                "a drain",
                vec![actor(10, 1, LINE).connected(9, Established), actor(11, 2, NEXT).tcp(80, 1)],
                &[],
            ),
            ("alone", vec![actor(10, 1, LINE).tcp(80, 1)], &[]),
        ];
        for (what, actors, expected) in table {
            let found = findings(Policy::default(), Kind::PortStaleListener, &actors);
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn port_split() {
        let table: [(&str, Vec<Actor>, &[&str]); 6] = [
            (
                "in another network namespace",
                vec![actor(10, 1, LINE).tcp_in_blue(80, 1), actor(11, 2, NEXT).tcp_in_blue(80, 2)],
                &["port_split tcp 80@blue haproxy stale"],
            ),
            (
                "one number in two network namespaces",
                vec![actor(10, 1, LINE).tcp(80, 1), actor(11, 2, OTHER).tcp_in_blue(80, 2)],
                &[],
            ),
            (
                "two generations, two sockets",
                vec![actor(10, 1, LINE).tcp(80, 1), actor(11, 2, NEXT).tcp(80, 2)],
                &["port_split tcp 80 haproxy stale"],
            ),
            (
                "two haproxys, two sockets",
                vec![actor(10, 1, LINE).tcp(80, 1), actor(11, 2, OTHER).tcp(80, 2)],
                &["port_split tcp 80 b"],
            ),
            ("shards of one process", vec![actor(10, 1, LINE).tcp(80, 1).tcp(80, 2)], &[]),
            (
                "another protocol",
                vec![actor(10, 1, LINE).tcp(80, 1), actor(11, 2, OTHER).udp(80, 2)],
                &[],
            ),
        ];
        for (what, actors, expected) in table {
            let found = findings(Policy::default(), Kind::PortSplit, &actors);
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn port_ephemeral() {
        let actors = [actor(10, 1, LINE).tcp(32767, 1).tcp(50000, 2)];
        let found = findings(Policy::default(), Kind::PortEphemeral, &actors);
        assert_eq!(found, ["port_ephemeral tcp 50000"]);
    }

    /// It may still listen where nobody could look: neither idle nor draining.
    #[test]
    fn a_stale_one_may_listen_where_nobody_looks() {
        let old = || actor(10, 1, LINE).shut_out_of_blue();
        let new = || actor(11, 2, NEXT).tcp(80, 2);
        for old in [old(), old().connected(9, Established)] {
            let verdict = Film::default().settle(1000.0, &[old, new()]);
            let states: Vec<_> =
                verdict.one().processes.iter().filter_map(|process| process.state).collect();
            assert_eq!(states, [StaleState::Unknown]);
            assert!(verdict.one().findings().is_empty());
            assert!(!verdict.one().judged(Kind::PortStaleListener));
        }
    }

    #[test]
    fn port_backlog() {
        let queue = |length, drops| {
            let mut actor = actor(10, 1, LINE).tcp(80, 1);
            actor.bound[0].queue_length = Some(length);
            actor.bound[0].drops = Some(drops);
            [actor]
        };
        let full = findings(Policy::default(), Kind::PortBacklog, &queue(128, 0));
        assert_eq!(full, ["port_backlog tcp 80"]);
        assert!(findings(Policy::default(), Kind::PortBacklog, &queue(127, 5)).is_empty());
        let mut film = Film::default();
        film.see(1000.0, &queue(0, 5));
        film.see(1010.0, &queue(0, 6));
        let verdict = film.see(1020.0, &queue(0, 7));
        assert_eq!(verdict.one().findings(), ["port_backlog tcp 80"]);
        assert_eq!(verdict.one().ports[0].drops, Some(7));
    }

    #[test]
    fn what_cannot_be_seen_is_not_judged() {
        let verdict = Film::with(allowing(1..=2)).settle(1000.0, &[actor(10, 1, LINE).unseen()]);
        for kind in [Kind::PortOutOfRange, Kind::PortStaleListener, Kind::PortSplit] {
            let judged = verdict.one().judged(kind);
            // One process without a rival is current, so nothing stale is left to be seen.
            assert_eq!(judged, kind == Kind::PortStaleListener, "{}", kind.as_str());
        }
    }
}
