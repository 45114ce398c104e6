//! Ports as a person reads them: consecutive ports that differ in nothing else are one run.

use std::fmt;

use maud::{Markup, Render, html};

use crate::check::finding::socket;
use crate::judge::verdict::PortKey;
use crate::report::text::printable;

/// Consecutive ports, and what they have in common.
#[derive(Debug)]
pub struct Run<'a, T> {
    first: &'a PortKey,
    last: u16,
    /// What they have in common.
    pub common: T,
}

/// As `tcp 127.0.0.1:20000–20099`.
impl<T> fmt::Display for Run<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.first;
        write!(formatter, "{} {}", key.protocol, socket(key.address, key.port))?;
        if self.last != key.port {
            write!(formatter, "–{}", self.last)?;
        }
        if !key.interface.is_empty() {
            write!(formatter, " on {}", printable(&key.interface))?;
        }
        if !key.netns.is_empty() {
            write!(formatter, " in network namespace {}", printable(&key.netns))?;
        }
        Ok(())
    }
}

impl<T> Render for Run<'_, T> {
    fn render(&self) -> Markup {
        html! { (self.to_string()) }
    }
}

/// Gathers ports into runs. Only ports with the same `T` share a run.
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
    fn consecutive_ports_are_one_run() {
        let mut keys: Vec<_> = (10..=20).map(|port| (key("::1", port, ""), 'a')).collect();
        keys.push((key("::1", 22, ""), 'a'));
        keys.push((key("::1", 23, ""), 'b'));
        keys.push((key("::1", 65535, ""), 'b'));
        keys.push((key("10.0.0.1", 23, "e\u{7}0"), 'b'));
        let runs: Vec<_> = runs(keys.iter().rev().map(|(key, common)| (key, common)))
            .iter()
            .map(Run::to_string)
            .collect();
        let expected = [
            "tcp 10.0.0.1:23 on e\\u{7}0",
            "tcp [::1]:10–20",
            "tcp [::1]:22",
            "tcp [::1]:23",
            "tcp [::1]:65535",
        ];
        assert_eq!(runs, expected);
    }
}
