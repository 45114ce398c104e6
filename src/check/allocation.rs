//! May a new listener be given a port of this host? The check before a port number is handed out.
//!
//! A configuration is judged by what its own reload would meet, so that the listeners of its running
//! generation are no obstacle. Here the port is meant for a listener that does not exist yet: every
//! socket that has the number and every configuration that declares it is in the way.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::Path;

use super::binds::{self, Encounter};
use super::declared_ports::{self, Claim};
use super::facts::{Facts, Network};
use super::finding::{Endpoint, Finding, Kind, Severity};
use super::held_ports;
use crate::haproxy::config::{Declared, Listener, Place, Ports};
use crate::model::numbers;
use crate::model::{Protocol, UnixSeconds};
use crate::policy::{self, Refusal, Rules};

/// The ports that are asked about, on one address of one network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The address that the new listener would bind; unspecified for all addresses.
    pub address: IpAddr,
    /// The port numbers of each protocol, as ascending ranges.
    pub ports: BTreeMap<Protocol, Vec<RangeInclusive<u16>>>,
}

/// The answer about one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The address that was asked about.
    pub address: IpAddr,
    /// The port number.
    pub port: u16,
    /// Everything that speaks against the port. An error means that it is not free. The headings do
    /// not repeat the port, so that ports with the same answer have the same headings.
    pub findings: Vec<Finding>,
}

impl Answer {
    /// Whether something forbids giving the port to a new listener.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    fn push(&mut self, finding: Finding) {
        let endpoint = Endpoint {
            protocol: self.protocol,
            address: self.address,
            ports: self.port..=self.port,
            interface: None,
            namespace: None,
        };
        // A finding is large and a port has one or two, so room for more would be most of all memory.
        self.findings.reserve_exact(1);
        self.findings.push(Finding { endpoint: Some(endpoint), ..finding });
    }
}

impl Wanted {
    /// The listeners that `bind` lines for these ports would open.
    #[must_use]
    pub fn as_declared(&self) -> Declared {
        let runs =
            self.ports.iter().flat_map(|(protocol, runs)| runs.iter().map(|r| (*protocol, r)));
        let place = Place { file: Path::new("command line").into(), line: 0, columns: 1..2 };
        let listeners = runs.map(|(protocol, run)| Listener {
            protocol,
            quic: false,
            mptcp: false,
            address: self.address,
            ports: Ports { first: *run.start(), last: *run.end() },
            interface: None,
            namespace: None,
            transparent: false,
            v6only: None,
            section: "--port".into(),
            place: place.clone(),
        });
        Declared { listeners: listeners.collect(), ..Declared::default() }
    }

    /// The same ports without those that a new listener certainly must not get: ports that the policy does
    /// not allow, and ports that the kernel may give to an outgoing connection. Where the ephemeral range
    /// is not known, no port is left.
    #[must_use]
    pub fn within_policy(&self, rules: &Rules, network: &Network) -> Wanted {
        let ports = self.ports.iter().map(|(&protocol, runs)| {
            let permitted = runs.iter().cloned().flatten().filter(|&port| {
                rules.refusal(protocol, self.address, port).is_none()
                    && network.ephemeral().gives_away(port) == Some(false)
            });
            (protocol, numbers::runs(permitted))
        });
        Wanted { address: self.address, ports: ports.collect() }
    }
}

/// Judges each port, in the order of protocol and number.
///
/// `claims` are the ports that services declare in the same network namespace.
#[must_use]
pub fn judge(
    wanted: &Wanted,
    rules: &Rules,
    claims: &[Claim<'_>],
    facts: &Facts,
    now: UnixSeconds,
) -> Vec<Answer> {
    let declared = wanted.as_declared();
    let answers = declared.endpoints().map(|(listener, port)| Answer {
        protocol: listener.protocol,
        address: listener.address,
        port,
        findings: Vec::new(),
    });
    let mut answers = Answers(answers.collect());
    answers.note_policy(rules, now);
    declared_ports::find(&declared, claims, facts, |protocol, port, finding| {
        answers.add(protocol, port, finding);
    });
    answers.note_holders(&declared, facts);
    if let Some(network) = facts.networks.get(&None) {
        answers.note_network(network, rules, now);
    }
    answers.0
}

/// The first `count` numbers, ascending, whose answers all say that they are free.
#[must_use]
pub fn first_free(answers: &[Answer], count: usize) -> Vec<u16> {
    let mut refused: BTreeMap<u16, bool> = BTreeMap::new();
    for answer in answers {
        *refused.entry(answer.port).or_default() |= answer.is_refused();
    }
    refused.into_iter().filter(|(_, refused)| !refused).map(|(port, _)| port).take(count).collect()
}

/// The answers while they are put together, in the order of protocol and number.
struct Answers(Vec<Answer>);

impl Answers {
    fn add(&mut self, protocol: Protocol, port: u16, finding: Finding) {
        let found = self.0.binary_search_by_key(&(protocol, port), |a| (a.protocol, a.port));
        if let Some(answer) = found.ok().and_then(|index| self.0.get_mut(index)) {
            answer.push(finding);
        }
    }

    fn note_policy(&mut self, rules: &Rules, now: UnixSeconds) {
        for answer in &mut self.0 {
            let Answer { protocol, address, port, .. } = *answer;
            let kind = Some(policy::kind::Kind::PortOutOfRange);
            if rules.ignores(kind, Some(&(address, port..=port)), now) {
                continue;
            }
            let Some(refusal) = rules.refusal(protocol, address, port) else { continue };
            let what = match refusal {
                Refusal::NotAllowed => "not in allowed_ports".to_owned(),
                Refusal::Reserved { name, .. } => format!("reserved for {name}"),
            };
            answer.push(Finding {
                why: vec![refusal.reason()],
                help: vec![refusal.advice().to_owned()],
                ..Finding::of_file(Kind::PortOutOfRange, Severity::Error, &what)
            });
        }
    }

    /// Adds the sockets that have the number.
    fn note_holders(&mut self, declared: &Declared, facts: &Facts) {
        let mut by_port: BTreeMap<(Protocol, u16), Vec<Encounter<'_>>> = BTreeMap::new();
        for met in binds::encounters(declared, facts) {
            by_port.entry((met.listener.protocol, met.port)).or_default().push(met);
        }
        for ((protocol, port), met) in by_port {
            for finding in held_ports::holders(&met) {
                self.add(protocol, port, finding);
            }
        }
    }

    /// Adds what is true of the network namespace: its addresses and its ephemeral ports.
    fn note_network(&mut self, network: &Network, rules: &Rules, now: UnixSeconds) {
        let exposed = |answer: &Answer| {
            let ignored = Some(policy::kind::Kind::PortEphemeral);
            let at = (answer.address, answer.port..=answer.port);
            network.ephemeral().gives_away(answer.port) == Some(true)
                && !rules.ignores(ignored, Some(&at), now)
        };
        let mut ports: Vec<u16> = self.0.iter().filter(|a| exposed(a)).map(|a| a.port).collect();
        ports.sort_unstable();
        let command = network.ephemeral().reserve_command(&network.label, ports);
        for answer in &mut self.0 {
            if network.local.get(&answer.address) == Some(&false) {
                answer.push(network.lacks(answer.address));
            }
            if exposed(answer)
                && let Some(finding) = ephemeral(network, &command)
            {
                answer.push(finding);
            }
        }
    }
}

fn ephemeral(network: &Network, command: &str) -> Option<Finding> {
    let range = network.ephemeral.as_ref()?;
    let what = format!("in the ephemeral range {}-{} and not reserved", range.start(), range.end());
    Some(Finding {
        why: vec![
            "while no socket is bound to the port, the kernel may give it to any outgoing \
             connection; the bind then fails with Address in use"
                .to_owned(),
        ],
        help: vec![format!("reserve it: {command}")],
        ..Finding::of_file(Kind::PortEphemeral, Severity::Warning, &what)
    })
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::{held, network, read};
    use super::super::facts::{Owner, Use};
    use super::*;
    use crate::model::{ConnectionState, PortRole, Program};
    use crate::policy::AllowedPort;

    const CONNECTED: PortRole = PortRole::Connected(ConnectionState::Established);

    fn wanted(protocol: Protocol, ports: RangeInclusive<u16>) -> Wanted {
        let address = "0.0.0.0".parse().unwrap();
        Wanted { address, ports: [(protocol, vec![ports])].into() }
    }

    fn facts(uses: Vec<Use>) -> Facts {
        Facts { networks: [(None, network(uses))].into(), starter: Some(0) }
    }

    /// The headings of one port, each with the letter of its severity.
    fn headings(answer: &Answer) -> Vec<String> {
        let letter = |finding: &Finding| match finding.severity {
            Severity::Error => 'E',
            Severity::Warning => 'W',
            Severity::Info => 'I',
        };
        answer.findings.iter().map(|f| format!("{} {}", letter(f), f.what)).collect()
    }

    fn of(protocol: Protocol, port: u16, uses: Vec<Use>) -> (Vec<String>, bool) {
        let answers =
            judge(&wanted(protocol, port..=port), &Rules::default(), &[], &facts(uses), 0.0);
        let [answer] = answers.as_slice() else { panic!("{answers:?}") };
        (headings(answer), answer.is_refused())
    }

    #[test]
    fn what_has_the_number_is_in_the_way_of_a_new_listener() {
        use PortRole::{Bound, Listening, Peerless, TimeWait};
        let program = || Owner::Program(Program { pid: 9, name: "dnsmasq".to_owned() });
        let lb = || Owner::Haproxy("lb".to_owned(), 3);
        let tcp = |role, local, owner| (Protocol::Tcp, held(role, local, 0, owner));
        let table = [
            ("a HAProxy", tcp(Listening, "0.0.0.0:80", lb()), "E held by haproxy lb (pid 3)"),
            (
                "a HAProxy that drains",
                tcp(Listening, "10.0.0.1:80", Owner::Stale(4)),
                "E held by a stale process of this haproxy (pid 4)",
            ),
            ("paused", tcp(Bound, "0.0.0.0:80", lb()), "E held by haproxy lb (pid 3)"),
            ("a program", tcp(Listening, "127.0.0.1:80", program()), "E held by dnsmasq (pid 9)"),
            (
                "not seen",
                tcp(Listening, "0.0.0.0:80", Owner::Unknown),
                "E held by a process that could not be seen (uid 0)",
            ),
            (
                "a connection that may have gone out",
                tcp(CONNECTED, "10.0.0.1:80", program()),
                "E may be held by the connection 10.0.0.1:80→10.0.0.9:443 of dnsmasq (pid 9)",
            ),
            (
                "remains of a connection",
                tcp(TimeWait, "10.0.0.1:80", Owner::NoProcess),
                "E may be held by a connection in TIME_WAIT",
            ),
            (
                "UDP of a program",
                (Protocol::Udp, held(Peerless, "0.0.0.0:80", 0, program())),
                "E held by dnsmasq (pid 9)",
            ),
        ];
        for (what, (protocol, used), expected) in table {
            assert_eq!(of(protocol, 80, vec![used]), (vec![expected.to_owned()], true), "{what}");
        }
        let free = (Vec::new(), false);
        let udp = held(Peerless, "0.0.0.0:80", 0, program());
        assert_eq!(of(Protocol::Tcp, 80, vec![udp]), free, "the other protocol");
        assert_eq!(of(Protocol::Tcp, 80, vec![]), free);
    }

    #[test]
    fn many_connections_and_sockets_are_one_reason_each() {
        let lb = || Owner::Haproxy("lb".to_owned(), 3);
        let listening = (0..8).map(|_| held(PortRole::Listening, "0.0.0.0:80", 0, lb()));
        assert_eq!(of(Protocol::Tcp, 80, listening.collect()).0.len(), 1);
        let connected = (0..1000).map(|_| held(CONNECTED, "10.0.0.1:80", 0, lb()));
        let facts = facts(connected.collect());
        let answers = judge(&wanted(Protocol::Tcp, 80..=80), &Rules::default(), &[], &facts, 0.0);
        assert_eq!(answers[0].findings.len(), 1);
        let why = answers[0].findings[0].why.last().unwrap();
        assert_eq!(why, "999 more connections hold the port");
    }

    #[test]
    fn policy_and_the_ephemeral_range() {
        let allowed = AllowedPort { protocol: None, address: None, ports: 32_000..=33_000 };
        let rules = Rules { allowed_ports: Some(vec![allowed]), ..Rules::default() };
        let wanted = wanted(Protocol::Tcp, 31_999..=32_768);
        let answers = judge(&wanted, &rules, &[], &facts(vec![]), 0.0);
        let (first, last) = (answers.first().unwrap(), answers.last().unwrap());
        assert_eq!(headings(first), ["E not in allowed_ports"]);
        assert_eq!(headings(last), ["W in the ephemeral range 32768-60999 and not reserved"]);
        assert!(last.findings[0].help[0].ends_with("ip_local_reserved_ports=32768"));
        assert!(first.is_refused() && !last.is_refused(), "the ephemeral range is a warning");
        assert_eq!(answers.iter().filter(|a| a.findings.is_empty()).count(), 768);
        let given = wanted.within_policy(&rules, &network(vec![]));
        assert_eq!(given.ports[&Protocol::Tcp], [32_000..=32_767], "never an ephemeral port");
    }

    #[test]
    fn the_first_free_numbers_are_free_for_every_protocol() {
        let both = [Protocol::Tcp, Protocol::Udp].map(|protocol| (protocol, vec![80..=85]));
        let wanted = Wanted { address: "0.0.0.0".parse().unwrap(), ports: both.into() };
        let lb = || Owner::Haproxy("lb".to_owned(), 3);
        let uses = vec![
            held(PortRole::Listening, "0.0.0.0:80", 0, lb()),
            held(PortRole::Peerless, "0.0.0.0:82", 0, lb()),
        ];
        let declared = read("frontend a\n bind :83\n");
        let claims = [Claim::of("lb", &declared.listeners[0])];
        let answers = judge(&wanted, &Rules::default(), &claims, &facts(uses), 0.0);
        assert_eq!(first_free(&answers, 2), [81, 84]);
        assert_eq!(first_free(&answers, 9), [81, 84, 85]);
    }
}
