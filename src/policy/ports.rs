//! Which ports a policy allows: `allowed_ports` lists them, and `reserved_ports` takes numbers away.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::model::{Protocol, numbers};

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
    /// Whether a listener at this address and port is allowed by this entry.
    #[must_use]
    pub fn allows(&self, protocol: Protocol, address: IpAddr, port: u16) -> bool {
        self.allows_number(protocol, port) && self.address.is_none_or(|net| net.contains(&address))
    }

    /// Whether a listener on this port number is allowed by this entry at some address.
    #[must_use]
    pub fn allows_number(&self, protocol: Protocol, port: u16) -> bool {
        self.protocol.is_none_or(|wanted| wanted == protocol) && self.ports.contains(&port)
    }
}

/// One entry of `reserved_ports`: numbers that belong to something other than HAProxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservedPorts {
    /// The name of what they belong to, as the operator wrote it.
    pub name: String,
    /// The reserved numbers.
    pub ranges: Vec<ReservedRange>,
}

/// A range of reserved numbers. It has no address, because what is reserved is the number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservedRange {
    /// The protocol; `None` means both.
    pub protocol: Option<Protocol>,
    /// The port numbers, both ends included.
    pub ports: RangeInclusive<u16>,
}

impl ReservedRange {
    /// Whether this range reserves the number.
    #[must_use]
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        self.protocol.is_none_or(|wanted| wanted == protocol) && self.ports.contains(&port)
    }
}

/// Why the policy does not allow a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal<'a> {
    /// No entry of `allowed_ports` permits it.
    NotAllowed,
    /// An entry of `reserved_ports` has the number.
    Reserved {
        /// The name of the entry.
        name: &'a str,
        /// The range that has the number.
        ports: &'a RangeInclusive<u16>,
    },
}

impl Refusal<'_> {
    /// The reason, as a fact: `30000-32767 is reserved for Kubernetes NodePort`.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Refusal::NotAllowed => "allowed_ports has no entry for it".to_owned(),
            Refusal::Reserved { name, ports } => {
                format!("{} is reserved for {name}", numbers::run(ports))
            }
        }
    }

    /// What a person who asked for the port can do.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Refusal::NotAllowed => {
                "choose a port that is allowed, or add this one to allowed_ports in --config.file"
            }
            Refusal::Reserved { .. } => {
                "choose a port that is not in reserved_ports of --config.file"
            }
        }
    }
}

/// The number of distinct port numbers that the policy allows at some address. `allowed`: `None`
/// allows every number.
#[must_use]
pub fn count_allowed(
    allowed: Option<&[AllowedPort]>,
    reserved: &[ReservedPorts],
    protocol: Protocol,
) -> u64 {
    let of = |wanted: Option<Protocol>| wanted.is_none_or(|wanted| wanted == protocol);
    let reserved: Vec<&RangeInclusive<u16>> = reserved
        .iter()
        .flat_map(|entry| &entry.ranges)
        .filter(|range| of(range.protocol))
        .map(|range| &range.ports)
        .collect();
    let every = [1..=u16::MAX];
    let mut all: Vec<&RangeInclusive<u16>> = match allowed {
        None => every.iter().collect(),
        Some(list) => {
            let entries = list.iter().filter(|entry| of(entry.protocol));
            entries.map(|entry| &entry.ports).collect()
        }
    };
    all.extend(&reserved);
    count_distinct(all) - count_distinct(reserved)
}

/// The number of distinct numbers in ranges that may overlap.
fn count_distinct(mut ranges: Vec<&RangeInclusive<u16>>) -> u64 {
    ranges.sort_unstable_by_key(|range| (*range.start(), *range.end()));
    let mut reached = 0;
    let mut count = 0;
    for range in ranges {
        let from = u32::from(*range.start()).max(reached + 1);
        let to = u32::from(*range.end());
        count += u64::from((to + 1).saturating_sub(from));
        reached = reached.max(to);
    }
    count
}
