//! What is said of a candidate.

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
        /// The policy does not permit the port.
        PortOutOfRange = "port_out_of_range",
        /// The address is not on this host.
        AddressNotLocal = "address_not_local",
        /// The bind fails, or may fail, for somebody holds the port.
        PortBlocked = "port_blocked",
        /// The bind succeeds, and clients would reach somebody else as well.
        PortSplit = "port_split",
        /// Two proxies ask for one port.
        PortDuplicate = "port_duplicate",
        /// The kernel may give the port to an outgoing connection.
        PortEphemeral = "port_ephemeral",
        /// A line cannot be decided.
        Uncertain = "uncertain",
    }
}

named! {
    /// Whether it stands in the way of a reload.
    pub enum Severity {
        /// It does.
        Error = "error",
        /// It should be known.
        Warning = "warning",
    }
}

/// What a finding is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Transport.
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
    /// Some ports of a listener.
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

/// Something wrong, or worth knowing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its kind.
    pub kind: Kind,
    /// Whether it stands in the way.
    pub severity: Severity,
    /// The words it is about; `None`: a file as a whole.
    pub place: Option<Place>,
    /// Other words it has to do with, and what they are.
    pub context: Option<(Place, String)>,
    /// The listener and ports it is about.
    pub endpoint: Option<Endpoint>,
    /// What is wrong, in one line.
    pub what: String,
    /// What stands below the underlined words.
    pub label: String,
    /// Why, one fact each.
    pub why: Vec<String>,
    /// How to fix it.
    pub help: Vec<String>,
    /// Who is in the way: a name, as in the label of the metrics.
    pub holder: String,
    /// It rests on a process that could not be seen: with more rights the answer might be another.
    pub unseen: bool,
}

impl Finding {
    /// One with nothing but its heading.
    #[must_use]
    pub fn new(kind: Kind, severity: Severity, place: Place, what: &str) -> Finding {
        Finding {
            kind,
            severity,
            place: Some(place),
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

    /// One about a file as a whole.
    #[must_use]
    pub fn of_file(kind: Kind, severity: Severity, what: &str) -> Finding {
        let nowhere =
            Place { file: std::sync::Arc::from(std::path::Path::new("")), line: 0, columns: 1..2 };
        Finding { place: None, ..Finding::new(kind, severity, nowhere, what) }
    }
}

/// `10.0.0.1:80`, `[::1]:80`.
#[must_use]
pub fn socket(address: IpAddr, port: u16) -> String {
    SocketAddr::new(address, port).to_string()
}
