//! The scalar values of the configuration file, each read from its text.
//!
//! The reader of YAML adds the key and the position to an error, so an error here names the value
//! and the remedy.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use regex::Regex;

use crate::model::Protocol;
use crate::policy::AllowedPort;
use crate::policy::kind::Kind;

/// A duration such as `10s` or `1h 30m`, in seconds.
#[derive(Debug)]
pub struct Seconds(pub f64);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let duration = humantime::parse_duration(text).map_err(|why| {
            format!("invalid duration {text:?}: {why}; write it like 10s, 5m or 24h")
        })?;
        Ok(Seconds(duration.as_secs_f64()))
    }
}

/// A port number from 1 to 65535.
#[derive(Debug)]
pub struct PortNumber(pub u16);

impl FromStr for PortNumber {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse().ok().filter(|&port| port != 0);
        let invalid = || format!("invalid port {text:?}; write a number from 1 to 65535");
        number.map(PortNumber).ok_or_else(invalid)
    }
}

/// An IP address.
#[derive(Debug)]
pub struct Address(pub IpAddr);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Address).map_err(|_| format!("invalid IP address {text:?}"))
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Kind::from_name(text).ok_or_else(|| {
            let kinds = Kind::ALL.map(Kind::as_str).join(", ");
            format!("unknown kind {text:?}; valid kinds: {kinds}")
        })
    }
}

/// A regular expression.
#[derive(Debug)]
pub struct Pattern(pub Regex);

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Regex::new(text).map(Pattern).map_err(|error| {
            // The lines before the last repeat the expression.
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default();
            let reason = reason.trim_start_matches("error: ");
            format!("invalid regular expression {text:?}: {reason}")
        })
    }
}

/// A pattern in which `*` stands for any characters, slashes included, and `?` for one character.
#[derive(Debug)]
pub struct Glob(pub Regex);

impl FromStr for Glob {
    type Err = regex::Error;

    fn from_str(text: &str) -> Result<Self, regex::Error> {
        let pattern = regex::escape(text).replace(r"\*", ".*").replace(r"\?", ".");
        Regex::new(&format!("^{pattern}$")).map(Glob)
    }
}

impl FromStr for AllowedPort {
    type Err = String;

    /// Reads `[tcp/|udp/][ADDRESS|NETWORK:]LOW[-HIGH]`, IPv6 in brackets.
    fn from_str(text: &str) -> Result<Self, String> {
        let (protocol, rest) = match text.split_once('/') {
            Some(("tcp", rest)) => (Some(Protocol::Tcp), rest),
            Some(("udp", rest)) => (Some(Protocol::Udp), rest),
            _ => (None, text),
        };
        let (address, ports) = match rest.rsplit_once(':') {
            Some((address, ports)) => (Some(network(address)?), ports),
            None => (None, rest),
        };
        let (low, high) = ports.split_once('-').unwrap_or((ports, ports));
        let number = |part: &str| part.parse().map_err(|why| format!("{text:?}: {why}"));
        let (low, high): (PortNumber, PortNumber) = (number(low)?, number(high)?);
        if low.0 > high.0 {
            return Err(format!("the range {ports:?} goes down; write {}-{}", high.0, low.0));
        }
        Ok(AllowedPort { protocol, address, ports: low.0..=high.0 })
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let inner = match text.strip_prefix('[') {
        // Both [2001:db8::]/32 and [2001:db8::/32] are accepted.
        Some(rest) => rest.replacen(']', "", 1),
        None if text.contains(':') => {
            return Err(format!("an IPv6 address must be in brackets: [{text}]:PORT"));
        }
        None => text.to_owned(),
    };
    let address = inner.parse::<IpAddr>().map(IpNet::from);
    address
        .or_else(|_| inner.parse())
        .map_err(|_| format!("{text:?} is neither an IP address nor a network such as 10.0.0.0/8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_matches_the_whole_path() {
        let glob: Glob = "/kubepods*/pod?/x.y".parse().unwrap();
        assert!(glob.0.is_match("/kubepods/burst/pod1/x.y"));
        assert!(!glob.0.is_match("/kubepods/burst/pod1/xzy"));
        assert!(!glob.0.is_match("/a/kubepods/pod1/x.y"));
    }
}
