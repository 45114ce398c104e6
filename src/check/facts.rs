//! What the host says of a candidate's ports, as plain values.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::haproxy::binding::Ephemeral;
use crate::model::{PortUse, Program};

/// Everything a judgement rests on besides the configuration.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// By the name in `namespace X`; `None` is where this HAProxy runs. Absent: not seen.
    pub networks: BTreeMap<Option<String>, Network>,
    /// Effective uid of whoever starts HAProxy. `None`: not known.
    pub starter: Option<u32>,
}

/// One network namespace.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// Its label, empty for the exporter's own.
    pub label: String,
    /// Every socket on one of the candidate's ports. `None`: could not be read.
    pub uses: Option<Vec<Use>>,
    /// Ports given to outgoing connections; `None`: not known.
    pub ephemeral: Option<RangeInclusive<u16>>,
    /// Ports never given to them.
    pub reserved: Vec<RangeInclusive<u16>>,
    /// `net.ipv6.bindv6only`: what an IPv6 listener is unless told otherwise.
    pub v6only: bool,
    /// The kernel lets a socket be bound to this address. Absent: not known.
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

    /// ` in network namespace X`, or nothing for the exporter's own.
    #[must_use]
    pub fn suffix(&self) -> String {
        match self.label.as_str() {
            "" => String::new(),
            label => format!(" in network namespace {label}"),
        }
    }
}

/// A socket on one of the candidate's ports, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// The socket.
    pub socket: PortUse,
    /// Whose it is.
    pub owner: Owner,
}

/// Whose a socket is, as the candidate's HAProxy sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// The generation that serves now, its master, or one that is starting: a reload takes its
    /// listeners over, or pauses them while it binds.
    Current(i32),
    /// A superseded process of the same haproxy.
    Stale(i32),
    /// Another haproxy: its name and a process.
    Haproxy(String, i32),
    /// Another program.
    Program(Program),
    /// Another program that could not be found, and surely not this haproxy.
    Stranger,
    /// No process: TIME_WAIT.
    Nobody,
    /// It could not be seen, and may be this haproxy's.
    Unknown,
}

impl Owner {
    /// Stable while the cause is: never a pid.
    #[must_use]
    pub fn holder(&self) -> String {
        match self {
            Owner::Current(_) => "haproxy".to_owned(),
            Owner::Stale(_) => "haproxy stale".to_owned(),
            Owner::Haproxy(name, _) => format!("haproxy {name}"),
            Owner::Program(program) => program.name.clone(),
            Owner::Stranger | Owner::Nobody | Owner::Unknown => String::new(),
        }
    }
}

/// What a trial bind showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// It succeeded.
    Free,
    /// EADDRINUSE.
    InUse,
}

/// A bind that only a trial can tell: TCP, where the table of sockets leaves a doubt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// The name of the namespace in the configuration.
    pub namespace: Option<String>,
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// It leaves IPv4 alone.
    pub v6only: bool,
    /// HAProxy would set SO_REUSEPORT.
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
