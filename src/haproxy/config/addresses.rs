//! Reads one address of a `bind` line (configuration manual, section 11; `str2sa_range` in
//! `src/tools.c`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ports::{AddressError, error, read_ports};
use super::version::Version;
use crate::model::Protocol;
use crate::model::declared::{self, HostQuery, Ports};

/// The kind of sockets that a keyword opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepts {
    /// `bind` opens TCP, QUIC and unix stream sockets.
    Streams,
    /// `dgram-bind` opens UDP and unix datagram sockets.
    Datagrams,
}

/// The transport of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Carrier {
    pub(super) protocol: Protocol,
    pub(super) quic: bool,
    pub(super) mptcp: bool,
}

/// One address as the configuration gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// An IP address with its ports.
    Ip(Carrier, IpAddr, Ports),
    /// A host name, which HAProxy resolves when it starts.
    Host(Carrier, HostQuery, Ports),
    /// A unix socket's path, without `unix-bind prefix`.
    Unix(Vec<u8>),
    /// An abstract unix socket's name.
    Abstract(Vec<u8>),
    /// A socket handed over by number.
    Descriptor(Carrier, i32),
    /// `sockpair@` or `rhttp@`, which clients cannot connect to.
    None,
    /// Ports followed by other characters, which HAProxy ignores up to 2.9 and refuses since 3.0.
    Lenient(Carrier, Ports),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Any,
    V4,
    V6,
    Unix,
    Abstract,
    Descriptor,
    None,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stream,
    Datagram,
    Quic,
}

/// A prefix of addresses: its name, family, kind (`None`: the keyword decides), whether it is MPTCP,
/// and the first version that knows it.
type Prefix = (&'static [u8], Family, Option<Kind>, bool, (u64, u64));

const PREFIXES: [Prefix; 24] = [
    (b"unix@", Family::Unix, None, false, (1, 5)),
    (b"uxdg@", Family::Unix, Some(Kind::Datagram), false, (2, 3)),
    (b"uxst@", Family::Unix, Some(Kind::Stream), false, (2, 3)),
    (b"abns@", Family::Abstract, None, false, (1, 5)),
    (b"abnsz@", Family::Abstract, None, false, (3, 1)),
    (b"ip@", Family::Any, None, false, (2, 3)),
    (b"ipv4@", Family::V4, None, false, (1, 5)),
    (b"ipv6@", Family::V6, None, false, (1, 5)),
    (b"tcp4@", Family::V4, Some(Kind::Stream), false, (2, 3)),
    (b"mptcp4@", Family::V4, Some(Kind::Stream), true, (3, 1)),
    (b"udp4@", Family::V4, Some(Kind::Datagram), false, (2, 3)),
    (b"tcp6@", Family::V6, Some(Kind::Stream), false, (2, 3)),
    (b"mptcp6@", Family::V6, Some(Kind::Stream), true, (3, 1)),
    (b"udp6@", Family::V6, Some(Kind::Datagram), false, (2, 3)),
    (b"tcp@", Family::Any, Some(Kind::Stream), false, (2, 3)),
    (b"mptcp@", Family::Any, Some(Kind::Stream), true, (3, 1)),
    (b"udp@", Family::Any, Some(Kind::Datagram), false, (2, 3)),
    (b"quic4@", Family::V4, Some(Kind::Quic), false, (2, 3)),
    (b"quic6@", Family::V6, Some(Kind::Quic), false, (2, 3)),
    (b"fd@", Family::Descriptor, None, false, (1, 5)),
    (b"sockpair@", Family::None, None, false, (1, 9)),
    // HAProxy compares only three letters.
    (b"rht", Family::None, None, false, (2, 9)),
    (b"/", Family::Unix, None, false, (1, 0)),
    (b"", Family::Any, None, false, (1, 0)),
];

const FORMS: &str = "write ADDRESS:PORT, :PORT, [IPV6]:PORT, ADDRESS:LOW-HIGH or a path";

/// Reads an address whose variables are expanded. Only [`PREFIXES`] and [`Address::Lenient`] depend
/// on `version`.
pub(super) fn parse(
    text: &[u8],
    accepts: Accepts,
    version: Option<Version>,
) -> Result<Address, AddressError> {
    if text.is_empty() {
        return error("empty address", "is there a comma too many, or a variable that is not set?");
    }
    let knows = |(major, minor)| version.is_none_or(|own| own.is_at_least(major, minor));
    let mut kind = match accepts {
        Accepts::Streams => Kind::Stream,
        Accepts::Datagrams => Kind::Datagram,
    };
    let mut rest = text;
    for (prefix, carried, since) in [
        (&b"stream+"[..], Kind::Stream, (2, 3)),
        (b"dgram+", Kind::Datagram, (2, 3)),
        (b"quic+", Kind::Quic, (2, 8)),
    ] {
        if let Some(after) = rest.strip_prefix(prefix).filter(|_| knows(since)) {
            kind = carried;
            rest = after;
            break;
        }
    }
    let found =
        PREFIXES.iter().find(|(prefix, .., since)| rest.starts_with(prefix) && knows(*since));
    let Some((prefix, family, fixed_kind, mptcp, _)) = found else {
        return error("unknown type of address", FORMS);
    };
    if *prefix != b"/" {
        rest = rest.get(prefix.len()..).unwrap_or_default();
    }
    kind = fixed_kind.unwrap_or(kind);
    let carrier = Carrier {
        protocol: if kind == Kind::Stream { Protocol::Tcp } else { Protocol::Udp },
        quic: kind == Kind::Quic,
        mptcp: *mptcp,
    };
    let address = match family {
        Family::Unix => Address::Unix(rest.to_vec()),
        Family::Abstract => Address::Abstract(rest.to_vec()),
        Family::None => Address::None,
        Family::Descriptor => match std::str::from_utf8(rest).ok().and_then(descriptor) {
            Some(fd) => Address::Descriptor(carrier, fd),
            None => {
                return error(
                    format!("'{}' is not the number of a file descriptor", rest.escape_ascii()),
                    "write fd@ and a number, usually from a variable",
                );
            }
        },
        Family::Any | Family::V4 | Family::V6 => internet(rest, *family, carrier, version)?,
    };
    match (kind, accepts) {
        (Kind::Datagram, Accepts::Streams) => error(
            "a datagram address where a stream is needed",
            "for UDP use dgram-bind in a log-forward section; for QUIC use quic4@ or quic6@",
        ),
        (Kind::Stream | Kind::Quic, Accepts::Datagrams) => {
            error("a stream address where datagrams are needed", "for TCP use bind")
        }
        _ => Ok(address),
    }
}

fn descriptor(text: &str) -> Option<i32> {
    text.trim_ascii_start().parse().ok().filter(|fd| *fd >= 0)
}

/// Reads `HOST:PORT` and similar forms.
fn internet(
    text: &[u8],
    family: Family,
    carrier: Carrier,
    version: Option<Version>,
) -> Result<Address, AddressError> {
    // The port follows the last colon, unless a bracket closes after it.
    let colon = text
        .iter()
        .rposition(|byte| matches!(byte, b':' | b']'))
        .filter(|&at| text.get(at) == Some(&b':'));
    let Some(colon) = colon else {
        return error(format!("no port in '{}'", text.escape_ascii()), FORMS);
    };
    let host = text.get(..colon).unwrap_or_default();
    let (ports, strict) = read_ports(text.get(colon + 1..).unwrap_or_default())?;
    match read_host(host, family) {
        Host::Ip(_) | Host::Name(_) if !strict => match version {
            Some(version) if version.is_at_least(3, 0) => {
                error("characters after the port", "write :PORT or :LOW-HIGH")
            }
            _ => Ok(Address::Lenient(carrier, ports)),
        },
        // The kernel binds an address of IPv4 in the form of IPv6 as what it is.
        Host::Ip(address) => Ok(Address::Ip(carrier, address.to_canonical(), ports)),
        Host::Name(name) => {
            let family = match family {
                Family::V4 => Some(declared::Family::V4),
                Family::V6 => Some(declared::Family::V6),
                _ => None,
            };
            Ok(Address::Host(carrier, HostQuery { name, family }, ports))
        }
        Host::Invalid => error(format!("'{}' is not an address", host.escape_ascii()), FORMS),
    }
}

enum Host {
    Ip(IpAddr),
    Name(String),
    Invalid,
}

/// Reads the host part (`str2ip2` in `src/tools.c`).
fn read_host(host: &[u8], family: Family) -> Host {
    let mut host = host;
    if host.first() == Some(&b'[') {
        let inside = host.get(1..host.len().saturating_sub(1));
        match inside {
            Some(inside) if (4..48).contains(&host.len()) && host.last() == Some(&b']') => {
                host = inside;
            }
            _ => return Host::Invalid,
        }
    }
    if host.is_empty() || host == b"*" {
        return Host::Ip(if family == Family::V6 {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        });
    }
    let Ok(text) = std::str::from_utf8(host) else {
        return Host::Invalid;
    };
    match (text.parse::<IpAddr>(), family) {
        (Ok(address @ IpAddr::V6(_)), Family::Any | Family::V6)
        | (Ok(address @ IpAddr::V4(_)), Family::Any | Family::V4) => Host::Ip(address),
        (Err(_), _) if is_host_name(host) => Host::Name(text.to_owned()),
        _ => Host::Invalid,
    }
}

/// HAProxy tries to resolve the text as a host name (`resolv_hostname_validation` in
/// `src/resolvers.c`).
fn is_host_name(text: &[u8]) -> bool {
    text.len() <= 255
        && text.split(|&byte| byte == b'.').all(|label| label.len() <= 63)
        && text
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str, accepts: Accepts, version: &str) -> String {
        let version = Version::parse(version);
        match parse(text.as_bytes(), accepts, version) {
            Ok(Address::Ip(carrier, address, Ports { first, last })) => {
                let kind = match (carrier.protocol, carrier.quic, carrier.mptcp) {
                    (_, true, _) => "quic",
                    (_, _, true) => "mptcp",
                    (Protocol::Tcp, ..) => "tcp",
                    (Protocol::Udp, ..) => "udp",
                };
                format!("{kind} {address} {first}-{last}")
            }
            Ok(Address::Host(_, HostQuery { name, family }, Ports { first, .. })) => {
                let family = family.map(|family| format!("{} ", family.as_str()));
                format!("{}host {name} {first}", family.unwrap_or_default())
            }
            Ok(Address::Unix(path)) => format!("unix {}", path.escape_ascii()),
            Ok(Address::Abstract(name)) => format!("abns {}", name.escape_ascii()),
            Ok(Address::Descriptor(_, fd)) => format!("fd {fd}"),
            Ok(Address::None) => "none".to_owned(),
            Ok(Address::Lenient(_, Ports { first, last })) => format!("lenient {first}-{last}"),
            Err(_) => "error".to_owned(),
        }
    }

    #[test]
    fn streams() {
        for (text, expected) in [
            (":80", "tcp 0.0.0.0 80-80"),
            ("*:80", "tcp 0.0.0.0 80-80"),
            ("127.0.0.1:80-82", "tcp 127.0.0.1 80-82"),
            ("127.0.0.1:0080", "tcp 127.0.0.1 80-80"),
            (":::80", "tcp :: 80-80"),
            ("::1:80", "tcp ::1 80-80"),
            ("[::1]:80", "tcp ::1 80-80"),
            ("[127.0.0.1]:80", "tcp 127.0.0.1 80-80"),
            ("ipv6@:80", "tcp :: 80-80"),
            ("ipv6@*:80", "tcp :: 80-80"),
            ("ipv4@:80", "tcp 0.0.0.0 80-80"),
            ("ipv4@::1:80", "error"),
            ("ipv6@127.0.0.1:80", "error"),
            ("tcp@:80", "tcp 0.0.0.0 80-80"),
            ("tcp6@[::1]:80", "tcp ::1 80-80"),
            ("stream+ip@:80", "tcp 0.0.0.0 80-80"),
            ("quic4@:443", "quic 0.0.0.0 443-443"),
            ("quic6@:443", "quic :: 443-443"),
            ("quic+ip@:443", "quic 0.0.0.0 443-443"),
            ("mptcp@:80", "mptcp 0.0.0.0 80-80"),
            ("mptcp6@:80", "mptcp :: 80-80"),
            ("localhost:80", "host localhost 80"),
            ("ipv4@localhost:80", "ipv4 host localhost 80"),
            ("quic6@localhost:80", "ipv6 host localhost 80"),
            ("127.1:80", "host 127.1 80"),
            ("/run/x.sock", "unix /run/x.sock"),
            ("unix@x.sock", "unix x.sock"),
            ("uxst@/x", "unix /x"),
            ("abns@name", "abns name"),
            ("abnsz@name", "abns name"),
            ("fd@3", "fd 3"),
            ("fd@x", "error"),
            ("fd@", "error"),
            ("sockpair@4", "none"),
            ("rhttp@be/srv", "none"),
            ("udp@:80", "error"),
            ("dgram+ip@:80", "error"),
            ("uxdg@/x", "error"),
            ("", "error"),
            ("80", "error"),
            ("127.0.0.1", "error"),
            ("127.0.0.1:", "error"),
            (":0", "error"),
            (":65536", "error"),
            (":99999999999999999999", "error"),
            (":82-80", "error"),
            (":80-", "error"),
            (":80--90", "error"),
            (":80-+90", "tcp 0.0.0.0 80-90"),
            (":+80", "error"),
            (":80x", "error"),
            ("[::1:80", "error"),
            ("[]:80", "error"),
            ("[::1]", "error"),
            ("a b:80", "error"),
            ("h@st:80", "error"),
        ] {
            assert_eq!(show(text, Accepts::Streams, "3.2.1"), expected, "{text}");
        }
    }

    #[test]
    fn datagrams() {
        for (text, expected) in [
            (":514", "udp 0.0.0.0 514-514"),
            ("udp4@127.0.0.1:514", "udp 127.0.0.1 514-514"),
            ("udp6@:514", "udp :: 514-514"),
            ("dgram+ip@:514", "udp 0.0.0.0 514-514"),
            ("uxdg@/x", "unix /x"),
            ("tcp@:514", "error"),
            ("quic4@:514", "error"),
        ] {
            assert_eq!(show(text, Accepts::Datagrams, "3.2.1"), expected, "{text}");
        }
    }

    #[test]
    fn versions() {
        for (text, version, expected) in [
            ("mptcp@:80", "2.6.12", "error"),
            ("mptcp@:80", "", "mptcp 0.0.0.0 80-80"),
            ("rhttp@x/y", "2.6.12", "error"),
            (":80x", "2.8.25", "lenient 80-80"),
            (":80-82-84", "2.6.12", "lenient 80-82"),
            (":80x", "", "lenient 80-80"),
        ] {
            assert_eq!(show(text, Accepts::Streams, version), expected, "{text}");
        }
    }
}
