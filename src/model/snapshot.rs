//! A whole sample, and the details that were read after it.

use std::collections::{BTreeMap, BTreeSet};

use super::gaps::Gaps;
use super::host::Headroom;
use super::network::{NamespaceId, NetworkNamespace};
use super::port_use::{PortUse, Program};
use super::process::{Process, ProcessId};
use super::socket::{Connection, SocketInode};
use super::time::UnixSeconds;
use super::unreadable::Unreadable;

/// One collector's run within a sample (label `collector`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CollectorRun {
    /// Its name: `processes`, `sockets`, `ownership` or `config`.
    pub collector: &'static str,
    /// The time it took.
    pub duration_seconds: f64,
    /// Whether it saw everything it is meant to see, apart from single unreadable items.
    pub success: bool,
}

/// Everything that one sample saw.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// When the sample was taken.
    pub taken: UnixSeconds,
    /// When the host booted, reckoned from `taken`: it moves by as much as the wall clock is set.
    pub booted: UnixSeconds,
    /// The reasons why the sample may be incomplete.
    pub gaps: Gaps,
    /// Every HAProxy process, oldest first.
    pub processes: Vec<Process>,
    /// The names (comm) of their parents that are not HAProxy, by pid.
    pub parents: BTreeMap<i32, String>,
    /// Every network namespace in which an HAProxy lives or listens, and the exporter's own.
    pub networks: BTreeMap<NamespaceId, NetworkNamespace>,
    /// The exporter's own network namespace.
    pub own_network: Option<NamespaceId>,
    /// The resources that are left on the host.
    pub host: Headroom,
    /// The resources that are left in each cgroup of [`Process::cgroup`], within the limits of its
    /// ancestors.
    pub cgroups: BTreeMap<String, Headroom>,
    /// The things that could not be read.
    pub unreadable: Vec<Unreadable>,
    /// The runs of the collectors.
    pub collectors: Vec<CollectorRun>,
}

impl Snapshot {
    /// Whether both samples show the same for these processes: programs, sockets, and which of the
    /// sockets listen.
    ///
    /// A sample is not taken in one moment and may mix the states before and after a change. A state
    /// that two samples in a row agree on is not such a mixture.
    #[must_use]
    pub fn agrees_with(&self, other: &Snapshot, about: &BTreeSet<ProcessId>) -> bool {
        let same = |(a, b): (&Process, &Process)| {
            a.id == b.id
                && a.is_zombie() == b.is_zombie()
                && a.is_ending == b.is_ending
                && a.arguments == b.arguments
                && a.environment == b.environment
                && a.sockets == b.sockets
        };
        let (mine, theirs) = (self.processes_of(about), other.processes_of(about));
        mine.len() == theirs.len()
            && mine.into_iter().zip(theirs).all(same)
            && self.held_listeners(about) == other.held_listeners(about)
    }

    fn processes_of(&self, ids: &BTreeSet<ProcessId>) -> Vec<&Process> {
        self.processes.iter().filter(|process| ids.contains(&process.id)).collect()
    }

    fn held_listeners(&self, holders: &BTreeSet<ProcessId>) -> BTreeSet<SocketInode> {
        let holders = self.processes_of(holders).into_iter();
        let held = holders.filter_map(|process| process.sockets.as_ref());
        let held: BTreeSet<SocketInode> = held.flat_map(|held| held.iter().copied()).collect();
        let networks = self.networks.values();
        let bound = networks.flat_map(|network| network.bound.iter().flatten());
        bound.map(|socket| socket.inode).filter(|inode| held.contains(inode)).collect()
    }
}

/// Details that were read after a sample, for the processes and ports that its judgement asked about. By
/// default nothing was asked for.
#[derive(Debug, Clone, Default)]
pub struct Details {
    /// The connections of processes. A process is absent if it was not asked for or is unreadable.
    pub connections: BTreeMap<ProcessId, Vec<Connection>>,
    /// Every socket on the ports that were asked for, by network namespace.
    pub port_uses: BTreeMap<NamespaceId, Vec<PortUse>>,
    /// Those of these namespaces where an IPv6 socket leaves IPv4 alone unless it asks for both
    /// (`net.ipv6.bindv6only`).
    pub v6only: BTreeSet<NamespaceId>,
    /// The sockets among these that an HAProxy holds and [`Process::sockets`] does not list.
    pub held: BTreeSet<(SocketInode, ProcessId)>,
    /// The programs that hold the sockets among these that no HAProxy holds.
    pub programs: BTreeMap<SocketInode, Program>,
    /// The things that could not be read.
    pub unreadable: Vec<Unreadable>,
}
