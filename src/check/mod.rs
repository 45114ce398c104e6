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
pub mod oracle;
mod own_conflicts;

use std::collections::BTreeSet;
use std::net::IpAddr;

pub use self::facts::{Facts, Network, Owner, Trial, Use};
pub use self::finding::{Endpoint, Finding, Kind, Severity};
use crate::haproxy::config::{Declared, Listener};
use crate::model::{UnixSeconds, numbers};
use crate::policy::{self, Refusal, Rules};

/// Judges what a configuration declares, without `facts` only as far as that is possible offline.
///
/// The findings are in the order of the configuration, errors and warnings together. Those that the
/// operator accepts `now` are left out.
#[must_use]
pub fn judge(
    declared: &Declared,
    rules: &Rules,
    facts: Option<&Facts>,
    now: UnixSeconds,
) -> Vec<Finding> {
    let mut findings: Vec<Finding> = declared.errors.iter().map(invalid).collect();
    findings.extend(declared.uncertain.iter().map(uncertain));
    findings.extend(declared.listeners.iter().flat_map(|listener| out_of_range(listener, rules)));
    findings.extend(duplicates::find(declared));
    findings.extend(own_conflicts::find(declared, facts));
    findings.extend(declared.listeners.iter().filter_map(unusable));
    if let Some(facts) = facts {
        findings.extend(ephemeral::find(declared, facts, rules, now));
        findings.extend(declared.listeners.iter().filter_map(|l| not_local(l, facts)));
        findings.extend(binds::find(declared, facts));
    }
    findings.retain(|finding| !is_accepted(rules, finding, now));
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

/// Gives one finding for all ports of a listener that are refused for the same reason.
fn out_of_range(listener: &Listener, rules: &Rules) -> Vec<Finding> {
    let mut refused: Vec<(Refusal<'_>, Vec<u16>)> = Vec::new();
    for port in listener.ports.iter() {
        let Some(refusal) = rules.refusal(listener.protocol, listener.address, port) else {
            continue;
        };
        match refused.iter_mut().find(|(known, _)| *known == refusal) {
            Some((_, ports)) => ports.push(port),
            None => refused.push((refusal, vec![port])),
        }
    }
    let found = refused.into_iter();
    found.filter_map(|(refusal, ports)| refused_ports(listener, &refusal, ports)).collect()
}

fn refused_ports(listener: &Listener, refusal: &Refusal<'_>, ports: Vec<u16>) -> Option<Finding> {
    let outside = numbers::runs(ports);
    let endpoint = Endpoint::of(listener, outside.first()?.clone());
    let ports = numbers::list(&outside);
    let what = match refusal {
        Refusal::NotAllowed => format!("port {ports} is not allowed"),
        Refusal::Reserved { name, .. } => format!("port {ports} is reserved for {name}"),
    };
    Some(Finding {
        label: format!("{} {} would listen here", listener.section, endpoint),
        why: vec![refusal.reason()],
        help: vec![refusal.advice().to_owned()],
        endpoint: Some(endpoint),
        ..Finding::new(Kind::PortOutOfRange, Severity::Error, listener.place.clone(), &what)
    })
}

/// An address that the kernel binds on no host (`EINVAL`).
fn unusable(listener: &Listener) -> Option<Finding> {
    let IpAddr::V6(address) = listener.address else { return None };
    if !address.is_unicast_link_local() || listener.interface.is_some() {
        return None;
    }
    let what =
        format!("{address} needs an interface, because every link has addresses of its kind");
    let ports = listener.ports.first..=listener.ports.last;
    let (kind, place) = (Kind::AddressNotLocal, listener.place.clone());
    Some(Finding {
        label: "Invalid argument: HAProxy would not start".to_owned(),
        help: vec!["add to the line: interface NAME".to_owned()],
        endpoint: Some(Endpoint::of(listener, ports)),
        ..Finding::new(kind, Severity::Error, place, &what)
    })
}

fn not_local(listener: &Listener, facts: &Facts) -> Option<Finding> {
    let network = facts.networks.get(&listener.namespace)?;
    if listener.transparent
        || unusable(listener).is_some()
        || network.local.get(&listener.address) != Some(&false)
    {
        return None;
    }
    let ports = listener.ports.first..=listener.ports.last;
    Some(Finding {
        place: Some(listener.place.clone()),
        label: "Cannot assign requested address".to_owned(),
        endpoint: Some(Endpoint::of(listener, ports)),
        ..network.lacks(listener.address)
    })
}

/// The operator has accepted the finding. What HAProxy refuses cannot be accepted.
fn is_accepted(rules: &Rules, finding: &Finding, now: UnixSeconds) -> bool {
    let kind = policy::kind::Kind::from_name(finding.kind.as_str());
    let at = finding.endpoint.as_ref().map(|endpoint| (endpoint.address, endpoint.ports.clone()));
    finding.kind != Kind::ConfigInvalid && rules.ignores(kind, at.as_ref(), now)
}

#[cfg(test)]
mod tests {
    use super::facts::tests::{network, read};
    use super::*;
    use crate::policy::{AllowedPort, Ignore, ReservedPorts, ReservedRange, Until};

    fn kinds(findings: &[Finding]) -> Vec<(&'static str, usize)> {
        let line = |finding: &Finding| finding.place.as_ref().map_or(0, |place| place.line);
        findings.iter().map(|finding| (finding.kind.as_str(), line(finding))).collect()
    }

    #[test]
    fn policy_is_judged_by_port() {
        let allowed = AllowedPort { protocol: None, address: None, ports: 80..=90 };
        let rules = Rules { allowed_ports: Some(vec![allowed]), ..Rules::default() };
        let declared = read("frontend a\n bind :80\n bind :89-92\n");
        let findings = judge(&declared, &rules, None, 0.0);
        assert_eq!(kinds(&findings), [("port_out_of_range", 3)]);
        assert_eq!(findings[0].endpoint.as_ref().unwrap().ports, 91..=92);
        assert_eq!(findings[0].severity, Severity::Error);
    }

    #[test]
    fn a_reserved_port_is_an_error_that_names_its_range() {
        let ranges = vec![ReservedRange { protocol: None, ports: 30_000..=32_767 }];
        let name = "Kubernetes NodePort".to_owned();
        let allowed = AllowedPort { protocol: None, address: None, ports: 30_000..=40_000 };
        let rules = Rules {
            allowed_ports: Some(vec![allowed]),
            reserved_ports: vec![ReservedPorts { name, ranges }],
            ..Rules::default()
        };
        let declared = read("frontend a\n bind :29999-30001\n bind :33000\n");
        let findings = judge(&declared, &rules, None, 0.0);
        let shown: Vec<_> = findings.iter().map(|f| (f.what.as_str(), f.why.join(";"))).collect();
        let expected = [
            ("port 29999 is not allowed", "allowed_ports has no entry for it".to_owned()),
            (
                "port 30000-30001 is reserved for Kubernetes NodePort",
                "30000-32767 is reserved for Kubernetes NodePort".to_owned(),
            ),
        ];
        assert_eq!(shown, expected);
        assert_eq!(findings[1].endpoint.as_ref().unwrap().ports, 30_000..=30_001);
        assert!(findings.iter().all(|f| f.severity == Severity::Error));
    }

    #[test]
    fn a_link_local_address_needs_an_interface() {
        let declared = read("frontend a\n bind fe80::1:80\n bind fe80::1:81 interface eth0\n");
        let findings = judge(&declared, &Rules::default(), None, 0.0);
        assert_eq!(kinds(&findings), [("address_not_local", 2)]);
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
            kinds(&judge(&declared, &Rules::default(), Some(&facts), 0.0)),
            [("address_not_local", 2)]
        );
        assert!(judge(&declared, &Rules::default(), None, 0.0).is_empty());
    }

    #[test]
    fn accepted_findings_are_left_out() {
        let declared = read("frontend a\n bind :80\n bind :91\nfrontend b\n bindd :1\n");
        let ignore = |port| Ignore { port, ..Ignore::default() };
        let rules = Rules {
            allowed_ports: Some(vec![]),
            ignore: vec![ignore(Some(91))],
            ..Rules::default()
        };
        let findings = judge(&declared, &rules, None, 0.0);
        assert_eq!(kinds(&findings).first(), Some(&("port_out_of_range", 2)));
        assert!(!kinds(&findings).contains(&("port_out_of_range", 3)));
        let until = Until { end: 1000.0, written: "1970-01-01T00:16:40Z".to_owned() };
        let rules =
            Rules { ignore: vec![Ignore { until: Some(until), ..ignore(Some(91)) }], ..rules };
        for (now, found) in [(999.0, false), (1000.0, true)] {
            let findings = judge(&declared, &rules, None, now);
            assert_eq!(kinds(&findings).contains(&("port_out_of_range", 3)), found, "{now}");
        }
    }
}
