//! The sockets of a sample: possible listeners, and connections.

use std::fmt;
use std::net::IpAddr;

use super::named::named;

/// The inode number of a socket (`readlink /proc/PID/fd/N`, `idiag_inode`).
pub type SocketInode = u64;

named! {
    /// The transport protocol of a listener (label `protocol`).
    pub enum Protocol {
        /// TCP, including MPTCP.
        Tcp = "tcp",
        /// UDP, including QUIC.
        Udp = "udp",
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A socket that may be a configured listener: a TCP socket in state LISTEN, or a UDP socket without a
/// peer.
#[derive(Debug, Clone, PartialEq)]
pub struct BoundSocket {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The bound address; unspecified if it listens on all addresses.
    pub address: IpAddr,
    /// The bound port.
    pub port: u16,
    /// The interface it is bound to (`SO_BINDTODEVICE`): its name, or its index if the name is unknown.
    pub interface: Option<String>,
    /// Its identity within its network namespace.
    pub inode: SocketInode,
    /// The kernel's cookie for it; `None` if it was read from `/proc/net`.
    pub cookie: Option<u64>,
    /// The uid of its owner.
    pub uid: u32,
    /// The size of its receive buffer (`SK_MEMINFO_RCVBUF`); `None` if it was read from `/proc/net`.
    pub receive_buffer_bytes: Option<u32>,
    /// The connections that wait to be accepted (TCP).
    pub queue_length: Option<u32>,
    /// The most connections that may wait (TCP); `None` if it was read from `/proc/net`.
    pub queue_limit: Option<u32>,
    /// The packets or connections dropped at this socket since its creation (`SK_MEMINFO_DROPS`).
    pub drops: Option<u32>,
}

/// The state of a TCP connection, as far as HAProxy's draining depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConnectionState {
    /// Both ends are open (ESTABLISHED).
    Established,
    /// Only the peer has closed (CLOSE_WAIT).
    CloseWait,
    /// The connection is being opened (SYN_SENT).
    SynSent,
    /// Any other state in which a process holds the socket.
    Other,
}

/// A socket with a peer, of a process whose connections were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connection {
    /// A TCP connection.
    Tcp {
        /// Its inode.
        inode: SocketInode,
        /// Its state.
        state: ConnectionState,
    },
    /// A connected UDP socket: a QUIC connection or a resolver's socket.
    Udp {
        /// Its inode.
        inode: SocketInode,
        /// The local port; for QUIC that of the listener.
        local_port: u16,
    },
    /// A connected unix stream socket.
    Unix {
        /// Its inode.
        inode: SocketInode,
        /// Neither end has a name, as in a socketpair between master and worker; `None` if unknown.
        pair: Option<bool>,
    },
    /// A socket that is in no table which could be read: in a namespace that only its process keeps,
    /// or none that the kernel lists.
    Hidden {
        /// Identity.
        inode: SocketInode,
    },
}

impl Connection {
    /// Returns its inode.
    #[must_use]
    pub fn inode(&self) -> SocketInode {
        match *self {
            Connection::Tcp { inode, .. }
            | Connection::Udp { inode, .. }
            | Connection::Unix { inode, .. }
            | Connection::Hidden { inode } => inode,
        }
    }
}
