//! Of which sockets all holders are known, and whether a search for the holders of the others is
//! within its CPU budget.

use std::collections::BTreeSet;

use super::wanted::{Wanted, WantedSet};
use crate::model::SocketInode;
use crate::sample::budget::CpuBudget;

/// The share of one processor that searches may take.
const SHARE: f64 = 1.0 / 100.0;
/// The share of one processor that a search may take while a socket is without any known holder,
/// although an HAProxy held it before.
const LOST_SHARE: f64 = 1.0 / 20.0;
/// A search that costs no more than this is always made: it is the lower share of the five seconds
/// between two samples.
const SHORT_SECONDS: f64 = 0.05;

/// The sockets whose holders have been searched for, and those that are still to be searched for.
#[derive(Debug, Default)]
pub struct Search {
    /// Sockets that a process has let go since they were last searched for. Any process may have
    /// been handed them, whether or not other holders are known.
    let_go: BTreeSet<SocketInode>,
    /// The wanted sockets of the last sample all of whose holders are known.
    explained: WantedSet,
    /// The wanted sockets of the last sample that more processes may hold than are known to.
    unsearched: BTreeSet<SocketInode>,
    budget: CpuBudget,
}

/// The sockets whose holders are not all known.
#[derive(Debug)]
pub struct SearchTargets {
    sockets: BTreeSet<SocketInode>,
    /// The sockets among them that a process has let go.
    let_go: BTreeSet<SocketInode>,
}

impl SearchTargets {
    /// There is nothing to search for.
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// One of them may have been handed from one process to another a moment ago.
    pub fn is_on_the_move(&self) -> bool {
        !self.let_go.is_empty()
    }
}

impl Search {
    /// Records sockets that a process does not hold any more.
    pub fn note_let_go<'a>(&mut self, sockets: impl IntoIterator<Item = &'a SocketInode>) {
        self.let_go.extend(sockets);
    }

    /// The sockets to search for, once every process has been read.
    pub fn begin(&mut self, wanted: &WantedSet) -> SearchTargets {
        let mut let_go = std::mem::take(&mut self.let_go);
        if let_go.is_empty() && self.explained == *wanted {
            return SearchTargets { sockets: BTreeSet::new(), let_go }; // the usual case
        }
        let_go.retain(|&inode| wanted.contains(inode));
        let is_known = |w: &Wanted| {
            self.explained.get(w.inode).is_some_and(|known| known.cookie == w.cookie)
                && !let_go.contains(&w.inode)
        };
        let unknown = wanted.iter().filter(|wanted| !is_known(wanted));
        SearchTargets { sockets: unknown.map(|wanted| wanted.inode).collect(), let_go }
    }

    /// Whether a search that would cost this much processor time is within the budget.
    ///
    /// The cost is that of the processes which would be walked now. What an earlier search cost
    /// does not count: the process that made it expensive may have ended.
    pub fn affords(
        &self,
        cost_seconds: f64,
        targets: &SearchTargets,
        is_held: impl Fn(SocketInode) -> bool,
    ) -> bool {
        let is_lost = || targets.let_go.iter().any(|&inode| !is_held(inode));
        cost_seconds <= SHORT_SECONDS
            || self.budget.affords(cost_seconds, SHARE)
            || is_lost() && self.budget.affords(cost_seconds, LOST_SHARE)
    }

    /// Charges the budget with a search.
    pub fn charge(&mut self, cost_seconds: f64) {
        self.budget.charge(cost_seconds);
    }

    /// Remembers of which sockets all holders are known now.
    pub fn end(&mut self, targets: SearchTargets, wanted: &WantedSet, is_found: bool) {
        self.unsearched.clear();
        if !is_found {
            self.let_go.extend(targets.let_go);
            self.unsearched = targets.sockets;
        }
        // Also a socket that was let go while the search went on.
        let lately = self.let_go.iter().filter(|&&inode| wanted.contains(inode));
        self.unsearched.extend(lately);
        if !self.unsearched.is_empty() || self.explained != *wanted {
            let explained = wanted.iter().filter(|w| !self.unsearched.contains(&w.inode));
            self.explained = explained.collect();
        }
    }

    /// Sockets that more processes may hold than are known to: the search for their holders is
    /// postponed.
    pub fn unsearched(&self) -> &BTreeSet<SocketInode> {
        &self.unsearched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: [SocketInode; 0] = [];

    fn wanted(sockets: &[(SocketInode, Option<u64>)]) -> WantedSet {
        sockets.iter().map(|&(inode, cookie)| Wanted::tcp(inode, cookie)).collect()
    }

    /// Searches for all sockets of `tables` that have unknown holders, and returns them.
    fn searched(search: &mut Search, tables: &[(SocketInode, Option<u64>)]) -> Vec<SocketInode> {
        let tables = wanted(tables);
        let targets = search.begin(&tables);
        let sockets = targets.sockets.iter().copied().collect();
        search.end(targets, &tables, true);
        sockets
    }

    #[test]
    fn a_socket_that_is_new_or_back_or_let_go_is_searched_for() {
        let mut search = Search::default();
        assert_eq!(searched(&mut search, &[(1, Some(10)), (2, None)]), [1, 2]);
        assert_eq!(searched(&mut search, &[(1, Some(10)), (2, None)]), NOTHING);
        assert_eq!(searched(&mut search, &[(1, Some(11)), (2, None)]), [1], "another socket");
        assert_eq!(searched(&mut search, &[(2, None)]), NOTHING);
        assert_eq!(searched(&mut search, &[(1, Some(11)), (2, None)]), [1], "paused meanwhile");
        search.note_let_go(&[2, 3]);
        assert_eq!(searched(&mut search, &[(1, Some(11)), (2, None)]), [2]);
        assert_eq!(search.unsearched().len(), 0);
    }

    #[test]
    fn a_postponed_search_is_made_up_for() {
        let (mut search, tables) = (Search::default(), [(1, None), (2, None)]);
        assert_eq!(searched(&mut search, &[(1, None)]), [1]);
        search.note_let_go(&[1]);
        for _ in 0..2 {
            let targets = search.begin(&wanted(&tables));
            assert!(targets.is_on_the_move());
            search.end(targets, &wanted(&tables), false);
            assert_eq!(*search.unsearched(), BTreeSet::from([1, 2]));
        }
        assert_eq!(searched(&mut search, &tables), [1, 2]);
    }

    /// The process that was walked first may have been handed it by the one that was walked last.
    #[test]
    fn a_socket_let_go_during_a_search_is_searched_for_again() {
        let (mut search, tables) = (Search::default(), [(1, None), (2, None)]);
        let first = search.begin(&wanted(&tables));
        search.note_let_go(&[1]);
        search.end(first, &wanted(&tables), true);
        assert_eq!(*search.unsearched(), BTreeSet::from([1]));
        assert_eq!(searched(&mut search, &tables), [1]);
    }

    #[test]
    fn a_socket_without_a_known_holder_is_more_urgent() {
        let (mut search, tables) = (Search::default(), wanted(&[(1, None)]));
        let new = search.begin(&tables);
        assert!(search.affords(1.0, &new, |_| false), "nothing was spent yet");
        search.end(new, &tables, true);
        search.charge(1.0);
        search.budget.wait(50.0);
        search.note_let_go(&[1]);
        let lost = search.begin(&tables);
        assert!(search.affords(1.0, &lost, |_| false));
        assert!(!search.affords(1.0, &lost, |_| true));
    }

    /// The process that made the last search expensive has ended since.
    #[test]
    fn an_expensive_search_of_the_past_postpones_no_cheap_one() {
        let (mut search, tables) = (Search::default(), wanted(&[(1, None)]));
        let new = search.begin(&tables);
        search.charge(3600.0);
        assert!(!search.affords(1.0, &new, |_| true));
        search.budget.wait(100.0);
        assert!(search.affords(1.0, &new, |_| true));
    }
}
