//! What the operator permits, as checked values: allowed ports, graces, thresholds and names.

pub mod kind;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use ipnet::IpNet;
use regex::Regex;

use self::kind::Kind;
use crate::model::Protocol;

/// The policy for all services of the host.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The rules for services that no entry matches.
    pub defaults: Rules,
    /// The entries of `haproxys`, in the order of the file.
    pub haproxys: Vec<Configured>,
    /// The maximum number of port series for each service.
    pub max_port_series: usize,
    /// The maximum number of series of the page.
    pub max_series: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            defaults: Rules::default(),
            haproxys: Vec::new(),
            max_port_series: 500,
            max_series: 20_000,
        }
    }
}

impl Policy {
    /// The rules for the service of this name.
    #[must_use]
    pub fn rules(&self, name: &str) -> &Rules {
        let configured = self.haproxys.iter().find(|configured| configured.name == name);
        configured.map_or(&self.defaults, |configured| &configured.rules)
    }

    /// Whether an entry has this name.
    #[must_use]
    pub fn is_configured(&self, name: &str) -> bool {
        self.haproxys.iter().any(|configured| configured.name == name)
    }
}

/// An entry of `haproxys`: a service to which the operator has given a name.
#[derive(Debug, Clone)]
pub struct Configured {
    /// The name of the service.
    pub name: String,
    /// What identifies the service.
    pub matching: Match,
    /// The rules for the service.
    pub rules: Rules,
}

/// The conditions that a service must meet to be the configured one: all that are given.
#[derive(Debug, Clone, Default)]
pub struct Match {
    /// The path of its pidfile.
    pub pidfile: Option<PathBuf>,
    /// The path of its first configuration file or directory.
    pub config: Option<PathBuf>,
    /// The path of its master socket.
    pub master_socket: Option<PathBuf>,
    /// Matches the arguments of one of its processes, joined by spaces.
    pub command: Option<Regex>,
    /// Matches the whole path of its cgroup.
    pub cgroup: Option<Regex>,
}

/// The rules for one service.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The listeners that are allowed; `None` allows all, an empty list allows none.
    pub allowed_ports: Option<Vec<AllowedPort>>,
    /// How long a superseded process may keep its listener. Other kinds have the same grace unless
    /// they say otherwise.
    pub stale_grace_seconds: f64,
    /// How long an edited configuration may wait for its reload.
    pub reload_grace_seconds: f64,
    /// How long a discovered service keeps its series after it is gone.
    pub forget_after_seconds: f64,
    /// The thresholds for the alerts.
    pub thresholds: Thresholds,
    /// The anomalies that the operator accepts.
    pub ignore: Vec<Ignore>,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            allowed_ports: None,
            stale_grace_seconds: 10.0,
            reload_grace_seconds: 3600.0,
            forget_after_seconds: 900.0,
            thresholds: Thresholds::default(),
            ignore: Vec::new(),
        }
    }
}

impl Rules {
    /// Whether a listener at this address and port is allowed.
    #[must_use]
    pub fn allows(&self, protocol: Protocol, address: IpAddr, port: u16) -> bool {
        let allowed = self.allowed_ports.as_ref();
        allowed.is_none_or(|list| list.iter().any(|entry| entry.allows(protocol, address, port)))
    }

    /// Whether the operator has accepted an anomaly of this kind at this address and port.
    #[must_use]
    pub fn ignores(&self, kind: Kind, at: Option<(IpAddr, u16)>) -> bool {
        let at = at.map(|(address, port)| (address, port..=port));
        self.ignore.iter().any(|ignore| ignore.accepts(Some(kind), at.as_ref()))
    }

    /// Whether a listener on this port number is allowed at some address.
    #[must_use]
    pub fn allows_number(&self, protocol: Protocol, port: u16) -> bool {
        self.allowed_ports.as_ref().is_none_or(|list| {
            list.iter().any(|entry| {
                entry.protocol.is_none_or(|wanted| wanted == protocol)
                    && entry.ports.contains(&port)
            })
        })
    }

    /// The number of distinct port numbers that are allowed at some address.
    #[must_use]
    pub fn allowed_count(&self, protocol: Protocol) -> u64 {
        let Some(list) = &self.allowed_ports else { return u64::from(u16::MAX) };
        let entries = list.iter().filter(|e| e.protocol.is_none_or(|p| p == protocol));
        let mut ranges: Vec<_> = entries.map(|e| (*e.ports.start(), *e.ports.end())).collect();
        ranges.sort_unstable();
        let mut reached = 0;
        let mut count = 0;
        for (low, high) in ranges {
            let from = u32::from(low).max(reached + 1);
            let to = u32::from(high);
            count += u64::from((to + 1).saturating_sub(from));
            reached = reached.max(to);
        }
        count
    }
}

/// One entry of `allowed_ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedPort {
    /// The protocol; `None` means both.
    pub protocol: Option<Protocol>,
    /// The network that the address must belong to; `None` means any address.
    pub address: Option<IpNet>,
    /// The port numbers, both ends included.
    pub ports: RangeInclusive<u16>,
}

impl AllowedPort {
    fn allows(&self, protocol: Protocol, address: IpAddr, port: u16) -> bool {
        self.protocol.is_none_or(|wanted| wanted == protocol)
            && self.address.is_none_or(|net| net.contains(&address))
            && self.ports.contains(&port)
    }
}

/// Thresholds that are exported as metrics, so that alerting rules need not be edited.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Too many listeners of the current generation.
    pub bound_ports: f64,
    /// Too many stale processes.
    pub stale_processes: f64,
    /// Too many generations alive.
    pub generations: f64,
    /// Too great an age of the oldest stale process.
    pub stale_age_seconds: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        let stale_age_seconds = 24.0 * 3600.0;
        Thresholds {
            bound_ports: 5000.0,
            stale_processes: 10.0,
            generations: 5.0,
            stale_age_seconds,
        }
    }
}

impl Thresholds {
    /// Each threshold's name (label `name`) and value.
    #[must_use]
    pub fn named(&self) -> [(&'static str, f64); 4] {
        [
            ("bound_ports", self.bound_ports),
            ("stale_processes", self.stale_processes),
            ("generations", self.generations),
            ("stale_age_seconds", self.stale_age_seconds),
        ]
    }
}

/// Anomalies that the operator accepts: those to which everything that is given applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignore {
    /// The kind; `None` means any.
    pub kind: Option<Kind>,
    /// The port; `None` also accepts anomalies that are not about a port.
    pub port: Option<u16>,
    /// The address; `None` also accepts anomalies that are not about a port.
    pub address: Option<IpAddr>,
}

impl Ignore {
    /// Whether an anomaly is accepted at this address and these ports, where it has them. `kind`:
    /// `None` for a finding of `check` that is no kind of anomaly.
    #[must_use]
    pub fn accepts(&self, kind: Option<Kind>, at: Option<&(IpAddr, RangeInclusive<u16>)>) -> bool {
        self.kind.is_none_or(|ignored| kind == Some(ignored))
            && self.port.is_none_or(|port| at.is_some_and(|(_, ports)| *ports == (port..=port)))
            && self.address.is_none_or(|wanted| at.is_some_and(|(address, _)| *address == wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(
        protocol: Option<Protocol>,
        net: Option<&str>,
        ports: RangeInclusive<u16>,
    ) -> AllowedPort {
        AllowedPort { protocol, address: net.map(|net| net.parse().unwrap()), ports }
    }

    #[test]
    fn a_listener_is_allowed_by_protocol_address_and_port() {
        let rules = Rules {
            allowed_ports: Some(vec![
                allowed(None, None, 80..=80),
                allowed(Some(Protocol::Udp), None, 443..=443),
                allowed(None, Some("127.0.0.1/32"), 8404..=8404),
                allowed(Some(Protocol::Tcp), None, 10_000..=29_999),
            ]),
            ..Rules::default()
        };
        let table = [
            (Protocol::Tcp, "0.0.0.0", 80, true),
            (Protocol::Udp, "::", 80, true),
            (Protocol::Tcp, "0.0.0.0", 443, false),
            (Protocol::Udp, "0.0.0.0", 443, true),
            (Protocol::Tcp, "127.0.0.1", 8404, true),
            (Protocol::Tcp, "0.0.0.0", 8404, false),
            (Protocol::Tcp, "10.0.0.1", 29_999, true),
            (Protocol::Tcp, "10.0.0.1", 30_000, false),
        ];
        for (protocol, address, port, expected) in table {
            let judged = rules.allows(protocol, address.parse().unwrap(), port);
            assert_eq!(judged, expected, "{protocol} {address} {port}");
        }
        assert_eq!(rules.allowed_count(Protocol::Tcp), 20_002);
        assert_eq!(rules.allowed_count(Protocol::Udp), 3);
    }

    #[test]
    fn an_absent_list_allows_every_port_and_an_empty_list_none() {
        let count = |allowed_ports| {
            Rules { allowed_ports, ..Rules::default() }.allowed_count(Protocol::Tcp)
        };
        assert_eq!(count(None), 65_535);
        assert_eq!(count(Some(vec![])), 0);
        let overlapping = vec![allowed(None, None, 1..=100), allowed(None, None, 50..=150)];
        assert_eq!(count(Some(overlapping)), 150);
        assert_eq!(count(Some(vec![allowed(None, None, 1..=65_535)])), 65_535);
    }
}
