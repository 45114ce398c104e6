//! Which HAProxy process holds which of the sockets that may be listeners, at the cost of what
//! changed.
//!
//! A process that holds few descriptors besides its listeners is walked each time: that costs no
//! more than looking after them. Of one that holds many connections the known triples of process,
//! descriptor and socket are verified, by links that are held open ([`Link`]), and it is walked
//! again when
//!
//! - it is new, has just been executed anew or is young: it may yet be handed listeners. HAProxy
//!   takes those only while it starts (`sock_get_old_sockets()`); how long that lasts shows in
//!   that it holds none yet;
//! - a descriptor is no longer what it was: the socket may have another number now;
//! - a socket is in the tables that was not there before, or whose last known holder has let go:
//!   anybody may have it;
//! - it is its turn: should an old process be handed a listener that another one keeps, nothing
//!   of the above would tell.
//!
//! What was found to be held by no HAProxy is remembered by its cookie, and not asked about again.
//! The number of descriptors alone would be no sign that nothing has changed: one may have been
//! closed for each that was opened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustix::process::Resource;

use super::descriptors::{Descriptors, Link};
use super::lasting::Layout;
use super::pace::Pace;
use super::proc_dir::ReadError;
use super::processes::Found;
use crate::model::{Environment, Process, ProcessId, SocketInode, UnixSeconds};

/// After its start, its execution or its first listener a process may be handed listeners.
const YOUNG_SECONDS: f64 = 10.0;
/// With so many descriptors beside its listeners a process is cheaper to walk than to reason about.
const FEW: u64 = 64;
/// The same for one that was never seen to listen: it may be starting, or be a stale one that let
/// go before anybody looked. Threads have a few descriptors each.
const FEW_WHILE_STARTING: u64 = 512;
/// Walks in search of a new socket's holders take this share of a processor at most,
const SEARCH_SHARE: f64 = 1.0 / 100.0;
/// unless they are as short as this.
const SHORT_SEARCH_SECONDS: f64 = 0.02;
/// Walks in turn.
const TURN_SHARE: f64 = 1.0 / 20_000.0;
/// Descriptors that are never spent on links: 512 connections, and one or a few for each HAProxy.
const NEEDED: u64 = 1024;
/// Where the kernel does not count descriptors (before Linux 6.2), a walk counts them.
const COUNT_SHARE: f64 = 1.0 / 300.0;

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
    fn get(&self, inode: SocketInode) -> Option<&Wanted> {
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
    /// Sockets all of whose holders are known.
    explained: WantedSet,
    /// So many more links may be held open.
    links: usize,
    search: Pace,
    turn: Pace,
}

/// One process's reading; `walked`: it told of every socket, those that are new among them.
#[derive(Debug)]
struct Reading {
    outcome: Outcome,
    walked: bool,
}

/// One process, as it was when it was last walked.
#[derive(Debug, Default)]
struct Holder {
    incarnation: Option<Incarnation>,
    young_since: UnixSeconds,
    held: Vec<Held>,
    /// The sockets in [`Holder::held`].
    sockets: Arc<BTreeSet<SocketInode>>,
    open: u64,
    /// It was seen to hold what is not among them.
    suspect: bool,
    walk: Pace,
}

/// A descriptor that is a socket in question, or was one.
#[derive(Debug)]
struct Held {
    number: u32,
    inode: SocketInode,
    /// To verify it by, once that was done.
    link: Option<Link>,
}

impl Held {
    /// It is still the socket it was. `links`: so many more may be opened.
    fn verify(&mut self, descriptors: &Descriptors, links: &mut usize) -> bool {
        if self.link.is_none() && *links > 0 {
            self.link = descriptors.link(self.number);
            *links -= 1;
        }
        let now = match &self.link {
            Some(link) => link.socket(),
            None => descriptors.socket_at(self.number),
        };
        now == Some(self.inode)
    }
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
        let holders = self.holders.len();
        self.holders.retain(|id, _| ids.contains(id));
        let held = self.holders.values().flat_map(|holder| &holder.held);
        self.links = most_links().saturating_sub(held.filter(|held| held.link.is_some()).count());
        let mut readings: BTreeMap<ProcessId, Reading> = living
            .iter_mut()
            .map(|found| (found.process.id, self.read_one(found, wanted, now, false)))
            .collect();
        // Who was not walked holds what it held.
        let changed = self.holders.len() < holders || readings.values().any(|r| r.walked);
        let lost = if changed { self.recount() } else { BTreeSet::new() };
        let is_known = |wanted: &Wanted| {
            self.explained.get(wanted.0) == Some(wanted) && !lost.contains(&wanted.0)
        };
        let search =
            !(lost.is_empty() && *wanted == self.explained || wanted.0.iter().all(is_known));
        let candidates = self.candidates(&readings, search);
        let asked_more = !candidates.is_empty();
        for candidate in candidates {
            let found = living.iter_mut().find(|found| found.process.id == candidate);
            if let Some(found) = found {
                readings.insert(candidate, self.read_one(found, wanted, now, true));
            }
        }
        if asked_more {
            self.recount();
        }
        if search || *wanted != self.explained {
            let all_walked = readings.values().all(|reading| reading.walked);
            self.remember(wanted, all_walked, &lost);
        }
        readings.into_iter().map(|(id, reading)| (id, reading.outcome)).collect()
    }

    /// It was seen to hold what may be a listener.
    pub fn listens(&self, id: ProcessId) -> bool {
        self.holders.get(&id).is_some_and(|holder| !holder.held.is_empty())
    }

    /// Gathers anew what is held; answers what no longer is.
    fn recount(&mut self) -> BTreeSet<SocketInode> {
        let owned = self.owned();
        let before = std::mem::replace(&mut self.owned, owned);
        before.difference(&self.owned).copied().collect()
    }

    /// It was seen by others to hold a listener that it was not known to hold: the next sample
    /// walks it.
    pub fn suspect(&mut self, id: ProcessId) {
        if let Some(holder) = self.holders.get_mut(&id) {
            holder.suspect = true;
        }
    }

    fn owned(&self) -> BTreeSet<SocketInode> {
        self.holders.values().flat_map(|holder| holder.sockets.iter()).copied().collect()
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
        let count = descriptors.count();
        let holder = self.holders.entry(id).or_default();
        let incarnation = Some(Incarnation::of(found));
        let is_new = holder.incarnation != incarnation;
        if is_new {
            let first = holder.incarnation.is_none();
            let since = if first { found.process.started } else { now };
            *holder = Holder { young_since: since, ..Holder::default() };
        }
        holder.incarnation = incarnation;
        let walked = asked
            || is_new
            || holder.is_to_be_walked(count, now)
            || !holder.verify(&descriptors, &mut self.links);
        let done = if walked { holder.walk(&descriptors, wanted, now) } else { Ok(()) };
        if let Err(error) = done {
            return self.lose(found, error);
        }
        found.process.open_fds = Some(count.unwrap_or(holder.open));
        found.process.sockets = Some(Arc::clone(&holder.sockets));
        Reading { outcome: Outcome::Read, walked }
    }

    /// Nothing is known of it any more.
    fn lose(&mut self, found: &mut Found, error: ReadError) -> Reading {
        self.holders.remove(&found.process.id);
        let outcome = if matches!(error, ReadError::Gone) {
            Outcome::Gone
        } else {
            found.process.open_fds = found.directory.fd_count().ok().filter(|&count| count > 0);
            Outcome::Failed(error)
        };
        Reading { outcome, walked: true }
    }

    /// Those to be walked though nothing shows at them: all that were not, if a socket's holder is
    /// searched for and there is time for it; else the one whose turn it is.
    fn candidates(
        &mut self,
        readings: &BTreeMap<ProcessId, Reading>,
        search: bool,
    ) -> Vec<ProcessId> {
        let verified = || readings.iter().filter(|(_, r)| !r.walked).map(|(&id, _)| id);
        let cost = |id: &ProcessId| self.holders.get(id).map_or(0.0, |holder| holder.walk.cost());
        let short = self.search.cost() <= SHORT_SEARCH_SECONDS;
        if search && (short || self.search.allows(SEARCH_SHARE)) {
            let candidates: Vec<_> = verified().collect();
            self.search.book(candidates.iter().map(cost).sum());
            return candidates;
        }
        if !self.turn.allows(TURN_SHARE) {
            return Vec::new();
        }
        let age = |id: &ProcessId| self.holders.get(id).map_or(0.0, |holder| holder.walk.age());
        let oldest = verified().max_by(|a, b| age(a).total_cmp(&age(b)));
        self.turn.book(oldest.iter().map(cost).sum());
        oldest.into_iter().collect()
    }

    fn remember(&mut self, wanted: &WantedSet, all_walked: bool, lost: &BTreeSet<SocketInode>) {
        // A listener that is paused comes back into the tables as the one it was.
        let still = |known: &Wanted| match wanted.get(known.0) {
            Some(wanted) => wanted == known && !lost.contains(&known.0),
            None => self.owned.contains(&known.0),
        };
        let explained = self.explained.0.iter().copied().filter(still);
        let told = if all_walked { wanted.0.as_slice() } else { &[] };
        self.explained = explained.chain(told.iter().copied()).collect();
    }
}

impl Holder {
    fn is_to_be_walked(&self, count: Option<u64>, now: UnixSeconds) -> bool {
        let listens = !self.held.is_empty();
        let few = if listens { FEW } else { FEW_WHILE_STARTING };
        let may_count = match count {
            None => self.walk.allows(COUNT_SHARE),
            Some(count) => count <= self.held.len() as u64 + few || (!listens && count > self.open),
        };
        may_count || self.suspect || now - self.young_since < YOUNG_SECONDS
    }

    /// Every descriptor is still the socket it was.
    fn verify(&mut self, descriptors: &Descriptors, links: &mut usize) -> bool {
        self.held.iter_mut().all(|held| held.verify(descriptors, links))
    }

    fn walk(
        &mut self,
        descriptors: &Descriptors,
        wanted: &WantedSet,
        now: UnixSeconds,
    ) -> Result<(), ReadError> {
        let before = &self.sockets;
        let mut held = Vec::new();
        let open = self.walk.spend(|| {
            descriptors.walk(|number, inode| {
                if before.contains(&inode) || wanted.get(inode).is_some() {
                    held.push(Held { number, inode, link: None });
                }
            })
        })?;
        if before.is_empty() && !held.is_empty() && self.open > 0 {
            self.young_since = now;
        }
        self.sockets = Arc::new(held.iter().map(|held: &Held| held.inode).collect());
        (self.held, self.open, self.suspect) = (held, open, false);
        Ok(())
    }
}

/// Links may take half of the descriptors the exporter may have, but for those that connections and
/// reading need.
fn most_links() -> usize {
    let limit = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit.saturating_sub(NEEDED) / 2).unwrap_or(usize::MAX)
}

/// Tells one program from the next that the same process executes: what it was given, and where
/// the kernel has put it.
#[derive(Debug, PartialEq)]
struct Incarnation {
    layout: Layout,
    arguments: Option<Vec<String>>,
    environment: Option<Environment>,
}

impl Incarnation {
    fn of(found: &Found) -> Incarnation {
        let Process { arguments, environment, .. } = &found.process;
        let (arguments, environment) = (arguments.clone(), environment.clone());
        Incarnation { layout: found.layout, arguments, environment }
    }
}
