//! The state of the host that a candidate meets, as plain values.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::finding::{Finding, Kind, Severity};
use crate::haproxy::binding::Ephemeral;
use crate::haproxy::holder_label::Holder;
use crate::model::{PortUse, Program};

/// Everything that a judgement needs besides the configuration.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The network namespaces by their name in `namespace X`; `None` is HAProxy's own. One that was
    /// not seen is absent.
    pub networks: BTreeMap<Option<String>, Network>,
    /// Effective uid that HAProxy is started with; `None` if not known.
    pub starter: Option<u32>,
}

/// One network namespace.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// Its label; empty for the exporter's own.
    pub label: String,
    /// Every socket on one of the candidate's ports; `None` if the tables could not be read.
    pub uses: Option<Vec<Use>>,
    /// The range of ports for outgoing connections; `None` if not known.
    pub ephemeral: Option<RangeInclusive<u16>>,
    /// The ports of that range which the kernel keeps back.
    pub reserved: Vec<RangeInclusive<u16>>,
    /// `net.ipv6.bindv6only`: an IPv6 listener leaves IPv4 alone unless its line says otherwise.
    pub v6only: bool,
    /// Whether a socket can be bound to an address. One that is not known is absent.
    pub local: BTreeMap<IpAddr, bool>,
    /// Outcomes of trial binds.
    pub trials: BTreeMap<(IpAddr, u16), Trial>,
}

impl Network {
    /// The ports it gives to outgoing connections.
    #[must_use]
    pub fn ephemeral(&self) -> Ephemeral<'_> {
        Ephemeral { range: self.ephemeral.as_ref(), reserved: &self.reserved }
    }

    /// The finding that this address is not here, about no line of a configuration.
    #[must_use]
    pub fn lacks(&self, address: IpAddr) -> Finding {
        let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
        let what = format!("{address} is not an address of this host{}", self.suffix());
        Finding {
            why: vec!["no interface has it, and no local route leads to it".to_owned()],
            help: vec![
                format!("ip address add {address} dev INTERFACE"),
                format!(
                    "if the address comes and goes, as with keepalived: \
                     sysctl -w net.{family}.ip_nonlocal_bind=1, or the keyword transparent"
                ),
            ],
            ..Finding::of_file(Kind::AddressNotLocal, Severity::Error, &what)
        }
    }

    /// The words ` in network namespace X`, or nothing for the exporter's own.
    #[must_use]
    pub fn suffix(&self) -> String {
        match self.label.as_str() {
            "" => String::new(),
            label => format!(" in network namespace {label}"),
        }
    }
}

/// A socket on one of the candidate's ports, and its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// The socket.
    pub socket: PortUse,
    /// Its owner.
    pub owner: Owner,
}

/// The owner of a socket, as the candidate's HAProxy sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// The serving generation, its master, or a starting one: a reload takes its listeners over, or
    /// pauses them while it binds.
    Current(i32),
    /// A superseded process of the same service.
    Stale(i32),
    /// Another service: its name and the pid of a process.
    Haproxy(String, i32),
    /// Another program.
    Program(Program),
    /// Another program: which one could not be found, but it is certainly not this service.
    Stranger,
    /// No process, as with a connection in TIME_WAIT.
    NoProcess,
    /// A process that could not be seen, possibly one of this service.
    Unknown,
}

impl Owner {
    /// The owner as the label `holder` names it; `None` if no process holds the socket.
    #[must_use]
    pub fn holder(&self) -> Option<Holder<'_>> {
        Some(match self {
            Owner::Current(_) => Holder::OfService,
            Owner::Stale(_) => Holder::Stale,
            Owner::Haproxy(name, _) => Holder::OtherService(name),
            Owner::Program(program) => Holder::Program(&program.name),
            Owner::Stranger | Owner::Unknown => Holder::Unknown,
            Owner::NoProcess => return None,
        })
    }
}

/// The outcome of a trial bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// The bind succeeded.
    Free,
    /// The bind failed with `EADDRINUSE`.
    InUse,
}

/// A TCP bind about which the tables of sockets leave a doubt that a trial can settle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// Name of the network namespace in the configuration; `None` is HAProxy's own.
    pub namespace: Option<String>,
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// The socket leaves IPv4 alone (`IPV6_V6ONLY`).
    pub v6only: bool,
    /// HAProxy would set `SO_REUSEPORT`.
    pub reuse_port: bool,
}

#[cfg(test)]
#[allow(missing_docs, clippy::must_use_candidate, clippy::missing_panics_doc)] // for tests
pub mod tests {
    use super::*;
    use crate::haproxy::config::{Declared, Launch, SourceFile, read as read_files};
    use crate::model::{PortRole, Protocol};

    pub fn read(text: &str) -> Declared {
        let file = SourceFile { path: "a.cfg".into(), text: text.into() };
        read_files(&[file], &Launch::default())
    }

    pub fn network(uses: Vec<Use>) -> Network {
        Network { uses: Some(uses), ephemeral: Some(32768..=60999), ..Network::default() }
    }

    pub fn held(role: PortRole, local: &str, uid: u32, owner: Owner) -> Use {
        let local: std::net::SocketAddr = local.parse().unwrap();
        let connected = matches!(role, PortRole::Connected(_) | PortRole::TimeWait);
        let socket = PortUse {
            protocol: if role == PortRole::Peerless { Protocol::Udp } else { Protocol::Tcp },
            role,
            address: local.ip(),
            port: local.port(),
            remote: connected.then(|| ("10.0.0.9".parse().unwrap(), 443)),
            v6only: None,
            interface: None,
            inode: Some(7),
            uid,
            receive_buffer_bytes: Some(212_992),
        };
        Use { socket, owner }
    }
}
