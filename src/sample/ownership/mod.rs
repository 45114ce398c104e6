//! Which HAProxy process holds which of the sockets that may be listeners, at the cost of what
//! changed.
//!
//! What one process holds is verified, by links that are held open, see [`Holder`]. It is walked
//! again when
//!
//! - it is new, has just been executed anew or is young: it may yet be handed listeners. HAProxy
//!   takes those only while it starts (`sock_get_old_sockets()`); how long that lasts shows in
//!   that it holds none yet;
//! - a descriptor is no longer what it was: the socket may have another number now;
//! - a socket is in the tables that was not there before, or that somebody has let go: anybody may
//!   have it. Where this search is put off for what it costs, the sample says for which sockets;
//! - it is its turn: should an old process with many descriptors be handed a listener that another
//!   one keeps, or that is new and on its way just while everybody is asked, nothing of the above
//!   would tell.
//!
//! What was found to be held by no HAProxy is remembered by its cookie, and not asked about again.

pub mod holder;
pub mod search;
pub mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustix::process::Resource;

use super::budget::CpuBudget;
use super::discovery::processes::Found;
use super::ownership::holder::{Coverage, Holder};
use super::ownership::search::{Search, SearchTargets};
use super::ownership::wanted::WantedSet;
use super::proc::error::ReadError;
use crate::model::{ProcessId, SocketInode, UnixSeconds};

/// Walks in turn.
const TURN_SHARE: f64 = 1.0 / 20_000.0;
/// Descriptors that are never spent on links: 512 connections, and one or a few for each HAProxy.
const NEEDED: u64 = 1024;
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

/// What is known of who holds what.
#[derive(Debug, Default)]
pub struct Ownership {
    holders: BTreeMap<ProcessId, Holder>,
    /// So many more links may be held open.
    links: usize,
    search: Search,
    turn_budget: CpuBudget,
}

/// One process's reading.
#[derive(Debug)]
struct Reading {
    outcome: Outcome,
    /// It told of every socket, those that are new among them.
    complete: bool,
}

impl Ownership {
    /// Gives every living process the sockets of `wanted` that it holds, and those that it held
    /// when they were wanted and still does, though no table lists them now.
    pub fn read(
        &mut self,
        found: &mut [Found],
        wanted: &WantedSet,
        now: UnixSeconds,
    ) -> Vec<(ProcessId, Outcome)> {
        let mut living: Vec<&mut Found> =
            found.iter_mut().filter(|f| !f.process.is_zombie()).collect();
        let ids: BTreeSet<ProcessId> = living.iter().map(|found| found.process.id).collect();
        self.forget_all_but(&ids);
        let links: usize = self.holders.values().map(Holder::links).sum();
        self.links = most_links().saturating_sub(links);
        let mut readings: BTreeMap<ProcessId, Reading> = living
            .iter_mut()
            .map(|found| (found.process.id, self.read_one(found, wanted, now, false)))
            .collect();
        let targets = self.search.begin(wanted);
        let searches = self.search.allows(&targets, |inode| self.is_held(inode));
        let asked = if searches {
            asked_for(&targets, &readings)
        } else {
            self.next_in_turn(&readings).into_iter().collect()
        };
        for found in living.iter_mut().filter(|found| asked.contains(&found.process.id)) {
            readings.insert(found.process.id, self.read_one(found, wanted, now, true));
        }
        self.book(&asked, searches);
        let all_told = readings.values().all(|reading| reading.complete);
        let is_found = searches || all_told && !targets.is_on_the_move();
        self.search.end(targets, wanted, is_found);
        readings.into_iter().map(|(id, reading)| (id, reading.outcome)).collect()
    }

    /// Sockets that a process may hold that is not known to: the search for their holders is put
    /// off.
    pub fn unsearched(&self) -> &BTreeSet<SocketInode> {
        self.search.unsearched()
    }

    fn forget_all_but(&mut self, living: &BTreeSet<ProcessId>) {
        let search = &mut self.search;
        self.holders.retain(|id, holder| {
            let lives = living.contains(id);
            if !lives {
                search.note_let_go(holder.sockets().iter());
            }
            lives
        });
    }

    /// It was seen to hold what may be a listener.
    pub fn listens(&self, id: ProcessId) -> bool {
        self.holders.get(&id).is_some_and(Holder::listens)
    }

    /// It was seen by others to hold a listener that it was not known to hold: the next sample
    /// walks it.
    pub fn suspect(&mut self, id: ProcessId) {
        if let Some(holder) = self.holders.get_mut(&id) {
            holder.suspect();
        }
    }

    fn read_one(
        &mut self,
        found: &mut Found,
        wanted: &WantedSet,
        now: UnixSeconds,
        asked: bool,
    ) -> Reading {
        let id = found.process.id;
        let descriptors = match found.directory.descriptors() {
            Ok(descriptors) => descriptors,
            Err(error) => return self.lose(found, error),
        };
        let holder = self.holders.entry(id).or_default();
        let before = Arc::clone(holder.sockets());
        holder.follow(found, now);
        let coverage = match holder.read(&descriptors, wanted, now, asked, &mut self.links) {
            Ok(coverage) => coverage,
            Err(error) => {
                self.search.note_let_go(before.iter()); // it may be another program than had them
                return self.lose(found, error);
            }
        };
        found.process.open_fds = Some(holder.open());
        found.process.sockets = Some(Arc::clone(holder.sockets()));
        if !Arc::ptr_eq(&before, holder.sockets()) {
            self.search.note_let_go(before.difference(holder.sockets()));
        }
        Reading { outcome: Outcome::Read, complete: coverage == Coverage::Complete }
    }

    /// Nothing is known of it any more.
    fn lose(&mut self, found: &mut Found, error: ReadError) -> Reading {
        if let Some(holder) = self.holders.remove(&found.process.id) {
            self.search.note_let_go(holder.sockets().iter());
        }
        let outcome = if matches!(error, ReadError::Gone) {
            Outcome::Gone
        } else {
            found.process.open_fds = found.directory.fd_count().ok().filter(|&count| count > 0);
            Outcome::Failed(error)
        };
        Reading { outcome, complete: true }
    }

    /// Who is walked though nothing shows at it: of those that were not, the one that was not for
    /// longest.
    fn next_in_turn(&self, readings: &BTreeMap<ProcessId, Reading>) -> Option<ProcessId> {
        if !self.turn_budget.allows(TURN_SHARE) {
            return None;
        }
        let age = |id: &ProcessId| {
            self.holders.get(id).map_or(0.0, |holder| holder.walk_budget().idle_seconds())
        };
        let verified = readings.iter().filter(|(_, reading)| !reading.complete);
        verified.map(|(&id, _)| id).max_by(|a, b| age(a).total_cmp(&age(b)))
    }

    /// Takes note of what the walks took.
    fn book(&mut self, walked: &BTreeSet<ProcessId>, as_search: bool) {
        if walked.is_empty() {
            return;
        }
        let holders = walked.iter().filter_map(|id| self.holders.get(id));
        let cost_seconds = holders.map(|holder| holder.walk_budget().cost_seconds()).sum();
        let budget = if as_search { self.search.budget() } else { &mut self.turn_budget };
        budget.charge(cost_seconds);
    }

    fn is_held(&self, inode: SocketInode) -> bool {
        self.holders.values().any(|holder| holder.sockets().contains(&inode))
    }
}

/// Who is asked for what is targets: all that were not walked; and if that is on the move, also who
/// was, since that may have been before it was handed it.
fn asked_for(
    targets: &SearchTargets,
    readings: &BTreeMap<ProcessId, Reading>,
) -> BTreeSet<ProcessId> {
    let is_asked = |reading: &Reading| {
        !reading.complete || targets.is_on_the_move() && matches!(reading.outcome, Outcome::Read)
    };
    readings.iter().filter(|(_, reading)| is_asked(reading)).map(|(&id, _)| id).collect()
}

/// Links may take half of the descriptors the exporter may have, but for those that connections and
/// reading need.
fn most_links() -> usize {
    let limit = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit.saturating_sub(NEEDED) / 2).unwrap_or(usize::MAX)
}
