//! Finds ports that the kernel may give to an outgoing connection while HAProxy does not hold them.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::facts::{Facts, Network};
use super::finding::{Endpoint, Finding, Kind, Severity};
use crate::haproxy::config::{Declared, Listener};
use crate::model::{UnixSeconds, numbers};
use crate::policy::{self, Rules};

/// Gives one warning for each listener, all with the one command that reserves every such port.
#[must_use]
pub fn find(declared: &Declared, facts: &Facts, rules: &Rules, now: UnixSeconds) -> Vec<Finding> {
    let mut ports: BTreeMap<&Option<String>, Vec<u16>> = BTreeMap::new();
    let mut found: Vec<(&Listener, &Network, Vec<RangeInclusive<u16>>)> = Vec::new();
    for listener in &declared.listeners {
        let Some(network) = facts.networks.get(&listener.namespace) else { continue };
        let exposed: Vec<u16> = listener
            .ports
            .iter()
            .filter(|&port| {
                let at = (listener.address, port..=port);
                network.ephemeral().gives_away(port) == Some(true)
                    && !rules.ignores(Some(policy::kind::Kind::PortEphemeral), Some(&at), now)
            })
            .collect();
        if !exposed.is_empty() {
            ports.entry(&listener.namespace).or_default().extend(&exposed);
            found.push((listener, network, numbers::runs(exposed)));
        }
    }
    let found = found.into_iter();
    found
        .filter_map(|(listener, network, runs)| {
            let all = ports.get(&listener.namespace).map(Vec::as_slice).unwrap_or_default();
            finding(listener, network, &runs, all)
        })
        .collect()
}

fn finding(
    listener: &Listener,
    network: &Network,
    runs: &[RangeInclusive<u16>],
    all: &[u16],
) -> Option<Finding> {
    let range = network.ephemeral.as_ref()?;
    let what = format!("port {} may be taken by an outgoing connection", numbers::list(runs));
    Some(Finding {
        label: format!("in the ephemeral range {}-{}", range.start(), range.end()),
        why: vec![
            "while HAProxy is down, or before it first binds the port, the kernel may give it to \
             any outgoing connection; the bind then fails with Address in use"
                .to_owned(),
        ],
        help: vec![format!(
            "reserve it: {}",
            network.ephemeral().reserve_command(&network.label, all.iter().copied())
        )],
        endpoint: Some(Endpoint::of(listener, runs.first()?.clone())),
        ..Finding::new(Kind::PortEphemeral, Severity::Warning, listener.place.clone(), &what)
    })
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::{network, read};
    use super::*;
    use crate::policy::Ignore;

    fn facts(reserved: &[RangeInclusive<u16>]) -> Facts {
        let network = Network { reserved: reserved.to_vec(), ..network(vec![]) };
        Facts { networks: [(None, network)].into(), starter: Some(0) }
    }

    #[test]
    fn one_command_reserves_all_and_keeps_earlier_reservations() {
        let declared = read("frontend a\n bind :80,:40000\n bind :50000-50001\n bind :35000\n");
        let findings =
            find(&declared, &facts(&[8080..=8080, 35000..=35010]), &Rules::default(), 0.0);
        let lines: Vec<_> = findings.iter().map(|f| f.place.as_ref().unwrap().line).collect();
        assert_eq!(lines, [2, 3]);
        for finding in findings {
            let line = "reserve it: sysctl -w net.ipv4.ip_local_reserved_ports=\
                        8080,35000-35010,40000,50000-50001";
            assert_eq!(finding.help, [line]);
        }
    }

    #[test]
    fn accepted_ports_and_unknown_ranges_are_left_out() {
        let declared = read("frontend a\n bind :50000\n");
        let ignore = Ignore {
            kind: Some(crate::policy::kind::Kind::PortEphemeral),
            port: Some(50000),
            ..Ignore::default()
        };
        let rules = Rules { ignore: vec![ignore], ..Rules::default() };
        assert_eq!(find(&declared, &facts(&[]), &rules, 0.0), []);
        assert_eq!(find(&declared, &Facts::default(), &Rules::default(), 0.0), []);
    }
}
