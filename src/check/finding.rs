//! A finding of `check`: what is wrong with a candidate, where, and how to fix it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use crate::haproxy::config::{Listener, Place};
use crate::model::Protocol;
use crate::model::named::named;
use crate::model::numbers;

named! {
    /// Kinds of findings; the names are those of the anomalies where they mean the same.
    pub enum Kind {
        /// HAProxy refuses the configuration.
        ConfigInvalid = "config_invalid",
        /// HAProxy accepts a line and warns about it.
        ConfigWarning = "config_warning",
        /// The newer version refuses a line that the one that runs accepts.
        UpgradeRemoved = "upgrade_removed",
        /// The newer version behaves differently from the one that runs.
        UpgradeNote = "upgrade_note",
        /// The policy does not permit the port.
        PortOutOfRange = "port_out_of_range",
        /// The address is not on this host.
        AddressNotLocal = "address_not_local",
        /// The bind fails, or may fail, because another socket holds the port.
        PortBlocked = "port_blocked",
        /// The bind succeeds, and some clients would reach another socket.
        PortSplit = "port_split",
        /// Two proxies declare one port.
        PortDuplicate = "port_duplicate",
        /// The kernel may give the port to an outgoing connection.
        PortEphemeral = "port_ephemeral",
        /// A line cannot be decided.
        Uncertain = "uncertain",
    }
}

named! {
    /// Whether a finding forbids a reload.
    pub enum Severity {
        /// The reload would fail, or the policy forbids it.
        Error = "error",
        /// The reload may go wrong.
        Warning = "warning",
        /// Worth knowing; it never forbids a reload.
        Info = "info",
    }
}

/// The address and ports that a finding is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Address.
    pub address: IpAddr,
    /// Port, or consecutive ports.
    pub ports: RangeInclusive<u16>,
    /// Interface.
    pub interface: Option<String>,
    /// `namespace X`.
    pub namespace: Option<String>,
}

impl Endpoint {
    /// The endpoint of some ports of a listener.
    #[must_use]
    pub fn of(listener: &Listener, ports: RangeInclusive<u16>) -> Endpoint {
        Endpoint {
            protocol: listener.protocol,
            address: listener.address,
            ports,
            interface: listener.interface.clone(),
            namespace: listener.namespace.clone(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoint { protocol, address, ports, .. } = self;
        match address {
            IpAddr::V4(v4) => write!(f, "{protocol} {v4}:{}", numbers::run(ports)),
            IpAddr::V6(v6) => write!(f, "{protocol} [{v6}]:{}", numbers::run(ports)),
        }
    }
}

/// One thing that is wrong, or may be, with a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its kind.
    pub kind: Kind,
    /// Whether it forbids a reload.
    pub severity: Severity,
    /// The words that it is about; `None` for a file as a whole.
    pub place: Option<Place>,
    /// Other words that explain it, with a label for them.
    pub context: Option<Box<(Place, String)>>,
    /// The address and ports that it is about.
    pub endpoint: Option<Endpoint>,
    /// The heading: what is wrong, in one line.
    pub what: String,
    /// The label below the underlined words.
    pub label: String,
    /// The reasons, one fact each.
    pub why: Vec<String>,
    /// How to fix it.
    pub help: Vec<String>,
    /// The label `holder`, as in the metrics; empty if no process holds the port.
    pub holder: String,
    /// It depends on a process that could not be seen, so more rights might change it.
    pub unseen: bool,
}

impl Finding {
    /// A finding that has only a heading.
    #[must_use]
    pub fn new(kind: Kind, severity: Severity, place: Place, what: &str) -> Finding {
        Finding { place: Some(place), ..Finding::of_file(kind, severity, what) }
    }

    /// A finding about a file as a whole.
    #[must_use]
    pub fn of_file(kind: Kind, severity: Severity, what: &str) -> Finding {
        Finding {
            kind,
            severity,
            place: None,
            context: None,
            endpoint: None,
            what: what.to_owned(),
            label: String::new(),
            why: Vec::new(),
            help: Vec::new(),
            holder: String::new(),
            unseen: false,
        }
    }
}

/// Formats an address and port as `10.0.0.1:80` or `[::1]:80`.
#[must_use]
pub fn socket(address: IpAddr, port: u16) -> String {
    SocketAddr::new(address, port).to_string()
}
