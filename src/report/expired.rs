//! The `ignore` entries of the exporter's configuration that have expired, for a person.

use super::text::{age, printable};
use crate::model::UnixSeconds;
use crate::policy::Ignore;
use crate::policy::kind::Kind;

/// One line that says which entry has expired and since when: `an ignore entry of haproxy a has
/// expired: port_ephemeral, port 50000, until 2027-03-01 (3d 4h ago): agreed with the network team`.
#[must_use]
pub fn line(ignore: &Ignore, now: UnixSeconds) -> String {
    let owner = match &ignore.haproxy {
        Some(name) => format!("haproxy {name}"),
        None => "defaults".to_owned(),
    };
    let until = ignore.until.as_ref().map(|until| {
        let ago = age(now - until.end);
        format!("until {} ({ago} ago)", until.written)
    });
    let words: Vec<String> = [Some(subject(ignore)), until].into_iter().flatten().collect();
    let reason = ignore.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let line = format!("an ignore entry of {owner} has expired: {}{reason}", words.join(", "));
    printable(&line)
}

/// What the entry ignores: `port_ephemeral, port 50000`.
#[must_use]
pub fn subject(ignore: &Ignore) -> String {
    let words = [
        Some(ignore.kind.map_or("every kind", Kind::as_str).to_owned()),
        ignore.port.map(|port| format!("port {port}")),
        ignore.address.map(|address| format!("address {address}")),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Until;

    #[test]
    fn a_line_names_the_entry_and_since_when() {
        let until = Until { end: 1000.0, written: "2027-03-01".to_owned() };
        let full = Ignore {
            haproxy: Some("lb\u{7}".to_owned()),
            kind: Some(Kind::PortEphemeral),
            port: Some(50_000),
            address: Some([127, 0, 0, 1].into()),
            reason: Some("agreed with the network team".to_owned()),
            until: Some(until.clone()),
        };
        let table = [
            (
                full,
                "an ignore entry of haproxy lb\\u{7} has expired: port_ephemeral, port 50000, \
                 address 127.0.0.1, until 2027-03-01 (1m 1s ago): agreed with the network team",
            ),
            (
                Ignore { until: Some(until), ..Ignore::default() },
                "an ignore entry of defaults has expired: every kind, until 2027-03-01 (1m 1s ago)",
            ),
        ];
        for (ignore, expected) in table {
            assert_eq!(line(&ignore, 1061.0), expected);
        }
    }
}
