//! `inspect --port`: every socket that holds one port number, its holder, and why it holds it.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use serde_json::{Value, json};

use super::table::{columns, count_rest};
use super::text::{Paint, Tint, list, printable};
use crate::check::finding::socket;
use crate::haproxy::binding::{self, Ephemeral, only_sends, takes_clients};
use crate::haproxy::lineage::generations::Generation;
use crate::judge::verdict::StaleState;
use crate::model::{ConnectionState, PortRole, PortUse};

/// Every use of one port number on this host.
#[derive(Debug, Clone, Default)]
pub struct PortReport {
    /// The port number.
    pub port: u16,
    /// Its uses in each network namespace that could be read.
    pub networks: Vec<PortNetwork>,
    /// What each service expects of the number.
    pub expectations: Vec<Expectation>,
    /// What could not be read, and which right is missing.
    pub unseen: Vec<String>,
}

/// The uses of the number in one network namespace.
#[derive(Debug, Clone, Default)]
pub struct PortNetwork {
    /// The label of the network namespace; empty for the exporter's own.
    pub label: String,
    /// Its range of ephemeral ports, where that could be read.
    pub ephemeral: Option<RangeInclusive<u16>>,
    /// The reserved ports, which the kernel does not give to outgoing connections.
    pub reserved: Vec<RangeInclusive<u16>>,
    /// The sockets that use the number.
    pub uses: Vec<HeldUse>,
}

impl PortNetwork {
    fn ephemeral(&self) -> Ephemeral<'_> {
        Ephemeral { range: self.ephemeral.as_ref(), reserved: &self.reserved }
    }
}

/// A socket and the processes that hold it.
#[derive(Debug, Clone)]
pub struct HeldUse {
    /// The socket.
    pub socket: PortUse,
    /// The processes that hold it.
    pub holders: Vec<Holder>,
    /// The peer is a listener of the same host, so this end has connected to it.
    pub peer_listens: bool,
}

/// A process that holds a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its pid.
    pub pid: i32,
    /// The name of its program (`/proc/PID/comm`).
    pub program: String,
    /// The service it belongs to, if it is a HAProxy.
    pub service: Option<String>,
    /// Its generation, if it is a HAProxy.
    pub generation: Option<Generation>,
    /// Its state, if it is a stale HAProxy.
    pub state: Option<StaleState>,
}

/// Whether a service declares the number and is allowed to.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// The name of the service.
    pub service: String,
    /// The places where its configuration on disk declares the number, as `FILE:LINE (section protocol)`.
    pub declared: Vec<String>,
    /// Its configuration was read in full and has no uncertain line that could declare the number.
    pub declared_known: bool,
    /// Its policy allows the number for TCP or UDP, on at least one address.
    pub allowed: bool,
    /// The name of the entry of `reserved_ports` that has the number, if that forbids it.
    pub reserved_for: Option<String>,
}

/// Explains what a socket is for.
#[must_use]
pub fn why(used: &HeldUse, network: &PortNetwork) -> String {
    let held = &used.socket;
    let who = used.holders.first().map_or_else(
        || "a process that could not be seen".to_owned(),
        |holder| match (&holder.service, holder.generation) {
            (Some(_), Some(generation)) => {
                let state = holder.state.map(|state| format!(", {}", state.as_str()));
                let state = state.unwrap_or_default();
                format!("haproxy pid {} ({}{state})", holder.pid, generation.as_str())
            }
            _ => format!("{} pid {}", printable(&holder.program), holder.pid),
        },
    );
    match held.role {
        PortRole::Listening => format!("listener of {who}"),
        PortRole::Peerless if only_sends(held) => {
            format!("log socket of {who}: it only sends, on a port of the kernel's choice")
        }
        PortRole::Peerless if network.ephemeral().gives_away(held.port) == Some(true) => {
            format!(
                "UDP socket of {who}, perhaps on a port of the kernel's choice, as a resolver's"
            )
        }
        PortRole::Peerless => format!("UDP socket of {who}"),
        PortRole::Bound => {
            format!("bound and not listening: {who} has paused it, or is about to connect")
        }
        PortRole::TimeWait => {
            "remains of a connection that has ended, gone within a minute".to_owned()
        }
        PortRole::Connected(_) => {
            let (address, port) = held.remote.unwrap_or((held.address, 0));
            let ends = (socket(held.address, held.port), socket(address, port));
            match is_outgoing(used, network) {
                Some(true) => {
                    format!("source port of {}→{}, an outgoing connection of {who}", ends.0, ends.1)
                }
                Some(false) => format!("connection {}←{} accepted by {who}", ends.0, ends.1),
                None => format!(
                    "connection {} – {} of {who}: outgoing, or accepted by a listener that is gone",
                    ends.0, ends.1
                ),
            }
        }
    }
}

/// Whether this end opened the connection; `None` when that is not known.
fn is_outgoing(used: &HeldUse, network: &PortNetwork) -> Option<bool> {
    let beside = network.uses.iter().map(|other| &other.socket);
    binding::is_outgoing(&used.socket, beside, network.ephemeral(), used.peer_listens)
}

fn role(role: PortRole) -> &'static str {
    match role {
        PortRole::Listening => "listen",
        PortRole::Peerless => "unconnected",
        PortRole::Bound => "bound",
        PortRole::TimeWait => "time_wait",
        PortRole::Connected(ConnectionState::Established) => "established",
        PortRole::Connected(ConnectionState::CloseWait) => "close_wait",
        PortRole::Connected(ConnectionState::SynSent) => "syn_sent",
        PortRole::Connected(ConnectionState::Other) => "other",
    }
}

/// The longest table of the sockets of one port. A busy listener has many connections.
const MAX_ROWS: usize = 60;

/// The report for a person.
#[must_use]
pub fn text(report: &PortReport, paint: Paint, width: usize) -> String {
    let mut text = String::new();
    let port = report.port;
    for network in &report.networks {
        let place = match network.label.as_str() {
            "" => String::new(),
            label => format!(" in network namespace {}", printable(label)),
        };
        let range = match (&network.ephemeral, network.ephemeral().gives_away(port)) {
            (None, _) => "whether it is ephemeral is not known".to_owned(),
            (Some(range), Some(true)) => format!(
                "ephemeral ({}-{}) and not reserved: any outgoing connection may take it",
                range.start(),
                range.end()
            ),
            (Some(range), _) if range.contains(&port) => "ephemeral, but reserved".to_owned(),
            _ => "not ephemeral".to_owned(),
        };
        let title = paint.tint(Tint::Head, &format!("port {port}{place}"));
        let _ = writeln!(text, "{title}: {range}");
        if network.uses.is_empty() {
            text.push_str("  nothing uses it\n");
            continue;
        }
        let rows = network.uses.iter().take(MAX_ROWS).map(|used| {
            let held = &used.socket;
            let pids: Vec<_> = used.holders.iter().map(|holder| holder.pid).collect();
            let tint = match held.role {
                PortRole::Listening => None,
                PortRole::Connected(_) if is_outgoing(used, network) == Some(false) => {
                    Some(Tint::Faint)
                }
                _ => Some(Tint::Poor),
            };
            let inode = held.inode.map(|inode| inode.to_string()).unwrap_or_default();
            let cells = vec![
                held.protocol.as_str().to_owned(),
                socket(held.address, held.port),
                role(held.role).to_owned(),
                inode,
                held.uid.to_string(),
                list(&pids, " "),
                why(used, network),
            ];
            (false, tint, cells)
        });
        let heads = ["PROTO", "LOCAL", "STATE", "INODE", "UID", "PIDS", "WHY"];
        columns(&mut text, &heads, rows, paint, width);
        count_rest(&mut text, network.uses.len(), MAX_ROWS, "");
    }
    for expected in &report.expectations {
        let declared = match (expected.declared.as_slice(), expected.declared_known) {
            ([], true) => "not declared".to_owned(),
            ([], false) => "not known whether declared".to_owned(),
            (places, _) => format!("declared in {}", printable(&places.join(", "))),
        };
        let allowed = match &expected.reserved_for {
            Some(name) => format!("not allowed: reserved for {}", printable(name)),
            None if expected.allowed => "allowed".to_owned(),
            None => "not allowed".to_owned(),
        };
        let _ = writeln!(text, "haproxy {}: {declared}, {allowed}", printable(&expected.service));
    }
    for entry in &report.unseen {
        let _ = writeln!(text, "could not read {}", printable(entry));
    }
    text
}

/// The report for programs; the form is stable and may gain keys.
#[must_use]
pub fn json(report: &PortReport) -> Value {
    let networks = report.networks.iter().map(|network| {
        let uses = network.uses.iter().map(|used| {
            let held = &used.socket;
            json!({
                "protocol": held.protocol.as_str(),
                "address": held.address.to_string(),
                "port": held.port,
                "remote_address": held.remote.map(|(address, _)| address.to_string()),
                "remote_port": held.remote.map(|(_, port)| port),
                "interface": held.interface.as_deref().unwrap_or_default(),
                "state": role(held.role),
                "listener": takes_clients(held),
                "outgoing": match held.role {
                    PortRole::Connected(_) => is_outgoing(used, network),
                    _ => Some(false),
                },
                "inode": held.inode,
                "uid": held.uid,
                "why": why(used, network),
                "holders": used.holders.iter().map(|holder| json!({
                    "pid": holder.pid,
                    "program": holder.program,
                    "haproxy": holder.service,
                    "generation": holder.generation.map(Generation::as_str),
                    "state": holder.state.map(StaleState::as_str),
                })).collect::<Vec<_>>(),
            })
        });
        json!({
            "netns": network.label,
            "ephemeral": network.ephemeral.as_ref().map(|range| range.contains(&report.port)),
            "reserved": network.ephemeral().reserves(report.port),
            "uses": uses.collect::<Vec<_>>(),
        })
    });
    let haproxys = report.expectations.iter().map(|expected| {
        let is_declared = !expected.declared.is_empty();
        json!({
            "name": expected.service,
            "declared": (expected.declared_known || is_declared).then_some(is_declared),
            "declared_at": expected.declared,
            "allowed": expected.allowed,
            "reserved_for": expected.reserved_for,
        })
    });
    json!({
        "version": 1,
        "port": report.port,
        "networks": networks.collect::<Vec<_>>(),
        "haproxys": haproxys.collect::<Vec<_>>(),
        "unreadable": report.unseen,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;

    fn used(role: PortRole, local: &str, remote: Option<&str>) -> HeldUse {
        let end = |text: &str| {
            let address: std::net::SocketAddr = text.parse().unwrap();
            (address.ip(), address.port())
        };
        let (address, port) = end(local);
        let holder = Holder {
            pid: 12,
            program: "haproxy".to_owned(),
            service: Some("lb".to_owned()),
            generation: Some(Generation::Stale),
            state: Some(StaleState::Draining),
        };
        HeldUse {
            socket: PortUse {
                protocol: if role == PortRole::Peerless { Protocol::Udp } else { Protocol::Tcp },
                role,
                address,
                port,
                remote: remote.map(end),
                v6only: None,
                interface: None,
                inode: Some(7),
                uid: 0,
                receive_buffer_bytes: Some(2304),
            },
            holders: vec![holder],
            peer_listens: false,
        }
    }

    fn network(uses: Vec<HeldUse>) -> PortNetwork {
        PortNetwork { ephemeral: Some(32768..=60999), uses, ..PortNetwork::default() }
    }

    #[test]
    fn why_a_number_is_held() {
        let connected = PortRole::Connected(ConnectionState::Established);
        let listener = || used(PortRole::Listening, "0.0.0.0:59044", None);
        let outgoing = || used(connected, "10.0.0.1:59044", Some("10.0.0.9:443"));
        let table = [
            (
                vec![outgoing()],
                "source port of 10.0.0.1:59044→10.0.0.9:443, an outgoing connection of haproxy \
                 pid 12 (stale, draining)",
            ),
            (
                vec![outgoing(), listener()],
                "connection 10.0.0.1:59044←10.0.0.9:443 accepted by haproxy pid 12 (stale, draining)",
            ),
            (
                vec![used(connected, "10.0.0.1:80", Some("10.0.0.9:50000"))],
                "connection 10.0.0.1:80 – 10.0.0.9:50000 of haproxy pid 12 (stale, draining): \
                 outgoing, or accepted by a listener that is gone",
            ),
            (
                vec![used(PortRole::Peerless, "0.0.0.0:59044", None)],
                "log socket of haproxy pid 12 (stale, draining): it only sends, on a port of the \
                 kernel's choice",
            ),
            (vec![listener()], "listener of haproxy pid 12 (stale, draining)"),
        ];
        for (uses, expected) in table {
            let network = network(uses);
            assert_eq!(why(&network.uses[0], &network), expected);
        }
    }

    #[test]
    fn an_unused_number_is_reported_as_such() {
        let report =
            PortReport { port: 50000, networks: vec![network(vec![])], ..PortReport::default() };
        let text = text(&report, Paint { colour: false }, 100);
        assert!(text.contains("nothing uses it"), "{text}");
        assert!(text.contains("any outgoing connection may take it"), "{text}");
        assert_eq!(json(&report)["networks"][0]["uses"], json!([]));
    }
}
