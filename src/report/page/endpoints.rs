//! Ports as a person reads them: those in a row that differ in nothing else are one.

use std::fmt::Write;
use std::net::IpAddr;

use super::html::Escaped;
use crate::judge::verdict::PortKey;

/// Ports in a row, and what they have in common.
#[derive(Debug)]
pub struct Run<'a, T> {
    first: &'a PortKey,
    last: u16,
    /// What they have in common.
    pub common: T,
}

impl<T> Run<'_, T> {
    /// As `tcp 127.0.0.1:20000–20099`, escaped.
    pub fn html(&self) -> String {
        let key = self.first;
        let address = match key.address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        let mut text = format!("{} {address}:{}", key.protocol, key.port);
        if self.last != key.port {
            let _ = write!(text, "–{}", self.last);
        }
        if !key.interface.is_empty() {
            let _ = write!(text, " on {}", Escaped(&key.interface));
        }
        if !key.netns.is_empty() {
            let _ = write!(text, " in network namespace {}", Escaped(&key.netns));
        }
        text
    }
}

/// Gathers ports into runs; only those with the same `T` are in one.
pub fn runs<'a, T: Ord>(ports: impl Iterator<Item = (&'a PortKey, T)>) -> Vec<Run<'a, T>> {
    fn place(key: &PortKey) -> impl Ord + '_ {
        (key.protocol, key.address, &*key.interface, &*key.netns)
    }
    let mut sorted: Vec<_> = ports.collect();
    sorted.sort_by(|(a, common_a), (b, common_b)| {
        (place(a), common_a, a.port).cmp(&(place(b), common_b, b.port))
    });
    let mut runs: Vec<Run<'a, T>> = Vec::new();
    for (key, common) in sorted {
        match runs.last_mut() {
            Some(run)
                if run.last.checked_add(1) == Some(key.port)
                    && place(run.first) == place(key)
                    && run.common == common =>
            {
                run.last = key.port;
            }
            _ => runs.push(Run { first: key, last: key.port, common }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;

    fn key(address: &str, port: u16, interface: &str) -> PortKey {
        let (address, interface) = (address.parse().unwrap(), interface.into());
        PortKey { protocol: Protocol::Tcp, address, port, interface, netns: "".into() }
    }

    #[test]
    fn ports_in_a_row_are_one() {
        let mut keys: Vec<_> = (10..=20).map(|port| (key("::1", port, ""), 'a')).collect();
        keys.push((key("::1", 22, ""), 'a'));
        keys.push((key("::1", 23, ""), 'b'));
        keys.push((key("::1", 65535, ""), 'b'));
        keys.push((key("10.0.0.1", 23, "e<0>"), 'b'));
        let runs: Vec<_> = runs(keys.iter().rev().map(|(key, common)| (key, common)))
            .iter()
            .map(Run::html)
            .collect();
        let expected = [
            "tcp 10.0.0.1:23 on e&lt;0&gt;",
            "tcp [::1]:10–20",
            "tcp [::1]:22",
            "tcp [::1]:23",
            "tcp [::1]:65535",
        ];
        assert_eq!(runs, expected);
    }
}
