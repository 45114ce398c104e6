//! Finds which of the ports in question are already declared by the configuration of a service.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::facts::Facts;
use super::finding::{Finding, Kind, Severity};
use crate::haproxy::binding::{Bind, Terms};
use crate::haproxy::config::{Declared, Listener, Place, Ports, Possible, Uncertain};
use crate::haproxy::holder_label;
use crate::model::Protocol;

/// Ports that the configuration of one service declares, or may declare.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The name of the service.
    pub service: &'a str,
    /// The ports.
    pub ports: Ports,
    severity: Severity,
    line: ClaimLine<'a>,
}

/// The line that makes the claim.
#[derive(Debug, Clone, Copy)]
enum ClaimLine<'a> {
    Listener(&'a Listener),
    /// The line may declare this, but that cannot be decided.
    Uncertain(&'a Uncertain, &'a Possible),
}

impl<'a> Claim<'a> {
    /// The claim of a listener.
    #[must_use]
    pub fn of(service: &'a str, listener: &'a Listener) -> Claim<'a> {
        let line = ClaimLine::Listener(listener);
        Claim { service, ports: listener.ports, severity: Severity::Error, line }
    }

    /// The claim of a line that may declare a listener; `None` if the line may declare any port, which
    /// says nothing about a single one.
    #[must_use]
    pub fn of_uncertain(
        service: &'a str,
        uncertain: &'a Uncertain,
        possible: &'a Possible,
    ) -> Option<Claim<'a>> {
        let line = ClaimLine::Uncertain(uncertain, possible);
        Some(Claim { service, ports: possible.ports?, severity: Severity::Error, line })
    }

    /// The same claim with another weight: one that its author could have made up is only a warning.
    #[must_use]
    pub fn weighing(self, severity: Severity) -> Claim<'a> {
        Claim { severity, ..self }
    }

    fn place(&self) -> &'a Place {
        match self.line {
            ClaimLine::Listener(listener) => &listener.place,
            ClaimLine::Uncertain(uncertain, _) => &uncertain.place,
        }
    }

    /// Whether the listener would be in the way of this bind, if both were bound. What is not known
    /// counts as being in the way.
    fn is_in_the_way(&self, bind: &Bind<'_>, terms: Terms) -> bool {
        match self.line {
            ClaimLine::Listener(listener) => bind.overlaps_declared(listener, terms) != Some(false),
            ClaimLine::Uncertain(_, possible) => {
                let any = |address: IpAddr| address.is_unspecified();
                possible.protocol.is_none_or(|protocol| protocol == bind.protocol)
                    && possible
                        .address
                        .is_none_or(|own| own == bind.address || any(own) || any(bind.address))
            }
        }
    }

    fn finding(&self) -> Finding {
        let place = self.place();
        let line = format!("{}:{}", place.file.display(), place.line);
        let (what, why) = match self.line {
            ClaimLine::Listener(listener) => (
                format!("declared by haproxy {} in {line} ({})", self.service, listener.section),
                vec!["the next start or reload of that haproxy binds it".to_owned()],
            ),
            ClaimLine::Uncertain(uncertain, _) => (
                format!("may be declared by haproxy {} in {line}", self.service),
                vec![uncertain.why.clone()],
            ),
        };
        Finding {
            why,
            help: vec![format!(
                "choose another port, or remove that line of haproxy {}",
                self.service
            )],
            holder: holder_label::of_service(self.service),
            ..Finding::new(Kind::PortDuplicate, self.severity, place.clone(), &what)
        }
    }
}

/// Reports each port that a service declares, with the first of the service's lines that declares it.
///
/// The work is proportional to the claims and to the ports in question, however many lines declare the same
/// port.
pub fn find(
    wanted: &Declared,
    claims: &[Claim<'_>],
    facts: &Facts,
    mut each: impl FnMut(Protocol, u16, Finding),
) {
    let v6only = facts.networks.get(&None).is_some_and(|network| network.v6only);
    let terms = Terms { noreuseport: false, v6only, uid: None };
    let mut by_service: BTreeMap<&str, Vec<&Claim<'_>>> = BTreeMap::new();
    for claim in claims {
        by_service.entry(claim.service).or_default().push(claim);
    }
    for listener in &wanted.listeners {
        for claims in by_service.values() {
            let mut unclaimed = Unclaimed::new(listener.ports);
            for claim in claims {
                let Some(common) = common(claim.ports, listener.ports) else { continue };
                let bind = Bind::of(listener, common.first, terms);
                if claim.is_in_the_way(&bind, terms) {
                    unclaimed.take(common, |port| each(listener.protocol, port, claim.finding()));
                }
            }
        }
    }
}

fn common(one: Ports, other: Ports) -> Option<Ports> {
    let (first, last) = (one.first.max(other.first), one.last.min(other.last));
    (first <= last).then_some(Ports { first, last })
}

/// The ports of a range that no claim has taken yet. A port that is taken costs nothing any more.
struct Unclaimed {
    first: u16,
    /// For each port, by its distance from the first, how far it is to the next port that is not
    /// taken: 0 for one that is not taken itself.
    steps: Vec<usize>,
}

impl Unclaimed {
    fn new(ports: Ports) -> Unclaimed {
        Unclaimed { first: ports.first, steps: vec![0; ports.count()] }
    }

    /// Takes what is left of these ports, and shows each once.
    fn take(&mut self, ports: Ports, mut each: impl FnMut(u16)) {
        let at = |port: u16| usize::from(port.saturating_sub(self.first));
        let (begin, end) = (at(ports.first), at(ports.last) + 1);
        let mut index = begin;
        while index < end {
            match self.steps.get_mut(index) {
                Some(0) => {
                    each(self.first + u16::try_from(index).unwrap_or_default());
                    index += 1;
                }
                Some(steps) => {
                    let next = index + *steps;
                    index = next;
                }
                None => break,
            }
        }
        // From each taken port straight to the end of what is taken now.
        let end = index.max(end);
        let mut index = begin;
        while index < end {
            let Some(steps) = self.steps.get_mut(index) else { break };
            let next = index + (*steps).max(1);
            *steps = end - index;
            index = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::read;
    use super::*;

    /// The headings of the claims on these TCP ports of an address.
    fn claimed(bind: &str, claims: &[Claim<'_>]) -> Vec<(u16, String)> {
        let wanted = read(&format!("frontend new\n bind {bind}\n"));
        let mut found = Vec::new();
        find(&wanted, claims, &Facts::default(), |_, port, finding| {
            found.push((port, finding.what));
        });
        found.sort();
        found
    }

    #[test]
    fn the_line_that_declares_a_port_is_named() {
        let web = read("frontend web\n bind :80-81\n bind 10.0.0.1:81-82\n bind quic4@:84\n");
        let log = read("frontend log\n bind [::]:81 v6only\n bind :::83\n");
        let mut claims: Vec<_> = web.listeners.iter().map(|l| Claim::of("lb", l)).collect();
        claims.extend(log.listeners.iter().map(|l| Claim::of("log", l)));
        let line =
            |port, line| (port, format!("declared by haproxy lb in a.cfg:{line} (frontend web)"));
        let dual = (83, "declared by haproxy log in a.cfg:3 (frontend log)".to_owned());
        let expected = [line(80, 2), line(81, 2), line(82, 3), dual.clone()];
        assert_eq!(claimed(":79-84", &claims), expected);
        assert_eq!(claimed("10.0.0.2:80-84", &claims), [line(80, 2), line(81, 2), dual]);
        assert_eq!(claimed("quic4@:84", &claims), [line(84, 4)]);
    }

    #[test]
    fn a_line_that_may_declare_a_port_counts() {
        let unsure = read("frontend a\n bind web.example:80\n bind \"$A\"\n");
        let lines = unsure.uncertain.iter();
        let claims: Vec<_> = lines
            .flat_map(|line| line.may_bind.iter().map(move |possible| (line, possible)))
            .filter_map(|(line, possible)| Claim::of_uncertain("lb", line, possible))
            .collect();
        let expected = [(80, "may be declared by haproxy lb in a.cfg:2".to_owned())];
        assert_eq!(claimed(":79-82", &claims), expected, "the other line may declare any port");
    }

    /// A port that many lines declare is reported once for each service, without quadratic work.
    #[test]
    fn many_lines_for_one_port() {
        let mut many = read("frontend a\n bind :1-65535\n");
        let one = many.listeners[0].clone();
        let ports = |first| Ports { first, last: 65_535 };
        many.listeners =
            (1..=20_000).map(|first| Listener { ports: ports(first), ..one.clone() }).collect();
        let claims: Vec<_> = many.listeners.iter().rev().map(|l| Claim::of("a", l)).collect();
        assert_eq!(claimed(":1-65535", &claims).len(), 65_535);
    }

    #[test]
    fn each_port_is_taken_once() {
        let mut unclaimed = Unclaimed::new(Ports { first: 10, last: 30 });
        let mut expected: std::collections::BTreeSet<u16> = (10..=30).collect();
        let ranges = [(15, 15), (14, 16), (20, 25), (10, 12), (15, 22), (10, 30), (10, 30)];
        for (first, last) in ranges {
            let mut taken = Vec::new();
            unclaimed.take(Ports { first, last }, |port| taken.push(port));
            let left: Vec<u16> = (first..=last).filter(|port| expected.remove(port)).collect();
            assert_eq!(taken, left, "{first}-{last}");
        }
        assert!(expected.is_empty());
    }
}
