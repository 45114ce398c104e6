//! Encodes requests to the kernel's `sock_diag` and decodes its replies, without any I/O.
//!
//! Layouts: `linux/netlink.h`, `linux/inet_diag.h`, `linux/unix_diag.h`, `linux/sock_diag.h`,
//! described in sock_diag(7) and netlink(7). Integers are in host order, ports and
//! addresses in network order.

use std::net::IpAddr;

/// `IPPROTO_TCP`.
pub const TCP: u8 = 6;
/// `IPPROTO_UDP`.
pub const UDP: u8 = 17;
/// `IPPROTO_MPTCP`. It does not fit into the eight bits of the request and goes into an attribute.
const MPTCP: u32 = 262;
/// `AF_INET`.
pub const INET: u8 = 2;
/// `AF_INET6`.
pub const INET6: u8 = 10;
/// `AF_UNIX`.
const UNIX: u8 = 1;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLM_F_DUMP_INTR: u16 = 0x10;
const HEADER: usize = 16;

const INET_DIAG_INFO: u16 = 2;
/// The offset of `tcpi_bytes_acked` in `struct tcp_info` (`linux/tcp.h`); `tcpi_bytes_received` follows.
const BYTES_ACKED: usize = 120;
const INET_DIAG_SKMEMINFO: u16 = 7;
const INET_DIAG_SKV6ONLY: u16 = 11;
const INET_DIAG_REQ_PROTOCOL: u16 = 3;
const SK_MEMINFO_RCVBUF: usize = 1;
const SK_MEMINFO_DROPS: usize = 8;

const UDIAG_SHOW_NAME: u32 = 1;
const UDIAG_SHOW_PEER: u32 = 4;
const UNIX_DIAG_NAME: u16 = 0;
const UNIX_DIAG_PEER: u16 = 2;

/// TCP states (`net/tcp_states.h`); UDP and unix sockets use ESTABLISHED, CLOSE and LISTEN of them.
pub mod state {
    /// Connected.
    pub const ESTABLISHED: u8 = 1;
    /// Connecting.
    pub const SYN_SENT: u8 = 2;
    /// Without a peer, for UDP.
    pub const CLOSE: u8 = 7;
    /// The peer has closed.
    pub const CLOSE_WAIT: u8 = 8;
    /// Accepting connections.
    pub const LISTEN: u8 = 10;
    /// After the end of a connection; no process holds the socket.
    pub const TIME_WAIT: u8 = 6;
    /// Bound, and neither listening nor connected (`TCP_BOUND_INACTIVE`, Linux 6.8).
    pub const BOUND: u8 = 13;
    /// Every state that occupies a local port.
    pub const ANY: u32 = 0xfff | mask(BOUND);
    /// The bit that represents a state in a request.
    #[must_use]
    pub const fn mask(state: u8) -> u32 {
        1 << state
    }
}

/// A transport for whose sockets `sock_diag` can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Multipath TCP; kernels without its diag module answer ENOENT.
    Mptcp,
}

/// What a reply is to have besides the socket itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extension {
    /// Its memory and its drops.
    Memory,
    /// The bytes that a TCP connection has moved.
    Traffic,
}

impl Extension {
    /// The bit of `idiag_ext`.
    fn bit(self) -> u8 {
        let is_memory = self == Extension::Memory;
        1 << ((if is_memory { INET_DIAG_SKMEMINFO } else { INET_DIAG_INFO }) - 1)
    }
}

/// Encodes a request for the internet sockets of one family and transport that are in one of these states
/// and have this local port; 0 means any port.
#[must_use]
pub fn inet_request(
    seq: u32,
    family: u8,
    transport: Transport,
    (states, local_port): (u32, u16),
    extension: Extension,
) -> Vec<u8> {
    let protocol = match transport {
        Transport::Tcp => TCP,
        Transport::Udp => UDP,
        Transport::Mptcp => 255, // IPPROTO_RAW: overridden by the attribute
    };
    let mut body = vec![family, protocol, extension.bit(), 0];
    body.extend_from_slice(&states.to_ne_bytes());
    body.extend_from_slice(&local_port.to_be_bytes());
    body.extend_from_slice(&[0; 38]); // no remote port, no address, no interface
    body.extend_from_slice(&[0xff; 8]); // INET_DIAG_NOCOOKIE
    if transport == Transport::Mptcp {
        body.extend_from_slice(&8u16.to_ne_bytes());
        body.extend_from_slice(&INET_DIAG_REQ_PROTOCOL.to_ne_bytes());
        body.extend_from_slice(&MPTCP.to_ne_bytes());
    }
    with_header(seq, &body)
}

/// Encodes a request for all unix sockets in one of these states, with their names and peers.
#[must_use]
pub fn unix_request(seq: u32, states: u32) -> Vec<u8> {
    let mut body = vec![UNIX, 0, 0, 0];
    body.extend_from_slice(&states.to_ne_bytes());
    body.extend_from_slice(&0u32.to_ne_bytes()); // any inode
    body.extend_from_slice(&(UDIAG_SHOW_NAME | UDIAG_SHOW_PEER).to_ne_bytes());
    body.extend_from_slice(&[0xff; 8]);
    with_header(seq, &body)
}

fn with_header(seq: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).expect("a request is under 100 bytes");
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend_from_slice(&NLM_F_REQUEST_DUMP.to_ne_bytes());
    message.extend_from_slice(&seq.to_ne_bytes());
    message.extend_from_slice(&0u32.to_ne_bytes());
    message.extend_from_slice(body);
    message
}

/// One netlink message of a reply.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A socket, as the payload of the message.
    Socket(&'a [u8]),
    /// The dump is complete.
    Done,
    /// The kernel refused, with this positive errno.
    Error(i32),
    /// The table changed during the dump (`NLM_F_DUMP_INTR`): ask again.
    Interrupted,
    /// The bytes are not a netlink message.
    Malformed,
}

/// The messages of one datagram that answer the request of this sequence number.
pub fn messages(datagram: &[u8], seq: u32) -> impl Iterator<Item = Message<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let (message, message_seq, tail) = split_message(rest)?;
            rest = tail;
            if message_seq == seq {
                return Some(message);
            }
        }
    })
}

fn split_message(bytes: &[u8]) -> Option<(Message<'_>, u32, &[u8])> {
    let header = |at: usize| read_u32(bytes, at);
    let length = header(0)? as usize;
    let (kind, flags) = (read_u16(bytes, 4)?, read_u16(bytes, 6)?);
    let seq = header(8)?;
    let Some(payload) = bytes.get(HEADER..length) else {
        return Some((Message::Malformed, seq, &[]));
    };
    let tail = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    let errno = || read_u32(payload, 0).map_or(0, |e| e.cast_signed().wrapping_neg());
    let message = match kind {
        _ if flags & NLM_F_DUMP_INTR != 0 => Message::Interrupted,
        SOCK_DIAG_BY_FAMILY => Message::Socket(payload),
        NLMSG_DONE if errno() > 0 => Message::Error(errno()),
        NLMSG_DONE => Message::Done,
        NLMSG_ERROR => Message::Error(errno()),
        _ => Message::Malformed,
    };
    Some((message, seq, tail))
}

/// An internet socket (`struct inet_diag_msg` and its `SKMEMINFO`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InetSocket {
    /// Its state, as in [`state`].
    pub state: u8,
    /// The local address and port.
    pub local: (IpAddr, u16),
    /// The remote address and port, zero without a peer.
    pub remote: (IpAddr, u16),
    /// The index of the interface to which it is bound, or 0.
    pub interface: u32,
    /// Its inode; 0 when no process holds it.
    pub inode: u32,
    /// Its cookie, which is unique until the next boot.
    pub cookie: u64,
    /// The user id of its owner.
    pub uid: u32,
    /// The bytes to read; of a listener, the connections to accept.
    pub rqueue: u32,
    /// The bytes not sent yet; of a listener, the limit of the accept queue.
    pub wqueue: u32,
    /// The size of the receive buffer in bytes, where the reply has it.
    pub receive_buffer: Option<u32>,
    /// The drops, where the reply has them.
    pub drops: Option<u32>,
    /// Whether an IPv6 socket leaves IPv4 alone; known of listeners and of sockets without a peer.
    pub v6only: Option<bool>,
    /// The bytes that a TCP connection has received, and sent and seen acknowledged, where the reply has
    /// them.
    pub moved_bytes: Option<u64>,
}

/// Decodes the payload of a [`Message::Socket`] that answers an [`inet_request`].
#[must_use]
pub fn inet_socket(payload: &[u8]) -> Option<InetSocket> {
    let family = *payload.first()?;
    let address = |at: usize| -> Option<IpAddr> {
        match family {
            INET => Some(IpAddr::from(<[u8; 4]>::try_from(payload.get(at..at + 4)?).ok()?)),
            INET6 => Some(IpAddr::from(<[u8; 16]>::try_from(payload.get(at..at + 16)?).ok()?)),
            _ => None,
        }
    };
    let port = |at: usize| Some(u16::from_be_bytes(payload.get(at..at + 2)?.try_into().ok()?));
    let attributes = payload.get(72..)?;
    let memory = attribute(attributes, INET_DIAG_SKMEMINFO);
    let memory_field = |index: usize| memory.and_then(|m| read_u32(m, index * 4));
    Some(InetSocket {
        state: *payload.get(1)?,
        local: (address(8)?, port(4)?),
        remote: (address(24)?, port(6)?),
        interface: read_u32(payload, 40)?,
        cookie: u64::from(read_u32(payload, 44)?) | u64::from(read_u32(payload, 48)?) << 32,
        rqueue: read_u32(payload, 56)?,
        wqueue: read_u32(payload, 60)?,
        uid: read_u32(payload, 64)?,
        inode: read_u32(payload, 68)?,
        receive_buffer: memory_field(SK_MEMINFO_RCVBUF),
        drops: memory_field(SK_MEMINFO_DROPS),
        v6only: attribute(attributes, INET_DIAG_SKV6ONLY)
            .and_then(|value| value.first().map(|&byte| byte != 0)),
        moved_bytes: attribute(attributes, INET_DIAG_INFO).and_then(|info| {
            let (acked, received) =
                (read_u64(info, BYTES_ACKED)?, read_u64(info, BYTES_ACKED + 8)?);
            Some(acked.saturating_add(received))
        }),
    })
}

/// A unix socket (`struct unix_diag_msg`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnixSocket {
    /// Its type, such as [`UnixSocket::STREAM`].
    pub kind: u8,
    /// Its state, as in [`state`].
    pub state: u8,
    /// Its inode.
    pub inode: u32,
    /// Whether it is bound to a path or an abstract name.
    pub named: bool,
    /// The inode of the other end.
    pub peer: Option<u32>,
}

impl UnixSocket {
    /// `SOCK_STREAM`.
    pub const STREAM: u8 = 1;
}

/// Decodes the payload of a [`Message::Socket`] that answers a [`unix_request`].
#[must_use]
pub fn unix_socket(payload: &[u8]) -> Option<UnixSocket> {
    let attributes = payload.get(16..)?;
    Some(UnixSocket {
        kind: *payload.get(1)?,
        state: *payload.get(2)?,
        inode: read_u32(payload, 4)?,
        named: attribute(attributes, UNIX_DIAG_NAME).is_some_and(|name| !name.is_empty()),
        peer: attribute(attributes, UNIX_DIAG_PEER).and_then(|peer| read_u32(peer, 0)),
    })
}

/// The value of the first attribute of type `wanted` (netlink(7), `struct nlattr`).
fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(read_u16(bytes, 0)?);
        let value = bytes.get(4..length)?;
        if read_u16(bytes, 2)? == wanted {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reply of Linux 6.18 to a LISTEN request: 127.0.0.1:18081 with queue 0 of 4096, inode
    /// 11308, one SKMEMINFO attribute, little-endian.
    fn listener_message(seq: u32) -> Vec<u8> {
        let mut payload = vec![INET, state::LISTEN, 0, 0, 0x46, 0xa1, 0, 0];
        payload.extend([127, 0, 0, 1].iter().chain(&[0; 12])); // source
        payload.extend([0; 16]); // destination
        for word in [0u32, 0x5001, 7, 0, 0, 4096, 33, 11308] {
            payload.extend(word.to_ne_bytes()); // if, cookie, cookie, expires, queues, uid, inode
        }
        payload.extend(40u16.to_ne_bytes());
        payload.extend(INET_DIAG_SKMEMINFO.to_ne_bytes());
        for word in [0u32, 131_072, 0, 16_384, 0, 0, 0, 0, 3] {
            payload.extend(word.to_ne_bytes());
        }
        let mut message = u32::try_from(HEADER + payload.len()).unwrap().to_ne_bytes().to_vec();
        message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        message.extend(2u16.to_ne_bytes());
        message.extend(seq.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(payload);
        message
    }

    fn done(seq: u32, errno: i32) -> Vec<u8> {
        let mut message = 20u32.to_ne_bytes().to_vec();
        message.extend(NLMSG_DONE.to_ne_bytes());
        message.extend(2u16.to_ne_bytes());
        message.extend(seq.to_ne_bytes());
        message.extend([0; 4]);
        message.extend((-errno).to_ne_bytes());
        message
    }

    #[test]
    fn a_listener_is_read_with_queue_and_memory() {
        let datagram = [listener_message(9), done(9, 0)].concat();
        let read: Vec<_> = messages(&datagram, 9).collect();
        let [Message::Socket(payload), Message::Done] = read.as_slice() else { panic!("{read:?}") };
        let socket = inet_socket(payload).unwrap();
        assert_eq!(socket.local, ("127.0.0.1".parse().unwrap(), 18081));
        assert_eq!((socket.rqueue, socket.wqueue, socket.uid, socket.inode), (0, 4096, 33, 11308));
        assert_eq!((socket.receive_buffer, socket.drops), (Some(131_072), Some(3)));
        assert_eq!(socket.cookie, 7 << 32 | 0x5001);
    }

    #[test]
    fn replies_to_other_requests_are_skipped() {
        let datagram = [listener_message(8), done(9, 0)].concat();
        assert_eq!(messages(&datagram, 9).collect::<Vec<_>>(), [Message::Done]);
    }

    #[test]
    fn an_errno_inside_done_is_an_error() {
        assert_eq!(messages(&done(1, 2), 1).collect::<Vec<_>>(), [Message::Error(2)]);
    }

    #[test]
    fn truncated_bytes_never_panic() {
        let whole = [listener_message(9), done(9, 0)].concat();
        for length in 0..whole.len() {
            for message in messages(&whole[..length], 9) {
                if let Message::Socket(payload) = message {
                    for cut in 0..payload.len() {
                        let _ = (inet_socket(&payload[..cut]), unix_socket(&payload[..cut]));
                    }
                }
            }
        }
    }
}
