//! What a configuration declares, as plain values.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::socket::Protocol;

/// Where in the configuration something is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Name of the file; `command line` for what was given there.
    pub file: Arc<Path>,
    /// Line, from 1; 0 on the command line.
    pub line: usize,
    /// Bytes of the line it is about, from 1, end exclusive: what to underline. Never empty.
    pub columns: Range<usize>,
}

/// Consecutive ports of one address, both ends included: `:80` or `:8000-8010`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports {
    /// Lowest.
    pub first: u16,
    /// Highest.
    pub last: u16,
}

impl Ports {
    /// Every port of the range.
    pub fn iter(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }

    /// How many there are.
    #[must_use]
    pub fn count(self) -> usize {
        usize::from(self.last - self.first) + 1
    }

    /// `port` is one of them.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// Sockets HAProxy would listen on: one address with one port or a range of ports.
///
/// A range stays a range here, so that the size of the answer is bounded by the size of the
/// question; [`Declared::endpoints`] gives one item per port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// TCP, or UDP for QUIC and `dgram-bind`.
    pub protocol: Protocol,
    /// UDP that carries QUIC.
    pub quic: bool,
    /// Multipath TCP (`mptcp@`, 3.1): another protocol for `sock_diag`, the same port space.
    pub mptcp: bool,
    /// Address; `0.0.0.0` for `*` and an empty host.
    pub address: IpAddr,
    /// Port or ports.
    pub ports: Ports,
    /// `interface X` (`SO_BINDTODEVICE`).
    pub interface: Option<String>,
    /// `namespace X`: a network namespace by its name under `/run/netns`.
    pub namespace: Option<String>,
    /// `transparent`: the address need not be on this host.
    pub transparent: bool,
    /// For IPv6: does it leave IPv4 alone? `None`: the kernel's `net.ipv6.bindv6only` decides.
    pub v6only: Option<bool>,
    /// Section, for a person: `frontend web`, `peers p`, `stats socket`, `-S`.
    pub section: Arc<str>,
    /// The address's words.
    pub place: Place,
}

/// A listening socket that HAProxy is handed by number (`fd@N`); address and port are the socket's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inherited {
    /// The descriptor.
    pub fd: i32,
    /// TCP, or UDP for `dgram-bind`; what the socket must be, unless it is a unix socket.
    pub protocol: Protocol,
    /// As in [`Listener::section`].
    pub section: Arc<str>,
    /// The address's words.
    pub place: Place,
}

/// A unix socket HAProxy would listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixListener {
    /// Its path with `unix-bind prefix`, or its name without the leading zero byte when abstract.
    pub path: String,
    /// `abns@` or `abnsz@`: a name in the network namespace instead of a path.
    pub is_abstract: bool,
    /// As in [`Listener::section`].
    pub section: Arc<str>,
    /// The address's words.
    pub place: Place,
}

/// What a line may bind that cannot be decided. An absent part could be anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Possible {
    /// Transport.
    pub protocol: Option<Protocol>,
    /// Address.
    pub address: Option<IpAddr>,
    /// Ports.
    pub ports: Option<Ports>,
}

impl Possible {
    /// A socket bound like this could come from it.
    #[must_use]
    pub fn covers(&self, protocol: Protocol, address: IpAddr, port: u16) -> bool {
        self.protocol.is_none_or(|own| own == protocol)
            && self.address.is_none_or(|own| own == address)
            && self.ports.is_none_or(|own| own.contains(port))
    }
}

/// A line whose meaning cannot be decided from files, environment and arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uncertain {
    /// The line.
    pub place: Place,
    /// Why, for a person.
    pub why: String,
    /// What it may bind; empty when it cannot bind anything itself.
    pub may_bind: Vec<Possible>,
}

/// A line HAProxy provably refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The line.
    pub place: Place,
    /// What is wrong, for a person.
    pub what: String,
    /// How to fix it, where that is known.
    pub help: Option<&'static str>,
}

/// A `program` section (2.0 to 3.2): a child of the master that is not HAProxy and may listen itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// The words of its `command`.
    pub command: Vec<String>,
    /// The section's line.
    pub place: Place,
}

/// A `stats socket` on a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatsSocket {
    /// Its path.
    pub path: String,
    /// `expose-fd listeners`: a new process can take the listening sockets over with `-x`.
    pub exposes_listeners: bool,
}

/// What the `global` section says about the process (configuration manual, section 3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Globals {
    /// `pidfile`; `-p` is stronger.
    pub pidfile: Option<String>,
    /// `grace`: how long listeners stay after a soft stop.
    pub grace: Option<Duration>,
    /// `hard-stop-after`: how long an old process may live.
    pub hard_stop_after: Option<Duration>,
    /// `chroot`.
    pub chroot: Option<String>,
    /// `user`.
    pub user: Option<String>,
    /// `uid`.
    pub uid: Option<u32>,
    /// `group`.
    pub group: Option<String>,
    /// `gid`.
    pub gid: Option<u32>,
    /// `daemon`.
    pub daemon: bool,
    /// `master-worker`.
    pub master_worker: bool,
    /// `noreuseport`, or `-dR`.
    pub noreuseport: bool,
    /// Name of the local peer in force: `localpeer`, `-L`, or the host's name.
    pub localpeer: Option<String>,
    /// `unix-bind prefix`.
    pub unix_bind_prefix: Option<String>,
    /// Every `stats socket` on a path, in order.
    pub stats_sockets: Vec<StatsSocket>,
}

/// Everything the configuration declares, in the order of the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// What it would listen on.
    pub listeners: Vec<Listener>,
    /// Sockets it is handed.
    pub inherited: Vec<Inherited>,
    /// Unix sockets.
    pub unix: Vec<UnixListener>,
    /// Programs the master starts beside the workers.
    pub programs: Vec<Program>,
    /// Lines that cannot be decided.
    pub uncertain: Vec<Uncertain>,
    /// Lines HAProxy refuses. With one of these it does not start, and the rest of this
    /// answer is what it would do without it.
    pub errors: Vec<ConfigError>,
    /// The process itself.
    pub globals: Globals,
    /// Names of the environment variables that it reads.
    pub variables: BTreeSet<String>,
}

impl Declared {
    /// Every port of every listener.
    pub fn endpoints(&self) -> impl Iterator<Item = (&Listener, u16)> {
        self.listeners
            .iter()
            .flat_map(|listener| listener.ports.iter().map(move |port| (listener, port)))
    }

    /// An uncertain line, or a socket handed over by number, could be the cause of this socket.
    #[must_use]
    pub fn may_bind(&self, protocol: Protocol, address: IpAddr, port: u16) -> bool {
        self.inherited.iter().any(|inherited| inherited.protocol == protocol)
            || self
                .uncertain
                .iter()
                .flat_map(|uncertain| &uncertain.may_bind)
                .any(|possible| possible.covers(protocol, address, port))
    }
}

/// The declared ports, for many questions in a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortIndex {
    own: Ranges,
    named: BTreeMap<String, Ranges>,
}

impl PortIndex {
    /// Gathers the listeners of `declared`; overlapping ranges become one.
    #[must_use]
    pub fn of(declared: &Declared) -> PortIndex {
        let mut index = PortIndex::default();
        for listener in &declared.listeners {
            let ranges = match &listener.namespace {
                None => &mut index.own,
                Some(name) => index.named.entry(name.clone()).or_default(),
            };
            ranges.add(listener);
        }
        index.own.merge();
        index.named.values_mut().for_each(Ranges::merge);
        index
    }

    /// The network namespaces it names, besides the process's own.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }

    /// A listener is declared there; `namespace`: by its name, `None` is the process's own.
    #[must_use]
    pub fn contains(
        &self,
        namespace: Option<&str>,
        protocol: Protocol,
        address: IpAddr,
        port: u16,
    ) -> bool {
        let ranges = match namespace {
            None => Some(&self.own),
            Some(name) => self.named.get(name),
        };
        ranges.is_some_and(|ranges| ranges.contains(protocol, address, port))
    }

    /// A listener is declared there in some namespace.
    #[must_use]
    pub fn has(&self, protocol: Protocol, address: IpAddr, port: u16) -> bool {
        self.all().any(|(_, ranges)| ranges.contains(protocol, address, port))
    }

    /// How many listeners are declared: distinct namespace, address and port.
    #[must_use]
    pub fn count(&self, protocol: Protocol) -> usize {
        self.all().map(|(_, ranges)| ranges.count(protocol)).sum()
    }

    /// Each of them, those of the process's own namespace first.
    pub fn iter(&self) -> impl Iterator<Item = (Option<&str>, Protocol, IpAddr, u16)> {
        self.all().flat_map(|(name, ranges)| {
            ranges.iter().map(move |(protocol, address, port)| (name, protocol, address, port))
        })
    }

    fn all(&self) -> impl Iterator<Item = (Option<&str>, &Ranges)> {
        let named = self.named.iter().map(|(name, ranges)| (Some(name.as_str()), ranges));
        std::iter::once((None, &self.own)).chain(named)
    }
}

/// Declared ports of one network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Ranges(BTreeMap<(Protocol, IpAddr), Vec<Ports>>);

impl Ranges {
    fn add(&mut self, listener: &Listener) {
        self.0.entry((listener.protocol, listener.address)).or_default().push(listener.ports);
    }

    fn merge(&mut self) {
        for list in self.0.values_mut() {
            list.sort_unstable();
            let mut merged: Vec<Ports> = Vec::new();
            for ports in list.drain(..) {
                match merged.last_mut().filter(|last| ports.first <= last.last) {
                    Some(last) => last.last = last.last.max(ports.last),
                    None => merged.push(ports),
                }
            }
            *list = merged;
        }
    }

    fn contains(&self, protocol: Protocol, address: IpAddr, port: u16) -> bool {
        self.0.get(&(protocol, address)).is_some_and(|list| {
            let after = list.partition_point(|ports| ports.first <= port);
            list.get(..after).and_then(<[Ports]>::last).is_some_and(|ports| ports.contains(port))
        })
    }

    fn count(&self, protocol: Protocol) -> usize {
        let lists = self.0.iter().filter(|((own, _), _)| *own == protocol);
        lists.flat_map(|(_, list)| list).map(|ports| ports.count()).sum()
    }

    fn iter(&self) -> impl Iterator<Item = (Protocol, IpAddr, u16)> {
        self.0.iter().flat_map(|(&(protocol, address), list)| {
            list.iter().flat_map(move |ports| ports.iter().map(move |p| (protocol, address, p)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_answers_like_the_list() {
        let listener = |address: &str, first, last| Listener {
            protocol: Protocol::Tcp,
            quic: false,
            mptcp: false,
            address: address.parse().unwrap(),
            ports: Ports { first, last },
            interface: None,
            namespace: None,
            transparent: false,
            v6only: None,
            section: "frontend a".into(),
            place: Place { file: Path::new("a").into(), line: 1, columns: 1..2 },
        };
        let declared = Declared {
            listeners: vec![
                listener("0.0.0.0", 80, 90),
                listener("0.0.0.0", 85, 100),
                listener("0.0.0.0", 200, 200),
                listener("127.0.0.1", 80, 80),
                Listener { namespace: Some("x".to_owned()), ..listener("0.0.0.0", 300, 300) },
                Listener { namespace: Some("x".to_owned()), ..listener("0.0.0.0", 90, 90) },
            ],
            ..Declared::default()
        };
        let index = PortIndex::of(&declared);
        let any: IpAddr = "0.0.0.0".parse().unwrap();
        let expected: Vec<u16> = (80..=100).chain([200]).collect();
        let within = |namespace| -> Vec<u16> {
            (1..1000).filter(|&p| index.contains(namespace, Protocol::Tcp, any, p)).collect()
        };
        assert_eq!(within(None), expected);
        assert_eq!(within(Some("x")), [90, 300], "the same number is another port there");
        assert_eq!(within(Some("y")), [0; 0]);
        assert_eq!(index.count(Protocol::Tcp), 25);
        assert_eq!(index.iter().count(), 25);
        assert_eq!(index.namespaces().collect::<Vec<_>>(), ["x"]);
        assert_eq!(index.count(Protocol::Udp), 0);
    }
}
