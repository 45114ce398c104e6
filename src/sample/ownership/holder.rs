//! The wanted sockets that one process holds. They are verified with one read for each known
//! descriptor, and the process is walked only where that is not enough.
//!
//! If a process has few descriptors, all of them are verified: when as many are open as are known and each
//! is unchanged, there can be no other. If it has many, such as connections, only the listeners are
//! verified; [`crate::sample::ownership`] decides when to walk such a process because it may have been
//! handed another listener. The number of descriptors alone proves nothing, because one may have been
//! closed for each that was opened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::wanted::WantedSet;
use crate::model::time::YOUNG_SECONDS;
use crate::model::{Environment, Process, SocketInode, UnixSeconds};
use crate::sample::budget::CpuBudget;
use crate::sample::discovery::process_cache::Layout;
use crate::sample::discovery::processes::Found;
use crate::sample::proc::descriptors::{Descriptors, Link, Target};
use crate::sample::proc::error::ReadError;

/// A process with no more than this many descriptors beside its listeners has all of them verified.
const FEW: usize = 64;
/// The same limit for a process that was never seen to listen: it may be starting, or it may be a
/// stale process that let its listeners go before the exporter started. Each of its threads has a
/// few descriptors.
const FEW_WHILE_STARTING: usize = 512;
/// The share of one processor that the walks of one process may take where the kernel does not
/// count its descriptors (before Linux 6.2).
const COUNT_SHARE: f64 = 1.0 / 300.0;

/// How much of a process's sockets a reading covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// Everything that the process holds of the wanted sockets.
    Complete,
    /// Only that the process still holds what it held.
    Verified,
}

/// The descriptors of one process as they were when it was last walked.
#[derive(Debug, Default)]
pub struct Holder {
    incarnation: Option<Incarnation>,
    young_since: UnixSeconds,
    held: Vec<Held>,
    /// The sockets of [`Holder::held`].
    sockets: Arc<BTreeSet<SocketInode>>,
    rest: Rest,
    /// The number of its open descriptors.
    open: u64,
    open_when_walked: u64,
    was_walked: bool,
    /// It was found to hold a socket that is not among them.
    suspect: bool,
    walk_budget: CpuBudget,
}

/// A descriptor.
#[derive(Debug)]
struct Slot {
    number: u32,
    /// Its link, once it was opened.
    link: Option<Link>,
}

impl Slot {
    /// Its target now. Opens its link, if one of the `links` that may still be opened is left.
    fn target(&mut self, descriptors: &Descriptors, links: &mut usize) -> Target {
        if self.link.is_none() && *links > 0 {
            self.link = descriptors.link(self.number);
            *links -= 1;
        }
        match &self.link {
            Some(link) => link.target(),
            None => descriptors.target_at(self.number),
        }
    }
}

/// A descriptor that is a wanted socket, or was one when it was last walked.
#[derive(Debug)]
struct Held {
    slot: Slot,
    inode: SocketInode,
}

/// The other descriptors of a process, where they are few.
#[derive(Debug, Default)]
struct Rest {
    slots: Vec<Slot>,
    /// Two walks in a row have found the same, so that it is worth while to verify each of them.
    settled: bool,
}

impl Holder {
    /// Starts anew if the process runs another program than before.
    pub fn follow(&mut self, found: &Found, now: UnixSeconds) {
        let incarnation = Some(Incarnation::of(found));
        if self.incarnation != incarnation {
            let first = self.incarnation.is_none();
            let young_since = if first { found.process.started } else { now };
            *self = Holder { incarnation, young_since, ..Holder::default() };
        }
    }

    /// Reads which of the wanted sockets the process holds, and which it still holds of those that
    /// were wanted before. `walk` demands complete coverage; `links` is how many more links may be
    /// opened.
    pub fn read(
        &mut self,
        descriptors: &Descriptors,
        wanted: &WantedSet,
        now: UnixSeconds,
        walk: bool,
        links: &mut usize,
    ) -> Result<Coverage, ReadError> {
        let count = descriptors.count();
        let is_young = now - self.young_since < YOUNG_SECONDS;
        let coverage = if walk || !self.was_walked || self.suspect || is_young {
            None
        } else {
            self.verify(descriptors, wanted, count, links)
        };
        if coverage.is_none() {
            self.walk(descriptors, wanted, now)?;
        }
        self.open = count.unwrap_or(self.open_when_walked);
        Ok(coverage.unwrap_or(Coverage::Complete))
    }

    /// The sockets it holds.
    pub fn sockets(&self) -> &Arc<BTreeSet<SocketInode>> {
        &self.sockets
    }

    /// Whether it holds what may be a listener.
    pub fn listens(&self) -> bool {
        !self.held.is_empty()
    }

    /// The number of its open descriptors.
    pub fn open(&self) -> u64 {
        self.open
    }

    /// The number of links that are held open.
    pub fn links(&self) -> usize {
        self.slots().filter(|slot| slot.link.is_some()).count()
    }

    /// The cost of its walks.
    pub fn walk_budget(&self) -> &CpuBudget {
        &self.walk_budget
    }

    /// A holder whose walks have cost this much processor time.
    #[cfg(test)]
    pub fn costing(seconds: f64) -> Holder {
        let mut holder = Holder::default();
        holder.walk_budget.charge(seconds);
        holder
    }

    /// Forces a walk next time, because it was found to hold a socket that it was not known to hold.
    pub fn suspect(&mut self) {
        self.suspect = true;
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.held.iter().map(|held| &held.slot).chain(&self.rest.slots)
    }

    /// Verifies the known descriptors; `None` if the process must be walked.
    fn verify(
        &mut self,
        descriptors: &Descriptors,
        wanted: &WantedSet,
        count: Option<u64>,
        links: &mut usize,
    ) -> Option<Coverage> {
        let Some(count) = count else {
            let is_due = self.walk_budget.allows(COUNT_SHARE);
            return (!is_due && self.holds_on(descriptors, links)).then_some(Coverage::Verified);
        };
        let few = if self.listens() { FEW } else { FEW_WHILE_STARTING };
        if count <= (self.held.len() + few) as u64 {
            let known = (self.held.len() + self.rest.slots.len()) as u64;
            let is_all = self.rest.settled && count == known;
            return (is_all
                && self.rest.holds_none_of(descriptors, wanted, links)
                && self.holds_on(descriptors, links))
            .then_some(Coverage::Complete);
        }
        let may_begin = !self.listens() && count > self.open_when_walked;
        self.rest = Rest::default();
        (!may_begin && self.holds_on(descriptors, links)).then_some(Coverage::Verified)
    }

    /// Whether every descriptor that was one of the sockets still is.
    fn holds_on(&mut self, descriptors: &Descriptors, links: &mut usize) -> bool {
        self.held
            .iter_mut()
            .all(|held| held.slot.target(descriptors, links) == Target::Socket(held.inode))
    }

    fn walk(
        &mut self,
        descriptors: &Descriptors,
        wanted: &WantedSet,
        now: UnixSeconds,
    ) -> Result<(), ReadError> {
        let before = &self.sockets;
        let (mut held, mut rest, mut open) = (Vec::new(), Vec::new(), 0);
        self.walk_budget.spend(|| {
            descriptors.walk(|number, inode| {
                open += 1;
                match inode.filter(|i| before.contains(i) || wanted.contains(*i)) {
                    Some(inode) => held.push((number, inode)),
                    None if rest.len() < FEW_WHILE_STARTING => rest.push(number),
                    None => {}
                }
            })
        })?;
        if self.sockets.is_empty() && !held.is_empty() && self.was_walked {
            self.young_since = now;
        }
        let sockets: BTreeSet<SocketInode> = held.iter().map(|(_, inode)| *inode).collect();
        if sockets != *self.sockets {
            self.sockets = Arc::new(sockets);
        }
        self.keep(&held, &rest, open);
        (self.open_when_walked, self.was_walked, self.suspect) = (open, true, false);
        Ok(())
    }

    /// Keeps what a walk has found. Links stay with their numbers: a link shows the present target
    /// of its number.
    fn keep(&mut self, held: &[(u32, SocketInode)], rest: &[u32], open: u64) {
        let all_listed = (held.len() + rest.len()) as u64 == open;
        let same = self.rest.slots.iter().map(|slot| slot.number).eq(rest.iter().copied())
            && self.held.iter().map(|held| (held.slot.number, held.inode)).eq(held.iter().copied());
        let held_slots = self.held.drain(..).map(|held| held.slot);
        let slots = held_slots.chain(self.rest.slots.drain(..));
        let mut links: BTreeMap<u32, Link> =
            slots.filter_map(|slot| Some((slot.number, slot.link?))).collect();
        let mut slot = |number| Slot { number, link: links.remove(&number) };
        self.held =
            held.iter().map(|&(number, inode)| Held { slot: slot(number), inode }).collect();
        self.rest.settled = same && all_listed;
        let worth_while = if all_listed { rest } else { &[] };
        self.rest.slots = worth_while.iter().map(|&number| slot(number)).collect();
    }
}

impl Rest {
    /// Whether all of them are open and none is a wanted socket.
    fn holds_none_of(
        &mut self,
        descriptors: &Descriptors,
        wanted: &WantedSet,
        links: &mut usize,
    ) -> bool {
        self.slots.iter_mut().all(|slot| match slot.target(descriptors, links) {
            Target::Nothing => false,
            Target::Socket(inode) => !wanted.contains(inode),
            Target::Other => true,
        })
    }
}

/// Distinguishes a program from the next one that the same process executes, by its arguments, its
/// environment and where the kernel has put it.
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
