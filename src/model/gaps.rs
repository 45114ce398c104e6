//! Why a sample may be incomplete, and what may not be concluded from it then.
//!
//! A sample is not taken in one moment. It is put together from many small reads, by a process that
//! may lack rights, on a host that goes on changing. So a sample proves what it shows: a process
//! that holds a listener serves, whatever else is missing. It does not prove that what it does not
//! show is absent. The exporter's strongest statements are statements of absence: a service is
//! *down*, a service is *gone*, a port is *not bound*.
//!
//! [`Gaps`] has one field for each reason why such a statement could be false. The documentation of
//! a field says how the gap comes about, which conclusions it forbids, and when it ends. A rule that
//! concludes from absence checks the gaps first. Where a gap forbids the conclusion, the value is
//! unknown and is left out of the metrics, never 0, and a firing anomaly is kept, because nothing has
//! shown its end.
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
//! One doubt leaves no trace in a single sample: its parts may belong to two moments, for example the
//! master as it was before its re-exec and its worker as it was after its end. A service that was up
//! is therefore called down only when two samples in a row agree about its processes.

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
    /// Forbids the conclusion that a service which does not serve in this sample is down or gone, or
    /// that one of its ports is unbound. Ends with a sample that is taken in a quiet moment, which is
    /// usually the next attempt.
    pub torn: bool,
    /// The users whose HAProxy processes came or went while the sample was taken, where those processes
    /// certainly do not belong to root. Any user can start and end processes all the time.
    ///
    /// Forbids the same conclusions about services that one of these users started or that run as one of
    /// them. It does not concern other services.
    pub torn_by: BTreeSet<u32>,
    /// Listeners that are still in the tables, that an HAProxy held before and no longer holds, and that no
    /// other process is known to hold; each with the processes that held it last. Such a listener may have
    /// been handed to an HAProxy that the search has not reached or that was not recognised as HAProxy, or
    /// another program may have inherited it.
    ///
    /// Forbids the conclusion that a service to which one of those processes belonged is down or gone, and
    /// every conclusion about its ports. It does not concern other services. Lasts while the search is
    /// postponed; if the search was made and found no holder, it lasts for one sample.
    pub lost: BTreeMap<SocketInode, BTreeSet<ProcessId>>,
    /// The users of those last holders that certainly do not belong to root.
    pub last_users: BTreeMap<ProcessId, u32>,
    /// A listener that was not lost in the previous attempt is lost now: it may have been closed after the
    /// tables were read. Listeners that only users other than root held are not counted here.
    pub newly_lost: bool,
    /// The same for listeners that only users other than root held.
    pub newly_lost_by_users: bool,
    /// Listeners that may have more holders than are known, because the search for their holders would cost
    /// more than its CPU budget.
    ///
    /// Forbids the conclusion that a process does not hold such a listener. A listener that no known process
    /// holds any more is in [`Gaps::lost`] too, and that is the field that the judgement checks. Lasts until
    /// the budget allows the search.
    pub unsearched: BTreeSet<SocketInode>,
    /// Pids of processes that may be HAProxy: too little of them could be read to decide.
    ///
    /// Forbids the conclusion that a configured service is gone because the sample shows none of its
    /// processes.
    pub unidentified: BTreeSet<i32>,
    /// Living HAProxy processes whose root directory could not be read. Without it their configuration and
    /// pidfile are unknown, and so it is unknown whether they belong to a configured service.
    ///
    /// Forbids the same conclusion as [`Gaps::unidentified`].
    pub hidden: BTreeSet<ProcessId>,
    /// Living HAProxy processes whose descriptors could not be read.
    ///
    /// Forbids the conclusion that they hold no listener, or that any listener was lost, because one of them
    /// may hold it.
    pub closed: BTreeSet<ProcessId>,
    /// Network namespaces in which an HAProxy may listen and for which a socket table is missing, because
    /// the namespace could not be entered or the table could not be read.
    ///
    /// Forbids the conclusion that a port there is unbound, that a listener there was closed, or that the
    /// search for the holders of a listener there is over.
    pub unread: BTreeSet<NamespaceId>,
}

impl Gaps {
    /// Another sample taken right now is likely to have fewer gaps.
    #[must_use]
    pub fn may_close_at_once(&self) -> bool {
        self.torn || self.newly_lost
    }

    /// Another sample is likely to have fewer gaps that concern only users other than root. That is worth
    /// a few more attempts, but it must never prevent a judgement: a user could keep it up forever.
    #[must_use]
    pub fn may_close_for_users(&self) -> bool {
        !self.torn_by.is_empty() || self.newly_lost_by_users
    }

    /// A process that came or went may belong to one service. `is_its` says whether a user started that
    /// service or the service runs as that user.
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
        for process in processes.filter(|process| process.lives()) {
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
