//! The scalar values of the configuration file, each read from its text.
//!
//! The reader of YAML adds the key and the position to an error, so an error here names the value
//! and the remedy.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use regex::Regex;

use crate::model::{Protocol, UnixSeconds};
use crate::policy::kind::Kind;
use crate::policy::{AllowedPort, ReservedRange, Until};

/// Defines scalars: the type of the value of each, and how it is read from a text.
macro_rules! scalars {
    ($($(#[$about:meta])* $Scalar:ident($Value:ty) = |$text:ident| $read:expr;)+) => {$(
        $(#[$about])*
        #[derive(Debug)]
        pub struct $Scalar(pub $Value);

        impl FromStr for $Scalar {
            type Err = String;

            fn from_str($text: &str) -> Result<Self, String> {
                $read.map($Scalar)
            }
        }
    )+};
}

pub(super) use scalars;

scalars! {
    /// A duration such as `10s` or `1h 30m`, in seconds.
    Seconds(f64) = |text| match humantime::parse_duration(text) {
        Ok(duration) => Ok(duration.as_secs_f64()),
        Err(why) => Err(format!("invalid duration {text:?}: {why}; write it like 10s, 5m or 24h")),
    };

    /// An absolute path.
    Absolute(PathBuf) = |text| match PathBuf::from(text) {
        path if path.is_absolute() => Ok(path),
        _ => Err(format!("must be an absolute path: {text}")),
    };

    /// A port number from 1 to 65535.
    PortNumber(u16) = |text| match text.parse::<u16>() {
        Ok(0) | Err(_) => Err(format!("invalid port {text:?}; write a number from 1 to 65535")),
        Ok(port) => Ok(port),
    };

    /// An IP address.
    Address(IpAddr) = |text| text.parse().map_err(|_| format!("invalid IP address {text:?}"));

    /// A regular expression.
    Pattern(Regex) = |text| Regex::new(text).map_err(|error| {
        // The lines before the last repeat the expression.
        let error = error.to_string();
        let reason = error.lines().last().unwrap_or_default();
        let reason = reason.trim_start_matches("error: ");
        format!("invalid regular expression {text:?}: {reason}")
    });

    /// A pattern in which `*` stands for any characters, slashes included, and `?` for one character.
    Glob(Regex) = |text| {
        let pattern = regex::escape(text).replace(r"\*", ".*").replace(r"\?", ".");
        Regex::new(&format!("^{pattern}$")).map_err(|error| error.to_string())
    };

    /// Words for a person, such as a name or a reason.
    Label(String) = |text| match text.trim() {
        "" => Err("the text must not be empty".to_owned()),
        words => Ok(words.to_owned()),
    };
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

impl FromStr for Until {
    type Err = String;

    /// Reads a date, which stands for the end of that day in UTC, or an RFC 3339 time.
    fn from_str(text: &str) -> Result<Self, String> {
        let end = if text.len() == "2027-03-01".len() { end_of_day(text) } else { moment(text) };
        let end = end.ok_or_else(|| {
            format!(
                "invalid date {text:?}; write it like 2027-03-01, which means through the end of \
                 that day in UTC, or like 2027-03-01T18:00:00+01:00"
            )
        })?;
        Ok(Until { end, written: text.to_owned() })
    }
}

fn end_of_day(text: &str) -> Option<UnixSeconds> {
    let next = text.parse::<Date>().ok()?.tomorrow().ok()?;
    TimeZone::UTC.to_timestamp(next.at(0, 0, 0, 0)).ok().map(seconds)
}

fn moment(text: &str) -> Option<UnixSeconds> {
    text.parse().ok().map(seconds)
}

fn seconds(time: Timestamp) -> UnixSeconds {
    time.as_duration().as_secs_f64()
}

impl FromStr for AllowedPort {
    type Err = String;

    /// Reads `[tcp/|udp/][ADDRESS|NETWORK:]LOW[-HIGH]`, IPv6 in brackets.
    fn from_str(text: &str) -> Result<Self, String> {
        let (protocol, rest) = protocol(text)?;
        let (address, ports) = match rest.rsplit_once(':') {
            Some((address, ports)) => (Some(network(address)?), ports),
            None => (None, rest),
        };
        Ok(AllowedPort { protocol, address, ports: range(text, ports)? })
    }
}

impl FromStr for ReservedRange {
    type Err = String;

    /// Reads `[tcp/|udp/]LOW[-HIGH]`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (protocol, ports) = protocol(text)?;
        if ports.contains(':') {
            return Err(format!(
                "{text:?}: a reserved range has no address; write it like 30000-32767 or tcp/6443"
            ));
        }
        Ok(ReservedRange { protocol, ports: range(text, ports)? })
    }
}

/// The protocol before the slash, and the rest. A slash may also belong to a network; then an address
/// precedes it.
fn protocol(text: &str) -> Result<(Option<Protocol>, &str), String> {
    match text.split_once('/') {
        Some(("tcp", rest)) => Ok((Some(Protocol::Tcp), rest)),
        Some(("udp", rest)) => Ok((Some(Protocol::Udp), rest)),
        Some((word, rest)) if !word.contains(['.', ':', '[']) => Err(format!(
            "{text:?}: unknown protocol {word:?} before the slash; write tcp/{rest} or udp/{rest}, \
             or {rest} for both"
        )),
        _ => Ok((None, text)),
    }
}

/// Reads the range `LOW[-HIGH]` at the end of `text`.
fn range(text: &str, ports: &str) -> Result<RangeInclusive<u16>, String> {
    let (low, high) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |part: &str| part.parse().map_err(|why| format!("{text:?}: {why}"));
    let (low, high): (PortNumber, PortNumber) = (number(low)?, number(high)?);
    if low.0 > high.0 {
        return Err(format!("the range {ports:?} goes down; write {}-{}", high.0, low.0));
    }
    Ok(low.0..=high.0)
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

    #[test]
    fn an_entry_ends_with_its_day_or_at_its_time() {
        let table = [
            ("1970-01-01", Some(86_400.0)),
            ("2024-02-28", Some(1_709_164_800.0)),
            ("2024-02-29", Some(1_709_251_200.0)),
            ("2023-02-29", None),
            ("1970-01-02T01:00:00Z", Some(90_000.0)),
            ("1970-01-02T01:00:00+01:00", Some(86_400.0)),
            ("1970-01-02T01:00:00", None),
            ("2027-3-1", None),
            ("2027-03", None),
            ("never", None),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<Until>().ok().map(|until| until.end), expected, "{text}");
        }
    }

    #[test]
    fn a_word_before_the_slash_is_a_protocol() {
        let table = [
            (
                "x/80",
                "unknown protocol \"x\" before the slash; write tcp/80 or udp/80, or 80 for both",
            ),
            ("TCP/80-90", "unknown protocol \"TCP\" before the slash; write tcp/80-90 or"),
            ("/80", "unknown protocol \"\" before the slash"),
            ("tcp/x", "invalid port \"x\"; write a number from 1 to 65535"),
            ("10.0.0.0/80", "invalid port \"10.0.0.0/80\""),
        ];
        for (text, expected) in table {
            let why = text.parse::<AllowedPort>().unwrap_err();
            assert!(why.contains(expected), "{text}: {why}");
        }
        for text in ["tcp/80", "10.0.0.0/8:80", "udp/[2001:db8::]/32:53", "[::1]:80"] {
            assert!(text.parse::<AllowedPort>().is_ok(), "{text}");
        }
        assert!("sctp/80".parse::<ReservedRange>().unwrap_err().contains("unknown protocol"));
    }

    #[test]
    fn a_reserved_range_has_no_address() {
        let table = [
            ("30000-32767", Some((None, 30_000..=32_767))),
            ("udp/53", Some((Some(Protocol::Udp), 53..=53))),
            ("127.0.0.1:53", None),
            ("[::1]:53", None),
            ("9-8", None),
            ("0", None),
        ];
        for (text, expected) in table {
            let range = text.parse::<ReservedRange>().ok();
            assert_eq!(range.map(|range| (range.protocol, range.ports)), expected, "{text}");
        }
    }
}
