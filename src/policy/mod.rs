//! What the operator permits: allowed ports, graces, thresholds, names. Checked values.

pub mod kind;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use ipnet::IpNet;
use regex::Regex;

use self::kind::Kind;
use crate::haproxy::lineage::identity::Identity;
use crate::haproxy::lineage::services::Service;
use crate::model::Protocol;

/// The whole policy.
#[derive(Debug, Clone)]
pub struct Policy {
    /// For every haproxy without rules of its own.
    pub defaults: Rules,
    /// The configured haproxys, in the order of the file.
    pub haproxys: Vec<Configured>,
    /// Most port series of one haproxy.
    pub max_port_series: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { defaults: Rules::default(), haproxys: Vec::new(), max_port_series: 500 }
    }
}

impl Policy {
    /// The rules for the haproxy of this name.
    #[must_use]
    pub fn rules(&self, name: &str) -> &Rules {
        let configured = self.haproxys.iter().find(|configured| configured.name == name);
        configured.map_or(&self.defaults, |configured| &configured.rules)
    }

    /// A configured haproxy has this name.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        self.haproxys.iter().any(|configured| configured.name == name)
    }

    /// The first configured haproxy whose match fits.
    #[must_use]
    pub fn configured(&self, service: &Service<'_>, identity: &Identity) -> Option<&Configured> {
        self.haproxys.iter().find(|configured| configured.matching.fits(service, identity))
    }
}

/// A haproxy with a name of the operator's.
#[derive(Debug, Clone)]
pub struct Configured {
    /// The name.
    pub name: String,
    /// How to know it.
    pub matching: Match,
    /// Its rules.
    pub rules: Rules,
}

/// What must be true of a haproxy: everything that is given.
#[derive(Debug, Clone, Default)]
pub struct Match {
    /// Path of the pidfile.
    pub pidfile: Option<PathBuf>,
    /// Path of the first configuration file or directory.
    pub config: Option<PathBuf>,
    /// Path of the master socket.
    pub master_socket: Option<PathBuf>,
    /// Fits the arguments of one of its processes, joined by blanks.
    pub command: Option<Regex>,
    /// Fits the whole path of its cgroup.
    pub cgroup: Option<Regex>,
}

impl Match {
    fn fits(&self, service: &Service<'_>, identity: &Identity) -> bool {
        let path = |wanted: &Option<PathBuf>, is: &Option<PathBuf>| {
            wanted.as_ref().is_none_or(|wanted| is.as_ref() == Some(wanted))
        };
        let command = self.command.as_ref().is_none_or(|command| {
            let mut arguments = service.members.iter().filter_map(|m| m.process.arguments.as_ref());
            arguments.any(|arguments| command.is_match(&arguments.join(" ")))
        });
        let cgroup = self.cgroup.as_ref().is_none_or(|cgroup| {
            identity.cgroup.as_ref().is_some_and(|path| cgroup.is_match(path))
        });
        command
            && cgroup
            && path(&self.pidfile, &identity.pidfile)
            && path(&self.config, &identity.config)
            && path(&self.master_socket, &identity.master_socket)
    }
}

/// What one haproxy may do.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Allowed listeners; `None` allows all, an empty list none.
    pub allowed_ports: Option<Vec<AllowedPort>>,
    /// How long a superseded process may keep its listener; the hold time of other kinds too.
    pub stale_grace_seconds: f64,
    /// How long an edited configuration may wait for its reload.
    pub reload_grace_seconds: f64,
    /// How long a discovered haproxy that is gone keeps its series.
    pub forget_after_seconds: f64,
    /// Limits for the alerts.
    pub thresholds: Thresholds,
    /// Known and accepted.
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
    /// A listener there is permitted.
    #[must_use]
    pub fn allows(&self, protocol: Protocol, address: IpAddr, port: u16) -> bool {
        let allowed = self.allowed_ports.as_ref();
        allowed.is_none_or(|list| list.iter().any(|entry| entry.allows(protocol, address, port)))
    }

    /// Whether the operator has accepted an anomaly of this kind at this address and port.
    #[must_use]
    pub fn ignores(&self, kind: Kind, at: Option<(IpAddr, u16)>) -> bool {
        self.ignore.iter().any(|ignore| ignore.accepts(kind, at))
    }

    /// A listener with this number is permitted on some address.
    #[must_use]
    pub fn allows_number(&self, protocol: Protocol, port: u16) -> bool {
        self.allowed_ports.as_ref().is_none_or(|list| {
            list.iter().any(|entry| {
                entry.protocol.is_none_or(|wanted| wanted == protocol)
                    && entry.ports.contains(&port)
            })
        })
    }

    /// How many port numbers are permitted, on whatever address.
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
    /// `None`: both.
    pub protocol: Option<Protocol>,
    /// `None`: any.
    pub address: Option<IpNet>,
    /// Inclusive.
    pub ports: RangeInclusive<u16>,
}

impl AllowedPort {
    fn allows(&self, protocol: Protocol, address: IpAddr, port: u16) -> bool {
        self.protocol.is_none_or(|wanted| wanted == protocol)
            && self.address.is_none_or(|net| net.contains(&address))
            && self.ports.contains(&port)
    }
}

/// Thresholds exported so that alerting rules need no editing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Listeners of the current generation.
    pub bound_ports: f64,
    /// Stale processes.
    pub stale_processes: f64,
    /// Generations alive.
    pub generations: f64,
    /// Age of the oldest stale process.
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
    /// Name (label `name`) and value of each.
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

/// An anomaly the operator accepts: everything given must be so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignore {
    /// The kind; `None` any.
    pub kind: Option<Kind>,
    /// The port; `None` any, and none.
    pub port: Option<u16>,
    /// The address; `None` any, and none.
    pub address: Option<IpAddr>,
}

impl Ignore {
    /// Whether an anomaly of this kind is accepted at this address and port, where it has one.
    #[must_use]
    pub fn accepts(&self, kind: Kind, at: Option<(IpAddr, u16)>) -> bool {
        self.kind.is_none_or(|ignored| ignored == kind)
            && self.port.is_none_or(|number| at.is_some_and(|(_, port)| port == number))
            && self.address.is_none_or(|wanted| at.is_some_and(|(address, _)| address == wanted))
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
    fn what_is_allowed() {
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
    fn absent_allows_all_and_empty_none() {
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
