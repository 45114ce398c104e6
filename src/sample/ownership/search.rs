//! Of which sockets all holders are known, and whether there is time to search for those of the
//! others.

use std::collections::BTreeSet;

use super::wanted::{Wanted, WantedSet};
use crate::model::SocketInode;
use crate::sample::budget::CpuBudget;

/// A search takes this share of a processor at most,
const SHARE: f64 = 1.0 / 100.0;
/// or this where an HAProxy held a socket and none is known to now,
const LOST_SHARE: f64 = 1.0 / 20.0;
/// unless it is as short as this: the lower share, at five seconds between samples.
const SHORT_SECONDS: f64 = 0.05;

/// What is known, and what a search costs.
#[derive(Debug, Default)]
pub struct Search {
    /// What somebody has let go since it was last searched for: anybody may have it, whoever else
    /// is known to.
    let_go: BTreeSet<SocketInode>,
    /// Sockets of the last tables all of whose holders are known,
    explained: WantedSet,
    /// and the others.
    unsearched: BTreeSet<SocketInode>,
    budget: CpuBudget,
}

/// Sockets whose holders are not all known.
#[derive(Debug)]
pub struct SearchTargets {
    sockets: BTreeSet<SocketInode>,
    /// Those of them that somebody has let go.
    let_go: BTreeSet<SocketInode>,
}

impl SearchTargets {
    /// Some of them may just have been handed from one process to another.
    pub fn is_on_the_move(&self) -> bool {
        !self.let_go.is_empty()
    }
}

impl Search {
    /// Takes note of what somebody does not hold any more.
    pub fn note_let_go<'a>(&mut self, sockets: impl IntoIterator<Item = &'a SocketInode>) {
        self.let_go.extend(sockets);
    }

    /// What is to be searched for, once everybody was looked at.
    pub fn begin(&mut self, wanted: &WantedSet) -> SearchTargets {
        let mut let_go = std::mem::take(&mut self.let_go);
        if let_go.is_empty() && self.explained == *wanted {
            return SearchTargets { sockets: BTreeSet::new(), let_go }; // as mostly
        }
        let_go.retain(|&inode| wanted.get(inode).is_some());
        let is_known = |w: &Wanted| self.explained.get(w.0) == Some(w) && !let_go.contains(&w.0);
        let sockets =
            wanted.iter().filter(|wanted| !is_known(wanted)).map(|(inode, _)| inode).collect();
        SearchTargets { sockets, let_go }
    }

    /// There is something to be searched for, and time for it.
    pub fn allows(&self, targets: &SearchTargets, is_held: impl Fn(SocketInode) -> bool) -> bool {
        if targets.sockets.is_empty() {
            return false;
        }
        let is_cheap = self.budget.cost_seconds() <= SHORT_SECONDS || self.budget.allows(SHARE);
        let is_lost = || targets.let_go.iter().any(|&inode| !is_held(inode));
        is_cheap || is_lost() && self.budget.allows(LOST_SHARE)
    }

    /// For the cost of a search.
    pub fn budget(&mut self) -> &mut CpuBudget {
        &mut self.budget
    }

    /// Remembers of what all holders are known now.
    pub fn end(&mut self, targets: SearchTargets, wanted: &WantedSet, is_found: bool) {
        self.unsearched.clear();
        if !is_found {
            self.let_go.extend(targets.let_go);
            self.unsearched = targets.sockets;
        }
        // Also what was let go while somebody else was asked for it.
        let lately = self.let_go.iter().filter(|&&inode| wanted.get(inode).is_some());
        self.unsearched.extend(lately);
        if !self.unsearched.is_empty() || self.explained != *wanted {
            let explained = wanted.iter().filter(|(inode, _)| !self.unsearched.contains(inode));
            self.explained = explained.collect();
        }
    }

    /// Sockets that a process may hold that is not known to: the search for their holders is put
    /// off.
    pub fn unsearched(&self) -> &BTreeSet<SocketInode> {
        &self.unsearched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: [SocketInode; 0] = [];

    fn wanted(sockets: &[Wanted]) -> WantedSet {
        sockets.iter().copied().collect()
    }

    /// What is targets of `tables`, and then found.
    fn sought(search: &mut Search, tables: &[Wanted]) -> Vec<SocketInode> {
        let tables = wanted(tables);
        let targets = search.begin(&tables);
        let sockets = targets.sockets.iter().copied().collect();
        search.end(targets, &tables, true);
        sockets
    }

    #[test]
    fn what_is_new_comes_back_or_was_let_go_is_sought() {
        let mut search = Search::default();
        assert_eq!(sought(&mut search, &[(1, Some(10)), (2, None)]), [1, 2]);
        assert_eq!(sought(&mut search, &[(1, Some(10)), (2, None)]), NOTHING);
        assert_eq!(sought(&mut search, &[(1, Some(11)), (2, None)]), [1], "another socket");
        assert_eq!(sought(&mut search, &[(2, None)]), NOTHING);
        assert_eq!(sought(&mut search, &[(1, Some(11)), (2, None)]), [1], "paused meanwhile");
        search.note_let_go(&[2, 3]);
        assert_eq!(sought(&mut search, &[(1, Some(11)), (2, None)]), [2]);
        assert_eq!(search.unsearched().len(), 0);
    }

    /// Not even what was let go is forgotten.
    #[test]
    fn what_was_not_searched_for_is_sought_again() {
        let (mut search, tables) = (Search::default(), wanted(&[(1, None), (2, None)]));
        assert_eq!(sought(&mut search, &[(1, None)]), [1]);
        search.note_let_go(&[1]);
        for _ in 0..2 {
            let targets = search.begin(&tables);
            assert!(targets.is_on_the_move());
            search.end(targets, &tables, false);
            assert_eq!(*search.unsearched(), BTreeSet::from([1, 2]));
        }
        assert_eq!(sought(&mut search, &[(1, None), (2, None)]), [1, 2]);
    }

    /// Whoever was asked first may have been handed it by who was asked last.
    #[test]
    fn what_note_let_go_in_a_search_is_not_found_by_it() {
        let (mut search, tables) = (Search::default(), wanted(&[(1, None), (2, None)]));
        let first = search.begin(&tables);
        search.note_let_go(&[1]);
        search.end(first, &tables, true);
        assert_eq!(*search.unsearched(), BTreeSet::from([1]));
        assert_eq!(sought(&mut search, &[(1, None), (2, None)]), [1]);
    }

    #[test]
    fn what_nobody_is_known_to_hold_any_more_is_more_urgent() {
        let (mut search, tables) = (Search::default(), wanted(&[(1, None)]));
        let new = search.begin(&tables);
        assert!(search.allows(&new, |_| false), "the first time costs what it costs");
        search.end(new, &tables, true);
        search.budget().charge(1.0);
        search.budget().wait(50.0);
        search.note_let_go(&[1]);
        let lost = search.begin(&tables);
        assert!(search.allows(&lost, |_| false));
        assert!(!search.allows(&lost, |_| true));
    }
}
