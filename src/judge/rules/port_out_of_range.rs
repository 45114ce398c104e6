//! Rule `port_out_of_range`: the current generation listens outside the allowed ports.

use super::explain::pids;
use super::input::RuleInput;
use crate::haproxy::lineage::generations::Generation;
use crate::judge::finding::{Finding, Judgement};
use crate::judge::verdict::Subject;

/// Finds ports of the current generation that `allowed_ports` does not allow.
pub fn port_out_of_range(input: &RuleInput<'_>) -> Judgement {
    let rules = input.case.rules;
    let complete = rules.allowed_ports.is_none() || input.knows_ports_of(Generation::Current);
    let outside = input
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

#[cfg(test)]
mod tests {
    use crate::model::ConnectionState::Established;
    use crate::policy::kind::Kind;
    use crate::policy::{AllowedPort, Policy, Rules};
    use crate::stage::{Actor, Film, actor};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";
    const NEXT: &str = "haproxy -D -f /a.cfg -p /run/p -sf 9";

    fn allowing(ports: std::ops::RangeInclusive<u16>) -> Policy {
        let entry = AllowedPort { protocol: None, address: None, ports };
        let defaults = Rules { allowed_ports: Some(vec![entry]), ..Rules::default() };
        Policy { defaults, ..Policy::default() }
    }

    #[test]
    fn a_listener_outside_the_allowed_ports_is_found() {
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
            let found = Film::with(allowing(80..=100)).found("p", Kind::PortOutOfRange, &actors);
            assert_eq!(found, expected, "{what}");
        }
        let outside = [actor(10, 1, LINE).tcp(200, 1)];
        assert!(Film::default().found("p", Kind::PortOutOfRange, &outside).is_empty());
    }
}
