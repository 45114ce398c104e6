//! The label `holder`: the name of what holds a port.

use super::binding::only_sends;
use crate::model::{PortRole, PortUse};

/// The label of a stale process of the same service.
pub const STALE_HOLDER: &str = "haproxy stale";

/// The holder of a socket, as the service sees it that wants the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder<'a> {
    /// A process of this service that is not stale.
    OfService,
    /// A stale process of this service.
    Stale,
    /// A process of another service, by the name of that service.
    OtherService(&'a str),
    /// Another program, by its name.
    Program(&'a str),
    /// A process that could not be seen, or whose program could not be found.
    Unknown,
}

impl Holder<'_> {
    /// The label. It names what holds the port and how, and stays the same while the cause does, so it has
    /// neither a pid nor a remote address in it.
    #[must_use]
    pub fn label(self, used: &PortUse) -> String {
        let connected = matches!(used.role, PortRole::Connected(_));
        let name = match self {
            // A connection is in the way in whichever generation it was opened.
            Holder::Stale if !connected => STALE_HOLDER.to_owned(),
            Holder::OfService | Holder::Stale => "haproxy".to_owned(),
            Holder::OtherService(service) => of_service(service),
            Holder::Program(program) => program.to_owned(),
            Holder::Unknown => "unknown".to_owned(),
        };
        let is_haproxy = !matches!(self, Holder::Program(_) | Holder::Unknown);
        match used.role {
            PortRole::Connected(_) => format!("{name} outgoing"),
            _ if is_haproxy && only_sends(used) => format!("{name} log"),
            _ => name,
        }
    }
}

/// The label of another service of this name, in whichever way it holds a port or is about to.
#[must_use]
pub fn of_service(name: &str) -> String {
    format!("haproxy {name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ConnectionState::Established;
    use crate::model::Protocol;
    use crate::stage::{tcp_use, used};

    #[test]
    fn a_holder_is_named_with_how_it_holds_the_port() {
        let listens = tcp_use(PortRole::Listening, "0.0.0.0:53", 5, 0);
        let connected = tcp_use(PortRole::Connected(Established), "10.0.0.1:53", 5, 0);
        let logs = PortUse {
            receive_buffer_bytes: Some(2304),
            ..used(Protocol::Udp, PortRole::Peerless, "0.0.0.0:53", 5, 0)
        };
        let table = [
            (Holder::OfService, ["haproxy", "haproxy outgoing", "haproxy log"]),
            (Holder::Stale, ["haproxy stale", "haproxy outgoing", "haproxy stale log"]),
            (Holder::OtherService("b"), ["haproxy b", "haproxy b outgoing", "haproxy b log"]),
            (Holder::Program("dnsmasq"), ["dnsmasq", "dnsmasq outgoing", "dnsmasq"]),
            (Holder::Unknown, ["unknown", "unknown outgoing", "unknown"]),
        ];
        for (holder, expected) in table {
            let labels = [&listens, &connected, &logs].map(|used| holder.label(used));
            assert_eq!(labels, expected, "{holder:?}");
        }
    }
}
