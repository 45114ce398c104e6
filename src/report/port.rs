//! Everything that holds one port number, and why: `inspect --port`.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use serde_json::{Value, json};

use super::table::columns;
use super::text::{Paint, Tint, printable};
use crate::check::finding::socket;
use crate::haproxy::binding::{self, Ephemeral, only_sends, takes_clients};
use crate::haproxy::lineage::generations::Generation;
use crate::judge::verdict::StaleState;
use crate::model::{ConnectionState, PortRole, PortUse};

/// What is known of a number.
#[derive(Debug, Clone, Default)]
pub struct PortReport {
    /// The number.
    pub port: u16,
    /// Each network namespace that was seen.
    pub networks: Vec<PortNetwork>,
    /// Each haproxy.
    pub stances: Vec<Stance>,
    /// What stood in the way of seeing it all.
    pub unseen: Vec<String>,
}

/// A number in one network namespace.
#[derive(Debug, Clone, Default)]
pub struct PortNetwork {
    /// Its label; empty for the exporter's own.
    pub label: String,
    /// Its ephemeral range.
    pub ephemeral: Option<RangeInclusive<u16>>,
    /// Ports exempt from it.
    pub reserved: Vec<RangeInclusive<u16>>,
    /// The sockets.
    pub uses: Vec<HeldUse>,
}

impl PortNetwork {
    /// The kernel may give the number to an outgoing connection.
    #[must_use]
    pub fn is_exposed(&self, port: u16) -> Option<bool> {
        self.ephemeral().gives_away(port)
    }

    fn ephemeral(&self) -> Ephemeral<'_> {
        Ephemeral { range: self.ephemeral.as_ref(), reserved: &self.reserved }
    }
}

/// A socket and who holds it.
#[derive(Debug, Clone)]
pub struct HeldUse {
    /// The socket.
    pub socket: PortUse,
    /// Who.
    pub holders: Vec<Holder>,
    /// The peer is a listener of the same host, so that this end has connected to it.
    pub peer_listens: bool,
}

/// A process that holds a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its pid.
    pub pid: i32,
    /// Its name.
    pub program: String,
    /// Of a haproxy: its name.
    pub haproxy: Option<String>,
    /// Of a haproxy.
    pub generation: Option<Generation>,
    /// Of a stale process.
    pub state: Option<StaleState>,
}

/// How a haproxy stands to the number.
#[derive(Debug, Clone)]
pub struct Stance {
    /// Its name.
    pub haproxy: String,
    /// Where its configuration on disk declares it: `FILE:LINE section`.
    pub declared: Vec<String>,
    /// Its configuration was read, and nothing in it is uncertain about the number.
    pub declared_known: bool,
    /// Its policy permits the number, on some address, for TCP or UDP.
    pub allowed: bool,
}

/// What a socket is there for.
#[must_use]
pub fn why(used: &HeldUse, network: &PortNetwork) -> String {
    let held = &used.socket;
    let who = used.holders.first().map_or_else(
        || "a process that could not be seen".to_owned(),
        |holder| match (&holder.haproxy, holder.generation) {
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
        PortRole::Peerless if network.is_exposed(held.port) == Some(true) => {
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

/// This end opened the connection. `None`: not known.
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

/// Sockets of one number that are shown: a busy listener has many connections.
const MOST_ROWS: usize = 60;

/// For a person.
#[must_use]
pub fn text(report: &PortReport, paint: Paint, width: usize) -> String {
    let mut text = String::new();
    let port = report.port;
    for network in &report.networks {
        let place = match network.label.as_str() {
            "" => String::new(),
            label => format!(" in network namespace {}", printable(label)),
        };
        let range = match (&network.ephemeral, network.is_exposed(port)) {
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
        }
        let rows = network.uses.iter().take(MOST_ROWS).map(|used| {
            let held = &used.socket;
            let pids: Vec<_> = used.holders.iter().map(|holder| holder.pid.to_string()).collect();
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
                pids.join(" "),
                why(used, network),
            ];
            (tint, cells)
        });
        let rows: Vec<_> = rows.collect();
        if !rows.is_empty() {
            let heads = ["PROTO", "LOCAL", "STATE", "INODE", "UID", "PIDS", "WHY"];
            columns(&mut text, &heads, rows.into_iter(), paint, width);
        }
        if network.uses.len() > MOST_ROWS {
            let _ = writeln!(text, "  and {} more", network.uses.len() - MOST_ROWS);
        }
    }
    for stance in &report.stances {
        let declared = match (stance.declared.as_slice(), stance.declared_known) {
            ([], true) => "not declared".to_owned(),
            ([], false) => "not known whether declared".to_owned(),
            (places, _) => format!("declared in {}", printable(&places.join(", "))),
        };
        let allowed = if stance.allowed { "allowed" } else { "not allowed" };
        let _ = writeln!(text, "haproxy {}: {declared}, {allowed}", printable(&stance.haproxy));
    }
    for entry in &report.unseen {
        let _ = writeln!(text, "could not see {}", printable(entry));
    }
    text
}

/// For programs.
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
                    "haproxy": holder.haproxy,
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
    let haproxys = report.stances.iter().map(|stance| {
        json!({
            "name": stance.haproxy,
            "declared": if stance.declared_known || !stance.declared.is_empty() {
                Some(!stance.declared.is_empty())
            } else {
                None
            },
            "declared_at": stance.declared,
            "allowed": stance.allowed,
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
            haproxy: Some("lb".to_owned()),
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
    fn a_number_nobody_uses() {
        let report =
            PortReport { port: 50000, networks: vec![network(vec![])], ..PortReport::default() };
        let text = text(&report, Paint { colour: false }, 100);
        assert!(text.contains("nothing uses it"), "{text}");
        assert!(text.contains("any outgoing connection may take it"), "{text}");
        assert_eq!(json(&report)["networks"][0]["uses"], json!([]));
    }
}
