//! Reads the sockets of one network namespace, from `sock_diag` or, where that is refused, from
//! `/proc/net`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Seek as _};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, netlink, sockopt,
};

use super::proc_net;
use super::wire::{self, Extension, InetSocket, Message, Transport, UnixSocket, state};
use crate::model::{BoundSocket, Connection, ConnectionState, Protocol, SocketInode};

/// The size of the receive buffer: the datagrams of a dump have at most 32,448 bytes
/// (`netlink_dump()`, `net/netlink/af_netlink.c`).
const BUFFER_BYTES: usize = 32 * 1024;
/// How often a dump is requested in all when the table changes during it.
const ATTEMPTS: usize = 4;
/// How long to wait for the kernel, which answers at once; this only keeps a surprise from blocking
/// the sampler.
const PATIENCE: Duration = Duration::from_secs(5);

/// The source from which the sockets of a network namespace are read.
#[derive(Debug)]
pub enum SocketTable {
    /// `sock_diag` over netlink. It needs no right, and keeps reading the namespace in which it was
    /// opened.
    Netlink(Netlink),
    /// A directory like `/proc/PID/net`, which shows no cookies, buffers, queue limits or
    /// interfaces.
    Procfs(PathBuf),
}

impl SocketTable {
    /// The TCP listeners and the UDP sockets without a peer of every program, ordered by inode.
    pub fn bound(&mut self) -> io::Result<Vec<BoundSocket>> {
        let mut found = match self {
            SocketTable::Netlink(netlink) => netlink.bound(),
            SocketTable::Procfs(directory) => procfs_bound(directory),
        }?;
        found.sort_by_key(|socket| socket.inode);
        found.dedup_by_key(|socket| socket.inode);
        Ok(found)
    }

    /// The inodes of the unix stream sockets that accept connections.
    pub fn unix_listeners(&mut self) -> io::Result<BTreeSet<SocketInode>> {
        let mut inodes = BTreeSet::new();
        let mut keep = |socket: UnixSocket| {
            if socket.state == state::LISTEN && socket.kind == UnixSocket::STREAM {
                inodes.insert(SocketInode::from(socket.inode));
            }
        };
        match self {
            SocketTable::Netlink(netlink) => netlink.unix(state::mask(state::LISTEN), &mut keep)?,
            SocketTable::Procfs(directory) => procfs_unix(directory, &mut keep)?,
        }
        Ok(inodes)
    }

    /// The connections of the namespace whose inodes are in `wanted`, and which of `wanted` are in
    /// any table at all. This walks whole tables.
    pub fn connections(
        &mut self,
        wanted: &BTreeSet<SocketInode>,
    ) -> io::Result<(Vec<Connection>, BTreeSet<SocketInode>)> {
        let mut found = Vec::new();
        let mut listed = BTreeSet::new();
        let mut keep = |protocol, socket: InetSocket| {
            listed.insert(SocketInode::from(socket.inode));
            if wanted.contains(&SocketInode::from(socket.inode)) && socket.remote.1 != 0 {
                found.push(connection(protocol, &socket));
            }
        };
        let mut unix = UnixConnections::default();
        let shows_peers = matches!(self, SocketTable::Netlink(_));
        match self {
            SocketTable::Netlink(netlink) => {
                netlink.inet(Transport::Tcp, u32::MAX, |s| keep(Protocol::Tcp, s))?;
                netlink.inet(Transport::Udp, u32::MAX, |s| keep(Protocol::Udp, s))?;
                netlink.unix(u32::MAX, &mut |s| unix.see(s, wanted))?;
            }
            SocketTable::Procfs(directory) => {
                for protocol in Protocol::ALL {
                    procfs_inet(directory, protocol, |socket| {
                        keep(protocol, socket);
                        Some(())
                    })?;
                }
                procfs_unix(directory, &mut |s| unix.see(s, wanted))?;
            }
        }
        listed.append(&mut unix.listed);
        listed.retain(|inode| wanted.contains(inode));
        found.extend(unix.connections(shows_peers));
        Ok((found, listed))
    }
}

fn connection(protocol: Protocol, socket: &InetSocket) -> Connection {
    let inode = SocketInode::from(socket.inode);
    match protocol {
        Protocol::Udp => Connection::Udp { inode, local_port: socket.local.1 },
        Protocol::Tcp => Connection::Tcp { inode, state: connection_state(socket.state) },
    }
}

/// The state of a connection by the kernel's number for it.
pub(in crate::sample) fn connection_state(state: u8) -> ConnectionState {
    match state {
        state::ESTABLISHED => ConnectionState::Established,
        state::CLOSE_WAIT => ConnectionState::CloseWait,
        state::SYN_SENT => ConnectionState::SynSent,
        _ => ConnectionState::Other,
    }
}

/// Connected unix streams, gathered until all names are known: a socket pair has no name at either
/// end.
#[derive(Default)]
struct UnixConnections {
    wanted: Vec<UnixSocket>,
    named: BTreeSet<u32>,
    listed: BTreeSet<SocketInode>,
}

impl UnixConnections {
    fn see(&mut self, socket: UnixSocket, wanted: &BTreeSet<SocketInode>) {
        self.listed.insert(socket.inode.into());
        if socket.kind != UnixSocket::STREAM || socket.state != state::ESTABLISHED {
            return;
        }
        if socket.named {
            self.named.insert(socket.inode);
        }
        if wanted.contains(&SocketInode::from(socket.inode)) {
            self.wanted.push(socket);
        }
    }

    /// `shows_peers`: each socket came with its peer, as far as it has one.
    fn connections(self, shows_peers: bool) -> impl Iterator<Item = Connection> {
        let UnixConnections { wanted, named, .. } = self;
        wanted.into_iter().map(move |socket| {
            let is_named = socket.named || socket.peer.is_some_and(|peer| named.contains(&peer));
            let pair = (is_named || shows_peers).then_some(!is_named);
            Connection::Unix { inode: socket.inode.into(), pair }
        })
    }
}

/// A `sock_diag` socket with its receive buffer.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    /// `/proc/thread-self/net/protocols` of its namespace; `None` where it could not be opened.
    protocols: Option<File>,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens it in the network namespace of the calling thread.
    pub fn open() -> io::Result<Netlink> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::SOCK_DIAG),
        )?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        let protocols = File::open("/proc/thread-self/net/protocols").ok();
        Ok(Netlink { socket, protocols, sequence: 0, buffer: vec![0; BUFFER_BYTES] })
    }

    /// Whether there are multipath sockets in its namespace. A dump of them walks a large table
    /// even where there are none.
    fn has_multipath(&self) -> bool {
        let mut text = String::new();
        let Some(mut file) = self.protocols.as_ref() else { return true };
        let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
        read.is_err() || proc_net::counts_multipath(&text) != Some(0)
    }

    fn bound(&mut self) -> io::Result<Vec<BoundSocket>> {
        let mut raw = Vec::new();
        let listening = state::mask(state::LISTEN);
        self.inet(Transport::Tcp, listening, |socket| raw.push((Protocol::Tcp, socket)))?;
        if self.has_multipath() {
            self.inet(Transport::Mptcp, listening, |socket| raw.push((Protocol::Tcp, socket)))?;
        }
        let peerless = state::mask(state::CLOSE);
        self.inet(Transport::Udp, peerless, |socket| raw.push((Protocol::Udp, socket)))?;
        raw.retain(|(_, socket)| socket.inode != 0);
        Ok(raw.iter().map(|(protocol, socket)| bound(*protocol, socket, Some(&*self))).collect())
    }

    /// The name of the interface to which a socket is bound, or its index where it has no name.
    pub(in crate::sample) fn interface_of(&self, socket: &InetSocket) -> Option<String> {
        (socket.interface != 0).then(|| {
            netdevice::index_to_name(&self.socket, socket.interface)
                .unwrap_or_else(|_| socket.interface.to_string())
        })
    }

    fn inet(
        &mut self,
        transport: Transport,
        states: u32,
        mut each: impl FnMut(InetSocket),
    ) -> io::Result<()> {
        self.inet_on(transport, (states, 0), &mut each)
    }

    /// Shows the sockets in one of these states with this local port to `each`; 0 means any port.
    pub(in crate::sample) fn inet_on(
        &mut self,
        transport: Transport,
        sockets: (u32, u16),
        each: &mut dyn FnMut(InetSocket),
    ) -> io::Result<()> {
        match self.inet_with(transport, sockets, Extension::Memory, each) {
            // The kernel has no MPTCP, or not its diag module.
            Err(e) if transport == Transport::Mptcp && e.kind() == io::ErrorKind::NotFound => {
                Ok(())
            }
            other => other,
        }
    }

    /// Shows every TCP socket to `each`, with the bytes that it has moved.
    pub(in crate::sample) fn traffic(
        &mut self,
        mut each: impl FnMut(InetSocket),
    ) -> io::Result<()> {
        self.inet_with(Transport::Tcp, (u32::MAX, 0), Extension::Traffic, &mut each)
    }

    fn inet_with(
        &mut self,
        transport: Transport,
        sockets: (u32, u16),
        extension: Extension,
        each: &mut dyn FnMut(InetSocket),
    ) -> io::Result<()> {
        for family in [wire::INET, wire::INET6] {
            self.dump(
                |sequence| wire::inet_request(sequence, family, transport, sockets, extension),
                |payload| wire::inet_socket(payload).map(&mut *each),
            )?;
        }
        Ok(())
    }

    fn unix(&mut self, states: u32, each: &mut dyn FnMut(UnixSocket)) -> io::Result<()> {
        self.dump(
            |sequence| wire::unix_request(sequence, states),
            |payload| wire::unix_socket(payload).map(&mut *each),
        )
    }

    /// Runs a dump to its end. An interrupted dump starts over, so `each` may see a socket twice.
    fn dump(
        &mut self,
        request: impl Fn(u32) -> Vec<u8>,
        mut each: impl FnMut(&[u8]) -> Option<()>,
    ) -> io::Result<()> {
        for _ in 0..ATTEMPTS {
            self.sequence = self.sequence.wrapping_add(1);
            rustix::net::send(&self.socket, &request(self.sequence), SendFlags::empty())?;
            if self.receive(&mut each)? {
                return Ok(());
            }
        }
        Err(io::Error::other("the socket table changed during each of several dumps"))
    }

    /// Receives one dump. Returns `false` when it was interrupted.
    fn receive(&mut self, each: &mut impl FnMut(&[u8]) -> Option<()>) -> io::Result<bool> {
        let mut whole = true;
        loop {
            let (_, length) =
                rustix::net::recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::TRUNC)?;
            let datagram = self.buffer.get(..length).ok_or(Errno::MSGSIZE)?;
            for message in wire::messages(datagram, self.sequence) {
                match message {
                    Message::Socket(payload) => each(payload).ok_or_else(malformed)?,
                    Message::Done => return Ok(whole),
                    Message::Error(errno) => return Err(io::Error::from_raw_os_error(errno)),
                    Message::Interrupted => whole = false,
                    Message::Malformed => return Err(malformed()),
                }
            }
        }
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed sock_diag message")
}

/// `netlink`: it shows what procfs does not.
fn bound(protocol: Protocol, socket: &InetSocket, netlink: Option<&Netlink>) -> BoundSocket {
    let queue = |value| (protocol == Protocol::Tcp).then_some(value);
    BoundSocket {
        protocol,
        address: unmapped(socket.local.0),
        port: socket.local.1,
        interface: netlink.and_then(|netlink| netlink.interface_of(socket)),
        inode: socket.inode.into(),
        cookie: netlink.map(|_| socket.cookie),
        uid: socket.uid,
        receive_buffer_bytes: socket.receive_buffer,
        queue_length: queue(socket.rqueue),
        queue_limit: netlink.and_then(|_| queue(socket.wqueue)),
        drops: socket.drops,
    }
}

/// Converts an IPv4-mapped address: an IPv6 socket that is bound to one holds the IPv4 port.
pub(in crate::sample) fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

fn procfs_bound(directory: &Path) -> io::Result<Vec<BoundSocket>> {
    let mut found = Vec::new();
    procfs_inet(directory, Protocol::Tcp, |socket| {
        // Listeners come first (`tcp_seq_next`), and connections may be many.
        (socket.state == state::LISTEN).then(|| found.push(bound(Protocol::Tcp, &socket, None)))
    })?;
    procfs_inet(directory, Protocol::Udp, |socket| {
        if socket.state == state::CLOSE {
            found.push(bound(Protocol::Udp, &socket, None));
        }
        Some(())
    })?;
    Ok(found)
}

/// Shows the sockets in the tables of both families of `protocol` to `each`, and leaves a table
/// once `each` returns `None`.
pub(in crate::sample) fn procfs_inet(
    directory: &Path,
    protocol: Protocol,
    mut each: impl FnMut(InetSocket) -> Option<()>,
) -> io::Result<()> {
    for name in [protocol.to_string(), format!("{protocol}6")] {
        let file = match File::open(directory.join(&name)) {
            // The kernel has no IPv6.
            Err(e) if e.kind() == io::ErrorKind::NotFound && name.ends_with('6') => continue,
            other => other?,
        };
        for line in BufReader::new(file).lines().skip(1) {
            if proc_net::proc_inet_line(&line?).and_then(&mut each).is_none() {
                break;
            }
        }
    }
    Ok(())
}

fn procfs_unix(directory: &Path, each: &mut dyn FnMut(UnixSocket)) -> io::Result<()> {
    for line in BufReader::new(File::open(directory.join("unix"))?).split(b'\n').skip(1) {
        if let Some(socket) = proc_net::proc_unix_line(&String::from_utf8_lossy(&line?)) {
            each(socket);
        }
    }
    Ok(())
}
