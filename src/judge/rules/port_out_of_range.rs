//! Rule `port_out_of_range`: the current generation listens outside the allowed ports.

use super::explain::pids;
use super::input::RuleInput;
use crate::haproxy::lineage::generations::Generation;
use crate::judge::finding::{Finding, Judgement};
use crate::judge::verdict::PortKey;
use crate::policy::Refusal;

/// Finds ports of the current generation that `allowed_ports` does not allow, or that
/// `reserved_ports` keeps for something else.
pub fn port_out_of_range(input: &RuleInput<'_>) -> Judgement {
    let rules = input.case.rules;
    let complete = rules.allows_everything() || input.knows_ports_of(Generation::Current);
    let outside = input.by_port(Generation::Current).filter_map(|(key, holders)| {
        Some((key, holders, rules.refusal(key.protocol, key.address, key.port)?))
    });
    let findings = outside.map(|(key, holders, refusal)| {
        let evidence = vec![format!("{} listens there; {}", pids(holders), refusal.reason())];
        Finding::of_port(key.clone(), evidence, advice(key, &refusal))
    });
    Judgement::if_known(complete, findings.collect())
}

fn advice(key: &PortKey, refusal: &Refusal<'_>) -> String {
    let PortKey { protocol, port, .. } = key;
    let remove =
        format!("remove the bind of {protocol} port {port} from the configuration and reload");
    match refusal {
        Refusal::NotAllowed => format!("{remove}, or add it to allowed_ports"),
        Refusal::Reserved { name, .. } => {
            format!("{remove}, or take the number out of the reserved_ports of {name}")
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::model::ConnectionState::Established;
    use crate::policy::kind::Kind;
    use crate::policy::{AllowedPort, Policy, ReservedPorts, ReservedRange, Rules};
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

    #[test]
    fn a_reserved_port_is_out_of_range_and_the_evidence_names_it() {
        let ranges = vec![ReservedRange { protocol: None, ports: 30_000..=32_767 }];
        let name = "Kubernetes NodePort".to_owned();
        let mut policy = allowing(1..=65_535);
        policy.defaults.reserved_ports = vec![ReservedPorts { name, ranges }];
        let actors = [actor(10, 1, LINE).tcp(29_999, 1).tcp(30_885, 2)];
        let verdict = Film::with(policy).settle(1000.0, &actors);
        let [anomaly] = verdict.one().anomalies.as_slice() else { panic!("{verdict:?}") };
        assert_eq!(anomaly.subject.port.as_ref().unwrap().port, 30_885);
        assert_eq!(
            anomaly.evidence,
            ["pid 10 listens there; 30000-32767 is reserved for Kubernetes NodePort"]
        );
        assert!(anomaly.advice.contains("reserved_ports of Kubernetes NodePort"), "{anomaly:?}");
        assert_eq!(verdict.one().allowed_ports[&crate::model::Protocol::Tcp], 65_535 - 2768);
    }
}
