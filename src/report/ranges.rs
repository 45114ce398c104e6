//! Ports as a person reads them: those that differ only in their number share a line, as ranges.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::ops::RangeInclusive;

use super::text::{more, printable};
use crate::judge::verdict::PortKey;
use crate::model::numbers;

/// The number of ranges that are written before the rest is counted.
const MOST_RANGES: usize = 8;

/// Ports that differ only in their number.
#[derive(Debug, Clone, PartialEq)]
pub struct PortRanges<'a, T = ()> {
    /// The first of the ports.
    pub first: &'a PortKey,
    /// Their numbers, ascending.
    pub ranges: Vec<RangeInclusive<u16>>,
    /// What else they have in common.
    pub common: T,
}

/// Groups ports that differ only in their number.
#[must_use]
pub fn port_ranges<'a>(ports: impl IntoIterator<Item = &'a PortKey>) -> Vec<PortRanges<'a>> {
    ranges_by(ports.into_iter().map(|key| (key, ())))
}

/// The ports in words, as ranges.
#[must_use]
pub fn in_words<'a>(ports: impl IntoIterator<Item = &'a PortKey>) -> String {
    let groups: Vec<String> = port_ranges(ports).iter().map(PortRanges::shortened).collect();
    groups.join("; ")
}

/// Groups ports that differ only in their number and have the same `T`, which sorts first.
#[must_use]
pub fn ranges_by<'a, T: Ord>(
    ports: impl IntoIterator<Item = (&'a PortKey, T)>,
) -> Vec<PortRanges<'a, T>> {
    let mut groups: BTreeMap<_, Vec<&PortKey>> = BTreeMap::new();
    for (key, common) in ports {
        let PortKey { protocol, address, interface, netns, .. } = key;
        groups.entry((common, protocol, address, interface, netns)).or_default().push(key);
    }
    let groups = groups.into_iter().filter_map(|((common, ..), mut keys)| {
        keys.sort_unstable_by_key(|key| key.port);
        let ranges = numbers::runs(keys.iter().map(|key| key.port));
        Some(PortRanges { first: keys.first()?, ranges, common })
    });
    groups.collect()
}

impl<T> PortRanges<'_, T> {
    /// As `tcp 0.0.0.0 80, 20000-20299`, with at most eight ranges.
    #[must_use]
    pub fn shortened(&self) -> String {
        self.words(MOST_RANGES)
    }

    fn words(&self, most: usize) -> String {
        let PortKey { protocol, address, interface, netns, .. } = self.first;
        let mut shown: Vec<String> = self.ranges.iter().take(most).map(numbers::run).collect();
        shown.extend(more(self.ranges.len(), most, "ranges"));
        let mut text = format!("{protocol} {address} {}", shown.join(", "));
        if !interface.is_empty() {
            let _ = write!(text, " on {}", printable(interface));
        }
        if !netns.is_empty() {
            let _ = write!(text, " in network namespace {}", printable(netns));
        }
        text
    }
}

/// As `tcp 0.0.0.0 80, 20000-20299`, with every range.
impl<T> fmt::Display for PortRanges<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words(usize::MAX))
    }
}

/// Names a port, such as `tcp 0.0.0.0:80`, with its interface and network namespace if it has them.
#[must_use]
pub fn port_name(key: &PortKey) -> String {
    let mut name =
        format!("{} {}", key.protocol, crate::check::finding::socket(key.address, key.port));
    if !key.interface.is_empty() {
        let _ = write!(name, "%{}", printable(&key.interface));
    }
    if !key.netns.is_empty() {
        let _ = write!(name, " in netns {}", printable(&key.netns));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;

    fn key(address: &str, port: u16, interface: &str, netns: &str) -> PortKey {
        let address = address.parse().unwrap();
        let (interface, netns) = (interface.into(), netns.into());
        PortKey { protocol: Protocol::Tcp, address, port, interface, netns }
    }

    #[test]
    fn ports_that_differ_only_in_their_number_share_a_line() {
        let mut keys: Vec<PortKey> = (20_000..20_300).map(|n| key("0.0.0.0", n, "", "")).collect();
        keys.push(key("0.0.0.0", 80, "", ""));
        keys.push(key("::1", 80, "e\u{7}0", ""));
        keys.push(key("::1", 80, "", "blue"));
        keys.extend((1..=10).map(|n| key("10.0.0.1", 2 * n, "", "")));
        let mut lines: Vec<String> = port_ranges(&keys).iter().map(PortRanges::shortened).collect();
        lines.sort();
        let expected = [
            "tcp 0.0.0.0 80, 20000-20299",
            "tcp 10.0.0.1 2, 4, 6, 8, 10, 12, 14, 16, and 2 more ranges",
            "tcp ::1 80 in network namespace blue",
            "tcp ::1 80 on e\\u{7}0",
        ];
        assert_eq!(lines, expected);
    }
}
