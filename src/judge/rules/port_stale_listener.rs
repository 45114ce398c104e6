//! Rule `port_stale_listener`: a stale process still holds a listening socket.

use std::collections::{BTreeMap, BTreeSet};

use super::explain;
use super::input::RuleInput;
use crate::haproxy::lineage::generations::Generation;
use crate::judge::case::PortSockets;
use crate::judge::finding::Judgement;
use crate::judge::verdict::PortKey;
use crate::model::ProcessId;

/// Finds listening sockets of stale processes, whether they hold them alone or share them with the
/// current generation.
///
/// The ports in `explained` and the processes in `racing` are left out, because another kind explains
/// them.
pub fn port_stale_listener(
    input: &RuleInput<'_>,
    racing: &BTreeSet<ProcessId>,
    explained: &BTreeSet<PortKey>,
) -> Judgement {
    let case = input.case;
    let current = input.ports_of(Generation::Current).flat_map(|port| &port.sockets);
    let current: BTreeSet<u64> = current.map(|socket| socket.inode).collect();
    let mut stale: BTreeMap<ProcessId, Vec<&PortSockets<'_>>> = BTreeMap::new();
    for port in input.ports_of(Generation::Stale).filter(|port| !explained.contains(&port.key)) {
        stale.entry(port.holder).or_default().push(port);
    }
    let mut findings = Vec::new();
    for member in case.living(Generation::Stale) {
        let id = member.id();
        if racing.contains(&id) {
            continue;
        }
        let mut ports: Vec<Option<&PortSockets<'_>>> =
            stale.remove(&id).into_iter().flatten().map(Some).collect();
        let holding = case.holdings.get(&id);
        if holding.is_some_and(|holding| holding.unix && holding.listeners.is_empty()) {
            ports.push(None); // It has only a unix socket, and so no port.
        }
        if ports.is_empty() {
            continue;
        }
        let why_it_lives = explain::why_it_lives(case, member);
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
            evidence.extend(port.and_then(|port| still_declared(input, port)));
            evidence.extend(why_it_lives.iter().cloned());
            let port = port.map(|port| port.key.clone());
            findings.push(explain::stale_listener(case, member, port, evidence));
        }
    }
    Judgement::if_known(input.knows_ports_of(Generation::Stale), findings)
}

/// The fact that the configuration on disk still declares the port, or no longer does.
fn still_declared(input: &RuleInput<'_>, port: &PortSockets<'_>) -> Option<String> {
    let configuration = input.case.configuration.as_ref()?;
    let key = &port.key;
    let declared = input.case.places.declares(&configuration.ports, &port.endpoint());
    let unsure = configuration.declared.may_bind(key.protocol, key.address, key.port);
    match (declared, unsure || !configuration.complete) {
        (Some(true), _) => Some("the configuration on disk still declares it".to_owned()),
        (Some(false), false) => Some("the configuration on disk no longer declares it".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::judge::verdict::StaleState;
    use crate::model::ConnectionState::Established;
    use crate::policy::kind::Kind;
    use crate::stage::{Actor, Film, actor};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";
    const NEXT: &str = "haproxy -D -f /a.cfg -p /run/p -sf 9";

    #[test]
    fn a_listener_of_a_stale_process_is_found() {
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
            let found = Film::default().found("p", Kind::PortStaleListener, &actors);
            assert_eq!(found, expected, "{what}");
        }
    }

    /// It may still listen in a namespace that could not be read: it is neither idle nor draining.
    #[test]
    fn a_stale_process_that_may_listen_in_an_unreadable_namespace_is_not_judged() {
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
    fn the_grace_of_haproxy_itself_prolongs_stale_grace() {
        let text = "global\n grace 60s\nfrontend a\n bind :80\n";
        let old = || actor(10, 100, LINE).configured(text, 50).tcp(80, 1);
        let new = || actor(11, 1000, &format!("{LINE} -sf 10")).configured(text, 50).tcp(80, 1);
        let mut film = Film::default();
        film.see(999.0, &[old()]);
        for second in [1010.0, 1020.0, 1069.0] {
            let verdict = film.see(second, &[old(), new()]);
            assert!(verdict.one().findings().is_empty(), "{second}");
        }
        let verdict = film.see(1071.0, &[old(), new()]);
        assert_eq!(verdict.one().findings(), ["port_stale_listener tcp 80 haproxy stale"]);
        let evidence = verdict.one().anomalies[0].evidence.join("; ");
        assert!(evidence.contains("still declares it"), "{evidence}");
    }
}
