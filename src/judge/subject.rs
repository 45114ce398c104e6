//! What a finding is about, and what its advice acts on.

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use crate::model::{ProcessId, Protocol};

/// A port, with the fields that are its labels in the metrics.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortKey {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The local address.
    pub address: IpAddr,
    /// The port number.
    pub port: u16,
    /// The interface to which the socket is bound; empty for most ports.
    pub interface: Name,
    /// The network namespace; empty for the host's own.
    pub netns: Name,
}

/// A label that is empty for most ports: an empty one costs nothing to compare or copy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Option<Arc<str>>);

impl From<&str> for Name {
    fn from(text: &str) -> Name {
        Name((!text.is_empty()).then(|| text.into()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

/// What an anomaly is about and what causes it: its labels, apart from its kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// The port, if it is about one.
    pub port: Option<PortKey>,
    /// The program or process that causes it. It does not change while the cause lasts, so it is
    /// never a pid.
    pub holder: String,
}

impl Subject {
    /// The address and port, if it is about a port.
    #[must_use]
    pub fn place(&self) -> Option<(IpAddr, u16)> {
        self.port.as_ref().map(|key| (key.address, key.port))
    }
}

/// What the advice of a finding acts on. One action fixes all findings of a service that have the same
/// target: they have one cause.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The service itself: its configuration, its next reload, or a setting of its host.
    #[default]
    Service,
    /// A process of the service.
    Process(ProcessId),
    /// A program or another service, by its label `holder`.
    Holder(String),
    /// One connection, by the label `holder` and the local port.
    Connection(String, PortKey),
    /// The parent of dead processes.
    Parent(i32),
}
