//! Reads a network namespace for `check`: its sockets, its addresses and the outcome of trial
//! binds.
//!
//! Only `check` uses this; a sample never binds a socket to a port.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::thread::LinkNameSpaceType;

use crate::model::PortUse;
use crate::sample::network::namespaces::{NAMED_NAMESPACES, enter};
use crate::sample::network::sockets::{Netlink, SocketTable};
use crate::sample::network::sysctls::{EphemeralPorts, Sysctls};

/// The network namespace in which a bind would be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// The namespace of the exporter.
    Own,
    /// The namespace that this file refers to: `/proc/PID/ns/net`, or a name below `/run/netns`.
    At(PathBuf),
}

impl Location {
    /// The namespace that `ip netns` knows by this name, within this root or the exporter's own.
    #[must_use]
    pub fn named(root: Option<&Path>, name: &str) -> Location {
        let root = root.unwrap_or(Path::new("/"));
        // HAProxy looks in /var/run, which is a link to /run where both exist.
        let within = |place: &str| root.join(place.trim_start_matches('/')).join(name);
        let (usual, other) = (within(NAMED_NAMESPACES), within("/var/run/netns"));
        Location::At(if !usual.exists() && other.exists() { other } else { usual })
    }

    fn within<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        match self {
            Location::Own => work(),
            Location::At(path) => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                let file = rustix::fs::open(path, flags, Mode::empty())?;
                enter(file, LinkNameSpaceType::Network, work)
            }
        }
    }
}

/// What a candidate configuration would find in a namespace.
#[derive(Debug)]
pub struct Surroundings {
    /// The sockets that use the ports in question.
    pub uses: io::Result<Vec<PortUse>>,
    /// The ephemeral ports.
    pub ephemeral: Option<EphemeralPorts>,
    /// `net.ipv6.bindv6only`.
    pub v6only: bool,
    /// Whether a socket can be bound to an address; absent where the kernel's answer did not show
    /// it.
    pub local: BTreeMap<IpAddr, bool>,
}

/// Reads a namespace. The error is that it cannot be entered, which needs `CAP_SYS_ADMIN`.
pub fn look(
    location: &Location,
    ports: &BTreeSet<u16>,
    addresses: &BTreeSet<IpAddr>,
) -> io::Result<Surroundings> {
    location.within(|| {
        let mut table = match Netlink::open() {
            Ok(netlink) => SocketTable::Netlink(netlink),
            Err(_) => SocketTable::Procfs(PathBuf::from("/proc/thread-self/net")),
        };
        let sysctls = Sysctls::open(Path::new("/proc")).ok();
        let local = |address: &IpAddr| Some((*address, is_local(*address)?));
        Ok(Surroundings {
            uses: table.port_uses(ports),
            ephemeral: sysctls.as_ref().and_then(|sysctls| sysctls.ephemeral().ok()),
            v6only: sysctls.as_ref().is_some_and(Sysctls::v6only),
            local: addresses.iter().filter_map(local).collect(),
        })
    })
}

/// Whether a socket can be bound to an address. Only the kernel takes all into account: interfaces,
/// local routes, `ip_nonlocal_bind`. A UDP socket on a port that the kernel chooses disturbs no
/// program.
fn is_local(address: IpAddr) -> Option<bool> {
    match bind(SocketAddr::new(address, 0), SocketType::DGRAM, |_| Ok(())) {
        Ok(()) => Some(true),
        Err(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT) => Some(false),
        Err(_) => None,
    }
}

/// A socket as HAProxy would bind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialBind {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// `IPV6_V6ONLY`.
    pub v6only: bool,
    /// `SO_REUSEPORT`, which HAProxy sets unless it is started with `noreuseport`.
    pub reuse_port: bool,
}

/// Binds TCP sockets and closes each at once. `true`: the address was free; `false`: EADDRINUSE;
/// `None`: any other answer.
///
/// The sockets never listen, so that they can take no connection: a TCP socket joins the others
/// that share its port only when it listens (`inet_reuseport_add_sock()`). A UDP socket joins when
/// it is bound and would take datagrams, so there are no trials of UDP. The answer is the one that
/// HAProxy would get only where the user is the same.
pub fn try_binds(location: &Location, trials: &[TrialBind]) -> io::Result<Vec<Option<bool>>> {
    location.within(|| Ok(trials.iter().map(try_bind).collect()))
}

fn try_bind(trial: &TrialBind) -> Option<bool> {
    let address = SocketAddr::new(trial.address, trial.port);
    let bound = bind(address, SocketType::STREAM, |socket| {
        sockopt::set_socket_reuseaddr(socket, true)?;
        sockopt::set_socket_reuseport(socket, trial.reuse_port)?;
        if address.is_ipv6() { sockopt::set_ipv6_v6only(socket, trial.v6only) } else { Ok(()) }
    });
    match bound {
        Ok(()) => Some(true),
        Err(Errno::ADDRINUSE) => Some(false),
        Err(_) => None,
    }
}

/// Binds a socket with these options, and closes it at once.
fn bind(
    address: SocketAddr,
    kind: SocketType,
    options: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    options(&socket)?;
    rustix::net::bind(&socket, &address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn trial(port: u16) -> TrialBind {
        let address = "127.0.0.1".parse().unwrap();
        TrialBind { address, port, v6only: false, reuse_port: true }
    }

    /// The cases of HAProxy's binds that one process can stage.
    #[test]
    fn the_kernel_answers_a_trial() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let source = client.local_addr().unwrap().port();
        let (accepted, _) = listener.accept().unwrap();
        let answer = |port| try_binds(&Location::Own, &[trial(port)]).unwrap()[0];
        assert_eq!(answer(port), Some(false), "a listener without SO_REUSEPORT");
        assert_eq!(answer(source), Some(false), "an outgoing connection's source port");
        drop(listener);
        assert_eq!(answer(port), Some(true), "accepted connections only");
        drop(accepted);
    }

    #[test]
    fn the_kernel_knows_its_addresses() {
        for (address, expected) in [("127.0.0.1", true), ("127.9.9.9", true), ("192.0.2.77", false)]
        {
            assert_eq!(is_local(address.parse().unwrap()), Some(expected), "{address}");
        }
    }
}
