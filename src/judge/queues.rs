//! Drops at full accept queues: the kernel counts by socket, the page by port.

use std::collections::{BTreeMap, BTreeSet};

use super::scene::PortSockets;
use super::verdict::PortKey;
use crate::model::Protocol;

/// Drop counters of one haproxy's listeners.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Drops {
    /// Totals by port; they outlive the sockets.
    pub totals: BTreeMap<PortKey, u64>,
    /// The last value of each socket, by inode.
    last: BTreeMap<u64, u32>,
}

/// Takes a sample's counters in. Answers the new totals, and the ports that dropped since.
#[must_use]
pub fn count(before: &Drops, ports: &[PortSockets<'_>]) -> (Drops, BTreeSet<PortKey>) {
    let mut drops = Drops { totals: BTreeMap::new(), last: BTreeMap::new() };
    let mut dropping = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for port in ports.iter().filter(|port| port.key.protocol == Protocol::Tcp) {
        for socket in &port.sockets {
            let Some(value) = socket.drops.filter(|_| seen.insert(socket.inode)) else { continue };
            let old = before.totals.get(&port.key).copied().unwrap_or(0);
            let total = drops.totals.entry(port.key.clone()).or_insert(old);
            let last = before.last.get(&socket.inode).copied();
            // A smaller value is another socket with the inode.
            let risen = value.checked_sub(last.unwrap_or(0)).unwrap_or(value);
            *total += u64::from(risen);
            if risen > 0 && last.is_some() {
                dropping.insert(port.key.clone());
            }
            drops.last.insert(socket.inode, value);
        }
    }
    (drops, dropping)
}
