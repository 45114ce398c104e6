//! Every use of a port number, as plain values: for `check` and `inspect --port`.

use std::net::IpAddr;

use super::socket::{ConnectionState, Protocol, SocketInode};

/// What a socket does with the port number it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortRole {
    /// TCP in state LISTEN.
    Listening,
    /// UDP without a peer.
    Peerless,
    /// TCP, bound, and neither listening nor connected: a paused listener, or one about to connect.
    Bound,
    /// It has a peer.
    Connected(ConnectionState),
    /// The kernel's memory of a connection that has ended; no process holds it.
    TimeWait,
}

/// One socket that uses a port number of its network namespace, listener or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortUse {
    /// Transport.
    pub protocol: Protocol,
    /// What it does with the port.
    pub role: PortRole,
    /// Local address; unspecified when bound to all.
    pub address: IpAddr,
    /// Local port.
    pub port: u16,
    /// The peer.
    pub remote: Option<(IpAddr, u16)>,
    /// An IPv6 socket that leaves IPv4 alone; `None`: IPv4, connected, or from `/proc/net`.
    pub v6only: Option<bool>,
    /// Interface it is bound to.
    pub interface: Option<String>,
    /// Identity; `None`: no process holds it any more.
    pub inode: Option<SocketInode>,
    /// Who made it.
    pub uid: u32,
    /// Receive buffer, bytes; `None` from `/proc/net`.
    pub receive_buffer_bytes: Option<u32>,
}

/// A program as a person knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Program {
    /// Its pid in the pid namespace of the procfs that was read.
    pub pid: i32,
    /// Its name in the kernel (`/proc/PID/comm`).
    pub name: String,
}
