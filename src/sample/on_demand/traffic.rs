//! Reads what moves on the TCP connections of stale processes, for `reap`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use crate::model::{NamespaceId, Process, ProcessId, Snapshot, SocketInode, Traffic};
use crate::sample::network::namespaces::Networks;
use crate::sample::network::sockets::{SocketTable, unmapped};
use crate::sample::network::wire::{InetSocket, state};
use crate::sample::proc::dir::ProcDir;
use crate::sample::proc::error::ReadError;

/// The states of a connection that is being opened, or that one end has closed (FIN_WAIT1, FIN_WAIT2).
const HALF_CLOSED: [u8; 4] = [state::SYN_SENT, 4, 5, state::CLOSE_WAIT];

/// Reads the traffic of these processes. One is absent if its descriptors or a table of its namespaces could
/// not be read.
pub fn read(
    procfs: &Path,
    networks: &mut Networks,
    snapshot: &Snapshot,
    of: &BTreeSet<ProcessId>,
) -> BTreeMap<ProcessId, Traffic> {
    let processes = snapshot.processes.iter().filter(|process| of.contains(&process.id));
    let held: Vec<(&Process, BTreeSet<SocketInode>)> = processes
        .filter_map(|process| Some((process, sockets(procfs, process.id).ok()?)))
        .collect();
    let places: BTreeSet<NamespaceId> =
        held.iter().flat_map(|(process, _)| process.networks()).collect();
    let tables: BTreeMap<NamespaceId, BTreeMap<SocketInode, InetSocket>> =
        places.into_iter().filter_map(|id| Some((id, table(networks, id)?))).collect();
    let traffic = held.iter().filter_map(|(process, sockets)| {
        let networks = process.networks();
        let tables: Option<Vec<_>> = networks.iter().map(|id| tables.get(id)).collect();
        let found = tables?
            .into_iter()
            .flat_map(|table| sockets.iter().filter_map(|inode| table.get(inode)));
        Some((process.id, summary(found)))
    });
    traffic.collect()
}

fn sockets(procfs: &Path, id: ProcessId) -> Result<BTreeSet<SocketInode>, ReadError> {
    ProcDir::of(procfs, id)?.descriptors()?.sockets()
}

/// The TCP connections of a namespace; `None` if they cannot be read with their bytes.
fn table(networks: &mut Networks, id: NamespaceId) -> Option<BTreeMap<SocketInode, InetSocket>> {
    let SocketTable::Netlink(netlink) = &mut networks.get_mut(id)?.table else { return None };
    let mut found = BTreeMap::new();
    let keep = |socket: InetSocket| {
        if socket.remote.1 != 0 && socket.inode != 0 {
            found.insert(SocketInode::from(socket.inode), socket);
        }
    };
    netlink.traffic(keep).ok()?;
    Some(found)
}

fn summary<'a>(connections: impl Iterator<Item = &'a InetSocket>) -> Traffic {
    let mut peers: BTreeSet<IpAddr> = BTreeSet::new();
    let mut traffic =
        Traffic { connections: 0, peers: 0, moved_bytes: Some(0), only_half_closed: true };
    for socket in connections {
        traffic.connections += 1;
        peers.insert(unmapped(socket.remote.0));
        traffic.only_half_closed &= HALF_CLOSED.contains(&socket.state);
        traffic.moved_bytes = traffic
            .moved_bytes
            .zip(socket.moved_bytes)
            .map(|(all, moved)| all.saturating_add(moved));
    }
    traffic.only_half_closed &= traffic.connections > 0;
    traffic.peers = peers.len() as u64;
    traffic
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(state: u8, peer: &str, moved_bytes: Option<u64>) -> InetSocket {
        let nowhere = ("0.0.0.0".parse().unwrap(), 1);
        InetSocket {
            state,
            local: nowhere,
            remote: (peer.parse().unwrap(), 1),
            interface: 0,
            inode: 1,
            cookie: 1,
            uid: 0,
            rqueue: 0,
            wqueue: 0,
            receive_buffer: None,
            drops: None,
            v6only: None,
            moved_bytes,
        }
    }

    #[test]
    fn traffic_sums_up_what_a_process_holds() {
        let half = |peer| connection(state::CLOSE_WAIT, peer, Some(5));
        let open = |peer| connection(state::ESTABLISHED, peer, Some(7));
        let blind = |peer| connection(state::CLOSE_WAIT, peer, None);
        let table = [
            ("none", vec![], (0, 0, Some(0), false)),
            ("half", vec![half("10.0.0.1"), half("10.0.0.1")], (2, 1, Some(10), true)),
            ("mapped", vec![half("10.0.0.1"), half("::ffff:10.0.0.1")], (2, 1, Some(10), true)),
            ("open", vec![half("10.0.0.1"), open("10.0.0.2")], (2, 2, Some(12), false)),
            ("unknown", vec![half("10.0.0.1"), blind("10.0.0.2")], (2, 2, None, true)),
        ];
        for (what, sockets, (connections, peers, moved_bytes, only_half_closed)) in table {
            let expected = Traffic { connections, peers, moved_bytes, only_half_closed };
            assert_eq!(summary(sockets.iter()), expected, "{what}");
        }
    }
}
