//! Why a sample may be incomplete, and what may not be concluded from it then.
//!
//! A sample is not taken in one moment. It is put together from many small reads, by a process that
//! may lack rights, on a host that goes on changing. So a sample proves what it shows: a process
//! that holds a listener serves, whatever else is missing. It does not prove that what it does not
//! show is absent. The exporter's strongest statements are statements of absence: a service is
//! *down*, a service is *gone*, a port is *not bound*.
//!
//! [`Gaps`] has a field for every reason for which such a statement could be false. The
//! documentation of each field says how the gap comes about, what it forbids to conclude, and when
//! it ends. A rule that concludes from absence asks the gaps first. Where a gap forbids the
//! conclusion, the value is unknown and left out of the metrics, never 0, and an anomaly of which
//! the end was not seen goes on.
//!
//! There are two sorts:
//!
//! - *Passing* gaps come from change and from budgets: [`torn`](Gaps::torn), [`lost`](Gaps::lost)
//!   and [`unsearched`](Gaps::unsearched). They end by themselves, the first two usually
//!   within milliseconds. Where [`Gaps::may_close_at_once`] is true the watcher takes another sample
//!   before it judges.
//! - *Lasting* gaps come from missing rights: [`unidentified`](Gaps::unidentified),
//!   [`hidden`](Gaps::hidden), [`closed`](Gaps::closed) and [`unread`](Gaps::unread). Each comes with
//!   an [`Unreadable`](super::unreadable::Unreadable) that names the right. The value concerned is
//!   `None` in the sample itself, so that a rule which needs the value cannot overlook that it is
//!   missing.
//!
//! One doubt shows in no single sample: its parts may belong to two moments, such as a master
//! before its re-exec and its worker after its end, without any sign of it. Therefore a service
//! that was up is called down only once two samples in a row agree about its processes.

use std::collections::{BTreeMap, BTreeSet};

use super::network::{NamespaceId, NetworkNamespace};
use super::process::{Process, ProcessId};
use super::socket::SocketInode;

/// Everything that a sample may have missed, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gaps {
    /// HAProxy processes came or went while the sample was taken: one ended or executed itself
    /// between two reads, one that lives was not recognised, or one started after the pids were
    /// listed. Also set where the pids could not be listed at all.
    ///
    /// Forbids to conclude, of any service that does not serve in this sample, that it is down or
    /// gone or that a port of it is unbound. Ends with a sample of a quiet moment, which is usually
    /// the next attempt.
    pub torn: bool,
    /// The same for processes that certainly are none of root's: the users they run as. Any user can
    /// start and end processes all the time.
    ///
    /// Forbids to conclude the same of services that one of these users started or that run as one of
    /// them. Other services are not concerned.
    pub torn_by: BTreeSet<u32>,
    /// Listeners that are still in the tables, that an HAProxy held before and holds no more, and that no
    /// other process is known to hold; each with the processes that held it last. Such a listener may have
    /// been handed to an HAProxy that the search has not reached, or to one that was not recognised as
    /// HAProxy; or another program has inherited it.
    ///
    /// Forbids to conclude of a service to which one of those processes belonged that it is down or
    /// gone, or anything about its ports. Other services are not concerned. Lasts while the search
    /// is postponed; where the search was made and found no holder, for one sample.
    pub lost: BTreeMap<SocketInode, BTreeSet<ProcessId>>,
    /// The users of those last holders, as far as they certainly are none of root's.
    pub last_users: BTreeMap<ProcessId, u32>,
    /// One of the lost listeners was not lost in the attempt before: it may have been closed after
    /// the tables were read. Those that only users other than root held are not counted here.
    pub newly_lost: bool,
    /// A lost listener that only users other than root held was not lost in the attempt before.
    pub newly_lost_by_users: bool,
    /// Listeners that may have more holders than the known ones, because the search for their holders would
    /// cost more than its CPU budget.
    ///
    /// Forbids to conclude that a process does not hold such a listener. Where one is held by no
    /// known process it is in [`Gaps::lost`] too, and that is what the judgement asks about. Lasts
    /// until the budget allows the search.
    pub unsearched: BTreeSet<SocketInode>,
    /// Pids of processes that may be HAProxy: too little of them could be read to decide it.
    ///
    /// Forbids to conclude that a configured service of which the sample shows no process is gone.
    pub unidentified: BTreeSet<i32>,
    /// Living HAProxy processes whose root directory could not be looked at. Without it their
    /// configuration and pidfile are unknown, and so is whether they are a configured service.
    ///
    /// Forbids to conclude that a configured service of which the sample shows no process is gone.
    pub hidden: BTreeSet<ProcessId>,
    /// Living HAProxy processes whose descriptors could not be read.
    ///
    /// Forbids to conclude that they hold no listener, or that any listener was lost: one of them
    /// may hold it.
    pub closed: BTreeSet<ProcessId>,
    /// Network namespaces in which an HAProxy may listen and of which a socket table is missing,
    /// because the namespace could not be entered or the table could not be read.
    ///
    /// Forbids to conclude that a port there is unbound, that a listener there was closed, or that
    /// a search for the holders of one is over.
    pub unread: BTreeSet<NamespaceId>,
}

impl Gaps {
    /// Another sample taken right now is likely to have fewer gaps.
    #[must_use]
    pub fn may_close_at_once(&self) -> bool {
        self.torn || self.newly_lost
    }

    /// The same as far as it concerns users other than root. It is worth a few more attempts, and keeps
    /// nothing from being judged: a user could make it so for ever.
    #[must_use]
    pub fn may_close_for_users(&self) -> bool {
        !self.torn_by.is_empty() || self.newly_lost_by_users
    }

    /// A process came or went that may belong to a service of which `is_its` says whether a user
    /// started it or it runs as that user.
    #[must_use]
    pub fn is_torn_for(&self, is_its: impl Fn(u32) -> bool) -> bool {
        self.torn || self.torn_by.iter().any(|user| is_its(*user))
    }

    /// The processes that held the lost listeners last.
    pub fn last_holders(&self) -> impl Iterator<Item = ProcessId> {
        self.lost.values().flatten().copied()
    }

    /// A configured service of which the sample shows no process may live nevertheless.
    #[must_use]
    pub fn may_hide_a_service(&self) -> bool {
        !self.hidden.is_empty() || !self.unidentified.is_empty()
    }

    /// Records which processes, or whose descriptors, could not be looked at.
    pub fn note_processes<'a>(&mut self, processes: impl Iterator<Item = &'a Process>) {
        for process in processes.filter(|process| !process.is_zombie()) {
            if process.root.is_none() {
                self.hidden.insert(process.id);
            }
            if process.sockets.is_none() {
                self.closed.insert(process.id);
            }
        }
    }

    /// Records which of these namespaces lack a socket table.
    pub fn note_tables(&mut self, networks: &BTreeMap<NamespaceId, NetworkNamespace>) {
        let lacks_one = |network: &NetworkNamespace| {
            network.bound.is_none() || network.unix_listeners.is_none()
        };
        let unread = networks.iter().filter(|(_, network)| lacks_one(network));
        self.unread.extend(unread.map(|(id, _)| *id));
    }
}
