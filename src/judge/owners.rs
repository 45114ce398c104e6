//! Whose the sockets on the ports in question are.

use std::collections::{BTreeMap, BTreeSet};

use super::case::Case;
use crate::haproxy::lineage::generations::Generation;
use crate::model::{Details, Process, SocketInode};

/// Whose socket it is, as far as a haproxy holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner<'a> {
    pub(super) haproxy: &'a str,
    pub(super) pid: i32,
    pub(super) generation: Generation,
}

/// The sockets that haproxys hold, of those that use ports which were asked about.
#[derive(Debug, Default)]
pub struct Owners<'a> {
    pub(super) by_inode: BTreeMap<SocketInode, Owner<'a>>,
    /// Uid that a haproxy's current listeners were bound under.
    pub(super) starters: BTreeMap<&'a str, u32>,
}

impl<'a> Owners<'a> {
    /// Gathers them; of several holders the current one counts.
    #[must_use]
    pub fn of(cases: &'a [Case<'_>], details: &Details) -> Owners<'a> {
        let mut owners = Owners::default();
        let uses = details.port_uses.values().flatten();
        let asked: BTreeSet<SocketInode> = uses.filter_map(|used| used.inode).collect();
        for case in cases {
            for member in case.service.members.iter().filter(|member| member.lives()) {
                let id = member.id();
                let generation = case.generations.get(id);
                let owner = Owner { haproxy: &case.name, pid: id.pid, generation };
                for inode in asked.iter().filter(|&&inode| holds(member.process, inode, details)) {
                    let known = owners.by_inode.entry(*inode).or_insert(owner);
                    if generation == Generation::Current {
                        *known = owner;
                    }
                }
                let held = case.holdings.get(&id).into_iter();
                let uid = held.flat_map(|held| &held.listeners).map(|held| held.socket.uid).next();
                if let (Some(uid), Generation::Current) = (uid, generation) {
                    owners.starters.insert(&case.name, uid);
                }
            }
        }
        owners
    }
}

/// It was seen to, when its sockets were read or at the closer look.
fn holds(process: &Process, inode: SocketInode, details: &Details) -> bool {
    process.sockets.as_ref().is_some_and(|sockets| sockets.contains(&inode))
        || details.held.contains(&(inode, process.id))
}
