//! Who is in the way of a declared port: the rule `port_blocked`, and where to look for it.
//!
//! Judged without binding anything, also while HAProxy is down. What `check` finds out by a
//! trial is decided here by what is likely: see [`obstacle`].

use std::collections::{BTreeMap, BTreeSet};

use super::explain::declared_at;
use super::input::RuleInput;
use crate::haproxy::binding::{is_ephemeral, overlaps};
use crate::haproxy::lineage::generations::Generation;
use crate::haproxy::places::{Endpoint, Places};
use crate::judge::case::port_key;
use crate::judge::finding::{Finding, Judgement, STALE_HOLDER};
use crate::judge::owners::Owners;
use crate::judge::verdict::Subject;
use crate::model::{Configuration, Details, NamespaceId, PortRole, PortUse, Protocol, Snapshot};

/// Receive buffer of a UDP socket that only sends (`SOCK_MIN_RCVBUF`).
const SENDERS_BUFFER_BYTES: u32 = 2304;

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

/// The same in one network namespace, by who uses its ports.
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
    let found = unbound.iter().filter_map(|endpoint| {
        let at = (endpoint.protocol, endpoint.port);
        let on_port = by_port.get(&at).map(Vec::as_slice).unwrap_or_default();
        let mut overlapping = on_port.iter().filter(|used| overlaps(used, endpoint.address));
        let (in_the_way, holder) = overlapping.find_map(|other| {
            Some((*other, obstacle(claim, snapshot, endpoint.network, other, on_port)?))
        })?;
        Some(finding(claim, snapshot, endpoint, in_the_way, holder))
    });
    found.collect()
}

/// The holder's label, if the next bind would fail for this socket. `None`: it would not.
///
/// | socket | a bind by HAProxy |
/// |---|---|
/// | another program's listener | fails: that it set SO_REUSEPORT under the same uid is unlikely |
/// | a stale generation's listener | fails under another uid, or with `noreuseport` |
/// | another haproxy's listener of the same uid | succeeds, and is a split |
/// | a connection on an ephemeral port nobody listened on | fails: it is outgoing, by the kernel's choice |
/// | any other connection | succeeds: it was accepted, or bound as HAProxy's `source` is |
/// | a UDP socket that only sends | fails |
fn obstacle(
    claim: &Claim<'_>,
    snapshot: &Snapshot,
    network: NamespaceId,
    used: &PortUse,
    on_port: &[&PortUse],
) -> Option<String> {
    let inode = used.inode?;
    let owner = claim.owners.by_inode.get(&inode);
    let own = owner.filter(|owner| owner.haproxy == claim.name);
    let starter = claim.owners.starters.get(claim.name);
    let other_uid = starter.is_some_and(|uid| *uid != used.uid);
    let alone = claim.configuration.declared.globals.noreuseport;
    let name = || match (own, owner, claim.details.programs.get(&inode)) {
        (Some(own), ..) if own.generation == Generation::Stale => STALE_HOLDER.to_owned(),
        (Some(_), ..) => "haproxy".to_owned(),
        (None, Some(other), _) => format!("haproxy {}", other.haproxy),
        (None, None, Some(program)) => program.name.clone(),
        (None, None, None) => "unknown".to_owned(),
    };
    match (used.role, own, owner) {
        (PortRole::Listening, Some(own), _) => {
            (own.generation == Generation::Stale && (other_uid || alone)).then(name)
        }
        (PortRole::Listening, None, Some(_)) => (other_uid || alone).then(name),
        (PortRole::Listening | PortRole::Bound, None, None) => Some(name()),
        (PortRole::Peerless, ..) => {
            let sends = used.receive_buffer_bytes.is_some_and(|b| b <= SENDERS_BUFFER_BYTES);
            match (sends, owner) {
                (true, Some(_)) => Some(format!("{} log", name())),
                (_, None) => Some(name()),
                (false, Some(_)) => (other_uid || alone).then(name),
            }
        }
        (PortRole::Connected(_), ..) => {
            let table = snapshot.networks.get(&network)?;
            let chosen = is_ephemeral(used.port, table) == Some(true);
            let accepted = claim.tcp_ports.contains(&(network, used.port))
                || on_port.iter().any(|other| other.role == PortRole::Listening);
            let outgoing = chosen && !accepted && used.protocol == Protocol::Tcp;
            let who = if own.is_some() { "haproxy".to_owned() } else { name() };
            outgoing.then(|| format!("{who} outgoing"))
        }
        (PortRole::Bound | PortRole::TimeWait, ..) => None,
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
