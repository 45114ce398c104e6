//! Decides whether a socket is in the way of a bind, whether a port is ephemeral, and whether a socket
//! only sends.
//!
//! These are the kernel's rules (`inet_bind_conflict()`, `udp_lib_lport_inuse()`,
//! `inet_rcv_saddr_equal()`) for the sockets that HAProxy binds. They hold within one network
//! namespace: a port number of another namespace is another port. `tests/binding.rs` compares
//! every answer with that of real binds.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::advice::in_network;
use crate::model::declared::Listener;
use crate::model::numbers::{list, runs};
use crate::model::{ConnectionState, NetworkNamespace, PortRole, PortUse, Protocol};

/// Receive buffer of a UDP socket that only sends: HAProxy's log sockets ask for 0 bytes and get
/// the kernel's minimum (`SOCK_MIN_RCVBUF`, 2304 on 64 bits).
const SENDERS_BUFFER_BYTES: u32 = 2304;

/// A socket that HAProxy is about to bind. HAProxy always sets `SO_REUSEADDR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind<'a> {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Local address; unspecified for all addresses.
    pub address: IpAddr,
    /// Local port.
    pub port: u16,
    /// Interface the socket is bound to (`SO_BINDTODEVICE`).
    pub interface: Option<&'a str>,
    /// An IPv6 socket that leaves IPv4 alone (`IPV6_V6ONLY`).
    pub v6only: bool,
    /// `SO_REUSEPORT`, which HAProxy sets unless the configuration says `noreuseport`.
    pub reuse_port: bool,
    /// Effective uid of the process that binds; `None` if not known.
    pub uid: Option<u32>,
}

/// What all binds of one configuration have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The configuration says `noreuseport`.
    pub noreuseport: bool,
    /// `net.ipv6.bindv6only`: what an IPv6 socket is unless its `bind` line says otherwise.
    pub v6only: bool,
    /// Effective uid that HAProxy is started with; `None` if not known.
    pub uid: Option<u32>,
}

/// The reuse options of a socket that holds a port. The kernel's tables do not show them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// `SO_REUSEADDR` and `SO_REUSEPORT`, as HAProxy sets them on each of its listeners.
    Both,
    /// Neither of the two, as on a socket that got its port from the kernel.
    Neither,
    /// Not known.
    Unknown,
}

impl Reuse {
    /// Derives the options from who opened the socket. `outgoing`: as [`is_outgoing`] says.
    #[must_use]
    pub fn of(used: &PortUse, by_haproxy: bool, outgoing: Option<bool>) -> Reuse {
        match used.role {
            PortRole::Peerless if only_sends(used) => Reuse::Neither,
            PortRole::Listening | PortRole::Bound | PortRole::Peerless if by_haproxy => Reuse::Both,
            // An accepted connection inherits the options of its listener. Where those are
            // missing, the listener itself is in the way.
            PortRole::Connected(_) | PortRole::TimeWait if outgoing == Some(false) => Reuse::Both,
            _ => Reuse::Unknown,
        }
    }
}

/// What a bind finds in one socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The socket is not in the way.
    Free,
    /// The bind fails with `EADDRINUSE`.
    Blocked,
    /// The bind fails or succeeds by an option that the kernel's tables do not show.
    Unsure,
}

impl<'a> Bind<'a> {
    /// The bind of one port of a listener.
    #[must_use]
    pub fn of(listener: &'a Listener, port: u16, terms: Terms) -> Bind<'a> {
        Bind {
            protocol: listener.protocol,
            address: listener.address,
            port,
            interface: listener.interface.as_deref(),
            v6only: listener.v6only.unwrap_or(terms.v6only),
            reuse_port: !terms.noreuseport,
            uid: terms.uid,
        }
    }

    /// What the bind finds in a socket with these options.
    ///
    /// | the socket | the bind succeeds |
    /// |---|---|
    /// | listens (TCP) | when both set `SO_REUSEPORT` under one uid |
    /// | has TCP's port in any other way | when both set `SO_REUSEADDR` |
    /// | is a UDP socket | when both set `SO_REUSEADDR` |
    #[must_use]
    pub fn answer(&self, used: &PortUse, reuse: Reuse) -> Answer {
        let overlaps = self.overlaps(used);
        if overlaps == Some(false) {
            return Answer::Free;
        }
        let same_uid = self.uid.map(|uid| uid == used.uid);
        let answer = match (used.role, reuse) {
            (PortRole::Listening, _) if !self.reuse_port || same_uid == Some(false) => {
                Answer::Blocked
            }
            (PortRole::Listening, Reuse::Both) if same_uid.is_none() => Answer::Unsure,
            (_, Reuse::Both) => Answer::Free,
            (_, Reuse::Neither) => Answer::Blocked,
            (_, Reuse::Unknown) => Answer::Unsure,
        };
        match (overlaps, answer) {
            (None, Answer::Blocked) => Answer::Unsure,
            _ => answer,
        }
    }

    /// Whether a listener that some configuration declares would overlap with this bind on this port,
    /// once it is bound; `None` if not known, as in [`Bind::overlaps`].
    #[must_use]
    pub fn overlaps_declared(&self, listener: &Listener, terms: Terms) -> Option<bool> {
        let bound = Bind::of(listener, self.port, terms);
        if !listener.ports.contains(self.port) {
            return Some(false);
        }
        let udp = bound.protocol == Protocol::Udp;
        self.overlaps(&PortUse {
            protocol: bound.protocol,
            role: if udp { PortRole::Peerless } else { PortRole::Listening },
            address: bound.address,
            port: bound.port,
            remote: None,
            v6only: bound.address.is_ipv6().then_some(bound.v6only),
            interface: listener.interface.clone(),
            inode: None,
            uid: bound.uid.unwrap_or_default(),
            receive_buffer_bytes: Some(u32::MAX),
        })
    }

    /// One of the two sockets would receive what is meant for the other; `None` if not known,
    /// because the tables show `IPV6_V6ONLY` of no connection, and `/proc/net` shows neither that
    /// nor interfaces.
    #[must_use]
    pub fn overlaps(&self, used: &PortUse) -> Option<bool> {
        if used.protocol != self.protocol || used.port != self.port {
            return Some(false);
        }
        let any = |address: IpAddr| address.is_unspecified();
        let (mine, other) = (self.address, used.address);
        let addresses = match (mine.is_ipv6(), other.is_ipv6()) {
            (true, false) => Some(any(mine) && !self.v6only),
            (false, true) if any(other) => used.v6only.map(|v6only| !v6only),
            // Only bind(2) makes a socket with an IPv6 address of its own leave IPv4 alone. One
            // that got its port when it connected is in the way of the whole of IPv4, unless it
            // set IPV6_V6ONLY itself; the tables do not show that of connections.
            (false, true) if any(mine) && used.remote.is_some() => None,
            (false, true) => Some(false),
            _ => Some(mine == other || any(mine) || any(other)),
        };
        let from_procfs = used.receive_buffer_bytes.is_none();
        let interfaces = match (self.interface, used.interface.as_deref()) {
            (Some(mine), Some(other)) => Some(mine == other),
            (Some(_), None) if from_procfs => None,
            _ => Some(true),
        };
        match (addresses, interfaces) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        }
    }
}

/// The socket holds a UDP port only to send from it, as HAProxy's log sockets do.
#[must_use]
pub fn only_sends(used: &PortUse) -> bool {
    used.protocol == Protocol::Udp && used.receive_buffer_bytes.is_some_and(never_receives)
}

/// A UDP socket with a receive buffer of this size receives nothing.
#[must_use]
pub fn never_receives(receive_buffer_bytes: u32) -> bool {
    receive_buffer_bytes <= SENDERS_BUFFER_BYTES
}

/// Clients reach the socket: it is a TCP listener, or a UDP socket without a peer that receives.
#[must_use]
pub fn takes_clients(used: &PortUse) -> bool {
    matches!(used.role, PortRole::Listening | PortRole::Peerless) && !only_sends(used)
}

/// This end opened the connection; `None` if not known.
///
/// If a socket that takes clients covers the same address and port, the connection was accepted. Otherwise
/// it is outgoing if the other end listens, if it is still being opened, or if the kernel may have chosen
/// this port and not the other one. `beside`: the sockets of the same port. `peer_listens`: the other end
/// is seen to be a listener of this host.
#[must_use]
pub fn is_outgoing<'u>(
    connection: &PortUse,
    beside: impl IntoIterator<Item = &'u PortUse>,
    ephemeral: Ephemeral<'_>,
    peer_listens: bool,
) -> Option<bool> {
    let accepts = |other: &PortUse| {
        other.protocol == connection.protocol
            && takes_clients(other)
            && (other.address.is_unspecified() || other.address == connection.address)
    };
    if beside.into_iter().any(accepts) {
        return Some(false);
    }
    if peer_listens || connection.role == PortRole::Connected(ConnectionState::SynSent) {
        return Some(true);
    }
    let (range, (_, remote_port)) = (ephemeral.range?, connection.remote?);
    let chosen = ephemeral.gives_away(connection.port) == Some(true);
    (chosen && !range.contains(&remote_port)).then_some(true)
}

/// The ports that the kernel of one network namespace gives to outgoing connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ephemeral<'a> {
    /// `net.ipv4.ip_local_port_range`; `None` if not known.
    pub range: Option<&'a RangeInclusive<u16>>,
    /// `net.ipv4.ip_local_reserved_ports`: ports of the range that it keeps back.
    pub reserved: &'a [RangeInclusive<u16>],
}

impl<'a> Ephemeral<'a> {
    /// The ports that the kernel of this network namespace gives away.
    #[must_use]
    pub fn of(network: &'a NetworkNamespace) -> Ephemeral<'a> {
        Ephemeral { range: network.ephemeral.as_ref(), reserved: &network.reserved }
    }

    /// An outgoing connection may get `port`; `None` if the range is not known.
    #[must_use]
    pub fn gives_away(self, port: u16) -> Option<bool> {
        Some(self.range?.contains(&port) && !self.reserves(port))
    }

    /// No outgoing connection gets `port`, although it may lie in the range.
    #[must_use]
    pub fn reserves(self, port: u16) -> bool {
        self.reserved.iter().any(|reserved| reserved.contains(&port))
    }

    /// The command that reserves these ports too. The sysctl replaces the whole list, so the
    /// command repeats what is reserved already. `netns` is the label of the network namespace
    /// that it must run in.
    #[must_use]
    pub fn reserve_command(self, netns: &str, ports: impl IntoIterator<Item = u16>) -> String {
        let mut all: Vec<u16> = self.reserved.iter().cloned().flatten().collect();
        all.extend(ports);
        all.sort_unstable();
        let list = list(&runs(all));
        in_network(netns, &format!("sysctl -w net.ipv4.ip_local_reserved_ports={list}"))
    }
}
