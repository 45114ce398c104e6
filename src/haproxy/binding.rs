//! Whether a socket stands in the way of a bind, and which ports the kernel gives away.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::model::numbers::{list, runs};
use crate::model::{NetworkNamespace, PortUse, Protocol};

/// An address that a bind to the other would collide with.
#[must_use]
pub fn overlaps(used: &PortUse, address: IpAddr) -> bool {
    let any = |address: IpAddr| address.is_unspecified();
    let same_family = used.address.is_ipv4() == address.is_ipv4();
    match (same_family, used.address, address) {
        (true, a, b) => a == b || any(a) || any(b),
        // A dual-stack wildcard has the IPv4 port too.
        (false, a, _) if a.is_ipv6() => any(a) && used.v6only != Some(true),
        (false, _, b) => any(b),
    }
}

/// It holds a UDP port only to send from: HAProxy's log sockets (`SOCK_MIN_RCVBUF`).
#[must_use]
pub fn only_sends(socket: &PortUse) -> bool {
    socket.protocol == Protocol::Udp && socket.receive_buffer_bytes.is_some_and(|b| b <= 2304)
}

/// The kernel may give `port` to an outgoing connection. `None`: the range is not known.
#[must_use]
pub fn is_ephemeral(port: u16, network: &NetworkNamespace) -> Option<bool> {
    let range = network.ephemeral.as_ref()?;
    let reserved = network.reserved.iter().any(|reserved| reserved.contains(&port));
    Some(range.contains(&port) && !reserved)
}

/// The command that reserves these ports and keeps what is reserved: the sysctl replaces the
/// list. `netns` is the label of the network namespace it must run in.
#[must_use]
pub fn reserve_command(
    netns: &str,
    reserved: &[RangeInclusive<u16>],
    ports: impl IntoIterator<Item = u16>,
) -> String {
    let mut all: Vec<u16> = reserved.iter().cloned().flatten().collect();
    all.extend(ports);
    all.sort_unstable();
    let list = list(&runs(all));
    let inside = match netns {
        "" => String::new(),
        label if label.bytes().all(|b| b.is_ascii_digit()) => {
            "nsenter --net --target=PID_OF_HAPROXY ".to_owned()
        }
        label => format!("ip netns exec {label} "),
    };
    format!("{inside}sysctl -w net.ipv4.ip_local_reserved_ports={list}")
}
