//! Rule `port_ephemeral`: a port lies in the kernel's ephemeral range and is not reserved.

use std::collections::{BTreeMap, BTreeSet};

use super::input::RuleInput;
use crate::haproxy::binding::Ephemeral;
use crate::haproxy::lineage::generations::Generation;
use crate::judge::case::port_key;
use crate::judge::finding::{Finding, Judgement};
use crate::judge::verdict::PortKey;
use crate::model::{NamespaceId, NetworkNamespace};

/// Finds declared and bound ports that the kernel may give to an outgoing connection while HAProxy
/// does not hold them.
pub fn port_ephemeral(input: &RuleInput<'_>) -> Judgement {
    let case = input.case;
    let mut complete = input.knows_ports_of(Generation::Current);
    let mut exposed: BTreeMap<PortKey, &NetworkNamespace> = BTreeMap::new();
    let mut weigh = |port: u16, network: NamespaceId, key: &dyn Fn() -> PortKey| {
        let network = case.snapshot.networks.get(&network);
        match network.and_then(|n| Some((Ephemeral::of(n).gives_away(port)?, n))) {
            Some((true, network)) => drop(exposed.insert(key(), network)),
            Some((false, _)) => {}
            None => complete = false,
        }
    };
    for port in input.ports_of(Generation::Current) {
        weigh(port.key.port, port.network, &|| port.key.clone());
    }
    for at in &case.unbound {
        weigh(at.port, at.network, &|| port_key(case.snapshot, at));
    }
    if let Some(configuration) = &case.configuration {
        complete &= case.places.know_all(&configuration.ports);
    }
    // One command reserves all ports of a network namespace, so they share one line of advice.
    let mut advice: BTreeMap<&str, String> = BTreeMap::new();
    for (key, network) in &exposed {
        advice.entry(&network.label).or_insert_with(|| {
            let ports: BTreeSet<u16> =
                exposed.keys().filter(|other| other.netns == key.netns).map(|k| k.port).collect();
            Ephemeral::of(network).reserve_command(&network.label, ports)
        });
    }
    let findings = exposed.iter().map(|(key, network)| {
        let evidence = network.ephemeral.iter().map(|range| {
            let (low, high) = (range.start(), range.end());
            format!("the kernel gives ports {low}-{high} to outgoing connections; this one is not reserved")
        });
        let advice = advice.get(network.label.as_str()).cloned().unwrap_or_default();
        Finding::of_port(key.clone(), evidence.collect(), advice)
    });
    Judgement::if_known(complete, findings.collect())
}

#[cfg(test)]
mod tests {
    use crate::policy::kind::Kind;
    use crate::stage::{Film, actor};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";

    #[test]
    fn a_port_within_the_ephemeral_range_is_found() {
        let actors = [actor(10, 1, LINE).tcp(32767, 1).tcp(50000, 2)];
        let found = Film::default().found("p", Kind::PortEphemeral, &actors);
        assert_eq!(found, ["port_ephemeral tcp 50000"]);
    }
}
