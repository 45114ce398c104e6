//! Which of the sockets a process holds are listeners, and whether it serves.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    BoundSocket, Configuration, NetworkNamespace, Process, ProcessId, Protocol, Snapshot,
    SocketInode,
};

/// Receive buffer of a UDP socket that only sends: HAProxy's log sockets ask for 0 and get the
/// kernel's minimum (`SOCK_MIN_RCVBUF`, 2304 on 64 bits).
const SENDERS_BUFFER_BYTES: u32 = 2304;

/// What a process holds of what a listener is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Holding<'a> {
    /// Its TCP and UDP listeners; one port may stand there more than once.
    pub listeners: Vec<&'a BoundSocket>,
    /// It accepts connections on a unix stream socket.
    pub unix: bool,
    /// It may hold UDP listeners that could not be told from other UDP sockets.
    pub udp_unknown: bool,
}

impl Holding<'_> {
    /// It takes clients.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.unix || !self.listeners.is_empty()
    }
}

/// What each process holds; a process whose descriptors, or whose namespace's sockets, could
/// not be read is absent.
#[must_use]
pub fn holdings(snapshot: &Snapshot) -> BTreeMap<ProcessId, Holding<'_>> {
    let mut tables = BTreeMap::new();
    let mut holdings = BTreeMap::new();
    for process in &snapshot.processes {
        let Some((id, network)) = network_of(snapshot, process) else { continue };
        let (Some(held), Some(bound), Some(unix)) =
            (&process.sockets, &network.bound, &network.unix_listeners)
        else {
            continue;
        };
        let table: &BTreeMap<SocketInode, &BoundSocket> = tables
            .entry(id)
            .or_insert_with(|| bound.iter().map(|socket| (socket.inode, socket)).collect());
        let configured = process.configuration.as_deref();
        holdings.insert(process.id, holding(held, network, table, unix, configured));
    }
    holdings
}

/// The network namespace a process lives in, where that was read.
#[must_use]
pub fn network_of<'a>(
    snapshot: &'a Snapshot,
    process: &Process,
) -> Option<(crate::model::NamespaceId, &'a NetworkNamespace)> {
    let id = process.net_namespace?;
    Some((id, snapshot.networks.get(&id)?))
}

fn holding<'a>(
    held: &BTreeSet<SocketInode>,
    network: &NetworkNamespace,
    table: &BTreeMap<SocketInode, &'a BoundSocket>,
    unix: &BTreeSet<SocketInode>,
    configured: Option<&Configuration>,
) -> Holding<'a> {
    let mut holding = Holding { unix: !held.is_disjoint(unix), ..Holding::default() };
    for socket in held.iter().filter_map(|inode| table.get(inode).copied()) {
        match is_listener(socket, network, configured) {
            Some(true) => holding.listeners.push(socket),
            Some(false) => {}
            None => holding.udp_unknown = true,
        }
    }
    holding
}

/// Every TCP socket in state LISTEN is one. Of UDP sockets without a peer those are not that
/// never receive (logs) or that sit on a port the kernel chose (resolvers): a port in the
/// ephemeral range is taken for such unless the configuration declares it. `None`: the buffer is
/// not known.
fn is_listener(
    socket: &BoundSocket,
    network: &NetworkNamespace,
    configured: Option<&Configuration>,
) -> Option<bool> {
    if socket.protocol == Protocol::Tcp {
        return Some(true);
    }
    let receives = socket.receive_buffer_bytes.map(|bytes| bytes > SENDERS_BUFFER_BYTES);
    let declared =
        configured.is_some_and(|c| c.ports.contains(socket.protocol, socket.address, socket.port));
    if declared {
        return Some(receives.unwrap_or(true));
    }
    let chosen = is_ephemeral(socket.port, network) == Some(true);
    receives.map(|receives| receives && !chosen)
}

/// A process that runs one of these configurations, or none of them, may listen through it.
#[must_use]
pub fn may_be_one<'a>(
    socket: &BoundSocket,
    network: &NetworkNamespace,
    mut configured: impl Iterator<Item = &'a Configuration>,
) -> bool {
    is_listener(socket, network, None) != Some(false)
        || configured.any(|known| is_listener(socket, network, Some(known)) != Some(false))
}

/// The kernel may give `port` to an outgoing connection. `None`: the range is not known.
#[must_use]
pub fn is_ephemeral(port: u16, network: &NetworkNamespace) -> Option<bool> {
    let range = network.ephemeral.as_ref()?;
    let reserved = network.reserved.iter().any(|reserved| reserved.contains(&port));
    Some(range.contains(&port) && !reserved)
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
    fn what_a_listener_is() {
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
            (Udp, 40001, Some(212_992), Some(true)),  // reserved: nobody got it by chance
            (Udp, 443, None, None),
            (Udp, 59044, None, None),
        ];
        for (protocol, port, buffer, expected) in table {
            let judged = is_listener(&socket(protocol, port, buffer), &network, None);
            assert_eq!(judged, expected, "{protocol} {port} {buffer:?}");
        }
        let nowhere = NetworkNamespace::default();
        assert_eq!(is_listener(&socket(Udp, 443, Some(212_992)), &nowhere, None), Some(true));
    }
}
