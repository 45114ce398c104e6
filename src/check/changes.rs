//! What a reload would change: the listeners that the candidate adds to those of the running generation,
//! and those that it drops.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::haproxy::config::Declared;
use crate::model::Protocol;

/// A port of one address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BoundPort {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The local address; unspecified for all addresses.
    pub address: IpAddr,
    /// The port number.
    pub port: u16,
    /// The interface to which it is bound; empty for most ports.
    pub interface: String,
    /// The label of the network namespace; empty for the host's own.
    pub netns: String,
}

/// What the reload of one service would change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// What becomes of its ports; `None` if the listeners of the running generation could not be seen.
    pub ports: Option<PortChanges>,
    /// The executable that a reload would run; `None` if not known.
    pub executable: Option<Executable>,
}

/// What becomes of the ports of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortChanges {
    /// The candidate declares them, and the running generation does not listen on them.
    pub added: Vec<BoundPort>,
    /// The running generation listens on them, and the candidate does not declare them.
    pub dropped: Vec<BoundPort>,
    /// The number of ports on which the running generation listens and the next one will.
    pub kept: usize,
}

/// The executable that a reload would run, beside the one that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Executable {
    /// It is of the branch that runs, so that a reload is enough.
    SameBranch,
    /// It is of another branch, so that HAProxy is to be restarted.
    OtherBranch {
        /// The version that runs.
        running: String,
        /// The version on disk.
        next: String,
    },
}

/// Compares what the candidate declares, port by port, with what the running generation listens on.
///
/// A port that a line which cannot be decided may declare is not called dropped.
#[must_use]
pub fn of_ports(
    next: &BTreeSet<BoundPort>,
    running: &BTreeSet<BoundPort>,
    declared: &Declared,
) -> PortChanges {
    let dropped = running.difference(next);
    let dropped = dropped.filter(|port| !declared.may_bind(port.protocol, port.address, port.port));
    PortChanges {
        added: next.difference(running).cloned().collect(),
        dropped: dropped.cloned().collect(),
        kept: next.intersection(running).count(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::read;
    use super::*;

    fn ports(ports: &[u16]) -> BTreeSet<BoundPort> {
        let port = |&port: &u16| BoundPort {
            protocol: Protocol::Tcp,
            address: "0.0.0.0".parse().unwrap(),
            port,
            interface: String::new(),
            netns: String::new(),
        };
        ports.iter().map(port).collect()
    }

    #[test]
    fn ports_are_added_dropped_and_kept() {
        let declared = read("frontend a\n bind web:85\n");
        let changes = of_ports(&ports(&[80, 81, 90]), &ports(&[80, 81, 82, 85]), &declared);
        let numbers = |list: &[BoundPort]| list.iter().map(|p| p.port).collect::<Vec<_>>();
        assert_eq!(numbers(&changes.added), [90]);
        assert_eq!(numbers(&changes.dropped), [82], "the host name may stand for port 85");
        assert_eq!(changes.kept, 2);
    }
}
