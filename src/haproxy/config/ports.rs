//! Reads the port, or range of ports, of an address (`str2sa_range` in `src/tools.c`).

use super::version::leading_number;
use crate::model::declared::Ports;

/// Why HAProxy refuses an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AddressError {
    pub(super) what: String,
    pub(super) help: Option<&'static str>,
}

pub(super) fn error<T>(what: impl Into<String>, help: &'static str) -> Result<T, AddressError> {
    Err(AddressError { what: what.into(), help: Some(help) })
}

/// Reads a port or a range, and gives whether nothing follows it. Up to 2.9 something may.
pub(super) fn read_ports(text: &[u8]) -> Result<(Ports, bool), AddressError> {
    let shown = || text.escape_ascii();
    if !text.first().is_some_and(u8::is_ascii_digit) {
        return error(
            format!("no port in '{}'", shown()),
            "write a number from 1 to 65535, or LOW-HIGH",
        );
    }
    let (low, high) = match text.iter().position(|&byte| byte == b'-') {
        Some(dash) => {
            (text.get(..dash).unwrap_or_default(), text.get(dash + 1..).unwrap_or_default())
        }
        None => (text, text),
    };
    let (first, first_strict) = number(low);
    let (last, last_strict) = number(high);
    match (first, last) {
        (Some(first), Some(last)) if first <= last => {
            Ok((Ports { first, last }, first_strict && last_strict))
        }
        (Some(_), Some(_)) => {
            error(format!("port range '{}' runs backwards", shown()), "write the lower port first")
        }
        _ => error(format!("'{}' is not a port", shown()), "ports go from 1 to 65535"),
    }
}

/// Reads an integer as strtol(3) does. Returns it if it is a port, and whether nothing follows it.
fn number(text: &[u8]) -> (Option<u16>, bool) {
    let text = text.trim_ascii_start();
    let (negative, digits) = match text.split_first() {
        Some((b'-', digits)) => (true, digits),
        Some((b'+', digits)) => (false, digits),
        _ => (false, text),
    };
    let (value, rest) = leading_number(digits);
    (u16::try_from(value).ok().filter(|port| *port > 0 && !negative), rest.is_empty())
}
