//! One sample as a whole, and what was looked at closer after it.

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
    /// `processes`, `sockets`, `ownership`, `config`.
    pub collector: &'static str,
    /// Time it took.
    pub duration_seconds: f64,
    /// It saw what it was made to see, single unreadable items apart.
    pub success: bool,
}

/// Everything one sample saw.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// When.
    pub taken: UnixSeconds,
    /// What may be missing, and why.
    pub gaps: Gaps,
    /// Every `HAProxy` process, oldest first.
    pub processes: Vec<Process>,
    /// Names (comm) of their parents that are not `HAProxy` themselves, by pid.
    pub parents: BTreeMap<i32, String>,
    /// Every network namespace an `HAProxy` lives or listens in, and the exporter's own.
    pub networks: BTreeMap<NamespaceId, NetworkNamespace>,
    /// The exporter's own network namespace.
    pub own_network: Option<NamespaceId>,
    /// What is left on the host.
    pub host: Headroom,
    /// What is left in each cgroup of [`Process::cgroup`], its ancestors included.
    pub cgroups: BTreeMap<String, Headroom>,
    /// What could not be read.
    pub unreadable: Vec<Unreadable>,
    /// How the collectors fared.
    pub collectors: Vec<CollectorRun>,
}

impl Snapshot {
    /// Both samples show these processes alike: the same programs, the same sockets, and the same
    /// ones of those listening.
    ///
    /// A sample is not taken in one moment. What two in a row show is no mixture of before and
    /// after.
    #[must_use]
    pub fn agrees_with(&self, other: &Snapshot, about: &BTreeSet<ProcessId>) -> bool {
        let same = |(a, b): (&Process, &Process)| {
            a.id == b.id
                && a.is_zombie() == b.is_zombie()
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

/// What was looked at closer once a sample had shown what is worth it.
#[derive(Debug, Clone, Default)]
pub struct Details {
    /// Connections of the processes they were asked for; absent: not asked for or unreadable.
    pub connections: BTreeMap<ProcessId, Vec<Connection>>,
    /// Every socket on the ports that were asked for, by network namespace.
    pub port_uses: BTreeMap<NamespaceId, Vec<PortUse>>,
    /// Of those, what HAProxys hold besides [`Process::sockets`].
    pub held: BTreeSet<(SocketInode, ProcessId)>,
    /// Of those, the programs that hold what no HAProxy holds.
    pub programs: BTreeMap<SocketInode, Program>,
    /// What could not be read.
    pub unreadable: Vec<Unreadable>,
}

impl Details {
    /// Nothing was asked for.
    #[must_use]
    pub const fn none() -> Details {
        Details {
            connections: BTreeMap::new(),
            port_uses: BTreeMap::new(),
            held: BTreeSet::new(),
            programs: BTreeMap::new(),
            unreadable: Vec::new(),
        }
    }
}
