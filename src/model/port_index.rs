//! An index of the ports that a configuration declares.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::declared::{Declared, Listener, Ports};
use super::socket::Protocol;

/// An index of the declared ports, for many lookups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortIndex {
    own: Ranges,
    named: BTreeMap<String, Ranges>,
}

impl PortIndex {
    /// Indexes the listeners of `declared`. Overlapping ranges are merged.
    #[must_use]
    pub fn of(declared: &Declared) -> PortIndex {
        let mut index = PortIndex::default();
        for listener in &declared.listeners {
            let ranges = match &listener.namespace {
                None => &mut index.own,
                Some(name) => index.named.entry(name.clone()).or_default(),
            };
            ranges.add(listener);
        }
        index.own.merge();
        index.named.values_mut().for_each(Ranges::merge);
        index
    }

    /// Returns the named network namespaces, besides the process's own.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }

    /// Whether a listener is declared there. `namespace` is a name, or `None` for the process's own.
    #[must_use]
    pub fn contains(
        &self,
        namespace: Option<&str>,
        protocol: Protocol,
        address: IpAddr,
        port: u16,
    ) -> bool {
        let ranges = match namespace {
            None => Some(&self.own),
            Some(name) => self.named.get(name),
        };
        ranges.is_some_and(|ranges| ranges.contains(protocol, address, port))
    }

    /// Whether a listener is declared there in any namespace.
    #[must_use]
    pub fn has(&self, protocol: Protocol, address: IpAddr, port: u16) -> bool {
        self.all().any(|(_, ranges)| ranges.contains(protocol, address, port))
    }

    /// Counts the declared listeners, distinct by namespace, address and port.
    #[must_use]
    pub fn count(&self, protocol: Protocol) -> usize {
        self.all().map(|(_, ranges)| ranges.count(protocol)).sum()
    }

    /// Returns every declared listener, those of the process's own namespace first.
    pub fn iter(&self) -> impl Iterator<Item = (Option<&str>, Protocol, IpAddr, u16)> {
        self.all().flat_map(|(name, ranges)| {
            ranges.iter().map(move |(protocol, address, port)| (name, protocol, address, port))
        })
    }

    fn all(&self) -> impl Iterator<Item = (Option<&str>, &Ranges)> {
        let named = self.named.iter().map(|(name, ranges)| (Some(name.as_str()), ranges));
        std::iter::once((None, &self.own)).chain(named)
    }
}

/// The declared ports of one network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Ranges(BTreeMap<(Protocol, IpAddr), Vec<Ports>>);

impl Ranges {
    fn add(&mut self, listener: &Listener) {
        self.0.entry((listener.protocol, listener.address)).or_default().push(listener.ports);
    }

    fn merge(&mut self) {
        for list in self.0.values_mut() {
            list.sort_unstable();
            let mut merged: Vec<Ports> = Vec::new();
            for ports in list.drain(..) {
                match merged.last_mut().filter(|last| ports.first <= last.last) {
                    Some(last) => last.last = last.last.max(ports.last),
                    None => merged.push(ports),
                }
            }
            *list = merged;
        }
    }

    fn contains(&self, protocol: Protocol, address: IpAddr, port: u16) -> bool {
        self.0.get(&(protocol, address)).is_some_and(|list| {
            let after = list.partition_point(|ports| ports.first <= port);
            list.get(..after).and_then(<[Ports]>::last).is_some_and(|ports| ports.contains(port))
        })
    }

    fn count(&self, protocol: Protocol) -> usize {
        let lists = self.0.iter().filter(|((own, _), _)| *own == protocol);
        lists.flat_map(|(_, list)| list).map(|ports| ports.count()).sum()
    }

    fn iter(&self) -> impl Iterator<Item = (Protocol, IpAddr, u16)> {
        self.0.iter().flat_map(|(&(protocol, address), list)| {
            list.iter().flat_map(move |ports| ports.iter().map(move |p| (protocol, address, p)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::declared::Place;
    use std::path::Path;

    #[test]
    fn the_index_agrees_with_the_list() {
        let listener = |address: &str, first, last| Listener {
            protocol: Protocol::Tcp,
            quic: false,
            mptcp: false,
            address: address.parse().unwrap(),
            ports: Ports { first, last },
            interface: None,
            namespace: None,
            transparent: false,
            v6only: None,
            section: "frontend a".into(),
            place: Place { file: Path::new("a").into(), line: 1, columns: 1..2 },
        };
        let declared = Declared {
            listeners: vec![
                listener("0.0.0.0", 80, 90),
                listener("0.0.0.0", 85, 100),
                listener("0.0.0.0", 200, 200),
                listener("127.0.0.1", 80, 80),
                Listener { namespace: Some("x".to_owned()), ..listener("0.0.0.0", 300, 300) },
                Listener { namespace: Some("x".to_owned()), ..listener("0.0.0.0", 90, 90) },
            ],
            ..Declared::default()
        };
        let index = PortIndex::of(&declared);
        let any: IpAddr = "0.0.0.0".parse().unwrap();
        let expected: Vec<u16> = (80..=100).chain([200]).collect();
        let within = |namespace| -> Vec<u16> {
            (1..1000).filter(|&p| index.contains(namespace, Protocol::Tcp, any, p)).collect()
        };
        assert_eq!(within(None), expected);
        assert_eq!(within(Some("x")), [90, 300], "the same number is another port there");
        assert_eq!(within(Some("y")), [0; 0]);
        assert_eq!(index.count(Protocol::Tcp), 25);
        assert_eq!(index.iter().count(), 25);
        assert_eq!(index.namespaces().collect::<Vec<_>>(), ["x"]);
        assert_eq!(index.count(Protocol::Udp), 0);
    }
}
