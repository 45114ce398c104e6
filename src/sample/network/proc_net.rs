//! Parses the text of `/proc/net`: the socket tables where netlink is refused, and the counts of
//! sockets by protocol.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::wire::{InetSocket, UnixSocket, state};

/// Parses a line of `/proc/net/{tcp,tcp6,udp,udp6}` (proc_pid_net(5)); `None` for the heading.
///
/// The line has no cookie, interface, buffer size or queue limit, and the drops of UDP are not
/// used.
#[must_use]
pub fn proc_inet_line(line: &str) -> Option<InetSocket> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let local = proc_endpoint(words.next()?)?;
    let remote = proc_endpoint(words.next()?)?;
    let state = u8::from_str_radix(words.next()?, 16).ok()?;
    let (wqueue, rqueue) = words.next()?.split_once(':')?;
    let uid = words.nth(2)?.parse().ok()?;
    let inode = words.nth(1)?.parse().ok()?;
    Some(InetSocket {
        state,
        local,
        remote,
        interface: 0,
        inode,
        cookie: 0,
        uid,
        rqueue: u32::from_str_radix(rqueue, 16).ok()?,
        wqueue: u32::from_str_radix(wqueue, 16).ok()?,
        receive_buffer: None,
        drops: None,
        v6only: None,
        moved_bytes: None,
    })
}

fn proc_endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let word =
        |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some((address, u16::from_str_radix(port, 16).ok()?))
}

/// The number of multipath sockets in `/proc/net/protocols`: the third column of the lines `MPTCP`
/// and `MPTCPv6`; `None` if the text is not as expected.
#[must_use]
pub fn counts_multipath(text: &str) -> Option<u64> {
    let mut lines = text.lines();
    let heading = lines.next()?.split_ascii_whitespace().take(3);
    if !heading.eq(["protocol", "size", "sockets"]) {
        return None;
    }
    lines
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>())
        .filter(|words| words.first().is_some_and(|name| name.starts_with("MPTCP")))
        .map(|words| words.get(2)?.parse::<u64>().ok())
        .sum()
}

/// Parses a line of `/proc/net/unix`; `None` for the heading. The line does not name the peer.
#[must_use]
pub fn proc_unix_line(line: &str) -> Option<UnixSocket> {
    const ACCEPTS_CONNECTIONS: u32 = 0x10000; // __SO_ACCEPTCON
    const CONNECTED: u8 = 3; // SS_CONNECTED
    let mut words = line.split_ascii_whitespace().skip(3);
    let flags = u32::from_str_radix(words.next()?, 16).ok()?;
    let kind = u8::from_str_radix(words.next()?, 16).ok()?;
    let connected = u8::from_str_radix(words.next()?, 16).ok()? == CONNECTED;
    let inode = words.next()?.parse().ok()?;
    let state = match (flags & ACCEPTS_CONNECTIONS != 0, connected) {
        (true, _) => state::LISTEN,
        (false, true) => state::ESTABLISHED,
        (false, false) => state::CLOSE,
    };
    Some(UnixSocket { kind, state, inode, named: words.next().is_some(), peer: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multipath_sockets_are_counted() {
        let heading = "protocol  size sockets  memory press maxhdr  slab module     cl co\n";
        let table = [
            ("MPTCP     2072      2       1   no       0   yes  kernel      n\n", Some(2)),
            (
                "MPTCPv6   2104      1       1   no       0   yes  kernel      n\nMPTCP     2072      2       1   no\n",
                Some(3),
            ),
            ("TCPv6     2488      6       1   no     320   yes  kernel      y\n", Some(0)),
            ("MPTCP     2072      -1      1   no\n", None),
        ];
        for (lines, count) in table {
            assert_eq!(counts_multipath(&format!("{heading}{lines}")), count, "{lines}");
        }
        assert_eq!(counts_multipath(""), None);
    }

    #[test]
    fn lines_of_proc_net_are_read() {
        let tcp = "   0: 0100007F:46A1 00000000:0000 0A 00000000:00000003 00:00000000 00000000  1000        0 11308 1 0000000000000000 100 0 0 10 0";
        let socket = proc_inet_line(tcp).unwrap();
        assert_eq!(socket.local, ("127.0.0.1".parse().unwrap(), 18081));
        assert_eq!(
            (socket.state, socket.rqueue, socket.uid, socket.inode),
            (state::LISTEN, 3, 1000, 11308)
        );
        let tcp6 = "   1: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1 0 100 0 0 10 0";
        assert_eq!(proc_inet_line(tcp6).unwrap().local, ("::1".parse().unwrap(), 8080));
        assert_eq!(
            proc_inet_line("  sl  local_address rem_address   st tx_queue rx_queue tr"),
            None
        );
    }

    #[test]
    fn lines_of_proc_net_unix_are_read() {
        let listening =
            "0000000000000000: 00000002 00000000 00010000 0001 01 11309 /run/haproxy.sock";
        let socket = proc_unix_line(listening).unwrap();
        assert_eq!((socket.state, socket.inode, socket.named), (state::LISTEN, 11309, true));
        let connected = "0000000000000000: 00000003 00000000 00000000 0001 03 20";
        let socket = proc_unix_line(connected).unwrap();
        assert_eq!((socket.state, socket.named), (state::ESTABLISHED, false));
        assert_eq!(proc_unix_line("Num       RefCount Protocol Flags    Type St Inode Path"), None);
    }
}
