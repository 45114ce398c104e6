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
//!   have it;
//! - it is its turn: should an old process with many descriptors be handed a listener that another
//!   one keeps, nothing of the above would tell.
//!
//! What was found to be held by no HAProxy is remembered by its cookie, and not asked about again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustix::process::Resource;

use super::holder::{Holder, Told};
use super::pace::Pace;
use super::proc_dir::ReadError;
use super::processes::Found;
use crate::model::{ProcessId, SocketInode, UnixSeconds};

/// Walks in search of a new socket's holders take this share of a processor at most,
const SEARCH_SHARE: f64 = 1.0 / 100.0;
/// unless they are as short as this: the same share, at five seconds between samples.
const SHORT_SEARCH_SECONDS: f64 = 0.05;
/// Walks in turn.
const TURN_SHARE: f64 = 1.0 / 20_000.0;
/// Descriptors that are never spent on links: 512 connections, and one or a few for each HAProxy.
const NEEDED: u64 = 1024;
/// A socket in question, with its cookie where the tables tell.
pub type Wanted = (SocketInode, Option<u64>);

/// The sockets in question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedSet(Vec<Wanted>);

impl FromIterator<Wanted> for WantedSet {
    fn from_iter<I: IntoIterator<Item = Wanted>>(sockets: I) -> WantedSet {
        let mut sockets: Vec<Wanted> = sockets.into_iter().collect();
        sockets.sort_unstable_by_key(|(inode, _)| *inode);
        sockets.dedup_by_key(|(inode, _)| *inode);
        WantedSet(sockets)
    }
}

impl WantedSet {
    /// A socket, if it is in question.
    pub fn get(&self, inode: SocketInode) -> Option<&Wanted> {
        let place = self.0.binary_search_by_key(&inode, |(inode, _)| *inode).ok()?;
        self.0.get(place)
    }
}

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
    /// What they hold together.
    owned: BTreeSet<SocketInode>,
    /// What one of them has let go since it was last searched for: anybody may have it, whoever else
    /// is known to.
    let_go: BTreeSet<SocketInode>,
    /// Sockets all of whose holders are known.
    explained: WantedSet,
    /// So many more links may be held open.
    links: usize,
    search: Pace,
    turn: Pace,
}

/// One process's reading.
#[derive(Debug)]
struct Reading {
    outcome: Outcome,
    /// It told of every socket, those that are new among them.
    complete: bool,
    /// It holds other sockets than before.
    changed: bool,
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
        let mut changed = self.forget_all_but(&ids);
        let links: usize = self.holders.values().map(Holder::links).sum();
        self.links = most_links().saturating_sub(links);
        let mut readings: BTreeMap<ProcessId, Reading> = living
            .iter_mut()
            .map(|found| (found.process.id, self.read_one(found, wanted, now, false)))
            .collect();
        changed |= readings.values().any(|reading| reading.changed);
        let let_go = std::mem::take(&mut self.let_go);
        let is_known = |wanted: &Wanted| {
            self.explained.get(wanted.0) == Some(wanted) && !let_go.contains(&wanted.0)
        };
        let search =
            !(let_go.is_empty() && *wanted == self.explained || wanted.0.iter().all(is_known));
        let candidates = self.candidates(&readings, search);
        changed |= !candidates.is_empty();
        for candidate in candidates {
            let found = living.iter_mut().find(|found| found.process.id == candidate);
            if let Some(found) = found {
                readings.insert(candidate, self.read_one(found, wanted, now, true));
            }
        }
        if changed {
            self.owned = self.owned();
        }
        if search || *wanted != self.explained {
            let all_told = readings.values().all(|reading| reading.complete);
            self.remember(wanted, all_told, &let_go);
        }
        readings.into_iter().map(|(id, reading)| (id, reading.outcome)).collect()
    }

    /// Answers whether somebody is gone.
    fn forget_all_but(&mut self, living: &BTreeSet<ProcessId>) -> bool {
        let (before, let_go) = (self.holders.len(), &mut self.let_go);
        self.holders.retain(|id, holder| {
            let lives = living.contains(id);
            if !lives {
                let_go.extend(holder.sockets().iter());
            }
            lives
        });
        self.holders.len() < before
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

    fn owned(&self) -> BTreeSet<SocketInode> {
        self.holders.values().flat_map(|holder| holder.sockets().iter()).copied().collect()
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
        let told = match holder.read(&descriptors, wanted, now, asked, &mut self.links) {
            Ok(told) => told,
            Err(error) => {
                self.let_go.extend(before.iter()); // it may be another program than had them
                return self.lose(found, error);
            }
        };
        found.process.open_fds = Some(holder.open());
        found.process.sockets = Some(Arc::clone(holder.sockets()));
        let changed = !Arc::ptr_eq(&before, holder.sockets());
        if changed {
            self.let_go.extend(before.difference(holder.sockets()));
        }
        Reading { outcome: Outcome::Read, complete: told == Told::All, changed }
    }

    /// Nothing is known of it any more.
    fn lose(&mut self, found: &mut Found, error: ReadError) -> Reading {
        if let Some(holder) = self.holders.remove(&found.process.id) {
            self.let_go.extend(holder.sockets().iter());
        }
        let outcome = if matches!(error, ReadError::Gone) {
            Outcome::Gone
        } else {
            found.process.open_fds = found.directory.fd_count().ok().filter(|&count| count > 0);
            Outcome::Failed(error)
        };
        Reading { outcome, complete: true, changed: true }
    }

    /// Those to be walked though nothing shows at them: all that were not, if a socket's holder is
    /// searched for and there is time for it; else the one whose turn it is.
    fn candidates(
        &mut self,
        readings: &BTreeMap<ProcessId, Reading>,
        search: bool,
    ) -> Vec<ProcessId> {
        let verified = || readings.iter().filter(|(_, r)| !r.complete).map(|(&id, _)| id);
        let cost = |id: &ProcessId| self.holders.get(id).map_or(0.0, |holder| holder.pace().cost());
        let short = self.search.cost() <= SHORT_SEARCH_SECONDS;
        if search && (short || self.search.allows(SEARCH_SHARE)) {
            let candidates: Vec<_> = verified().collect();
            self.search.book(candidates.iter().map(cost).sum());
            return candidates;
        }
        if !self.turn.allows(TURN_SHARE) {
            return Vec::new();
        }
        let age = |id: &ProcessId| self.holders.get(id).map_or(0.0, |holder| holder.pace().age());
        let oldest = verified().max_by(|a, b| age(a).total_cmp(&age(b)));
        self.turn.book(oldest.iter().map(cost).sum());
        oldest.into_iter().collect()
    }

    fn remember(&mut self, wanted: &WantedSet, all_told: bool, let_go: &BTreeSet<SocketInode>) {
        // A listener that is paused comes back into the tables as the one it was.
        let still = |known: &Wanted| match wanted.get(known.0) {
            Some(wanted) => wanted == known,
            None => self.owned.contains(&known.0),
        };
        let kept = |known: &Wanted| still(known) && !let_go.contains(&known.0);
        let explained = self.explained.0.iter().copied().filter(kept);
        let told = if all_told { wanted.0.as_slice() } else { &[] };
        self.explained = explained.chain(told.iter().copied()).collect();
    }
}

/// Links may take half of the descriptors the exporter may have, but for those that connections and
/// reading need.
fn most_links() -> usize {
    let limit = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit.saturating_sub(NEEDED) / 2).unwrap_or(usize::MAX)
}
