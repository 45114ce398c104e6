//! Which HAProxy process holds which of the sockets that may be listeners, at the cost of what
//! changed since the last sample.
//!
//! The descriptors that a process is known to have are verified through links that are held open,
//! see [`Holder`]. All descriptors of a process are walked again when
//!
//! - the process is new, has just executed itself, or is young: it may still be handed listeners.
//!   HAProxy takes those only while it starts (`sock_get_old_sockets()`), and while it holds none it
//!   may be starting;
//! - one of its descriptors is not what it was: the socket may have another number now;
//! - a search is made. A socket that is new in the tables, or that a process has let go, may be held
//!   by any process, so all of them are walked. Where this search is postponed because of its cost,
//!   the sample says for which sockets;
//! - it is its turn. The conditions above do not show that an old process with many descriptors was handed
//!   a listener which the giver keeps, or a new one that was in transit while the processes were walked.
//!
//! The CPU time of searches and turns is limited for the processes of each starter separately.
//!
//! A socket that no HAProxy was found to hold is remembered by its cookie and not searched for
//! again.

pub mod holder;
pub mod search;
mod starters;
pub mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustix::process::Resource;

use crate::model::{ProcessId, SocketInode, UnixSeconds};
use crate::sample::budget::CpuBudget;
use crate::sample::discovery::processes::Found;
use crate::sample::ownership::holder::{Coverage, Holder};
use crate::sample::ownership::search::{Search, SearchTargets};
use crate::sample::ownership::starters::Starters;
use crate::sample::ownership::wanted::WantedSet;
use crate::sample::proc::error::ReadError;

/// The share of one processor that walks in turn may take.
const TURN_SHARE: f64 = 1.0 / 20_000.0;
/// Descriptors that are never spent on links: 512 for connections, and one or a few for each
/// HAProxy.
const RESERVED_DESCRIPTORS: u64 = 1024;

/// How the reading of a process's descriptors ended.
#[derive(Debug)]
pub enum Outcome {
    /// Its sockets are known.
    Read,
    /// It ended meanwhile.
    Gone,
    /// They could not be read.
    Failed(ReadError),
}

/// What is known of the holders of sockets.
#[derive(Debug, Default)]
pub struct Ownership {
    holders: BTreeMap<ProcessId, Holder>,
    /// The wanted sockets of the last sample.
    wanted: WantedSet,
    /// How many more links may be held open.
    links: usize,
    /// The searches among the processes of each starter: what one user's processes cost takes nothing
    /// from the budgets of others.
    searches: BTreeMap<Option<u32>, OfStarter>,
    /// The starters of the processes of the last sample.
    starters: Starters,
}

/// What is searched among the processes of one starter.
#[derive(Debug, Default)]
struct OfStarter {
    search: Search,
    turn_budget: CpuBudget,
}

/// The reading of one process.
#[derive(Debug)]
struct Reading {
    outcome: Outcome,
    /// Everything it holds of the wanted sockets is known, those that are new among them.
    complete: bool,
}

impl Ownership {
    /// Gives every living process the sockets of `wanted` that it holds, and those that it held
    /// when they were wanted and still holds, although no table lists them now.
    pub fn read(
        &mut self,
        found: &mut [Found],
        wanted: WantedSet,
        now: UnixSeconds,
    ) -> Vec<(ProcessId, Outcome)> {
        let mut living: Vec<&mut Found> =
            found.iter_mut().filter(|f| !f.process.is_zombie()).collect();
        let ids: BTreeSet<ProcessId> = living.iter().map(|found| found.process.id).collect();
        self.forget_all_but(&ids);
        let links: usize = self.holders.values().map(Holder::links).sum();
        self.links = most_links().saturating_sub(links);
        let starters = Starters::of(living.iter().map(|found| &found.process));
        // The searches among the processes of its earlier starter may have left it out.
        let moved = starters.iter().filter(|(id, starter)| self.starters.changed(*id, *starter));
        let moved: Vec<ProcessId> = moved.map(|(id, _)| id).collect();
        for id in moved {
            self.suspect(id);
        }
        let mut readings: BTreeMap<ProcessId, Reading> = living
            .iter_mut()
            .map(|found| (found.process.id, self.read_one(found, &wanted, now, false)))
            .collect();
        let present: BTreeSet<Option<u32>> = starters.iter().map(|(_, starter)| starter).collect();
        self.searches.retain(|starter, _| present.contains(starter));
        let mut searched = Vec::new();
        for starter in present {
            let is_its = |id: &ProcessId| starters.get(*id) == starter;
            let targets = self.searches.entry(starter).or_default().search.begin(&wanted);
            let own = readings.iter().filter(|(id, _)| is_its(id));
            let (walked, is_search) = self.choose_walks(starter, &targets, own);
            for found in living.iter_mut().filter(|found| walked.contains(&found.process.id)) {
                readings.insert(found.process.id, self.read_one(found, &wanted, now, true));
            }
            self.charge(starter, &walked, is_search);
            let mut own = readings.iter().filter(|(id, _)| is_its(id));
            let all_complete = own.all(|(_, reading)| reading.complete);
            let is_found = is_search || all_complete && !targets.is_on_the_move();
            searched.push((starter, targets, is_found));
        }
        // What was let go during any of the searches concerns all of them.
        for (starter, targets, is_found) in searched {
            self.searches.entry(starter).or_default().search.end(targets, &wanted, is_found);
        }
        self.starters = starters;
        self.wanted = wanted;
        readings.into_iter().map(|(id, reading)| (id, reading.outcome)).collect()
    }

    /// Sockets that more processes may hold than are known to: the search for their holders is
    /// postponed.
    pub fn unsearched(&self) -> BTreeSet<SocketInode> {
        let searches = self.searches.values();
        searches.flat_map(|of_starter| of_starter.search.unsearched()).copied().collect()
    }

    /// The wanted sockets of the last sample.
    pub fn wanted(&self) -> &WantedSet {
        &self.wanted
    }

    /// Whether a process was seen to hold what may be a listener.
    pub fn listens(&self, id: ProcessId) -> bool {
        self.holders.get(&id).is_some_and(Holder::listens)
    }

    /// Forces a walk of a process in the next sample, because it was found to hold a listener that it was
    /// not known to hold.
    pub fn suspect(&mut self, id: ProcessId) {
        if let Some(holder) = self.holders.get_mut(&id) {
            holder.suspect();
        }
    }

    fn forget_all_but(&mut self, living: &BTreeSet<ProcessId>) {
        let mut let_go: Vec<Arc<BTreeSet<SocketInode>>> = Vec::new();
        self.holders.retain(|id, holder| {
            let lives = living.contains(id);
            let_go.extend((!lives).then(|| Arc::clone(holder.sockets())));
            lives
        });
        for sockets in let_go {
            self.note_let_go(sockets.iter());
        }
    }

    /// Records sockets that a process does not hold any more: any other may have been handed them,
    /// another starter's too.
    fn note_let_go<'a>(&mut self, sockets: impl IntoIterator<Item = &'a SocketInode>) {
        let sockets: Vec<SocketInode> = sockets.into_iter().copied().collect();
        for of_starter in self.searches.values_mut() {
            of_starter.search.note_let_go(&sockets);
        }
    }

    /// Charges the budget of a starter with walks, which were a search or a turn.
    fn charge(&mut self, starter: Option<u32>, walked: &BTreeSet<ProcessId>, searches: bool) {
        if walked.is_empty() {
            return;
        }
        let cost_seconds = self.walk_cost_seconds(walked);
        let of_starter = self.searches.entry(starter).or_default();
        if searches {
            of_starter.search.charge(cost_seconds);
        } else {
            of_starter.turn_budget.charge(cost_seconds);
        }
    }

    /// The processes of a starter to walk now, and whether that is a search for the targets.
    fn choose_walks<'r>(
        &self,
        starter: Option<u32>,
        targets: &SearchTargets,
        readings: impl Iterator<Item = (&'r ProcessId, &'r Reading)> + Clone,
    ) -> (BTreeSet<ProcessId>, bool) {
        let Some(of_starter) = self.searches.get(&starter) else { return Default::default() };
        if !targets.is_empty() {
            let candidates = possible_holders(targets, readings.clone());
            let cost_seconds = self.walk_cost_seconds(&candidates);
            if of_starter.search.affords(cost_seconds, targets, |inode| self.is_held(inode)) {
                return (candidates, true);
            }
        }
        let next = self.next_in_turn(&of_starter.turn_budget, readings);
        (next.into_iter().collect(), false)
    }

    fn read_one(
        &mut self,
        found: &mut Found,
        wanted: &WantedSet,
        now: UnixSeconds,
        walk: bool,
    ) -> Reading {
        let id = found.process.id;
        let descriptors = match found.directory.descriptors() {
            Ok(descriptors) => descriptors,
            Err(error) => return self.forget(found, error),
        };
        let holder = self.holders.entry(id).or_default();
        let before = Arc::clone(holder.sockets());
        holder.follow(found, now);
        let coverage = match holder.read(&descriptors, wanted, now, walk, &mut self.links) {
            Ok(coverage) => coverage,
            Err(error) => {
                // Before it executed itself it may have been another program, which held these.
                self.note_let_go(before.iter());
                return self.forget(found, error);
            }
        };
        found.process.open_fds = Some(holder.open());
        found.process.sockets = Some(Arc::clone(holder.sockets()));
        if !Arc::ptr_eq(&before, holder.sockets()) {
            let now = Arc::clone(holder.sockets());
            self.note_let_go(before.difference(&now));
        }
        Reading { outcome: Outcome::Read, complete: coverage == Coverage::Complete }
    }

    /// Forgets a process that could not be read.
    fn forget(&mut self, found: &mut Found, error: ReadError) -> Reading {
        if let Some(holder) = self.holders.remove(&found.process.id) {
            self.note_let_go(holder.sockets().iter());
        }
        let outcome = if matches!(error, ReadError::Gone) {
            Outcome::Gone
        } else {
            found.process.open_fds = found.directory.fd_count().ok().filter(|&count| count > 0);
            Outcome::Failed(error)
        };
        Reading { outcome, complete: true }
    }

    /// Of the processes that were only verified, the one that has not been walked for longest; none
    /// while its walk is over the budget.
    fn next_in_turn<'r>(
        &self,
        budget: &CpuBudget,
        readings: impl Iterator<Item = (&'r ProcessId, &'r Reading)>,
    ) -> Option<ProcessId> {
        let age = |id: &ProcessId| {
            self.holders.get(id).map_or(0.0, |holder| holder.walk_budget().idle_seconds())
        };
        let verified = readings.filter(|(_, reading)| !reading.complete);
        let next = verified.map(|(&id, _)| id).max_by(|a, b| age(a).total_cmp(&age(b)))?;
        budget.affords(self.walk_cost_seconds([&next]), TURN_SHARE).then_some(next)
    }

    /// The processor time that a walk of these processes takes.
    fn walk_cost_seconds<'a>(&self, processes: impl IntoIterator<Item = &'a ProcessId>) -> f64 {
        let holders = processes.into_iter().filter_map(|id| self.holders.get(id));
        holders.map(|holder| holder.walk_budget().cost_seconds()).sum()
    }

    fn is_held(&self, inode: SocketInode) -> bool {
        self.holders.values().any(|holder| holder.sockets().contains(&inode))
    }
}

/// The processes that may hold a target unseen: all that were not walked. If a target is on the
/// move, also those that were, because they may have been handed it after they were walked.
fn possible_holders<'r>(
    targets: &SearchTargets,
    readings: impl Iterator<Item = (&'r ProcessId, &'r Reading)>,
) -> BTreeSet<ProcessId> {
    let may_hold = |reading: &Reading| {
        !reading.complete || targets.is_on_the_move() && matches!(reading.outcome, Outcome::Read)
    };
    readings.filter(|(_, reading)| may_hold(reading)).map(|(&id, _)| id).collect()
}

/// How many links may be held open: half of the descriptors that the exporter may have, without
/// those that are reserved.
fn most_links() -> usize {
    let limit = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit.saturating_sub(RESERVED_DESCRIPTORS) / 2).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::ownership::wanted::Wanted;

    const ROOT: Option<u32> = Some(0);
    const USER: Option<u32> = Some(65_534);

    #[test]
    fn the_searches_of_one_starter_cost_no_other() {
        let of = |pid| ProcessId { start_ticks: 1, pid };
        let (roots, users) = (of(10), of(20));
        let wanted: WantedSet = [Wanted::tcp(1, None)].into_iter().collect();
        let mut ownership = Ownership::default();
        for (starter, id) in [(ROOT, roots), (USER, users)] {
            ownership.searches.insert(starter, OfStarter::default());
            ownership.holders.insert(id, Holder::costing(1.0));
        }
        let unwalked = || Reading { outcome: Outcome::Read, complete: false };
        let readings = |id| BTreeMap::from([(id, unwalked())]);
        let searches = |ownership: &mut Ownership, starter, id| {
            let targets = ownership.searches.get_mut(&starter).unwrap().search.begin(&wanted);
            let (walked, searches) = ownership.choose_walks(starter, &targets, readings(id).iter());
            assert_eq!(walked, BTreeSet::from([id]));
            ownership.charge(starter, &walked, searches);
            searches
        };
        assert!(searches(&mut ownership, USER, users), "nothing was spent yet");
        assert!(
            !searches(&mut ownership, USER, users),
            "its share is used up: it is walked in turn"
        );
        assert!(searches(&mut ownership, ROOT, roots), "root's share is not");
        assert!(!searches(&mut ownership, ROOT, roots));
    }
}
