//! The part of the last accepted sample that is kept, so that a later sample can show what is
//! missing in it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use crate::model::{ProcessId, Snapshot, SocketInode};
use crate::sample::movers::Movers;
use crate::sample::ownership::wanted::WantedSet;

/// The HAProxy processes of the last accepted sample and what they held.
#[derive(Debug, Default)]
pub struct LastSample {
    processes: BTreeMap<ProcessId, Arc<BTreeSet<SocketInode>>>,
    /// The users of those that are certainly none of root's.
    users: BTreeMap<ProcessId, u32>,
    /// Its lost listeners that are still being searched for, with their last holders.
    lost: BTreeMap<SocketInode, BTreeSet<ProcessId>>,
}

impl LastSample {
    /// Keeps the part of a sample that later samples are compared with.
    pub fn accept(&mut self, sample: &Snapshot) {
        let held = |sockets: &Option<Arc<_>>| sockets.as_ref().map(Arc::clone).unwrap_or_default();
        let movers = Movers::of(sample.processes.iter());
        let processes = sample.processes.iter();
        self.processes = processes.map(|process| (process.id, held(&process.sockets))).collect();
        let processes = sample.processes.iter();
        self.users = processes.filter_map(|p| Some((p.id, movers.user(p)?))).collect();
        self.users.extend(&sample.gaps.last_users);
        // Where the search was made and found no holder, there is nothing left to wait for.
        self.lost.clone_from(&sample.gaps.lost);
        self.lost.retain(|inode, _| sample.gaps.unsearched.contains(inode));
    }

    /// The user whose service one of its processes may belong to; `None` if that may be any service.
    #[must_use]
    pub fn user(&self, id: ProcessId) -> Option<u32> {
        self.users.get(&id).copied()
    }

    /// Its processes.
    pub fn processes(&self) -> impl Iterator<Item = ProcessId> {
        self.processes.keys().copied()
    }

    /// Listeners that were held in it, that are still in the tables, and that no process of
    /// `sample` is known to hold; each with the processes that held it last.
    pub fn lost_in(
        &self,
        sample: &Snapshot,
        wanted: &WantedSet,
    ) -> BTreeMap<SocketInode, BTreeSet<ProcessId>> {
        let mut lost = self.lost.clone();
        for (&id, before) in &self.processes {
            let now = sample.processes.binary_search_by_key(&id, |process| process.id);
            let now = now.ok().and_then(|place| sample.processes.get(place)?.sockets.as_ref());
            if now.is_some_and(|now| Arc::ptr_eq(now, before)) {
                continue; // the usual case
            }
            for &inode in before.iter().filter(|inode| !now.is_some_and(|now| now.contains(inode)))
            {
                lost.entry(inode).or_default().insert(id);
            }
        }
        if lost.is_empty() {
            return lost; // the usual case
        }
        let held = sample.processes.iter().filter_map(|process| process.sockets.as_ref());
        let held: HashSet<SocketInode> = held.flat_map(|held| held.iter().copied()).collect();
        lost.retain(|inode, _| {
            wanted.contains(*inode)
                && !held.contains(inode)
                && (sample.gaps.closed.is_empty() || sample.gaps.unsearched.contains(inode))
        });
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{Actor, HERE, actor, snapshot};

    const LISTENER: SocketInode = 1;

    fn holder() -> Actor {
        actor(10, 100, "haproxy -f /a").tcp(80, LISTENER)
    }

    /// The same process without its listener, which the table still lists.
    fn without() -> Actor {
        holder().change(|process| process.sockets = Some(Arc::default()))
    }

    /// Takes `samples` one after the other and returns in which of them the listener was lost.
    /// `searched` says whether the search for its holders was made.
    fn lost_in(samples: Vec<Snapshot>, searched: bool) -> Vec<bool> {
        let (mut last, mut wanted) = (LastSample::default(), WantedSet::default());
        last.accept(&snapshot(1000.0, &[holder()]));
        let mut answers = Vec::new();
        for mut sample in samples {
            wanted = WantedSet::of(&sample.networks, &[], &wanted);
            if !searched {
                sample.gaps.unsearched.insert(LISTENER);
            }
            sample.gaps.lost = last.lost_in(&sample, &wanted);
            let is_lost = sample.gaps.last_holders().any(|id| id == holder().process.id);
            assert_eq!(is_lost, sample.gaps.lost.contains_key(&LISTENER));
            answers.push(is_lost);
            last.accept(&sample);
        }
        answers
    }

    fn sample(actors: &[Actor]) -> Snapshot {
        snapshot(1005.0, actors)
    }

    #[test]
    fn a_listener_is_lost_while_the_tables_list_it_and_no_process_holds_it() {
        let samples = || vec![sample(&[holder()]), sample(&[without()]), sample(&[without()])];
        assert_eq!(lost_in(samples(), false), [false, true, true]);
        assert_eq!(lost_in(samples(), true), [false, true, false], "the search found no holder");
        let heir = actor(11, 110, "haproxy -f /a").holds(LISTENER);
        let handed_down = vec![sample(&[without()]), sample(&[without(), heir])];
        assert_eq!(lost_in(handed_down, false), [true, false]);
        assert_eq!(lost_in(vec![sample(&[])], false), [false], "it was closed");
    }

    /// A process whose descriptors cannot be read may hold it.
    #[test]
    fn nothing_is_lost_while_descriptors_are_closed_to_the_exporter() {
        let samples = || vec![sample(&[without(), actor(11, 110, "haproxy -f /b").unseen()])];
        assert_eq!(lost_in(samples(), true), [false]);
        assert_eq!(lost_in(samples(), false), [true]);
    }

    #[test]
    fn a_table_that_cannot_be_read_once_makes_no_lost_listener_forgotten() {
        let mut unread = sample(&[without()]);
        unread.networks.get_mut(&HERE).unwrap().bound = None;
        let samples = vec![sample(&[without()]), unread, sample(&[without()])];
        assert_eq!(lost_in(samples, false), [true, true, true]);
    }
}
