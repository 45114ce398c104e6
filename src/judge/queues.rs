//! Counts connections that the kernel dropped at full accept queues: it counts by socket, the page
//! shows them by port, from 0 when a port is first seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::case::PortSockets;
use super::verdict::PortKey;
use crate::model::{Protocol, SocketInode};

/// Total drops by port. A total outlives the sockets that it was counted from.
pub type Totals = Arc<BTreeMap<PortKey, u64>>;

/// The drop counters of one service's listeners.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Drops {
    /// Total drops by port.
    pub totals: Totals,
    /// The last reading of each socket, in the order of the ports.
    last: Arc<Vec<Reading>>,
}

impl Drops {
    /// The same readings, with every total at 0.
    #[must_use]
    pub fn with_totals_from_zero(&self) -> Drops {
        let totals = self.totals.keys().map(|port| (port.clone(), 0)).collect();
        Drops { totals: Arc::new(totals), last: Arc::clone(&self.last) }
    }
}

/// The counter of one socket as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Reading {
    inode: SocketInode,
    value: u32,
}

/// Adds a sample's counters; returns the new totals and the ports that dropped connections since the
/// last sample.
#[must_use]
pub fn count(before: &Drops, ports: &[PortSockets<'_>]) -> (Drops, BTreeSet<PortKey>) {
    if is_as_before(before, ports) {
        return (before.clone(), BTreeSet::new());
    }
    let last: BTreeMap<SocketInode, u32> =
        before.last.iter().map(|reading| (reading.inode, reading.value)).collect();
    let mut totals: BTreeMap<PortKey, u64> = BTreeMap::new();
    let mut dropping = BTreeSet::new();
    let mut counted = BTreeSet::new();
    for (port, Reading { inode, value }) in readings(ports) {
        let old = before.totals.get(&port.key).copied();
        let total = totals.entry(port.key.clone()).or_insert(old.unwrap_or(0));
        if !counted.insert(inode) {
            continue; // A socket that two processes share counts once.
        }
        let last = last.get(&inode).copied();
        let risen = match last {
            // A smaller value belongs to a new socket that has got the same inode.
            Some(last) => value.checked_sub(last).unwrap_or(value),
            // A new socket of a known port.
            None if old.is_some() => value,
            // What was dropped before the port was first seen is not counted: a database that takes the first
            // value of a counter for an increase would otherwise show it as drops of this moment.
            None => 0,
        };
        *total += u64::from(risen);
        if risen > 0 && last.is_some() {
            dropping.insert(port.key.clone());
        }
    }
    let last = readings(ports).map(|(_, reading)| reading).collect();
    (Drops { totals: Arc::new(totals), last: Arc::new(last) }, dropping)
}

/// The same sockets are at the same ports, and none has dropped anything. This is the usual case,
/// and it costs no allocation for each port.
fn is_as_before(before: &Drops, ports: &[PortSockets<'_>]) -> bool {
    let mut keys: Vec<&PortKey> = readings(ports).map(|(port, _)| &port.key).collect();
    keys.dedup();
    readings(ports).map(|(_, reading)| reading).eq(before.last.iter().copied())
        && keys.into_iter().eq(before.totals.keys())
}

fn readings<'a>(
    ports: &'a [PortSockets<'_>],
) -> impl Iterator<Item = (&'a PortSockets<'a>, Reading)> {
    let tcp = ports.iter().filter(|port| port.key.protocol == Protocol::Tcp);
    tcp.flat_map(|port| {
        let sockets = port.sockets.iter();
        sockets.filter_map(move |socket| {
            Some((port, Reading { inode: socket.inode, value: socket.drops? }))
        })
    })
}
