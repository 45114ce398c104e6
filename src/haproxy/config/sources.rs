//! Reads from which addresses HAProxy opens connections: the `source` of proxies and of servers.

use std::net::IpAddr;

use super::findings::Line;
use crate::model::declared::Sources;

/// Adds what a line says of them. A line that may not count is taken for one that does.
pub(super) fn learn(sources: &mut Sources, line: &Line<'_>) {
    let first = match line.text(0) {
        b"source" => 0,
        b"default-server" => 1,
        // After the name and the address.
        b"server" | b"peer" | b"server-template" => 3,
        _ => return,
    };
    for (at, word) in line.words.iter().enumerate().skip(first) {
        if word.text != b"source" {
            continue;
        }
        let is_known = line.words.get(at + 1).is_some_and(|word| word.doubt.is_none());
        let is_clients = line.text(at + 2) == b"usesrc";
        match address(line.text(at + 1)).filter(|_| is_known && !is_clients) {
            Some(address) => drop(sources.addresses.insert(address)),
            None => sources.any = true,
        }
    }
}

/// The address of `10.0.0.1:1024-65000`; `None` for a wildcard or a name. What follows the last colon is a port.
fn address(word: &[u8]) -> Option<IpAddr> {
    let word = std::str::from_utf8(word).ok()?;
    let word = word.rsplit_once('@').map_or(word, |(_, address)| address);
    let bare = |text: &str| text.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let before_port = word.rsplit_once(':').and_then(|(address, _)| bare(address));
    before_port.or_else(|| bare(word)).filter(|address| !address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::haproxy::config::{Launch, SourceFile, read};

    fn sources(lines: &str) -> Sources {
        let text = format!("backend b\n {lines}\n");
        let file = SourceFile { path: "h.cfg".into(), text: text.into_bytes() };
        read(&[file], &Launch::default()).sources
    }

    #[test]
    fn addresses_of_proxies_and_servers_are_read() {
        let only =
            |address: &str| Sources { addresses: [address.parse().unwrap()].into(), any: false };
        let any = || Sources { any: true, ..Sources::default() };
        let table = [
            ("server a 10.0.0.9:80", Sources::default()),
            ("server source 10.0.0.9:80", Sources::default()),
            ("source 10.0.0.1", only("10.0.0.1")),
            ("source 10.0.0.1:1024-2047 interface eth0", only("10.0.0.1")),
            ("source ipv4@10.0.0.1:0", only("10.0.0.1")),
            ("server a 10.0.0.9:80 check source 10.0.0.1", only("10.0.0.1")),
            ("default-server source [fd00::1]:0", only("fd00::1")),
            ("server a 10.0.0.9:80 source fd00::1:0", only("fd00::1")),
            ("source 0.0.0.0:1024-65000", any()),
            ("source *", any()),
            ("source lb.example.com", any()),
            ("source 10.0.0.1 usesrc clientip", any()),
        ];
        for (lines, expected) in table {
            assert_eq!(sources(lines), expected, "{lines}");
        }
    }
}
