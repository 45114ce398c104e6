//! Who is in the way of a declared port: the rule `port_blocked`, and where to look for it.
//!
//! Judged without binding anything, also while HAProxy is down. What `check` finds out by a
//! trial is decided here by what is likely: see [`blocks`].

use std::collections::{BTreeMap, BTreeSet};

use super::explain::{declared_at, declaring};
use super::input::RuleInput;
use crate::haproxy::binding::{Answer, Bind, Ephemeral, Reuse, Terms, is_outgoing, only_sends};
use crate::haproxy::lineage::generations::Generation;
use crate::haproxy::places::{Endpoint, Places};
use crate::judge::case::port_key;
use crate::judge::finding::{Finding, Judgement, STALE_HOLDER};
use crate::judge::owners::Owners;
use crate::judge::verdict::Subject;
use crate::model::{Configuration, Details, NamespaceId, PortRole, PortUse, Protocol, Snapshot};

/// A haproxy whose declared ports may be blocked: one that lives, or the memory of one.
#[derive(Debug)]
pub struct Claim<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its last known configuration.
    pub configuration: &'a Configuration,
    /// The network namespaces it binds in.
    pub places: &'a Places,
    /// TCP ports it listens on, or did: a connection there was accepted.
    pub tcp_ports: &'a BTreeSet<(NamespaceId, u16)>,
    /// Declared ports it has not bound.
    pub unbound: &'a [Endpoint],
    /// Whose the sockets on those ports are.
    pub owners: &'a Owners<'a>,
    /// Who uses those ports.
    pub details: &'a Details,
}

/// A declared port that is not bound is held by something else: now, or for the next reload.
pub fn port_blocked(input: &RuleInput<'_>) -> Judgement {
    // Of a namespace that was not read nobody can say who uses its ports either.
    let known = [Protocol::Tcp, Protocol::Udp]
        .into_iter()
        .all(|protocol| input.case.attributed(protocol, Generation::Current));
    match claim(input).filter(|claim| claim.configuration.complete) {
        Some(claim) if known => blocked_ports(&claim, input.case.snapshot),
        _ => Judgement::if_known(false, Vec::new()),
    }
}

/// What a haproxy that lives declares, and has bound.
fn claim<'c>(input: &'c RuleInput<'_>) -> Option<Claim<'c>> {
    let case = input.case;
    Some(Claim {
        name: &case.name,
        configuration: case.configuration.as_deref()?,
        places: &case.places,
        tcp_ports: &case.tcp_ports,
        unbound: &case.unbound,
        owners: input.owners,
        details: case.details,
    })
}

/// Declared ports that nobody of the claim has bound, and who has them instead.
#[must_use]
pub fn blocked_ports(claim: &Claim<'_>, snapshot: &Snapshot) -> Judgement {
    let mut complete = claim.places.know_all(&claim.configuration.ports);
    let mut unbound: BTreeMap<NamespaceId, BTreeSet<Endpoint>> = BTreeMap::new();
    for &endpoint in claim.unbound {
        unbound.entry(endpoint.network).or_default().insert(endpoint);
    }
    let mut findings = Vec::new();
    for (network, unbound) in unbound {
        match claim.details.port_uses.get(&network) {
            Some(uses) => findings.extend(blocked_in(claim, snapshot, &unbound, uses)),
            None => complete = false,
        }
    }
    Judgement::if_known(complete, findings)
}

/// The same in one network namespace, by the sockets on its ports.
fn blocked_in(
    claim: &Claim<'_>,
    snapshot: &Snapshot,
    unbound: &BTreeSet<Endpoint>,
    uses: &[PortUse],
) -> Vec<Finding> {
    let mut by_port: BTreeMap<(Protocol, u16), Vec<&PortUse>> = BTreeMap::new();
    for used in uses {
        by_port.entry((used.protocol, used.port)).or_default().push(used);
    }
    let terms = Terms {
        noreuseport: claim.configuration.declared.globals.noreuseport,
        // A sample does not read net.ipv6.bindv6only; this is the kernel's default.
        v6only: false,
        uid: claim.owners.starters.get(claim.name).copied(),
    };
    let found = unbound.iter().filter_map(|endpoint| {
        let on_port = by_port.get(&(endpoint.protocol, endpoint.port))?;
        let ephemeral = Ephemeral::of(snapshot.networks.get(&endpoint.network)?);
        let binds: Vec<Bind<'_>> = declaring(claim.configuration, claim.places, endpoint)
            .map(|listener| Bind::of(listener, endpoint.port, terms))
            .collect();
        let mut in_the_way = on_port.iter().filter_map(|used| {
            let outgoing = outgoing(claim, endpoint.network, used, on_port, ephemeral);
            let blocks = binds.iter().any(|bind| blocks(claim, bind, used, outgoing, ephemeral));
            blocks.then_some(*used)
        });
        let used = in_the_way.next()?;
        Some(finding(claim, snapshot, endpoint, used, holder(claim, used)))
    });
    found.collect()
}

/// This end opened the connection. Where this HAProxy listens, or did, it was accepted.
fn outgoing(
    claim: &Claim<'_>,
    network: NamespaceId,
    used: &PortUse,
    on_port: &[&PortUse],
    ephemeral: Ephemeral<'_>,
) -> Option<bool> {
    if used.protocol == Protocol::Tcp && claim.tcp_ports.contains(&(network, used.port)) {
        return Some(false);
    }
    is_outgoing(used, on_port.iter().copied(), ephemeral, false)
}

/// The next bind would fail for this socket. Where the tables leave a doubt, by what is likely:
///
/// | socket | a bind by HAProxy |
/// |---|---|
/// | of another program, without a peer | fails: it is unlikely to have set the same options |
/// | a TCP connection from an ephemeral port | fails, unless it is known to have been accepted |
/// | a UDP socket with a peer, on an ephemeral port | fails if it is known to be outgoing |
/// | any other connection | succeeds: it was accepted, or bound as HAProxy's `source` is |
fn blocks(
    claim: &Claim<'_>,
    bind: &Bind<'_>,
    used: &PortUse,
    outgoing: Option<bool>,
    ephemeral: Ephemeral<'_>,
) -> bool {
    let Some(inode) = used.inode else { return false };
    let connected = matches!(used.role, PortRole::Connected(_));
    let owner = claim.owners.by_inode.get(&inode);
    let serves =
        owner.is_some_and(|o| o.haproxy == claim.name && o.generation != Generation::Stale);
    // HAProxy hands its own listeners over, shares them, or pauses them while the next one binds.
    if serves && !connected && !only_sends(used) {
        return false;
    }
    match bind.answer(used, Reuse::of(used, owner.is_some(), outgoing)) {
        Answer::Free => false,
        Answer::Blocked => true,
        Answer::Unsure if connected => {
            let likely = outgoing.unwrap_or(used.protocol == Protocol::Tcp);
            likely && ephemeral.gives_away(used.port) == Some(true)
        }
        Answer::Unsure => owner.is_none() && used.role != PortRole::TimeWait,
    }
}

/// The label of a socket's holder.
fn holder(claim: &Claim<'_>, used: &PortUse) -> String {
    let inode = used.inode.unwrap_or_default();
    let owner = claim.owners.by_inode.get(&inode);
    let connected = matches!(used.role, PortRole::Connected(_));
    let name = match (owner, claim.details.programs.get(&inode)) {
        (Some(owner), _) if owner.haproxy != claim.name => format!("haproxy {}", owner.haproxy),
        (Some(owner), _) if owner.generation == Generation::Stale && !connected => {
            STALE_HOLDER.to_owned()
        }
        (Some(_), _) => "haproxy".to_owned(),
        (None, Some(program)) => program.name.clone(),
        (None, None) => "unknown".to_owned(),
    };
    match owner {
        _ if connected => format!("{name} outgoing"),
        Some(_) if only_sends(used) => format!("{name} log"),
        _ => name,
    }
}

fn finding(
    claim: &Claim<'_>,
    snapshot: &Snapshot,
    endpoint: &Endpoint,
    used: &PortUse,
    holder: String,
) -> Finding {
    let key = port_key(snapshot, endpoint);
    let inode = used.inode.unwrap_or_default();
    let who = match (claim.owners.by_inode.get(&inode), claim.details.programs.get(&inode)) {
        (Some(owner), _) => {
            format!("haproxy {} pid {} ({})", owner.haproxy, owner.pid, owner.generation.as_str())
        }
        (None, Some(program)) => format!("{} (pid {})", program.name, program.pid),
        (None, None) => format!("a process that could not be seen, of uid {}", used.uid),
    };
    let port = key.port;
    let (what, advice) = match (used.role, used.remote) {
        (PortRole::Connected(_), Some((address, remote))) => (
            format!(
                "it is the source port of {}:{port} → {address}:{remote}, an outgoing connection of {who}",
                used.address
            ),
            format!(
                "wait until that connection ends, or end it: ss -K dst {address} dport = {remote} \
                 sport = {port}; so that it does not happen again, add {port} to \
                 net.ipv4.ip_local_reserved_ports"
            ),
        ),
        _ => (
            format!("{who} has it: socket {inode} on {}, uid {}", used.address, used.uid),
            format!("end or move who holds it (ss -tulnp sport = {port}), then start or reload"),
        ),
    };
    let mut evidence = vec![what, "the next start or reload fails with Address in use".to_owned()];
    evidence.extend(declared_at(claim.configuration, claim.places, endpoint));
    Finding { subject: Subject { port: Some(key), holder }, evidence, advice, ..Finding::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ConnectionState::Established;
    use crate::policy::kind::Kind;
    use crate::stage::{Actor, Film, actor};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";
    /// 80 is bound; 53 and 59044 were added and are not loaded.
    const WANTED: &str = "frontend a\n bind :80\n bind :53\n bind :59044\n bind quic4@:444\n";

    /// What it is, who acts, who else uses ports, and what is found.
    type Row = (&'static str, Vec<Actor>, Vec<PortUse>, &'static [&'static str]);

    fn serving() -> Actor {
        actor(10, 100, LINE).configured(WANTED, 200).tcp(80, 1)
    }

    fn used(protocol: Protocol, role: PortRole, local: &str, inode: u64, uid: u32) -> PortUse {
        let local: std::net::SocketAddr = local.parse().unwrap();
        let connected = matches!(role, PortRole::Connected(_));
        PortUse {
            protocol,
            role,
            address: local.ip(),
            port: local.port(),
            remote: connected.then(|| ("10.0.0.9".parse().unwrap(), 443)),
            v6only: None,
            interface: None,
            inode: Some(inode),
            uid,
            receive_buffer_bytes: Some(212_992),
        }
    }

    fn tcp(role: PortRole, local: &str, inode: u64, uid: u32) -> PortUse {
        used(Protocol::Tcp, role, local, inode, uid)
    }

    fn blocked(actors: &[Actor], uses: &[PortUse]) -> Vec<String> {
        let mut film = Film::default();
        for second in [1000.0, 1015.0] {
            film.see_uses(second, actors, uses);
        }
        let verdict = film.see_uses(1030.0, actors, uses);
        let haproxy = verdict.services.iter().find(|haproxy| haproxy.name == "p").unwrap();
        assert!(haproxy.judged(Kind::PortBlocked));
        let mut found = haproxy.findings();
        found.retain(|finding| finding.starts_with("port_blocked"));
        found
    }

    #[test]
    fn port_blocked() {
        use PortRole::{Connected, Listening, Peerless};
        let outgoing = Connected(Established);
        let stale = || actor(9, 50, LINE).tcp(53, 5);
        let log = PortUse {
            receive_buffer_bytes: Some(2304),
            ..used(Protocol::Udp, Peerless, "0.0.0.0:444", 6, 0)
        };
        let table: [Row; 13] = [
            ("nobody has it", vec![serving()], vec![], &[]),
            (
                "a program listens",
                vec![serving()],
                vec![tcp(Listening, "127.0.0.1:53", 5, 99)],
                &["port_blocked tcp 53 dnsmasq"],
            ),
            (
                "a program listens on both families",
                vec![serving()],
                vec![tcp(Listening, "[::]:53", 5, 99)],
                &["port_blocked tcp 53 dnsmasq"],
            ),
            (
                "on IPv6 alone",
                vec![serving()],
                vec![PortUse { v6only: Some(true), ..tcp(Listening, "[::]:53", 5, 99) }],
                &[],
            ),
            (
                "a stale one that will share it",
                vec![stale(), serving()],
                vec![tcp(Listening, "0.0.0.0:53", 5, 0)],
                &[],
            ),
            (
                "a stale one of another user",
                vec![stale(), serving()],
                vec![tcp(Listening, "0.0.0.0:53", 5, 7)],
                &["port_blocked tcp 53 haproxy stale"],
            ),
            (
                "its own outgoing connection: the founding incident",
                vec![serving().holds(8)],
                vec![tcp(outgoing, "10.0.0.1:59044", 8, 0)],
                &["port_blocked tcp 59044 haproxy outgoing"],
            ),
            (
                "a program's",
                vec![serving()],
                vec![tcp(outgoing, "10.0.0.1:59044", 8, 99)],
                &["port_blocked tcp 59044 dnsmasq outgoing"],
            ),
            (
                "a port the kernel does not choose: bound, or accepted",
                vec![serving().holds(8)],
                vec![tcp(outgoing, "10.0.0.1:53", 8, 0)],
                &[],
            ),
            (
                "accepted by who listens beside it",
                vec![stale().tcp(59044, 7), serving().holds(8)],
                vec![tcp(outgoing, "10.0.0.1:59044", 8, 0), tcp(Listening, "0.0.0.0:59044", 7, 0)],
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
                vec![used(Protocol::Udp, Peerless, "0.0.0.0:444", 6, 0)],
                &["port_blocked udp 444 dnsmasq"],
            ),
            (
                "the other protocol",
                vec![serving()],
                vec![used(Protocol::Udp, Peerless, "0.0.0.0:53", 6, 0)],
                &[],
            ),
        ];
        for (what, actors, uses, expected) in table {
            assert_eq!(blocked(&actors, &uses), expected, "{what}");
        }
    }

    /// `check` says the same of each of these (`src/check/binds.rs`).
    #[test]
    fn what_the_bind_line_asks_for_decides() {
        use PortRole::{Bound, Connected, Listening};
        let on = |interface: &str, used| PortUse { interface: Some(interface.to_owned()), ..used };
        let listens = || tcp(Listening, "0.0.0.0:53", 5, 99);
        let table = [
            ("on both families", ":::53", listens(), true),
            ("on IPv6 alone", ":::53 v6only", listens(), false),
            ("on another interface", ":53 interface lo", on("eth0", listens()), false),
            ("on one of all interfaces", ":53", on("eth0", listens()), true),
            ("on its interface", ":53 interface eth0", on("eth0", listens()), true),
            ("bound by a program", ":53", tcp(Bound, "0.0.0.0:53", 5, 99), true),
            (
                "an outgoing connection over IPv6",
                ":59044",
                tcp(Connected(Established), "[2001:db8::1]:59044", 5, 99),
                true,
            ),
        ];
        for (what, bind, used, expected) in table {
            let wanted = format!("frontend a\n bind :80\n bind {bind}\n");
            let actor = actor(10, 100, LINE).configured(&wanted, 200).tcp(80, 1);
            assert_eq!(!blocked(&[actor], &[used]).is_empty(), expected, "{what}");
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

    /// The same number is another port in another network namespace.
    #[test]
    fn only_who_is_in_the_same_network_namespace_is_in_the_way() {
        let wanted = "frontend a\n bind :80\n bind :53 namespace blue\n";
        let actor = || actor(10, 100, LINE).configured(wanted, 200).tcp(80, 1).tcp_in_blue(81, 2);
        let taken = || tcp(PortRole::Listening, "0.0.0.0:53", 5, 99);
        assert_eq!(blocked(&[actor()], &[taken()]), [""; 0]);
        let mut film = Film::default();
        film.uses_in_blue = vec![taken()];
        let verdict = film.settle(1000.0, &[actor()]);
        let mut found = verdict.one().findings();
        found.retain(|finding| finding.starts_with("port_blocked"));
        assert_eq!(found, ["port_blocked tcp 53@blue dnsmasq"]);
    }

    #[test]
    fn also_of_one_that_is_gone_until_it_is_forgotten() {
        let taken = [tcp(PortRole::Listening, "0.0.0.0:80", 5, 99)];
        let mut film = Film::default();
        film.see(1000.0, &[serving()]);
        film.see_uses(1010.0, &[], &taken);
        let verdict = film.see_uses(1030.0, &[], &taken);
        assert_eq!(verdict.one().up, Some(false));
        assert_eq!(verdict.one().findings(), ["port_blocked tcp 80 dnsmasq"]);
        assert_eq!(verdict.one().observed.get(&Kind::PortBlocked), Some(&1));
        let cured = film.see_uses(1040.0, &[], &[]);
        assert!(cured.one().findings().is_empty());
        assert!(film.see_uses(2000.0, &[], &taken).services.is_empty());
    }

    #[test]
    fn a_start_that_fails_does_not_interrupt_it() {
        let taken = [tcp(PortRole::Listening, "0.0.0.0:80", 5, 99)];
        let mut film = Film::default();
        film.see(1000.0, &[serving()]);
        film.see_uses(1010.0, &[], &taken);
        film.see_uses(1030.0, &[], &taken);
        // It reads its files, and in the next sample it is dying.
        let trying = || actor(20, 1034, LINE).configured(WANTED, 200);
        for actors in [vec![trying()], vec![actor(20, 1034, LINE)], vec![]] {
            let verdict = film.see_uses(1035.0, &actors, &taken);
            assert_eq!(verdict.one().findings(), ["port_blocked tcp 80 dnsmasq"]);
            assert_eq!(verdict.one().observed.get(&Kind::PortBlocked), Some(&1));
        }
    }

    #[test]
    fn what_is_blocked_is_not_missing_too() {
        let loaded = actor(10, 300, LINE).configured(WANTED, 200).tcp(80, 1).tcp(59044, 2);
        let uses = [tcp(PortRole::Listening, "0.0.0.0:53", 5, 99)];
        let mut film = Film::default();
        film.see_uses(1000.0, std::slice::from_ref(&loaded), &uses);
        let verdict = film.see_uses(1030.0, &[loaded], &uses);
        let found = verdict.one().findings();
        assert_eq!(
            found.iter().filter(|f| f.starts_with("port_")).map(String::as_str).collect::<Vec<_>>(),
            ["port_missing udp 444", "port_blocked tcp 53 dnsmasq", "port_ephemeral tcp 59044"]
        );
    }
}
