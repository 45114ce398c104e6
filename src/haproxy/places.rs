//! Finds the network namespace of each declared port.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::port_index::PortIndex;
use crate::model::{NamespaceId, Process, Protocol};

/// One port of one network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Network namespace.
    pub network: NamespaceId,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Local address; unspecified for all addresses.
    pub address: IpAddr,
    /// Port number.
    pub port: u16,
}

/// The network namespaces that a configuration binds in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// The namespace of binds that name none.
    pub home: Option<NamespaceId>,
    /// The namespaces that `bind … namespace X` names, as far as they are known.
    pub named: BTreeMap<String, NamespaceId>,
}

impl Places {
    /// The namespaces as one process knows them.
    #[must_use]
    pub fn of(process: &Process) -> Places {
        let mut places = Places { home: process.net_namespace, ..Places::default() };
        places.learn(process);
        places
    }

    /// Adds the names that a process knows and that are not known yet.
    pub fn learn(&mut self, process: &Process) {
        for (name, network) in &process.other_networks.named {
            if let Some(network) = *network {
                self.named.entry(name.clone()).or_insert(network);
            }
        }
    }

    /// The namespace of this name; `None` is the name of binds that give none.
    #[must_use]
    pub fn network(&self, namespace: Option<&str>) -> Option<NamespaceId> {
        match namespace {
            None => self.home,
            Some(name) => self.named.get(name).copied(),
        }
    }

    /// Whether the namespace of each of these ports is known.
    #[must_use]
    pub fn know_all(&self, ports: &PortIndex) -> bool {
        self.home.is_some() && ports.namespaces().all(|name| self.named.contains_key(name))
    }

    /// The declared ports whose namespace is known.
    pub fn endpoints<'p>(&'p self, ports: &'p PortIndex) -> impl Iterator<Item = Endpoint> + 'p {
        ports.iter().filter_map(|(namespace, protocol, address, port)| {
            let network = self.network(namespace)?;
            Some(Endpoint { network, protocol, address, port })
        })
    }

    /// Whether the endpoint is declared; `None` if it is, but in a namespace that is not known.
    #[must_use]
    pub fn declares(&self, ports: &PortIndex, endpoint: &Endpoint) -> Option<bool> {
        let Endpoint { network, protocol, address, port } = *endpoint;
        let mut unsure = false;
        for namespace in std::iter::once(None).chain(ports.namespaces().map(Some)) {
            if !ports.contains(namespace, protocol, address, port) {
                continue;
            }
            match self.network(namespace) {
                Some(place) if place == network => return Some(true),
                Some(_) => {}
                None => unsure = true,
            }
        }
        (!unsure).then_some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::haproxy::config::{self, Launch, SourceFile};

    #[test]
    fn the_same_number_in_two_namespaces() {
        let (here, blue, red) = (NamespaceId(1), NamespaceId(2), NamespaceId(3));
        let text = "frontend a\n bind :80\n bind :80 namespace blue\n bind :81 namespace blue\n \
                    bind :82 namespace gone\n";
        let file = SourceFile { path: "/a.cfg".into(), text: text.into() };
        let ports = PortIndex::of(&config::read(&[file], &Launch::default()));
        let named = BTreeMap::from([("blue".to_owned(), blue)]);
        let places = Places { home: Some(here), named };
        let table = [
            (here, 80, Some(true)),
            (blue, 80, Some(true)),
            (red, 80, Some(false)),
            (here, 81, Some(false)),
            (blue, 81, Some(true)),
            (red, 82, None), // it may be the one called gone
            (here, 83, Some(false)),
        ];
        for (network, port, expected) in table {
            let address = "0.0.0.0".parse().unwrap();
            let endpoint = Endpoint { network, protocol: Protocol::Tcp, address, port };
            assert_eq!(places.declares(&ports, &endpoint), expected, "{network:?} {port}");
        }
        assert_eq!(places.endpoints(&ports).count(), 3);
        assert!(!places.know_all(&ports));
    }
}
