//! Rule `port_split`: two generations or two services accept on one port through separate sockets.

use std::collections::BTreeMap;

use super::explain::{self, pids};
use super::input::RuleInput;
use crate::haproxy::lineage::generations::Generation;
use crate::judge::case::PortSockets;
use crate::judge::finding::{Finding, Judgement};
use crate::judge::verdict::{PortKey, Subject, Target};
use crate::model::ProcessId;

/// The maximum number of pairs of a port and another service that the rule reports for a service of a user
/// other than root. A user can have hundreds of services share hundreds of ports, each with all others.
const MOST_OF_A_USERS_SERVICE: usize = 20;

/// Finds ports on which the current generation and a stale process, or two services, accept through
/// separate sockets: the kernel spreads the clients over both.
pub fn port_split(input: &RuleInput<'_>) -> Judgement {
    let case = input.case;
    let mut findings = Vec::new();
    let alone = input.others.is_empty() && input.ports_of(Generation::Stale).next().is_none();
    // Why each stale process lives, which is the same for all its ports.
    let mut lives: BTreeMap<ProcessId, Vec<String>> = BTreeMap::new();
    // A service of root's shares no port with another user's, because the kernel refuses that.
    let mut left = match case.identity.untrusted_starter() {
        Some(_) => MOST_OF_A_USERS_SERVICE,
        None => usize::MAX,
    };
    for (key, current) in input.by_port(Generation::Current).filter(|_| !alone) {
        let is_own = |inode: &u64| current.iter().any(|port| port.inodes().contains(inode));
        let separate = |port: &&PortSockets<'_>| !port.inodes().iter().any(is_own);
        let stale = on_port(input.ports, key).iter().filter(|p| p.generation == Generation::Stale);
        for stale in stale.filter(separate) {
            let Some(member) = case.member(stale.holder) else { continue };
            let mut evidence = vec![format!(
                "{} of the current generation and stale pid {} accept through separate sockets",
                pids(current),
                stale.holder.pid
            )];
            let why =
                lives.entry(member.id()).or_insert_with(|| explain::why_it_lives(case, member));
            evidence.extend(why.iter().cloned());
            findings.push(explain::stale_listener(case, member, Some(key.clone()), evidence));
        }
        for (name, ports) in input.others {
            if left == 0 {
                break;
            }
            let theirs = on_port(ports, key).iter();
            let theirs = theirs.filter(|port| port.generation == Generation::Current);
            let theirs: Vec<_> = theirs.filter(separate).collect();
            if theirs.is_empty() {
                continue;
            }
            left -= 1;
            findings.push(Finding {
                subject: Subject { port: Some(key.clone()), holder: (*name).to_owned() },
                target: Target::Holder((*name).to_owned()),
                evidence: vec![format!(
                    "{} of {} and {} of {name} accept through separate sockets; clients reach either",
                    pids(current),
                    case.name,
                    pids(theirs),
                )],
                advice: format!(
                    "decide which of {} and {name} is to have the port, and remove the bind from the other",
                    case.name
                ),
                ..Finding::default()
            });
        }
    }
    let complete =
        input.knows_ports_of(Generation::Current) && input.knows_ports_of(Generation::Stale);
    Judgement::if_known(complete, findings)
}

/// The sockets of one port. `ports` is in the order of the ports.
fn on_port<'a, 'b>(ports: &'a [PortSockets<'b>], key: &PortKey) -> &'a [PortSockets<'b>] {
    let first = ports.partition_point(|port| port.key < *key);
    let from_there = ports.get(first..).unwrap_or_default();
    let count = from_there.partition_point(|port| port.key == *key);
    from_there.get(..count).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crate::policy::kind::Kind;
    use crate::stage::{Actor, Film, actor};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";
    const NEXT: &str = "haproxy -D -f /a.cfg -p /run/p -sf 9";
    const OTHER: &str = "haproxy -D -f /b.cfg";

    #[test]
    fn separate_sockets_of_two_generations_or_services_are_found() {
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
                "two services, two sockets",
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
            let found = Film::default().found("p", Kind::PortSplit, &actors);
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn the_grace_of_haproxy_itself_prolongs_the_grace_of_a_split() {
        let text = "global\n grace 60s\nfrontend a\n bind :80\n";
        let old = || actor(10, 100, LINE).configured(text, 50).tcp(80, 1);
        let new = || actor(11, 1000, &format!("{LINE} -sf 10")).configured(text, 50).tcp(80, 2);
        let mut film = Film::default();
        film.see(999.0, &[old()]);
        for second in [1010.0, 1020.0, 1069.0] {
            let verdict = film.see(second, &[old(), new()]);
            assert!(verdict.one().findings().is_empty(), "{second}");
        }
        let verdict = film.see(1071.0, &[old(), new()]);
        assert_eq!(verdict.one().findings(), ["port_split tcp 80 haproxy stale"]);
    }
}
