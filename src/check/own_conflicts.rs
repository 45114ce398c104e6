//! Finds binds of one configuration that are in each other's way. With `SO_REUSEPORT` they share the port; with
//! `noreuseport` HAProxy does not start.

use std::collections::HashMap;

use super::facts::Facts;
use super::finding::{Endpoint, Finding, Kind, Severity};
use crate::haproxy::binding::{Bind, Terms};
use crate::haproxy::config::{Declared, Listener};

/// Gives one error for each listener whose port an earlier line has, on an address that overlaps.
#[must_use]
pub fn find(declared: &Declared, facts: Option<&Facts>) -> Vec<Finding> {
    if !declared.globals.noreuseport {
        return Vec::new();
    }
    let mut earlier: HashMap<_, Vec<&Listener>> = HashMap::new();
    let mut findings = Vec::new();
    for (listener, port) in declared.endpoints() {
        let network = facts.and_then(|facts| facts.networks.get(&listener.namespace));
        let terms = Terms {
            noreuseport: true,
            v6only: network.is_some_and(|network| network.v6only),
            uid: facts.and_then(|facts| facts.starter),
        };
        let bind = Bind::of(listener, port, terms);
        let key = (&listener.namespace, listener.protocol, port);
        let known = earlier.entry(key).or_default();
        let first = known.iter().find(|one| bind.overlaps_declared(one, terms) == Some(true));
        findings.extend(first.map(|first| conflict(first, listener, port)));
        known.push(listener);
    }
    findings
}

fn conflict(first: &Listener, second: &Listener, port: u16) -> Finding {
    let endpoint = Endpoint::of(second, port..=port);
    let what = format!("{endpoint} is in the way of another bind of this configuration");
    Finding {
        context: Some(Box::new((first.place.clone(), format!("bound by {}", first.section)))),
        label: "Address in use: HAProxy would not start".to_owned(),
        why: vec!["it says noreuseport, so that no two sockets share a port".to_owned()],
        help: vec!["remove one of the two, or noreuseport".to_owned()],
        endpoint: Some(endpoint),
        ..Finding::new(Kind::PortBlocked, Severity::Error, second.place.clone(), &what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::haproxy::config::{Launch, SourceFile, read};

    fn found(text: &str) -> usize {
        let file = SourceFile { path: "/a.cfg".into(), text: text.as_bytes().to_vec() };
        find(&read(&[file], &Launch::default()), None).len()
    }

    #[test]
    fn without_reuse_no_two_binds_share_a_port() {
        for (binds, expected) in [
            ("listen a\n bind :8001\nlisten b\n bind :8001\n", 1),
            ("listen a\n bind :8001\nlisten b\n bind 127.0.0.1:8001\n", 1),
            ("listen a\n bind 127.0.0.1:8001\n bind 127.0.0.1:8001\n", 1),
            ("listen a\n bind :::8001 v4v6\nlisten b\n bind :8001\n", 1),
            ("listen a\n bind ::ffff:127.0.0.1:8001\nlisten b\n bind :8001\n", 1),
            ("listen a\n bind :::8001 v6only\nlisten b\n bind :8001\n", 0),
            ("listen a\n bind 127.0.0.1:8001\nlisten b\n bind 127.0.0.2:8001\n", 0),
            ("listen a\n bind :8001-8003\nlisten b\n bind 127.0.0.1:8002-8009\n", 2),
            ("listen a\n bind :8001\n bind quic4@:8001 ssl crt x\n", 0),
        ] {
            assert_eq!(found(&format!("global\n noreuseport\n{binds}")), expected, "{binds}");
            assert_eq!(found(binds), 0, "{binds}");
        }
    }
}
