//! The sockets of a sample: those that may be listeners, and connections.

use std::fmt;
use std::net::IpAddr;

use super::named::named;

/// The inode number of a socket (`readlink /proc/PID/fd/N`, `idiag_inode`).
pub type SocketInode = u64;

named! {
    /// Transport of a listener, as a metric label.
    pub enum Protocol {
        /// TCP, MPTCP included.
        Tcp = "tcp",
        /// UDP, QUIC included.
        Udp = "udp",
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A socket that may be a configured listener: TCP in state LISTEN, or UDP without a peer.
#[derive(Debug, Clone, PartialEq)]
pub struct BoundSocket {
    /// Transport.
    pub protocol: Protocol,
    /// Bound address; unspecified when it listens on all.
    pub address: IpAddr,
    /// Bound port.
    pub port: u16,
    /// Interface it is bound to (`SO_BINDTODEVICE`), by name, or by index where the name cannot be had.
    pub interface: Option<String>,
    /// Identity within its network namespace.
    pub inode: SocketInode,
    /// Kernel's cookie; `None` from `/proc/net`.
    pub cookie: Option<u64>,
    /// Owner's uid.
    pub uid: u32,
    /// Receive buffer, bytes (`SK_MEMINFO_RCVBUF`); `None` from `/proc/net`.
    pub receive_buffer_bytes: Option<u32>,
    /// Connections waiting to be accepted (TCP).
    pub queue_length: Option<u32>,
    /// Most that may wait (TCP); `None` from `/proc/net`.
    pub queue_limit: Option<u32>,
    /// Packets or connections dropped at this socket since it exists (`SK_MEMINFO_DROPS`).
    pub drops: Option<u32>,
}

/// State of a TCP connection as far as the difference matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConnectionState {
    /// ESTABLISHED.
    Established,
    /// The peer has closed, we have not.
    CloseWait,
    /// Connecting.
    SynSent,
    /// Any other TCP state with an owner.
    Other,
}

/// One socket with a peer, of a process whose connections were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connection {
    /// TCP.
    Tcp {
        /// Identity.
        inode: SocketInode,
        /// State.
        state: ConnectionState,
    },
    /// Connected UDP: QUIC, or a resolver.
    Udp {
        /// Identity.
        inode: SocketInode,
        /// Local port: the listener's for QUIC.
        local_port: u16,
    },
    /// Connected unix stream socket.
    Unix {
        /// Identity.
        inode: SocketInode,
        /// Neither end has a name: a socketpair, as between master and worker. `None`: not known.
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
    /// Identity.
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
