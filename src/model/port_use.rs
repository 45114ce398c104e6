//! Every use of a port number, listener or not: what `check` and `inspect --port` look at.

use std::net::IpAddr;

use super::socket::{ConnectionState, Protocol, SocketInode};

/// What a socket does with its port number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortRole {
    /// A TCP socket in state LISTEN.
    Listening,
    /// A UDP socket without a peer.
    Peerless,
    /// A TCP socket that is bound but neither listens nor is connected: a paused listener, or a socket
    /// about to connect.
    Bound,
    /// A socket with a peer.
    Connected(ConnectionState),
    /// The kernel's record of a connection that has ended. No process holds it.
    TimeWait,
}

/// One socket that uses a port number of its network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortUse {
    /// The transport protocol.
    pub protocol: Protocol,
    /// What it does with the port.
    pub role: PortRole,
    /// The local address; unspecified if it is bound to all addresses.
    pub address: IpAddr,
    /// The local port.
    pub port: u16,
    /// The address and port of the peer, if it has one.
    pub remote: Option<(IpAddr, u16)>,
    /// Whether an IPv6 socket leaves IPv4 alone; `None` for IPv4, for a connected socket, or if it was read
    /// from `/proc/net`.
    pub v6only: Option<bool>,
    /// The interface it is bound to (`SO_BINDTODEVICE`).
    pub interface: Option<String>,
    /// Its inode; `None` if no process holds it any more.
    pub inode: Option<SocketInode>,
    /// The user who created it.
    pub uid: u32,
    /// The size of its receive buffer; `None` if it was read from `/proc/net`.
    pub receive_buffer_bytes: Option<u32>,
}

/// A process as a person knows it: its pid and its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Program {
    /// Its pid in the pid namespace of the procfs that was read.
    pub pid: i32,
    /// Its name (`/proc/PID/comm`).
    pub name: String,
}
