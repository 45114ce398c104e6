//! Turns the words of a `bind` line into the sockets that it opens (configuration manual, sections
//! 4.2 `bind` and 5.1; `src/listener.c`, `src/cfgparse-tcp.c`).

use std::sync::Arc;

use super::addresses::{self, Accepts, Address};
use super::expansion::expand_again;
use super::launch::Launch;
use super::lexer::Word;
use super::ports::{AddressError, error};
use super::variables::{Reason, Variables};
use crate::model::declared::{HostQuery, Inherited, Listener, Place, Possible, UnixListener};

/// Keywords of a `bind` line that take no value (`bind_kw_list` all over `src/`). All others take
/// one, so that in `name interface` the second word is not read as a keyword.
const WITHOUT_VALUE: [&[u8]; 26] = [
    b"accept-proxy",
    b"allow-0rtt",
    b"defer-accept",
    b"force-sslv3",
    b"force-tlsv10",
    b"force-tlsv11",
    b"force-tlsv12",
    b"force-tlsv13",
    b"generate-certificates",
    b"no-alpn",
    b"no-ca-names",
    b"no-sslv3",
    b"no-strict-sni",
    b"no-tls-tickets",
    b"no-tlsv10",
    b"no-tlsv11",
    b"no-tlsv12",
    b"no-tlsv13",
    b"prefer-client-ciphers",
    b"quic-force-retry",
    b"ssl",
    b"strict-sni",
    b"tfo",
    b"transparent",
    b"v4v6",
    b"v6only",
];

/// The options that the keywords after the address give a socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) interface: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) transparent: bool,
    pub(super) v6only: bool,
    pub(super) v4v6: bool,
    /// Why not all of them are known.
    pub(super) doubt: Option<Reason>,
}

impl Options {
    /// Reads keywords and adds them to those read before (`default-bind`).
    pub(super) fn read(&mut self, words: &[Word]) {
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let keyword = word.text.as_slice();
            let value = if WITHOUT_VALUE.contains(&keyword) { None } else { words.next() };
            if let Some(doubt) = word.doubt.as_ref().or_else(|| value?.doubt.as_ref()) {
                self.doubt = Some(Arc::clone(doubt));
                return;
            }
            let text = value.map(|value| String::from_utf8_lossy(&value.text).into_owned());
            match keyword {
                b"transparent" => self.transparent = true,
                b"v6only" => self.v6only = true,
                b"v4v6" => self.v4v6 = true,
                b"interface" => self.interface = text,
                b"namespace" => self.namespace = text,
                _ => {}
            }
        }
    }
}

/// The text cannot be a keyword of a `bind` or `server` line in any version.
pub(super) fn is_no_keyword(text: &[u8]) -> bool {
    !text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// One address of a line, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) place: Place,
    pub(super) accepts: Accepts,
    pub(super) outcome: Result<Address, AddressError>,
    /// The host name in it.
    pub(super) host: Option<HostQuery>,
    /// Why the address is not known at all.
    pub(super) doubt: Option<Reason>,
}

/// What the reading of an address depends on.
pub(super) struct Setting<'a> {
    pub(super) variables: &'a Variables,
    pub(super) launch: &'a Launch,
    pub(super) accepts: Accepts,
    pub(super) file: &'a Arc<std::path::Path>,
    pub(super) line: usize,
}

/// Reads the addresses in one word, which commas separate.
pub(super) fn read(word: &Word, setting: &Setting<'_>, room: &mut usize) -> Vec<Bound> {
    let place = |columns: std::ops::Range<usize>| Place {
        file: Arc::clone(setting.file),
        line: setting.line,
        columns: columns.start + 1..columns.end + 1,
    };
    if let Some(doubt) = &word.doubt {
        return vec![Bound {
            place: place(word.source.clone()),
            accepts: setting.accepts,
            outcome: Ok(Address::None),
            host: None,
            doubt: Some(Arc::clone(doubt)),
        }];
    }
    let mut bound = Vec::new();
    let mut doubted = false;
    let mut at = 0;
    let pieces: Vec<&[u8]> = word.text.split(|&byte| byte == b',').collect();
    let last = pieces.len() - 1;
    for (index, piece) in pieces.into_iter().enumerate() {
        let start = word.source.start + at;
        at += piece.len() + 1;
        // A comma at the very end adds no address.
        if index == last && index > 0 && piece.is_empty() {
            break;
        }
        let columns = if word.literal {
            start..(start + piece.len()).max(start + 1)
        } else {
            word.source.clone()
        };
        let (outcome, doubt) = match expand_again(piece, setting.variables, room) {
            Ok(text) => (addresses::parse(&text, setting.accepts, setting.launch.version), None),
            Err(reason) => (Ok(Address::None), Some(reason)),
        };
        let host = match &outcome {
            Ok(Address::Host(_, query, _)) => Some(query.clone()),
            _ => None,
        };
        let outcome = outcome.and_then(|address| look_up(address, setting.launch));
        // HAProxy stops at the first address that it refuses, and one unknown address per word is
        // enough to report. Both bound the answer.
        let ends = outcome.is_err();
        if doubt.is_some() && std::mem::replace(&mut doubted, true) {
            continue;
        }
        let accepts = setting.accepts;
        bound.push(Bound { place: place(columns), accepts, outcome, host, doubt });
        if ends {
            break;
        }
    }
    bound
}

/// Replaces a host name by its address, where it was looked up.
fn look_up(address: Address, launch: &Launch) -> Result<Address, AddressError> {
    let Address::Host(carrier, query, ports) = &address else { return Ok(address) };
    match launch.names.get(query) {
        Some(Ok(found)) => Ok(Address::Ip(*carrier, *found, *ports)),
        Some(Err(why)) => error(
            format!("host name '{}' does not resolve: {why}", query.name),
            "write an IP address, or make the name known in /etc/hosts or to the name server",
        ),
        None => Ok(address),
    }
}

/// The section that the sockets of a line belong to.
pub(super) struct Owner<'a> {
    pub(super) section: &'a Arc<str>,
    pub(super) unix_prefix: Option<&'a str>,
}

/// What one address of a line opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Socket {
    Listener(Listener),
    Inherited(Inherited),
    Unix(UnixListener),
    /// The socket is not known; with the reason, and what it may be.
    Uncertain(Place, Reason, Possible),
    None,
}

/// Combines an address with the options of its line.
pub(super) fn socket(bound: &Bound, options: &Options, owner: &Owner<'_>) -> Socket {
    let place = bound.place.clone();
    if let Some(reason) = &bound.doubt {
        return Socket::Uncertain(place, Arc::clone(reason), Possible::default());
    }
    let Ok(address) = &bound.outcome else {
        return Socket::None;
    };
    let section = Arc::clone(owner.section);
    let is_datagram = bound.accepts == Accepts::Datagrams;
    match address {
        Address::Ip(carrier, address, ports) => {
            let listener = Listener {
                protocol: carrier.protocol,
                quic: carrier.quic,
                mptcp: carrier.mptcp,
                address: *address,
                ports: *ports,
                interface: options.interface.clone(),
                namespace: options.namespace.clone(),
                transparent: options.transparent,
                v6only: (options.v6only || options.v4v6).then_some(options.v6only),
                section,
                place,
            };
            match &options.doubt {
                Some(reason) => {
                    let possible = possible(&listener);
                    Socket::Uncertain(listener.place, Arc::clone(reason), possible)
                }
                None => Socket::Listener(listener),
            }
        }
        Address::Host(carrier, query, ports) => Socket::Uncertain(
            place,
            format!("host name '{}' is resolved when HAProxy starts", query.name).into(),
            Possible { protocol: Some(carrier.protocol), address: None, ports: Some(*ports) },
        ),
        Address::Lenient(carrier, ports) => Socket::Uncertain(
            place,
            "what follows the port is ignored up to 2.9 and refused from 3.0 on".into(),
            Possible { protocol: Some(carrier.protocol), address: None, ports: Some(*ports) },
        ),
        Address::Unix(name) | Address::Abstract(name) => {
            let is_abstract = matches!(address, Address::Abstract(_));
            let prefix = owner.unix_prefix.filter(|_| !is_abstract).unwrap_or_default();
            let path = format!("{prefix}{}", String::from_utf8_lossy(name));
            Socket::Unix(UnixListener { path, is_abstract, is_datagram, section, place })
        }
        Address::Descriptor(carrier, fd) => {
            Socket::Inherited(Inherited { fd: *fd, protocol: carrier.protocol, section, place })
        }
        Address::None => Socket::None,
    }
}

/// What a listener that may be absent may bind.
pub(super) fn possible(listener: &Listener) -> Possible {
    Possible {
        protocol: Some(listener.protocol),
        address: Some(listener.address),
        ports: Some(listener.ports),
    }
}
