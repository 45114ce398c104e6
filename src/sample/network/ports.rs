//! Finds every socket that uses a port number, listener or not.

use std::collections::BTreeSet;
use std::io;

use super::sockets::{Netlink, SocketTable, connection_state, procfs_inet, unmapped};
use super::wire::{InetSocket, Transport, state};
use crate::model::{PortRole, PortUse, Protocol};

/// Up to this many ports are asked for one by one. The kernel walks its whole table for each
/// question, so for more ports one dump of all sockets is cheaper.
const MOST_QUESTIONS: usize = 16;

impl SocketTable {
    /// Every TCP and UDP socket with one of these local ports.
    pub fn port_uses(&mut self, ports: &BTreeSet<u16>) -> io::Result<Vec<PortUse>> {
        let mut found: Vec<PortUse> = Vec::new();
        match self {
            SocketTable::Netlink(netlink) => {
                if ports.len() <= MOST_QUESTIONS {
                    for &port in ports {
                        on_port(netlink, port, &mut |used| found.push(used))?;
                    }
                } else {
                    on_port(netlink, 0, &mut |used| {
                        if ports.contains(&used.port) {
                            found.push(used);
                        }
                    })?;
                }
            }
            SocketTable::Procfs(directory) => {
                for protocol in Protocol::ALL {
                    procfs_inet(directory, protocol, |socket| {
                        if ports.contains(&socket.local.1) {
                            found.extend(port_use(protocol, &socket, None));
                        }
                        Some(())
                    })?;
                }
            }
        }
        // An interrupted dump shows some sockets twice, and MPTCP shows its TCP sockets again.
        let mut seen = BTreeSet::new();
        found.retain(|used| used.inode.is_none_or(|inode| seen.insert(inode)));
        Ok(found)
    }
}

/// Shows the use of `port` by every socket to `each`; 0 means any port.
fn on_port(netlink: &mut Netlink, port: u16, each: &mut dyn FnMut(PortUse)) -> io::Result<()> {
    for (transport, protocol) in [
        (Transport::Tcp, Protocol::Tcp),
        (Transport::Mptcp, Protocol::Tcp),
        (Transport::Udp, Protocol::Udp),
    ] {
        let mut sockets = Vec::new();
        netlink.inet_on(transport, (state::ANY, port), &mut |socket| sockets.push(socket))?;
        for socket in sockets {
            let interface = netlink.interface_of(&socket);
            if let Some(used) = port_use(protocol, &socket, interface) {
                each(used);
            }
        }
    }
    Ok(())
}

/// The use that a socket makes of its local port; `None` if it has none.
fn port_use(protocol: Protocol, socket: &InetSocket, interface: Option<String>) -> Option<PortUse> {
    let connected = socket.remote.1 != 0;
    let role = match (protocol, socket.state) {
        (Protocol::Tcp, state::LISTEN) => PortRole::Listening,
        (Protocol::Tcp, state::TIME_WAIT) => PortRole::TimeWait,
        (Protocol::Tcp, state::BOUND | state::CLOSE) => PortRole::Bound,
        (Protocol::Udp, _) if !connected => PortRole::Peerless,
        (_, state) => PortRole::Connected(connection_state(state)),
    };
    (socket.local.1 != 0).then(|| PortUse {
        protocol,
        role,
        address: unmapped(socket.local.0),
        port: socket.local.1,
        remote: connected.then(|| (unmapped(socket.remote.0), socket.remote.1)),
        v6only: socket.v6only,
        interface,
        inode: (socket.inode != 0).then(|| socket.inode.into()),
        uid: socket.uid,
        receive_buffer_bytes: socket.receive_buffer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use crate::model::ConnectionState;

    /// The kernel lists multipath listeners in a table of their own; the ports are those of TCP.
    #[test]
    fn a_multipath_listener_is_seen_once() {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};
        let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
        let flags = SocketFlags::CLOEXEC;
        let Ok(socket) = rustix::net::socket_with(family, kind, flags, Some(ipproto::MPTCP)) else {
            eprintln!("this kernel has no MPTCP: not tested");
            return;
        };
        let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        rustix::net::bind(&socket, &any).unwrap();
        rustix::net::listen(&socket, 1).unwrap();
        let local = rustix::net::getsockname(&socket).unwrap();
        let port = std::net::SocketAddr::try_from(local).unwrap().port();
        let inode = rustix::fs::fstat(&socket).unwrap().st_ino;
        let mut table = SocketTable::Netlink(Netlink::open().unwrap());
        let uses = table.port_uses(&BTreeSet::from([port])).unwrap();
        let held: Vec<_> = uses.iter().filter_map(|used| used.inode).collect();
        assert_eq!(held, [inode], "{uses:?}");
        let bound = table.bound().unwrap();
        assert!(bound.iter().any(|socket| socket.inode == inode), "{bound:?}");
    }

    /// A listener, both ends of a connection and a UDP socket, as the real kernel shows them.
    #[test]
    fn everything_on_a_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let source = client.local_addr().unwrap().port();
        let udp = UdpSocket::bind(("127.0.0.1", port)).unwrap();
        for ports in [BTreeSet::from([port]), (port - 9..=port.saturating_add(9)).collect()] {
            let mut table = SocketTable::Netlink(Netlink::open().unwrap());
            let uses = table.port_uses(&ports).unwrap();
            let mut here: Vec<_> = uses.iter().filter(|used| used.port == port).collect();
            here.sort_by_key(|used| format!("{:?}", used.role));
            let roles: Vec<_> = here.iter().map(|used| used.role).collect();
            let connected = PortRole::Connected(ConnectionState::Established);
            // The connection was not accepted yet and has no inode.
            assert_eq!(roles, [connected, PortRole::Listening, PortRole::Peerless]);
            assert_eq!(here[0].remote.map(|(_, port)| port), Some(source));
        }
        let mut table = SocketTable::Netlink(Netlink::open().unwrap());
        let outgoing = table.port_uses(&BTreeSet::from([source])).unwrap();
        let [only] = outgoing.as_slice() else { panic!("{outgoing:?}") };
        assert_eq!(only.remote, Some(("127.0.0.1".parse().unwrap(), port)));
        assert!(only.inode.is_some());
        drop(udp);
    }
}
