//! `check --port` and `check --free`: may a new listener be given a port of this host?

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use super::answer::Answer;
use super::claims::Claims;
use super::target::{self, Target};
use crate::check::allocation::{self, Wanted};
use crate::check::facts::{Facts, Owner};
use crate::check::finding::Severity;
use crate::cli::{Check, CheckOutput};
use crate::cmd::{ANOMALIES, BLIND, Error, OK, unix_now};
use crate::haproxy::config::Launch;
use crate::model::{Protocol, Unreadable, What};
use crate::policy::{AllowedPort, Rules};
use crate::report::allocation::{self as report, Allocation};
use crate::report::text::unread_line;
use crate::sample::files::config_files::Base;

/// Every port that there is.
const ALL_PORTS: RangeInclusive<u16> = 1..=u16::MAX;

/// Judges the ports of `--port`.
pub fn port(arguments: &Check, ports: &str) -> Result<Answer, Error> {
    let wanted = wanted("--port", ports)?;
    let surveyed = Surveyed::of(arguments, &wanted)?;
    let allocation = surveyed.judge(&wanted, arguments);
    let refused = allocation.answers.iter().any(allocation::Answer::is_refused);
    let code = match (refused, allocation.unseen.is_empty()) {
        (true, _) => ANOMALIES,
        (false, false) => BLIND,
        (false, true) => OK,
    };
    let text = match arguments.output {
        CheckOutput::Json => report::json(&allocation).map_err(std::io::Error::from)?,
        CheckOutput::Text => report::text(&allocation),
    };
    let notes = surveyed.notes.clone();
    target::leak((surveyed, allocation));
    Ok(Answer { text, notes, code })
}

/// Finds the numbers of `--free`.
pub fn free(arguments: &Check, count: u16) -> Result<Answer, Error> {
    let within = arguments.within.as_deref().map(|text| wanted("--within", text)).transpose()?;
    let wanted = within.unwrap_or_else(|| Wanted {
        address: Ipv4Addr::UNSPECIFIED.into(),
        ports: [Protocol::Tcp, Protocol::Udp].map(|protocol| (protocol, vec![ALL_PORTS])).into(),
    });
    let surveyed = Surveyed::of(arguments, &wanted)?;
    let network = surveyed.facts.networks.get(&None);
    let wanted = match network {
        Some(network) => wanted.within_policy(&surveyed.rules, network),
        None => Wanted { ports: BTreeMap::new(), ..wanted },
    };
    let mut allocation = surveyed.judge(&wanted, arguments);
    let blind = !allocation.unseen.is_empty();
    let found = allocation::first_free(&allocation.answers, usize::from(count));
    let found = if blind { Vec::new() } else { found };
    allocation.answers.retain(|answer| found.binary_search(&answer.port).is_ok());
    let mut notes = surveyed.notes.clone();
    notes.extend(missing(found.len(), count, blind));
    if arguments.output == CheckOutput::Text {
        notes.extend(allocation.unseen.iter().map(unread_line));
    }
    let code = match (blind, found.len() < usize::from(count)) {
        (true, _) => BLIND,
        (false, true) => ANOMALIES,
        (false, false) => OK,
    };
    let text = match arguments.output {
        CheckOutput::Json => report::json(&allocation).map_err(std::io::Error::from)?,
        CheckOutput::Text => report::numbers(&found),
    };
    target::leak((surveyed, allocation));
    Ok(Answer { text, notes, code })
}

/// What is said when fewer numbers were found than were asked for.
fn missing(found: usize, count: u16, blind: bool) -> Option<String> {
    let missing = usize::from(count).checked_sub(found).filter(|missing| *missing > 0)?;
    Some(if blind {
        "no port is known to be free, because not everything could be read".to_owned()
    } else {
        format!(
            "found {found} of {count} ports, {missing} missing: widen --within or allowed_ports, \
             or free what --port reports as held"
        )
    })
}

/// Reads the ports that a flag names.
fn wanted(flag: &'static str, text: &str) -> Result<Wanted, Error> {
    let unusable = |why: String| Error::Ports { flag, why };
    let ports: AllowedPort = text.parse().map_err(unusable)?;
    let address: IpAddr = match ports.address {
        None => Ipv4Addr::UNSPECIFIED.into(),
        Some(net) if net.prefix_len() == net.max_prefix_len() => net.addr(),
        Some(net) => {
            return Err(unusable(format!("{net} is a network; write one address of it")));
        }
    };
    let protocols = [Protocol::Tcp, Protocol::Udp].into_iter();
    let protocols = protocols.filter(|own| ports.protocol.is_none_or(|wanted| wanted == *own));
    let ports = protocols.map(|protocol| (protocol, vec![ports.ports.clone()])).collect();
    Ok(Wanted { address, ports })
}

/// The host as far as the ports in question need it.
struct Surveyed {
    rules: Rules,
    facts: Facts,
    claims: Claims,
    unseen: Vec<Unreadable>,
    /// What is worth saying and changes no answer.
    notes: Vec<String>,
}

impl Surveyed {
    fn of(arguments: &Check, wanted: &Wanted) -> Result<Surveyed, Error> {
        let haproxy = arguments.haproxy.as_deref();
        let (policy, host, verdict) = target::look(&arguments.options, haproxy)?;
        let rules = haproxy.map_or(&policy.defaults, |name| policy.rules(name)).clone();
        let target = Target {
            service: arguments.haproxy.clone(),
            rules: rules.clone(),
            names: Vec::new(),
            base: Base::default(),
            launch: Launch::default(),
            unseen: Vec::new(),
        };
        let (mut facts, mut unseen) = host.facts(&target, &wanted.as_declared());
        make_foreign(&mut facts, haproxy);
        for network in facts.networks.values().filter(|network| network.ephemeral.is_none()) {
            unseen.push(Unreadable {
                what: What::Namespace,
                subject: format!("the ephemeral range{}", network.suffix()),
                reason: "net.ipv4.ip_local_port_range could not be read".to_owned(),
            });
        }
        let claims = Claims::of(&host, &policy, haproxy);
        unseen.extend(claims.unseen(&host));
        let notes = claims.notes.clone();
        target::leak((host, verdict));
        Ok(Surveyed { rules, facts, claims, unseen, notes })
    }

    fn judge(&self, wanted: &Wanted, arguments: &Check) -> Allocation {
        let claims = self.claims.list();
        let mut answers = allocation::judge(wanted, &self.rules, &claims, &self.facts, unix_now());
        if arguments.strict {
            for finding in answers.iter_mut().flat_map(|answer| &mut answer.findings) {
                finding.severity = Severity::Error;
            }
        }
        let network = self.facts.networks.get(&None);
        Allocation {
            answers,
            netns: network.map(|network| network.label.clone()).unwrap_or_default(),
            unseen: self.unseen.clone(),
        }
    }
}

/// The new listener takes nothing over, so that the serving generation is one holder among others.
fn make_foreign(facts: &mut Facts, haproxy: Option<&str>) {
    let Some(name) = haproxy else { return };
    let uses = facts.networks.values_mut().flat_map(|network| network.uses.iter_mut().flatten());
    for used in uses {
        if let Owner::Current(pid) = used.owner {
            used.owner = Owner::Haproxy(name.to_owned(), pid);
        }
    }
}
