//! A network namespace as a candidate's binds find it: its addresses, ports and what a bind says.
//!
//! Only `check` looks here: a sample never binds anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::thread::LinkNameSpaceType;

use crate::model::PortUse;
use crate::sample::network::namespaces::{NAMED_NAMESPACES, enter};
use crate::sample::network::sockets::{Netlink, SocketTable};
use crate::sample::network::sysctls::{EphemeralPorts, EphemeralSysctls};

/// Where a bind would be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// The namespace of this process.
    Own,
    /// The namespace of this file: `/proc/PID/ns/net`, or one below `/run/netns`.
    At(PathBuf),
}

impl Location {
    /// The namespace `ip netns` knows by this name, within a root or this process's own.
    #[must_use]
    pub fn named(root: Option<&Path>, name: &str) -> Location {
        let root = root.unwrap_or(Path::new("/"));
        // HAProxy asks for /var/run, which is a link to /run where both are there.
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

/// What was seen of a namespace.
#[derive(Debug)]
pub struct Surroundings {
    /// Every socket on the ports that were asked for.
    pub uses: io::Result<Vec<PortUse>>,
    /// Its ephemeral ports.
    pub ephemeral: Option<EphemeralPorts>,
    /// `net.ipv6.bindv6only`.
    pub v6only: bool,
    /// Whether a socket can be bound to an address; absent where the kernel's answer was another.
    pub local: BTreeMap<IpAddr, bool>,
}

/// Looks at a namespace; the error is that it cannot be entered (needs `CAP_SYS_ADMIN`).
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
        let v6only = fs::read_to_string("/proc/sys/net/ipv6/bindv6only");
        let local = |address: &IpAddr| Some((*address, is_local(*address)?));
        Ok(Surroundings {
            uses: table.port_uses(ports),
            ephemeral: EphemeralSysctls::open(Path::new("/proc"))
                .and_then(|sysctls| sysctls.read())
                .ok(),
            v6only: v6only.is_ok_and(|text| text.trim() == "1"),
            local: addresses.iter().filter_map(local).collect(),
        })
    })
}

/// The kernel itself says so, of all there is: interfaces, local routes, `ip_nonlocal_bind`. A UDP
/// socket on a port of the kernel's choice is in nobody's way.
fn is_local(address: IpAddr) -> Option<bool> {
    let bound = || -> Result<(), Errno> {
        let socket = rustix::net::socket_with(
            family(address),
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        rustix::net::bind(&socket, &SocketAddr::new(address, 0))
    };
    match bound() {
        Ok(()) => Some(true),
        Err(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT) => Some(false),
        Err(_) => None,
    }
}

/// A socket as HAProxy would bind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialBind {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// `IPV6_V6ONLY`.
    pub v6only: bool,
    /// `SO_REUSEPORT`, which HAProxy sets unless told not to.
    pub reuse_port: bool,
}

/// Binds TCP sockets and closes each at once: `true` it was free, `false` EADDRINUSE, `None` any
/// other answer.
///
/// Never listens, so that it can take no connection: TCP sockets join those that share a port only
/// when they listen (`inet_reuseport_add_sock()`). UDP sockets join when they are bound, and would
/// take datagrams: there is no trial of those. It says what HAProxy would be told only where the
/// user is the same.
pub fn try_binds(location: &Location, trials: &[TrialBind]) -> io::Result<Vec<Option<bool>>> {
    location.within(|| Ok(trials.iter().map(try_bind).collect()))
}

fn try_bind(trial: &TrialBind) -> Option<bool> {
    let bound = || -> Result<(), Errno> {
        let family = family(trial.address);
        let socket =
            rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        sockopt::set_socket_reuseport(&socket, trial.reuse_port)?;
        if family == AddressFamily::INET6 {
            sockopt::set_ipv6_v6only(&socket, trial.v6only)?;
        }
        rustix::net::bind(&socket, &SocketAddr::new(trial.address, trial.port))
    };
    match bound() {
        Ok(()) => Some(true),
        Err(Errno::ADDRINUSE) => Some(false),
        Err(_) => None,
    }
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn trial(port: u16) -> TrialBind {
        let address = "127.0.0.1".parse().unwrap();
        TrialBind { address, port, v6only: false, reuse_port: true }
    }

    /// The table of HAProxy's binds, as far as one process can stage it.
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
