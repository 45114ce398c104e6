//! Judges a configuration before a reload: which ports it would bind, and whether the binds would
//! succeed now.
//!
//! The judgement is pure, and of the candidate only: [`crate::judge`] judges the processes that run
//! already. A finding is an error if the reload would fail or the policy forbids it, and a warning
//! if it is doubtful.

pub mod allocation;
pub mod binds;
pub mod changes;
pub mod declared_ports;
pub mod duplicates;
pub mod ephemeral;
pub mod facts;
pub mod finding;
mod held_ports;
mod obstacles;

use std::collections::BTreeSet;

pub use self::facts::{Facts, Network, Owner, Trial, Use};
pub use self::finding::{Endpoint, Finding, Kind, Severity};
use crate::haproxy::config::{Declared, Listener};
use crate::model::numbers;
use crate::policy::{self, Rules};

/// Judges what a configuration declares, without `facts` only as far as that is possible offline.
///
/// The findings are in the order of the configuration, errors and warnings together.
#[must_use]
pub fn judge(declared: &Declared, rules: &Rules, facts: Option<&Facts>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = declared.errors.iter().map(invalid).collect();
    findings.extend(declared.uncertain.iter().map(uncertain));
    findings.extend(declared.listeners.iter().filter_map(|listener| out_of_range(listener, rules)));
    findings.extend(duplicates::find(declared));
    if let Some(facts) = facts {
        findings.extend(ephemeral::find(declared, facts, rules));
        findings.extend(declared.listeners.iter().filter_map(|l| not_local(l, facts)));
        findings.extend(binds::find(declared, facts));
    }
    findings.retain(|finding| !is_accepted(rules, finding));
    findings.sort_by_cached_key(|finding| {
        finding.place.as_ref().map(|place| (place.file.clone(), place.line, place.columns.start))
    });
    findings
}

/// The port numbers that a configuration declares, on any address.
#[must_use]
pub fn ports(declared: &Declared) -> BTreeSet<u16> {
    declared.endpoints().map(|(_, port)| port).collect()
}

fn invalid(error: &crate::haproxy::config::ConfigError) -> Finding {
    Finding {
        label: "HAProxy stops here".to_owned(),
        help: error.help.map(str::to_owned).into_iter().collect(),
        ..Finding::new(Kind::ConfigInvalid, Severity::Error, error.place.clone(), &error.what)
    }
}

fn uncertain(line: &crate::haproxy::config::Uncertain) -> Finding {
    let what = if line.may_bind.is_empty() {
        "the meaning of this line cannot be decided here"
    } else {
        "the sockets of this line cannot be decided here, so they were not checked"
    };
    Finding {
        label: line.why.clone(),
        ..Finding::new(Kind::Uncertain, Severity::Warning, line.place.clone(), what)
    }
}

fn out_of_range(listener: &Listener, rules: &Rules) -> Option<Finding> {
    let outside = numbers::runs(
        listener.ports.iter().filter(|&p| !rules.allows(listener.protocol, listener.address, p)),
    );
    let endpoint = Endpoint::of(listener, outside.first()?.clone());
    let what = format!("port {} is not allowed", numbers::list(&outside));
    Some(Finding {
        label: format!("{} {} would listen here", listener.section, endpoint),
        why: vec!["allowed_ports does not include it".to_owned()],
        help: vec![
            "choose a port that is allowed, or add this one to allowed_ports in --config.file"
                .to_owned(),
        ],
        endpoint: Some(endpoint),
        ..Finding::new(Kind::PortOutOfRange, Severity::Error, listener.place.clone(), &what)
    })
}

fn not_local(listener: &Listener, facts: &Facts) -> Option<Finding> {
    let network = facts.networks.get(&listener.namespace)?;
    if listener.transparent || network.local.get(&listener.address) != Some(&false) {
        return None;
    }
    let family = if listener.address.is_ipv4() { "ipv4" } else { "ipv6" };
    let what = format!("{} is not an address of this host{}", listener.address, network.suffix());
    let ports = listener.ports.first..=listener.ports.last;
    Some(Finding {
        label: "Cannot assign requested address".to_owned(),
        why: vec!["no interface has it, and no local route leads to it".to_owned()],
        help: vec![
            format!("ip address add {} dev INTERFACE", listener.address),
            format!(
                "if the address comes and goes, as with keepalived: \
                 sysctl -w net.{family}.ip_nonlocal_bind=1, or the keyword transparent"
            ),
        ],
        endpoint: Some(Endpoint::of(listener, ports)),
        ..Finding::new(Kind::AddressNotLocal, Severity::Error, listener.place.clone(), &what)
    })
}

/// The operator has accepted the finding. What HAProxy refuses cannot be accepted.
fn is_accepted(rules: &Rules, finding: &Finding) -> bool {
    let kind = policy::kind::Kind::from_name(finding.kind.as_str());
    let at = finding.endpoint.as_ref().map(|endpoint| (endpoint.address, endpoint.ports.clone()));
    finding.kind != Kind::ConfigInvalid
        && rules.ignore.iter().any(|ignore| ignore.accepts(kind, at.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::facts::tests::{network, read};
    use super::*;
    use crate::policy::{AllowedPort, Ignore};

    fn kinds(findings: &[Finding]) -> Vec<(&'static str, usize)> {
        let line = |finding: &Finding| finding.place.as_ref().map_or(0, |place| place.line);
        findings.iter().map(|finding| (finding.kind.as_str(), line(finding))).collect()
    }

    #[test]
    fn policy_is_judged_by_port() {
        let allowed = AllowedPort { protocol: None, address: None, ports: 80..=90 };
        let rules = Rules { allowed_ports: Some(vec![allowed]), ..Rules::default() };
        let declared = read("frontend a\n bind :80\n bind :89-92\n");
        let findings = judge(&declared, &rules, None);
        assert_eq!(kinds(&findings), [("port_out_of_range", 3)]);
        assert_eq!(findings[0].endpoint.as_ref().unwrap().ports, 91..=92);
        assert_eq!(findings[0].severity, Severity::Error);
    }

    #[test]
    fn an_address_must_be_here_unless_it_is_transparent() {
        let declared = read("frontend a\n bind 192.0.2.1:80\n bind 192.0.2.1:81 transparent\n");
        let mut facts = Facts::default();
        let mut here = network(vec![]);
        here.local.insert("192.0.2.1".parse().unwrap(), false);
        facts.networks.insert(None, here);
        assert_eq!(
            kinds(&judge(&declared, &Rules::default(), Some(&facts))),
            [("address_not_local", 2)]
        );
        assert!(judge(&declared, &Rules::default(), None).is_empty());
    }

    #[test]
    fn accepted_findings_are_left_out() {
        let declared = read("frontend a\n bind :80\n bind :91\nfrontend b\n bindd :1\n");
        let ignore = |port| Ignore { kind: None, port, address: None };
        let rules = Rules {
            allowed_ports: Some(vec![]),
            ignore: vec![ignore(Some(91))],
            ..Rules::default()
        };
        let findings = judge(&declared, &rules, None);
        assert_eq!(kinds(&findings).first(), Some(&("port_out_of_range", 2)));
        assert!(!kinds(&findings).contains(&("port_out_of_range", 3)));
    }
}
