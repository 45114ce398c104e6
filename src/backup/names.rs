//! The names of backups, `<haproxy>-<UTC as 20261129T012233Z>`.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// How the time stands in a name.
const TIME: &str = "%Y%m%dT%H%M%SZ";

/// The name of a backup of a service that was taken at a time in seconds since the epoch. A character of
/// the service's name that could not stand in the name of a file becomes `%` and two hexadecimal digits.
#[must_use]
pub fn name(haproxy: &str, taken: i64) -> String {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'@' | b'-');
    let mut name = String::new();
    for (at, byte) in haproxy.bytes().enumerate() {
        if plain(byte) && !(at == 0 && byte == b'.') {
            name.push(char::from(byte));
        } else {
            let _ = write!(name, "%{byte:02x}");
        }
    }
    format!("{name}-{}", stamp(taken))
}

/// A time as it stands in a name.
#[must_use]
pub fn stamp(taken: i64) -> String {
    let time = Timestamp::from_second(taken).unwrap_or(Timestamp::UNIX_EPOCH);
    TimeZone::UTC.to_datetime(time).strftime(TIME).to_string()
}

/// Whether this could be the name of a backup, and so nothing else that lies in the directory.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let time = name.rsplit_once('-').filter(|(haproxy, _)| !haproxy.is_empty());
    !name.starts_with('.')
        && !name.contains('/')
        && time.is_some_and(|(_, time)| DateTime::strptime(TIME, time).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_recognised() {
        let taken = 1_795_915_353;
        for (haproxy, expected) in [
            ("lbagent", "lbagent-20261129T012233Z"),
            ("web@1000", "web@1000-20261129T012233Z"),
            ("a/b", "a%2fb-20261129T012233Z"),
            ("..", "%2e.-20261129T012233Z"),
        ] {
            let name = name(haproxy, taken);
            assert_eq!(name, expected);
            assert!(is_name(&name), "{name}");
        }
        for other in
            ["", "a", "a-b", "-20261129T012233Z", ".a-20261129T012233Z", "a-20261329T012233Z"]
        {
            assert!(!is_name(other), "{other}");
        }
    }
}
