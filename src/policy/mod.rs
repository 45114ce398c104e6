//! What the operator permits, as checked values: allowed ports, graces, thresholds and names.

mod ignore;
pub mod kind;
mod ports;
pub mod reap;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use regex::Regex;

pub use self::ignore::{Ignore, Until};
use self::kind::Kind;
pub use self::ports::{AllowedPort, Refusal, ReservedPorts, ReservedRange};
use self::reap::ReapPolicy;
use crate::model::{Protocol, UnixSeconds};

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
    /// Where backups lie; `None` if no directory is configured.
    pub backup_directory: Option<PathBuf>,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            defaults: Rules::default(),
            haproxys: Vec::new(),
            max_port_series: 500,
            max_series: 20_000,
            backup_directory: None,
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

    /// The entries of `ignore` whose end has passed, each once: those of `defaults` first.
    pub fn expired_ignores(&self, now: UnixSeconds) -> impl Iterator<Item = &Ignore> {
        let own = self.haproxys.iter().flat_map(|configured| {
            // An entry that a service has from `defaults` does not bear its name.
            let entries = configured.rules.ignore.iter();
            entries.filter(|ignore| ignore.haproxy.as_ref() == Some(&configured.name))
        });
        self.defaults.ignore.iter().chain(own).filter(move |ignore| ignore.has_expired(now))
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
    /// The numbers that belong to something else; `allowed_ports` cannot permit them.
    pub reserved_ports: Vec<ReservedPorts>,
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
    /// What `reap` may do; `None` if it may look at nothing that is not named to it.
    pub reap: Option<ReapPolicy>,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            allowed_ports: None,
            reserved_ports: Vec::new(),
            stale_grace_seconds: 10.0,
            reload_grace_seconds: 3600.0,
            forget_after_seconds: 900.0,
            thresholds: Thresholds::default(),
            ignore: Vec::new(),
            reap: None,
        }
    }
}

impl Rules {
    /// Why a listener at this address and port is not allowed; `None` if it is.
    #[must_use]
    pub fn refusal(&self, protocol: Protocol, address: IpAddr, port: u16) -> Option<Refusal<'_>> {
        self.reservation(protocol, port).or_else(|| {
            let list = self.allowed_ports.as_ref()?;
            let allowed = list.iter().any(|entry| entry.allows(protocol, address, port));
            (!allowed).then_some(Refusal::NotAllowed)
        })
    }

    /// Why no listener may have this port number at any address; `None` if one may.
    #[must_use]
    pub fn refusal_of_number(&self, protocol: Protocol, port: u16) -> Option<Refusal<'_>> {
        self.reservation(protocol, port).or_else(|| {
            let list = self.allowed_ports.as_ref()?;
            let allowed = list.iter().any(|entry| entry.allows_number(protocol, port));
            (!allowed).then_some(Refusal::NotAllowed)
        })
    }

    /// The entry of `reserved_ports` that has the number.
    fn reservation(&self, protocol: Protocol, port: u16) -> Option<Refusal<'_>> {
        self.reserved_ports.iter().find_map(|entry| {
            let range = entry.ranges.iter().find(|range| range.contains(protocol, port))?;
            Some(Refusal::Reserved { name: &entry.name, ports: &range.ports })
        })
    }

    /// Whether every port is allowed.
    #[must_use]
    pub fn allows_everything(&self) -> bool {
        self.allowed_ports.is_none() && self.reserved_ports.is_empty()
    }

    /// The number of distinct port numbers that are allowed at some address.
    #[must_use]
    pub fn allowed_count(&self, protocol: Protocol) -> u64 {
        ports::count_allowed(self.allowed_ports.as_deref(), &self.reserved_ports, protocol)
    }

    /// Whether the operator accepts `now` an anomaly at this address and these ports, where it has
    /// them. `kind`: `None` for a finding of `check` that is no kind of anomaly.
    #[must_use]
    pub fn ignores(
        &self,
        kind: Option<Kind>,
        at: Option<&(IpAddr, RangeInclusive<u16>)>,
        now: UnixSeconds,
    ) -> bool {
        self.ignore.iter().any(|ignore| ignore.accepts(kind, at, now))
    }
}

/// Thresholds that are exported as metrics, so that alerting rules need not be edited.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// More listeners of the current generation raise an alert.
    pub bound_ports: f64,
    /// More stale processes raise an alert.
    pub stale_processes: f64,
    /// More living generations raise an alert.
    pub generations: f64,
    /// A process that has been stale for longer raises an alert.
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

    fn reserved(protocol: Option<Protocol>, ports: RangeInclusive<u16>) -> ReservedPorts {
        ReservedPorts {
            name: "Kubernetes NodePort".to_owned(),
            ranges: vec![ReservedRange { protocol, ports }],
        }
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
            let refusal = rules.refusal(protocol, address.parse().unwrap(), port);
            let wanted = (!expected).then_some(Refusal::NotAllowed);
            assert_eq!(refusal, wanted, "{protocol} {address} {port}");
        }
        assert_eq!(rules.refusal_of_number(Protocol::Tcp, 8404), None, "at one address");
        assert_eq!(rules.allowed_count(Protocol::Tcp), 20_002);
        assert_eq!(rules.allowed_count(Protocol::Udp), 3);
    }

    #[test]
    fn a_reserved_number_is_refused_whatever_is_allowed() {
        let here = "10.0.0.1".parse().unwrap();
        for allowed_ports in [None, Some(vec![allowed(None, None, 1..=65_535)])] {
            let reserved_ports = vec![reserved(Some(Protocol::Tcp), 30_000..=32_767)];
            let rules = Rules { allowed_ports, reserved_ports, ..Rules::default() };
            let refusal = rules.refusal(Protocol::Tcp, here, 30_000).unwrap();
            assert_eq!(refusal.reason(), "30000-32767 is reserved for Kubernetes NodePort");
            assert_eq!(rules.refusal_of_number(Protocol::Tcp, 32_767), Some(refusal));
            assert_eq!(rules.refusal(Protocol::Udp, here, 30_000), None);
            assert_eq!(rules.refusal(Protocol::Tcp, here, 32_768), None);
            assert!(!rules.allows_everything());
        }
        assert!(Rules::default().allows_everything());
    }

    #[test]
    fn distinct_numbers_that_are_not_reserved_are_counted() {
        let any = |ports| allowed(None, None, ports);
        let node = |ports| reserved(None, ports);
        let table: [(Option<Vec<AllowedPort>>, Vec<ReservedPorts>, u64); 8] = [
            (None, vec![], 65_535),
            (Some(vec![]), vec![], 0),
            (Some(vec![any(1..=100), any(50..=150)]), vec![], 150),
            (Some(vec![any(1..=65_535)]), vec![], 65_535),
            (None, vec![node(30_000..=32_767)], 65_535 - 2768),
            (Some(vec![any(1..=100)]), vec![node(50..=200), node(90..=95)], 49),
            (Some(vec![any(1..=100)]), vec![node(1..=65_535)], 0),
            (None, vec![reserved(Some(Protocol::Udp), 1..=9)], 65_535),
        ];
        for (allowed_ports, reserved_ports, expected) in table {
            let rules = Rules { allowed_ports, reserved_ports, ..Rules::default() };
            assert_eq!(rules.allowed_count(Protocol::Tcp), expected, "{rules:?}");
        }
    }

    #[test]
    fn an_entry_ignores_until_its_end() {
        let until = Some(Until { end: 1000.0, written: "1970-01-01T00:16:40Z".to_owned() });
        let kind = Some(Kind::PortEphemeral);
        let entry = Ignore { kind, port: Some(50_000), until, ..Ignore::default() };
        let own = Ignore { haproxy: Some("a".to_owned()), ..entry.clone() };
        let rules = |ignore: &[Ignore]| Rules { ignore: ignore.to_vec(), ..Rules::default() };
        let named = |name: &str, ignore: &[Ignore]| Configured {
            name: name.to_owned(),
            matching: Match::default(),
            rules: rules(ignore),
        };
        let policy = Policy {
            haproxys: vec![
                named("a", std::slice::from_ref(&own)),
                named("b", std::slice::from_ref(&entry)),
            ],
            defaults: rules(std::slice::from_ref(&entry)),
            ..Policy::default()
        };
        let at = ("10.0.0.1".parse().unwrap(), 50_000..=50_000);
        for (now, ignored) in [(999.0, true), (1000.0, false), (2000.0, false)] {
            assert_eq!(policy.rules("a").ignores(kind, Some(&at), now), ignored, "{now}");
            let expired: Vec<&Ignore> = policy.expired_ignores(now).collect();
            let expected: &[&Ignore] = if ignored { &[] } else { &[&entry, &own] };
            assert_eq!(expired, expected, "{now}: the one that b has from defaults is listed once");
        }
    }
}
