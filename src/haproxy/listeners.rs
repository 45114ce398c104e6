//! Decides which sockets of a process are listeners, and whether the process serves.

use std::collections::BTreeMap;

use super::binding::{Ephemeral, never_receives};
use super::places::{Endpoint, Places};
use crate::model::{
    BoundSocket, Configuration, NamespaceId, NetworkNamespace, Process, ProcessId, Protocol,
    Snapshot, SocketInode,
};

/// A listener and its network namespace, which may differ from that of its process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Listening<'a> {
    /// The network namespace of the socket.
    pub network: NamespaceId,
    /// The socket.
    pub socket: &'a BoundSocket,
}

impl Listening<'_> {
    /// The address and port that it occupies.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        let BoundSocket { protocol, address, port, .. } = *self.socket;
        Endpoint { network: self.network, protocol, address, port }
    }
}

/// The listeners that a process holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Holding<'a> {
    /// Its TCP and UDP listeners, several of which may share one port.
    pub listeners: Vec<Listening<'a>>,
    /// The process holds a listening unix stream socket.
    pub unix: bool,
    /// The process holds UDP sockets that may or may not be listeners.
    pub udp_unknown: bool,
    /// The process may hold listeners in a network namespace that could not be read.
    pub elsewhere_unknown: bool,
}

impl Holding<'_> {
    /// Whether the process takes clients; `None` if it takes none where that could be read, and may take some
    /// elsewhere.
    #[must_use]
    pub fn serves(&self) -> Option<bool> {
        let serves = self.unix || !self.listeners.is_empty();
        (serves || !self.elsewhere_unknown).then_some(serves)
    }
}

/// The listeners of each process. A process is absent if its descriptors, or the sockets of its own
/// network namespace, could not be read.
#[must_use]
pub fn holdings(snapshot: &Snapshot) -> BTreeMap<ProcessId, Holding<'_>> {
    let tables = Tables::of(snapshot);
    let held = snapshot.processes.iter().filter_map(|process| {
        let (_, own) = network_of(snapshot, process)?;
        own.bound.as_ref()?;
        own.unix_listeners.as_ref()?;
        Some((process.id, tables.holding(process)?))
    });
    held.collect()
}

/// The network namespace of a process, if it was read.
#[must_use]
pub fn network_of<'a>(
    snapshot: &'a Snapshot,
    process: &Process,
) -> Option<(NamespaceId, &'a NetworkNamespace)> {
    let id = process.net_namespace?;
    Some((id, snapshot.networks.get(&id)?))
}

/// The sockets of all network namespaces. An inode names one socket of the whole host, and the
/// process that holds it may be in another namespace (`bind … namespace X`, or an inherited socket).
struct Tables<'a> {
    snapshot: &'a Snapshot,
    /// The sockets, sorted by inode.
    bound: Vec<Listening<'a>>,
}

impl<'a> Tables<'a> {
    fn of(snapshot: &'a Snapshot) -> Tables<'a> {
        let bound = snapshot.networks.iter().flat_map(|(&network, table)| {
            let sockets = table.bound.iter().flatten();
            sockets.map(move |socket| Listening { network, socket })
        });
        let mut bound: Vec<Listening<'_>> = bound.collect();
        bound.sort_unstable_by_key(|listening| listening.socket.inode);
        Tables { snapshot, bound }
    }

    fn get(&self, inode: SocketInode) -> Option<&Listening<'a>> {
        let place = self.bound.binary_search_by_key(&inode, |listening| listening.socket.inode);
        self.bound.get(place.ok()?)
    }

    /// The listeners of a process; `None` if its descriptors could not be read.
    fn holding(&self, process: &Process) -> Option<Holding<'a>> {
        let held = process.sockets.as_ref()?;
        let networks = &self.snapshot.networks;
        let mut unix = networks.values().filter_map(|network| network.unix_listeners.as_ref());
        let mut holding = Holding {
            unix: unix.any(|unix| !held.is_disjoint(unix)),
            elsewhere_unknown: !self.has_read_all(process),
            ..Holding::default()
        };
        let places = Places::of(process);
        let declares = |listening: &Listening<'_>| {
            let configuration = process.configuration.as_deref();
            configuration.is_some_and(|configuration| {
                places.declares(&configuration.ports, &listening.endpoint()) == Some(true)
                    || may_name(configuration, listening.socket)
            })
        };
        for listening in held.iter().filter_map(|&inode| self.get(inode)) {
            let Listening { network: id, socket } = *listening;
            let Some(network) = networks.get(&id) else { continue };
            match is_listener(socket, network, || declares(listening)) {
                Some(true) => holding.listeners.push(*listening),
                Some(false) => {}
                None => holding.udp_unknown = true,
            }
        }
        Some(holding)
    }

    /// Whether every namespace that the process may listen in is known and was read.
    fn has_read_all(&self, process: &Process) -> bool {
        let read = |id| self.snapshot.networks.get(id).is_some_and(|n| n.bound.is_some());
        let others = &process.other_networks;
        (others.held.is_some() || others.named.values().all(Option::is_some))
            && process.networks().iter().all(read)
    }
}

/// Whether a socket is a listener; `None` if the size of its buffer is not known.
///
/// Every TCP socket in state LISTEN is one. A UDP socket without a peer is one unless it never
/// receives, as a log socket, or the kernel chose its port, as a resolver's. The kernel is taken to
/// have chosen any port in the ephemeral range that the configuration does not declare.
fn is_listener(
    socket: &BoundSocket,
    network: &NetworkNamespace,
    declared: impl FnOnce() -> bool,
) -> Option<bool> {
    if socket.protocol == Protocol::Tcp {
        return Some(true);
    }
    let receives = socket.receive_buffer_bytes.map(|bytes| !never_receives(bytes));
    if declared() {
        return Some(receives.unwrap_or(true));
    }
    let chosen = Ephemeral::of(network).gives_away(socket.port) == Some(true);
    receives.map(|receives| receives && !chosen)
}

/// Whether an uncertain line of the configuration names this port, with an address that is not known,
/// such as a host name.
fn may_name(configuration: &Configuration, socket: &BoundSocket) -> bool {
    let uncertain = configuration.declared.uncertain.iter();
    uncertain.flat_map(|line| &line.may_bind).any(|possible| {
        possible.ports.is_some() && possible.covers(socket.protocol, socket.address, socket.port)
    })
}

/// Whether a process that runs one of these configurations, or none, may listen on the socket.
#[must_use]
pub fn may_be_one<'a>(
    socket: &BoundSocket,
    network: &NetworkNamespace,
    mut configured: impl Iterator<Item = &'a Configuration>,
) -> bool {
    if is_listener(socket, network, || false) != Some(false) {
        return true;
    }
    let (protocol, address, port) = (socket.protocol, socket.address, socket.port);
    // The name of the namespace in the configuration does not matter.
    let declared = || {
        configured.any(|known| known.ports.has(protocol, address, port) || may_name(known, socket))
    };
    is_listener(socket, network, declared) != Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(protocol: Protocol, port: u16, receive_buffer_bytes: Option<u32>) -> BoundSocket {
        BoundSocket {
            protocol,
            address: "0.0.0.0".parse().unwrap(),
            port,
            interface: None,
            inode: 1,
            cookie: None,
            uid: 0,
            receive_buffer_bytes,
            queue_length: None,
            queue_limit: None,
            drops: None,
        }
    }

    #[test]
    fn listeners_among_sockets() {
        use Protocol::{Tcp, Udp};
        let network = NetworkNamespace {
            ephemeral: Some(32768..=60999),
            reserved: vec![40000..=40010],
            ..NetworkNamespace::default()
        };
        let table = [
            (Tcp, 59044, None, Some(true)),
            (Udp, 443, Some(212_992), Some(true)),
            (Udp, 514, Some(2304), Some(false)),
            (Udp, 59044, Some(2304), Some(false)),
            (Udp, 34004, Some(212_992), Some(false)), // a resolver of 3.5
            (Udp, 40001, Some(212_992), Some(true)),  // reserved: the kernel does not choose it
            (Udp, 443, None, None),
            (Udp, 59044, None, None),
        ];
        for (protocol, port, buffer, expected) in table {
            let judged = is_listener(&socket(protocol, port, buffer), &network, || false);
            assert_eq!(judged, expected, "{protocol} {port} {buffer:?}");
        }
        let nowhere = NetworkNamespace::default();
        assert_eq!(is_listener(&socket(Udp, 443, Some(212_992)), &nowhere, || false), Some(true));
    }
}
