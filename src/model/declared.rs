//! What a configuration declares: listeners, inherited sockets, uncertain lines and errors.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::named::named;
use super::socket::Protocol;

/// A place in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The name of the file; `command line` for an argument.
    pub file: Arc<Path>,
    /// The line, from 1; 0 for an argument.
    pub line: usize,
    /// The bytes of the line to underline, from 1, end exclusive. Never empty.
    pub columns: Range<usize>,
}

/// Consecutive ports of one address, both ends included: `:80` or `:8000-8010`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports {
    /// The lowest port.
    pub first: u16,
    /// The highest port.
    pub last: u16,
}

impl Ports {
    /// Returns every port of the range.
    pub fn iter(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }

    /// Returns the number of ports.
    #[must_use]
    pub fn count(self) -> usize {
        usize::from(self.last - self.first) + 1
    }

    /// Whether the range contains `port`.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// Sockets that HAProxy would listen on: one address with one port or a range of ports.
///
/// A range stays a range here, so that memory is bounded by the size of the configuration.
/// [`Declared::endpoints`] returns one item for each port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// TCP, or UDP for QUIC and `dgram-bind`.
    pub protocol: Protocol,
    /// Whether it carries QUIC.
    pub quic: bool,
    /// Whether it is multipath TCP (`mptcp@`, 3.1): another protocol for `sock_diag`, the same ports.
    pub mptcp: bool,
    /// The address; `0.0.0.0` for `*` and an empty host.
    pub address: IpAddr,
    /// The port or ports.
    pub ports: Ports,
    /// The interface of `interface X` (`SO_BINDTODEVICE`).
    pub interface: Option<String>,
    /// The network namespace of `namespace X`, by its name under `/run/netns`.
    pub namespace: Option<String>,
    /// Whether it is `transparent`, so that the address need not be on this host.
    pub transparent: bool,
    /// Whether an IPv6 listener leaves IPv4 alone; `None` if the kernel's `net.ipv6.bindv6only` decides.
    pub v6only: Option<bool>,
    /// The section as a person names it: `frontend web`, `peers p`, `stats socket`, `-S`.
    pub section: Arc<str>,
    /// The place of its address.
    pub place: Place,
}

/// A listening socket that HAProxy inherits by number (`fd@N`). Its address and port are not declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inherited {
    /// The number of the descriptor.
    pub fd: i32,
    /// TCP, or UDP for `dgram-bind`: the protocol that the socket must have, unless it is a unix socket.
    pub protocol: Protocol,
    /// The section, as in [`Listener::section`].
    pub section: Arc<str>,
    /// The place of its address.
    pub place: Place,
}

/// A unix socket that HAProxy would listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixListener {
    /// Its path including `unix-bind prefix`, or its abstract name without the leading zero byte.
    pub path: String,
    /// Whether it has an abstract name in the network namespace instead of a path (`abns@`, `abnsz@`).
    pub is_abstract: bool,
    /// Whether it takes datagrams, not connections (`dgram-bind`).
    pub is_datagram: bool,
    /// The section, as in [`Listener::section`].
    pub section: Arc<str>,
    /// The place of its address.
    pub place: Place,
}

/// A listener that an undecidable line may declare. An absent part could have any value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Possible {
    /// The transport protocol.
    pub protocol: Option<Protocol>,
    /// The address.
    pub address: Option<IpAddr>,
    /// The ports.
    pub ports: Option<Ports>,
}

impl Possible {
    /// Whether a socket bound like this could come from it.
    #[must_use]
    pub fn covers(&self, protocol: Protocol, address: IpAddr, port: u16) -> bool {
        self.protocol.is_none_or(|own| own == protocol)
            && self.address.is_none_or(|own| own == address)
            && self.ports.is_none_or(|own| own.contains(port))
    }
}

/// A line whose meaning depends on more than files, environment and arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uncertain {
    /// The line.
    pub place: Place,
    /// The reason, for a person.
    pub why: String,
    /// The listeners that it may declare; empty if it cannot declare any itself.
    pub may_bind: Vec<Possible>,
}

/// A line that HAProxy certainly rejects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The line.
    pub place: Place,
    /// What is wrong, for a person.
    pub what: String,
    /// How to fix it, if that is known.
    pub help: Option<&'static str>,
}

/// A host name in place of an address. HAProxy looks it up when it reads the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName {
    /// The name and the family.
    pub query: HostQuery,
    /// The place of its address.
    pub place: Place,
}

/// What HAProxy asks the resolver for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostQuery {
    /// The name.
    pub name: String,
    /// The family that a prefix such as `ipv6@` asks for; `None` for the first address of either.
    pub family: Option<Family>,
}

named! {
    /// The family of an internet address.
    pub enum Family {
        /// IPv4.
        V4 = "ipv4",
        /// IPv6.
        V6 = "ipv6",
    }
}

/// The settings of the `global` section that concern the process (configuration manual, section 3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Globals {
    /// The path of `pidfile`. The argument `-p` overrides it.
    pub pidfile: Option<String>,
    /// How long listeners stay open after a soft stop (`grace`).
    pub grace: Option<Duration>,
    /// How long after a soft stop HAProxy cuts the connections that are left (`hard-stop-after`).
    pub hard_stop_after: Option<Duration>,
    /// How many reloads a worker survives before its master ends it (`mworker-max-reloads`).
    pub max_reloads: Option<u32>,
    /// `daemon`.
    pub daemon: bool,
    /// `master-worker`.
    pub master_worker: bool,
    /// `noreuseport`, or the option `-dR`.
    pub noreuseport: bool,
}

/// The addresses that connections to servers are bound to by `source`. HAProxy sets `SO_REUSEADDR` on these
/// connections, so they leave their ports to listeners.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Those that are written down.
    pub addresses: BTreeSet<IpAddr>,
    /// One is a wildcard, a name, or the client's address.
    pub any: bool,
}

impl Sources {
    /// Whether a connection from this address may have been bound by `source`.
    #[must_use]
    pub fn may_be(&self, address: IpAddr) -> bool {
        self.any || self.addresses.contains(&address)
    }
}

/// Everything that a configuration declares, in the order of the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// The listeners.
    pub listeners: Vec<Listener>,
    /// The inherited sockets.
    pub inherited: Vec<Inherited>,
    /// The unix sockets to listen on.
    pub unix: Vec<UnixListener>,
    /// The lines that cannot be decided.
    pub uncertain: Vec<Uncertain>,
    /// The lines that HAProxy rejects. With such a line it does not start, and the other fields hold
    /// what it would declare without the line.
    pub errors: Vec<ConfigError>,
    /// The settings of the process.
    pub globals: Globals,
    /// The host names in place of addresses, whether or not it is known what they stand for.
    pub host_names: Vec<HostName>,
    /// The names of the environment variables that it reads.
    pub variables: BTreeSet<String>,
    /// From where it opens connections.
    pub sources: Sources,
}

impl Declared {
    /// Returns every port of every listener.
    pub fn endpoints(&self) -> impl Iterator<Item = (&Listener, u16)> {
        self.listeners
            .iter()
            .flat_map(|listener| listener.ports.iter().map(move |port| (listener, port)))
    }

    /// Whether an uncertain line or an inherited socket could explain this socket.
    #[must_use]
    pub fn may_bind(&self, protocol: Protocol, address: IpAddr, port: u16) -> bool {
        let mut possible = self.uncertain.iter().flat_map(|uncertain| &uncertain.may_bind);
        self.inherited.iter().any(|inherited| inherited.protocol == protocol)
            || possible.any(|possible| possible.covers(protocol, address, port))
    }
}
