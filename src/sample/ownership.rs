//! Which HAProxy process holds which of the sockets that may be listeners, at the cost of what
//! changed.
//!
//! A process that holds few descriptors besides its listeners is walked each time: that costs no
//! more than looking after them. Of one that holds many connections the known triples of process,
//! descriptor and socket are verified, and it is walked again when
//!
//! - it is new, has just been executed anew or is young: it may yet be handed listeners. HAProxy
//!   takes those only while it starts (`sock_get_old_sockets()`); how long that lasts shows in
//!   that it holds none yet;
//! - a descriptor is no longer what it was: the socket may have another number now;
//! - a socket is in the tables that was not there before: anybody may have made it;
//! - it is its turn: should an old process be handed a listener that another one keeps, nothing
//!   of the above would tell.
//!
//! What was found to be held by no HAProxy is remembered by its cookie, and not asked about again.
//! The number of descriptors alone would be no sign that nothing has changed: one may have been
//! closed for each that was opened.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::descriptors::Descriptors;
use super::pace::Pace;
use super::proc_dir::ReadError;
use super::processes::Found;
use crate::model::{ProcessId, SocketInode, UnixSeconds};

/// After its start, its execution or its first listener a process may be handed listeners.
const YOUNG_SECONDS: f64 = 10.0;
/// With so many descriptors beside its listeners a process is cheaper to walk than to reason about.
const FEW: u64 = 64;
/// The same for one that was never seen to listen: it may be starting, or be a stale one that let
/// go before anybody looked. Threads have a few descriptors each.
const FEW_WHILE_STARTING: u64 = 512;
/// Walks in search of a new socket's holders take this share of a processor at most.
const SEARCH_SHARE: f64 = 1.0 / 100.0;
/// Walks in turn.
const TURN_SHARE: f64 = 1.0 / 20_000.0;
/// Where the kernel does not count descriptors (before Linux 6.2), a walk counts them.
const COUNT_SHARE: f64 = 1.0 / 300.0;

/// The sockets in question, with their cookies where the tables tell.
pub type Wanted = HashMap<SocketInode, Option<u64>>;

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
    /// Sockets all of whose holders are known.
    explained: Wanted,
    search: Pace,
    turn: Pace,
}

/// One process, as it was when it was last walked.
#[derive(Debug, Default)]
struct Holder {
    incarnation: u64,
    young_since: UnixSeconds,
    held: Vec<Held>,
    open: u64,
    walk: Pace,
}

/// A descriptor that is a socket in question, or was one.
#[derive(Debug, Clone, Copy)]
struct Held {
    number: u32,
    inode: SocketInode,
}

impl Ownership {
    /// Gives every living process the sockets of `wanted` that it holds, and those that it held
    /// when they were wanted and still does, though no table lists them now.
    pub fn read(
        &mut self,
        found: &mut [Found],
        wanted: &Wanted,
        now: UnixSeconds,
    ) -> Vec<(ProcessId, Outcome)> {
        let living: BTreeSet<ProcessId> =
            found.iter().filter(|f| !f.process.is_zombie()).map(|f| f.process.id).collect();
        self.holders.retain(|id, _| living.contains(id));
        let news = wanted.iter().any(|(inode, cookie)| self.explained.get(inode) != Some(cookie));
        let search = news && self.search.allows(SEARCH_SHARE);
        let turn = self.turn.allows(TURN_SHARE).then(|| self.longest_unwalked()).flatten();
        let mut all_answered = true;
        let mut read_all = |this: &mut Self| {
            let living = found.iter_mut().filter(|f| !f.process.is_zombie());
            let outcomes = living.map(|found| {
                let asked = search || turn == Some(found.process.id);
                let (outcome, answered) = this.read_one(found, wanted, now, asked);
                all_answered &= answered;
                (found.process.id, outcome)
            });
            outcomes.collect()
        };
        let outcomes = match (search, turn) {
            (true, _) => paced(self, |this| &mut this.search, &mut read_all),
            (false, Some(_)) => paced(self, |this| &mut this.turn, &mut read_all),
            (false, None) => read_all(self),
        };
        self.remember(wanted, all_answered);
        outcomes
    }

    /// Also answers whether the process would have told of every socket that is new.
    fn read_one(
        &mut self,
        found: &mut Found,
        wanted: &Wanted,
        now: UnixSeconds,
        asked: bool,
    ) -> (Outcome, bool) {
        let id = found.process.id;
        let descriptors = match found.directory.descriptors() {
            Ok(descriptors) => descriptors,
            Err(error) => return (self.lose(found, error), true),
        };
        let count = descriptors.count();
        let holder = self.holders.entry(id).or_default();
        let incarnation = incarnation(found);
        let is_new = holder.incarnation != incarnation;
        if is_new {
            let first = holder.incarnation == 0;
            let since = if first { found.process.started } else { now };
            *holder = Holder { incarnation, young_since: since, ..Holder::default() };
        }
        let walk =
            asked || is_new || holder.is_to_be_walked(count, now) || !holder.verify(&descriptors);
        let done = if walk { holder.walk(&descriptors, wanted, now) } else { Ok(()) };
        if let Err(error) = done {
            return (self.lose(found, error), true);
        }
        found.process.open_fds = Some(count.unwrap_or(holder.open));
        found.process.sockets = Some(holder.held.iter().map(|held| held.inode).collect());
        (Outcome::Read, walk)
    }

    /// Nothing is known of it any more.
    fn lose(&mut self, found: &mut Found, error: ReadError) -> Outcome {
        self.holders.remove(&found.process.id);
        if matches!(error, ReadError::Gone) {
            return Outcome::Gone;
        }
        found.process.open_fds = found.directory.fd_count().ok().filter(|&count| count > 0);
        Outcome::Failed(error)
    }

    fn remember(&mut self, wanted: &Wanted, all_answered: bool) {
        let before = std::mem::take(&mut self.explained);
        let held = self.holders.values().flat_map(|holder| &holder.held);
        let held: BTreeSet<SocketInode> = held.map(|held| held.inode).collect();
        // A listener that is paused comes back into the tables as the one it was.
        self.explained = before
            .into_iter()
            .filter(|(inode, cookie)| match wanted.get(inode) {
                Some(wanted) => wanted == cookie,
                None => held.contains(inode),
            })
            .collect();
        if all_answered {
            self.explained.extend(wanted);
        }
    }

    fn longest_unwalked(&self) -> Option<ProcessId> {
        let oldest =
            self.holders.iter().max_by(|(_, a), (_, b)| a.walk.age().total_cmp(&b.walk.age()));
        oldest.map(|(id, _)| *id)
    }
}

/// Does the work at the expense of one of the paces.
fn paced<T>(
    ownership: &mut Ownership,
    pace: impl Fn(&mut Ownership) -> &mut Pace,
    work: impl FnOnce(&mut Ownership) -> T,
) -> T {
    let mut spent = std::mem::take(pace(ownership));
    let outcome = spent.spend(|| work(ownership));
    *pace(ownership) = spent;
    outcome
}

impl Holder {
    fn is_to_be_walked(&self, count: Option<u64>, now: UnixSeconds) -> bool {
        let listens = !self.held.is_empty();
        let few = if listens { FEW } else { FEW_WHILE_STARTING };
        let may_count = match count {
            None => self.walk.allows(COUNT_SHARE),
            Some(count) => count <= self.held.len() as u64 + few || (!listens && count > self.open),
        };
        may_count || now - self.young_since < YOUNG_SECONDS
    }

    /// Every descriptor is still the socket it was.
    fn verify(&self, descriptors: &Descriptors) -> bool {
        self.held.iter().all(|held| descriptors.socket_at(held.number) == Some(held.inode))
    }

    fn walk(
        &mut self,
        descriptors: &Descriptors,
        wanted: &Wanted,
        now: UnixSeconds,
    ) -> Result<(), ReadError> {
        let before: BTreeSet<SocketInode> = self.held.iter().map(|held| held.inode).collect();
        let mut held = Vec::new();
        let open = self.walk.spend(|| {
            descriptors.walk(|number, inode| {
                if wanted.contains_key(&inode) || before.contains(&inode) {
                    held.push(Held { number, inode });
                }
            })
        })?;
        if before.is_empty() && !held.is_empty() && self.open > 0 {
            self.young_since = now;
        }
        (self.held, self.open) = (held, open);
        Ok(())
    }
}

/// Tells one program from the next that the same process executes: what it was given, and where
/// the kernel has put it. Never 0.
fn incarnation(found: &Found) -> u64 {
    let mut hasher = DefaultHasher::new();
    found.layout.hash(&mut hasher);
    found.process.arguments.hash(&mut hasher);
    found.process.environment.as_ref().map(|environment| &environment.0).hash(&mut hasher);
    hasher.finish() | 1
}
