//! A network namespace as a sample saw it: what is bound there, and which ports the kernel gives away.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::socket::{BoundSocket, SocketInode};

/// The inode number that names a namespace (`readlink /proc/PID/ns/*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespaceId(pub u64);

/// What one network namespace holds.
#[derive(Debug, Clone, Default)]
pub struct NetworkNamespace {
    /// Label: empty for the host's, else its name under `/run/netns`, else its number.
    pub label: String,
    /// TCP listeners and peerless UDP sockets of every program. `None`: could not be read.
    pub bound: Option<Vec<BoundSocket>>,
    /// Inodes of listening unix stream sockets. `None`: could not be read.
    pub unix_listeners: Option<BTreeSet<SocketInode>>,
    /// Ports the kernel gives to outgoing connections (`ip_local_port_range`).
    pub ephemeral: Option<RangeInclusive<u16>>,
    /// Ports it never gives (`ip_local_reserved_ports`).
    pub reserved: Vec<RangeInclusive<u16>>,
}
