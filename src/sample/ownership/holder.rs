//! What one process holds of the sockets in question, verified at the cost of a read for each
//! descriptor, and walked only where that does not tell.
//!
//! Of a process with few descriptors all are looked at: as many are open as are known, and each of
//! them is what it was, so there is no other. Of one with many connections only the listeners are
//! looked at; what else it may have been handed tells [`super`]. The number of
//! descriptors alone would be no sign that nothing has changed: one may have been closed for each
//! that was opened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::wanted::WantedSet;
use crate::model::{Environment, Process, SocketInode, UnixSeconds};
use crate::sample::budget::CpuBudget;
use crate::sample::discovery::process_cache::Layout;
use crate::sample::discovery::processes::Found;
use crate::sample::proc::descriptors::{Descriptors, Link, Target};
use crate::sample::proc::error::ReadError;

/// After its start, its execution or its first listener a process may be handed listeners.
const YOUNG_SECONDS: f64 = 10.0;
/// With so many descriptors beside its listeners a process is looked at as a whole.
const FEW: usize = 64;
/// The same for one that was never seen to listen: it may be starting, or be a stale one that let
/// go before anybody looked. Threads have a few descriptors each.
const FEW_WHILE_STARTING: usize = 512;
/// Where the kernel does not count descriptors (before Linux 6.2), a walk counts them.
const COUNT_SHARE: f64 = 1.0 / 300.0;

/// How much a reading coverage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// Everything the process holds of the sockets in question.
    Complete,
    /// That it still holds what it held.
    Verified,
}

/// One process, as it was when it was last walked.
#[derive(Debug, Default)]
pub struct Holder {
    incarnation: Option<Incarnation>,
    young_since: UnixSeconds,
    held: Vec<Held>,
    /// The sockets in [`Holder::held`].
    sockets: Arc<BTreeSet<SocketInode>>,
    rest: Rest,
    /// How many descriptors it has.
    open: u64,
    open_when_walked: u64,
    was_walked: bool,
    /// It was seen to hold what is not among them.
    suspect: bool,
    walk_budget: CpuBudget,
}

/// A descriptor, by its number.
#[derive(Debug)]
struct Slot {
    number: u32,
    /// To read it by, once that was done.
    link: Option<Link>,
}

impl Slot {
    /// What it leads to now. `links`: so many more may be opened.
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

/// A descriptor that is a socket in question, or was one.
#[derive(Debug)]
struct Held {
    slot: Slot,
    inode: SocketInode,
}

/// The other descriptors, where they are few.
#[derive(Debug, Default)]
struct Rest {
    slots: Vec<Slot>,
    /// Two walks in a row have found the same: it is worth while to look after each of them.
    settled: bool,
}

impl Holder {
    /// Another program that the same process executes is another holder.
    pub fn follow(&mut self, found: &Found, now: UnixSeconds) {
        let incarnation = Some(Incarnation::of(found));
        if self.incarnation != incarnation {
            let first = self.incarnation.is_none();
            let young_since = if first { found.process.started } else { now };
            *self = Holder { incarnation, young_since, ..Holder::default() };
        }
    }

    /// What it holds of `wanted`, and of what it held when that was wanted. `asked`: it is to tell
    /// everything; `links`: so many more may be opened.
    pub fn read(
        &mut self,
        descriptors: &Descriptors,
        wanted: &WantedSet,
        now: UnixSeconds,
        asked: bool,
        links: &mut usize,
    ) -> Result<Coverage, ReadError> {
        let count = descriptors.count();
        let is_young = now - self.young_since < YOUNG_SECONDS;
        let coverage = if asked || !self.was_walked || self.suspect || is_young {
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

    /// It was seen to hold what may be a listener.
    pub fn listens(&self) -> bool {
        !self.held.is_empty()
    }

    /// How many descriptors it has.
    pub fn open(&self) -> u64 {
        self.open
    }

    /// How many links are held open.
    pub fn links(&self) -> usize {
        self.slots().filter(|slot| slot.link.is_some()).count()
    }

    /// How long its walks take.
    pub fn walk_budget(&self) -> &CpuBudget {
        &self.walk_budget
    }

    /// It was seen by others to hold a listener that it was not known to hold.
    pub fn suspect(&mut self) {
        self.suspect = true;
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.held.iter().map(|held| &held.slot).chain(&self.rest.slots)
    }

    /// `None`: it is to be walked.
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
                && self.rest.is_of_no_interest(descriptors, wanted, links)
                && self.holds_on(descriptors, links))
            .then_some(Coverage::Complete);
        }
        let may_begin = !self.listens() && count > self.open_when_walked;
        self.rest = Rest::default();
        (!may_begin && self.holds_on(descriptors, links)).then_some(Coverage::Verified)
    }

    /// Every descriptor that was one of the sockets still is.
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

    /// A link shows what its number leads to, whatever that was before.
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
    /// All of them are open, and none is a socket in question.
    fn is_of_no_interest(
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
