//! A network namespace: its bound sockets and the ports that the kernel gives to outgoing connections.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::socket::{BoundSocket, SocketInode};

/// The identity of a namespace: its inode number (`readlink /proc/PID/ns/*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespaceId(pub u64);

/// The contents of one network namespace.
#[derive(Debug, Clone, Default)]
pub struct NetworkNamespace {
    /// The label: empty for the host's, otherwise its name under `/run/netns`, otherwise its number.
    pub label: String,
    /// The TCP listeners and the UDP sockets without a peer of every program; `None` if unreadable.
    pub bound: Option<Vec<BoundSocket>>,
    /// The inodes of listening unix stream sockets; `None` if unreadable.
    pub unix_listeners: Option<BTreeSet<SocketInode>>,
    /// The ports that the kernel gives to outgoing connections (`ip_local_port_range`).
    pub ephemeral: Option<RangeInclusive<u16>>,
    /// The ports that it never gives to them (`ip_local_reserved_ports`).
    pub reserved: Vec<RangeInclusive<u16>>,
}
