//! Rule `port_missing`: a declared port on which no current process listens.

use std::collections::{BTreeMap, BTreeSet};

use super::explain::declared_at;
use super::input::RuleInput;
use crate::haproxy::lineage::generations::Generation;
use crate::haproxy::places::Endpoint;
use crate::judge::case::port_key;
use crate::judge::finding::{Finding, Judgement};
use crate::judge::verdict::PortKey;
use crate::model::{NamespaceId, Protocol};

/// Finds declared ports on which no current process listens, while the service is up. Ports that are
/// `blocked` are found by the rule `port_blocked`.
///
/// While an edit waits for its reload, a port is missing only if the loaded configuration declares it
/// too: an edit hides no outage.
pub fn port_missing(input: &RuleInput<'_>, blocked: &Judgement) -> Judgement {
    let (configuration, loaded) = match input.loaded_configuration() {
        Ok(configuration) => (configuration, None),
        Err(answer) => match input.edited_configuration() {
            Some((edited, loaded)) => (edited, Some(loaded)),
            None => return answer,
        },
    };
    if input.case.generations.up != Some(true) {
        return Judgement::if_known(input.case.generations.up == Some(false), Vec::new());
    }
    let case = input.case;
    let mut complete = blocked.complete
        && input.knows_ports_of(Generation::Current)
        && case.places.know_all(&configuration.ports)
        && configuration.ports.iter().nth(case.most_endpoints).is_none();
    let held: BTreeSet<&PortKey> =
        blocked.findings.iter().filter_map(|finding| finding.subject.port.as_ref()).collect();
    let mut known: BTreeMap<(NamespaceId, Protocol), bool> = BTreeMap::new();
    let mut findings = Vec::new();
    let was_loaded = |endpoint: &&Endpoint| {
        loaded.is_none_or(|loaded| case.places.declares(&loaded.ports, endpoint) == Some(true))
    };
    for endpoint in case.unbound.iter().filter(was_loaded) {
        let (network, protocol) = (endpoint.network, endpoint.protocol);
        let known = known
            .entry((network, protocol))
            .or_insert_with(|| case.listeners_known_in(network, protocol, Generation::Current));
        let key = port_key(case.snapshot, endpoint);
        if !*known || held.contains(&key) {
            complete &= *known;
            continue;
        }
        let mut evidence = vec!["it is declared, and no current process listens on it".to_owned()];
        evidence.extend(declared_at(configuration, &case.places, endpoint));
        let advice = "check whether the frontend was disabled or shut down at run time \
                      (show stat, enable frontend); else reload";
        findings.push(Finding::of_port(key, evidence, advice.to_owned()));
    }
    Judgement::if_known(complete, findings)
}

#[cfg(test)]
mod tests {
    use crate::stage::{Actor, Film, actor};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";
    const TWO: &str = "frontend a\n bind :80\n bind :81\n";

    /// Serving since second 100, with a configuration of second 50.
    fn serving(text: &str) -> Actor {
        actor(10, 100, LINE).configured(text, 50)
    }

    #[test]
    fn a_declared_port_without_a_listener_is_found() {
        let table: [(&str, Actor, &[&str]); 5] = [
            ("all bound", serving(TWO).tcp(80, 1).tcp(81, 2), &[]),
            ("one not", serving(TWO).tcp(80, 1), &["port_missing tcp 81"]),
            (
                "in another network namespace",
                serving("frontend a\n bind :80\n bind :81 namespace blue\n").tcp(80, 1),
                &[],
            ),
            (
                "an edit waits for its reload",
                actor(10, 100, LINE).configured(TWO, 200).tcp(80, 1),
                &[],
            ),
            ("the service is down: HAProxyDown says so", serving(TWO), &[]),
        ];
        for (what, actor, expected) in table {
            let verdict = Film::default().settle(1000.0, &[actor]);
            let found = verdict.one().findings();
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn an_edit_hides_no_outage() {
        let mut film = Film::default();
        let edited = "frontend a\n bind :80\n bind :81\n bind :82\n# a comment\n";
        let lost =
            |text: &str, modified| actor(10, 100, LINE).configured(text, modified).tcp(80, 1);
        film.see(990.0, &[serving(TWO).tcp(80, 1).tcp(81, 2)]);
        assert_eq!(film.settle(1000.0, &[lost(TWO, 50)]).one().findings(), ["port_missing tcp 81"]);
        let verdict = film.settle(1040.0, &[lost(edited, 1035)]);
        assert_eq!(verdict.one().findings(), ["port_missing tcp 81"], "port 82 was never loaded");
        let dropped = film.settle(1080.0, &[lost("frontend a\n bind :80\n", 1075)]);
        assert!(dropped.one().findings().is_empty(), "the next reload does not ask for it");
    }
}
