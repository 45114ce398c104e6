//! Rule `port_blocked`: something else holds a declared port that is not bound.
//!
//! The rule binds nothing, and also judges a service that is down. Where `check` would try a bind, it
//! decides by what is likely: see [`blocks`]. One file, because the table of tests is that of [`blocks`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::explain::{declared_at, declaring, how_to_end_connection, how_to_free};
use super::input::RuleInput;
use crate::haproxy::binding::{Answer, Bind, Ephemeral, Reuse, Terms, is_outgoing, only_sends};
use crate::haproxy::holder_label::Holder;
use crate::haproxy::lineage::generations::Generation;
use crate::haproxy::places::{Endpoint, Places};
use crate::judge::case::{Case, port_key};
use crate::judge::finding::{Finding, Judgement};
use crate::judge::owners::Owners;
use crate::judge::verdict::{PortKey, Subject};
use crate::model::{Configuration, Details, NamespaceId, PortRole, PortUse, Protocol, Snapshot};

/// The ports that a service wants: one that has processes, or one that is only remembered.
#[derive(Debug)]
pub struct WantedPorts<'a> {
    /// The name of the service.
    pub name: &'a str,
    /// Its last known configuration.
    pub configuration: &'a Configuration,
    /// The network namespaces in which it binds.
    pub places: &'a Places,
    /// The TCP ports on which it listens or has listened: a connection there was accepted.
    pub tcp_ports: &'a BTreeSet<(NamespaceId, u16)>,
    /// The declared ports that it has not bound.
    pub unbound: &'a [Endpoint],
    /// The services that hold sockets on those ports.
    pub owners: &'a Owners<'a>,
    /// The sockets on those ports, and the programs that hold them.
    pub details: &'a Details,
}

/// Finds declared ports that are not bound and that something else holds, so that the next start or
/// reload would fail.
pub fn port_blocked(input: &RuleInput<'_>) -> Judgement {
    // The ports of a namespace that was not read may have holders that no table shows.
    let attributed = |protocol| input.case.attributed(protocol, Generation::Current);
    let known = Protocol::ALL.into_iter().all(attributed);
    let case = input.case;
    match case.configuration.as_deref().filter(|configuration| known && configuration.complete) {
        Some(configuration) => {
            let Case { name, places, tcp_ports, unbound, details, .. } = case;
            let owners = input.owners;
            let wanted =
                WantedPorts { name, configuration, places, tcp_ports, unbound, owners, details };
            blocked_ports(&wanted, case.snapshot)
        }
        None => Judgement::if_known(false, Vec::new()),
    }
}

/// Finds the holders of the ports that the service wants and has not bound.
#[must_use]
pub fn blocked_ports(wanted: &WantedPorts<'_>, snapshot: &Snapshot) -> Judgement {
    let mut complete = wanted.places.know_all(&wanted.configuration.ports);
    let mut unbound: BTreeMap<NamespaceId, BTreeSet<Endpoint>> = BTreeMap::new();
    for &endpoint in wanted.unbound {
        unbound.entry(endpoint.network).or_default().insert(endpoint);
    }
    let mut findings = Vec::new();
    for (network, unbound) in unbound {
        match wanted.details.port_uses.get(&network) {
            Some(uses) => {
                let v6only = wanted.details.v6only.contains(&network);
                findings.extend(blocked_in(wanted, snapshot, &unbound, uses, v6only));
            }
            None => complete = false,
        }
    }
    Judgement::if_known(complete, findings)
}

/// Finds them in one network namespace. `uses` are the sockets on its ports, and `v6only` is its
/// `net.ipv6.bindv6only`.
fn blocked_in(
    wanted: &WantedPorts<'_>,
    snapshot: &Snapshot,
    unbound: &BTreeSet<Endpoint>,
    uses: &[PortUse],
    v6only: bool,
) -> Vec<Finding> {
    let mut by_port: BTreeMap<(Protocol, u16), Vec<&PortUse>> = BTreeMap::new();
    for used in uses {
        by_port.entry((used.protocol, used.port)).or_default().push(used);
    }
    let terms = Terms {
        noreuseport: wanted.configuration.declared.globals.noreuseport,
        v6only,
        uid: wanted.owners.starters.get(wanted.name).copied(),
    };
    let found = unbound.iter().filter_map(|endpoint| {
        let on_port = by_port.get(&(endpoint.protocol, endpoint.port))?;
        let ephemeral = Ephemeral::of(snapshot.networks.get(&endpoint.network)?);
        let binds: Vec<Bind<'_>> = declaring(wanted.configuration, wanted.places, endpoint)
            .map(|listener| Bind::of(listener, endpoint.port, terms))
            .collect();
        let mut in_the_way = on_port.iter().filter_map(|used| {
            let outgoing = outgoing(wanted, endpoint.network, used, on_port, ephemeral);
            let blocks = binds.iter().any(|bind| blocks(wanted, bind, used, outgoing, ephemeral));
            blocks.then_some(*used)
        });
        let obstacle = in_the_way.next()?;
        Some(finding(wanted, port_key(snapshot, endpoint), endpoint, obstacle, ephemeral))
    });
    found.collect()
}

/// Whether this end opened the connection; `None` if that is not known. A connection to a port on
/// which the service has listened was accepted.
fn outgoing(
    wanted: &WantedPorts<'_>,
    network: NamespaceId,
    used: &PortUse,
    on_port: &[&PortUse],
    ephemeral: Ephemeral<'_>,
) -> Option<bool> {
    if used.protocol == Protocol::Tcp && wanted.tcp_ports.contains(&(network, used.port)) {
        return Some(false);
    }
    is_outgoing(used, on_port.iter().copied(), ephemeral, false)
}

/// Whether the next bind would fail because of this socket. Where the tables leave a doubt, the answer
/// is what is likely:
///
/// | socket | a bind by HAProxy |
/// |---|---|
/// | without a peer, of another program | fails: the program has hardly set the same options |
/// | a TCP connection from an ephemeral port | fails, unless it is known to have been accepted |
/// | a UDP socket with a peer, on an ephemeral port | fails if it is known to be outgoing |
/// | a connection of the service from an address of its `source` | succeeds: HAProxy sets `SO_REUSEADDR` on it |
/// | any other connection | succeeds: it was accepted, or bound as HAProxy's `source` is |
fn blocks(
    wanted: &WantedPorts<'_>,
    bind: &Bind<'_>,
    used: &PortUse,
    outgoing: Option<bool>,
    ephemeral: Ephemeral<'_>,
) -> bool {
    let Some(inode) = used.inode else { return false };
    let connected = matches!(used.role, PortRole::Connected(_));
    let owner = wanted.owners.by_inode.get(&inode);
    let serves =
        owner.is_some_and(|o| o.service == wanted.name && o.generation != Generation::Stale);
    // HAProxy hands its own listeners over, shares them, or pauses them while the next one binds.
    if serves && !connected && !only_sends(used) {
        return false;
    }
    let sources = &wanted.configuration.declared.sources;
    let is_own = owner.is_some_and(|owner| owner.service == wanted.name);
    let reuse = if connected && is_own && sources.may_be(used.address) {
        Reuse::Both
    } else {
        Reuse::of(used, owner.is_some(), outgoing)
    };
    match bind.answer(used, reuse) {
        Answer::Free => false,
        Answer::Blocked => true,
        Answer::Unsure if connected => {
            let likely = outgoing.unwrap_or(used.protocol == Protocol::Tcp);
            likely && ephemeral.gives_away(used.port) == Some(true)
        }
        Answer::Unsure => owner.is_none() && used.role != PortRole::TimeWait,
    }
}

/// The label `holder` of a socket.
fn holder(wanted: &WantedPorts<'_>, used: &PortUse) -> String {
    let inode = used.inode.unwrap_or_default();
    let owner = wanted.owners.by_inode.get(&inode);
    let holder = match (owner, wanted.details.programs.get(&inode)) {
        (Some(owner), _) if owner.service != wanted.name => Holder::OtherService(owner.service),
        (Some(owner), _) if owner.generation == Generation::Stale => Holder::Stale,
        (Some(_), _) => Holder::OfService,
        (None, Some(program)) => Holder::Program(&program.name),
        (None, None) => Holder::Unknown,
    };
    holder.label(used)
}

fn finding(
    wanted: &WantedPorts<'_>,
    key: PortKey,
    endpoint: &Endpoint,
    used: &PortUse,
    ephemeral: Ephemeral<'_>,
) -> Finding {
    let holder = holder(wanted, used);
    let inode = used.inode.unwrap_or_default();
    let owner = wanted.owners.by_inode.get(&inode);
    let who = match (owner, wanted.details.programs.get(&inode)) {
        (Some(owner), _) => {
            let (pid, generation) = (owner.process.pid, owner.generation.as_str());
            format!("haproxy {} pid {pid} ({generation})", owner.service)
        }
        (None, Some(program)) => format!("{} (pid {})", program.name, program.pid),
        (None, None) => format!("a process that could not be seen, of uid {}", used.uid),
    };
    let target = wanted.owners.target(wanted.name, used, &holder, &key);
    let (what, advice) = match (used.role, used.remote) {
        (PortRole::Connected(_), Some(remote)) => (
            format!(
                "it is the source port of {} → {}, an outgoing connection of {who}",
                SocketAddr::from((used.address, key.port)),
                SocketAddr::from(remote),
            ),
            how_to_end_connection(&key, remote, ephemeral),
        ),
        _ => (
            format!("{who} holds it: socket {inode} on {}, uid {}", used.address, used.uid),
            how_to_free(owner, wanted.name, &key),
        ),
    };
    let mut evidence = vec![what, "the next start or reload fails with Address in use".to_owned()];
    evidence.extend(declared_at(wanted.configuration, wanted.places, endpoint));
    let subject = Subject { port: Some(key), holder };
    Finding { subject, target, evidence, advice, ..Finding::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ConnectionState::Established;
    use crate::policy::kind::Kind;
    use crate::stage::{Actor, Film, actor, tcp_use, used};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";
    /// 80 is bound; 53 and 59044 were added and are not loaded.
    const WANTED: &str = "frontend a\n bind :80\n bind :53\n bind :59044\n bind quic4@:444\n";

    /// A description, the actors, the sockets on ports, and the findings.
    type Row = (&'static str, Vec<Actor>, Vec<PortUse>, &'static [&'static str]);

    fn serving() -> Actor {
        actor(10, 100, LINE).configured(WANTED, 200).tcp(80, 1)
    }

    fn blocked(actors: &[Actor], uses: &[PortUse]) -> Vec<String> {
        blocked_in_film(Film::default(), actors, uses)
    }

    fn blocked_in_film(mut film: Film, actors: &[Actor], uses: &[PortUse]) -> Vec<String> {
        for second in [1000.0, 1015.0] {
            film.see_uses(second, actors, uses);
        }
        let verdict = film.see_uses(1030.0, actors, uses);
        let service = verdict.services.iter().find(|service| service.name == "p").unwrap();
        assert!(service.judged(Kind::PortBlocked));
        let mut found = service.findings();
        found.retain(|finding| finding.starts_with("port_blocked"));
        found
    }

    #[test]
    fn a_wanted_port_that_another_socket_holds_is_found() {
        use PortRole::{Connected, Listening, Peerless};
        let outgoing = Connected(Established);
        let stale = || actor(9, 50, LINE).tcp(53, 5);
        let log = PortUse {
            receive_buffer_bytes: Some(2304),
            ..used(Protocol::Udp, Peerless, "0.0.0.0:444", 6, 0)
        };
        let from = |address: &str| format!("{WANTED}backend b\n source {address}\n");
        let datagrams = |at: &str| used(Protocol::Udp, Peerless, at, 6, 0);
        let table: [Row; 15] = [
            ("no socket has it", vec![serving()], vec![], &[]),
            (
                "a program listens",
                vec![serving()],
                vec![tcp_use(Listening, "127.0.0.1:53", 5, 99)],
                &["port_blocked tcp 53 dnsmasq"],
            ),
            (
                "a program listens on both families",
                vec![serving()],
                vec![tcp_use(Listening, "[::]:53", 5, 99)],
                &["port_blocked tcp 53 dnsmasq"],
            ),
            (
                "on IPv6 alone",
                vec![serving()],
                vec![PortUse { v6only: Some(true), ..tcp_use(Listening, "[::]:53", 5, 99) }],
                &[],
            ),
            (
                "a stale process that will share it",
                vec![stale(), serving()],
                vec![tcp_use(Listening, "0.0.0.0:53", 5, 0)],
                &[],
            ),
            (
                "a stale process of another user",
                vec![stale(), serving()],
                vec![tcp_use(Listening, "0.0.0.0:53", 5, 7)],
                &["port_blocked tcp 53 haproxy stale"],
            ),
            (
                "its own outgoing connection: the founding incident",
                vec![serving().holds(8)],
                vec![tcp_use(outgoing, "10.0.0.1:59044", 8, 0)],
                &["port_blocked tcp 59044 haproxy outgoing"],
            ),
            (
                "its own connection, bound by source",
                vec![serving().configured(&from("10.0.0.1"), 200).holds(8)],
                vec![tcp_use(outgoing, "10.0.0.1:59044", 8, 0)],
                &[],
            ),
            (
                "its own connection from another address than that of its source",
                vec![serving().configured(&from("10.0.0.2"), 200).holds(8)],
                vec![tcp_use(outgoing, "10.0.0.1:59044", 8, 0)],
                &["port_blocked tcp 59044 haproxy outgoing"],
            ),
            (
                "an outgoing connection of a program",
                vec![serving()],
                vec![tcp_use(outgoing, "10.0.0.1:59044", 8, 99)],
                &["port_blocked tcp 59044 dnsmasq outgoing"],
            ),
            (
                "a port the kernel does not choose: bound, or accepted",
                vec![serving().holds(8)],
                vec![tcp_use(outgoing, "10.0.0.1:53", 8, 0)],
                &[],
            ),
            (
                "accepted by the process that listens beside it",
                vec![stale().tcp(59044, 7), serving().holds(8)],
                vec![
                    tcp_use(outgoing, "10.0.0.1:59044", 8, 0),
                    tcp_use(Listening, "0.0.0.0:59044", 7, 0),
                ],
                &[],
            ),
            (
                "its own log socket",
                vec![serving().holds(6)],
                vec![log],
                &["port_blocked udp 444 haproxy log"],
            ),
            (
                "a program's UDP socket",
                vec![serving()],
                vec![datagrams("0.0.0.0:444")],
                &["port_blocked udp 444 dnsmasq"],
            ),
            ("the other protocol", vec![serving()], vec![datagrams("0.0.0.0:53")], &[]),
        ];
        for (what, actors, uses, expected) in table {
            assert_eq!(blocked(&actors, &uses), expected, "{what}");
        }
    }

    /// `check` judges each of these alike (`src/check/binds.rs`).
    #[test]
    fn the_options_of_the_bind_line_decide() {
        use PortRole::{Bound, Connected, Listening};
        let on = |interface: &str, used| PortUse { interface: Some(interface.to_owned()), ..used };
        let listens = || tcp_use(Listening, "0.0.0.0:53", 5, 99);
        let outgoing = tcp_use(Connected(Established), "[2001:db8::1]:59044", 5, 99);
        let table = [
            ("on both families", ":::53", listens(), true),
            ("on IPv6 alone", ":::53 v6only", listens(), false),
            ("on another interface", ":53 interface lo", on("eth0", listens()), false),
            ("on one of all interfaces", ":53", on("eth0", listens()), true),
            ("on its interface", ":53 interface eth0", on("eth0", listens()), true),
            ("bound by a program", ":53", tcp_use(Bound, "0.0.0.0:53", 5, 99), true),
            ("an outgoing connection over IPv6", ":59044", outgoing, true),
        ];
        for (what, bind, used, expected) in table {
            let wanted = format!("frontend a\n bind :80\n bind {bind}\n");
            let actor = actor(10, 100, LINE).configured(&wanted, 200).tcp(80, 1);
            assert_eq!(!blocked(&[actor], &[used]).is_empty(), expected, "{what}");
        }
    }

    #[test]
    fn the_kernel_decides_where_the_bind_line_does_not() {
        let wanted = "frontend a\n bind :80\n bind :::53\n";
        for v6only in [false, true] {
            let actor = actor(10, 100, LINE).configured(wanted, 200).tcp(80, 1);
            let mut film = Film::default();
            film.v6only = v6only;
            let used = tcp_use(PortRole::Listening, "0.0.0.0:53", 5, 99);
            assert_eq!(blocked_in_film(film, &[actor], &[used]).is_empty(), v6only, "{v6only}");
        }
    }

    /// HAProxy sets `SO_REUSEADDR` on every socket it binds, and to UDP that is enough.
    #[test]
    fn datagrams_of_another_haproxy_are_shared() {
        let other =
            actor(20, 100, "haproxy -f /b.cfg").configured("frontend b\n bind quic4@:444\n", 50);
        let uses = [used(Protocol::Udp, PortRole::Peerless, "0.0.0.0:444", 6, 7)];
        assert_eq!(blocked(&[serving(), other.holds(6)], &uses), [""; 0]);
    }

    #[test]
    fn only_a_socket_in_the_same_network_namespace_is_in_the_way() {
        let wanted = "frontend a\n bind :80\n bind :53 namespace blue\n";
        let actor = || actor(10, 100, LINE).configured(wanted, 200).tcp(80, 1).tcp_in_blue(81, 2);
        let taken = || tcp_use(PortRole::Listening, "0.0.0.0:53", 5, 99);
        assert_eq!(blocked(&[actor()], &[taken()]), [""; 0]);
        let mut film = Film::default();
        film.uses_in_blue = vec![taken()];
        let verdict = film.settle(1000.0, &[actor()]);
        let mut found = verdict.one().findings();
        found.retain(|finding| finding.starts_with("port_blocked"));
        assert_eq!(found, ["port_blocked tcp 53@blue dnsmasq"]);
        let blocked = verdict.one().anomalies.iter().find(|a| a.kind == Kind::PortBlocked).unwrap();
        assert!(blocked.advice.contains("(ip netns exec blue ss -Htulnp sport = 53)"));
    }
}
