//! Which service holds a socket that may be in the way of another.

use std::collections::{BTreeMap, BTreeSet};

use super::case::Case;
use super::verdict::{PortKey, Target};
use crate::haproxy::lineage::generations::Generation;
use crate::model::{Details, PortRole, PortUse, ProcessId, SocketInode};

/// The process of a service that holds a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner<'a> {
    pub(super) service: &'a str,
    pub(super) process: ProcessId,
    pub(super) generation: Generation,
}

/// The owners of those sockets on the ports in question that belong to a service.
#[derive(Debug, Default)]
pub struct Owners<'a> {
    pub(super) by_inode: BTreeMap<SocketInode, Owner<'a>>,
    /// The uid under which the current listeners of each service were bound.
    pub(super) starters: BTreeMap<&'a str, u32>,
}

impl<'a> Owners<'a> {
    /// Collects the owners. A socket with several holders belongs to the current one.
    #[must_use]
    pub fn of(cases: &'a [Case<'_>], details: &Details) -> Owners<'a> {
        let mut owners = Owners::default();
        let uses = details.port_uses.values().flatten();
        let asked: BTreeSet<SocketInode> = uses.filter_map(|used| used.inode).collect();
        // What a process was found to hold when the details were looked up.
        let mut found: BTreeMap<ProcessId, Vec<SocketInode>> = BTreeMap::new();
        for (inode, id) in details.held.iter().filter(|(inode, _)| asked.contains(inode)) {
            found.entry(*id).or_default().push(*inode);
        }
        for case in cases {
            for member in case.service.members.iter().filter(|member| member.lives()) {
                let id = member.id();
                let generation = case.generations.get(id);
                let owner = Owner { service: &case.name, process: id, generation };
                let sockets = member.process.sockets.iter();
                let held = sockets.flat_map(|sockets| sockets.intersection(&asked));
                for inode in held.chain(found.get(&id).into_iter().flatten()) {
                    let known = owners.by_inode.entry(*inode).or_insert(owner);
                    if generation == Generation::Current {
                        *known = owner;
                    }
                }
                let uid = case.listeners_of(id).next().map(|held| held.socket.uid);
                if let (Some(uid), Generation::Current) = (uid, generation) {
                    owners.starters.insert(&case.name, uid);
                }
            }
        }
        owners
    }

    /// What has to go so that `service` can bind a port that `used` blocks: one connection, one of its own
    /// processes, or the holder as a whole.
    #[must_use]
    pub fn target(&self, service: &str, used: &PortUse, holder: &str, key: &PortKey) -> Target {
        let owner = self.by_inode.get(&used.inode.unwrap_or_default());
        match owner.filter(|owner| owner.service == service) {
            _ if matches!(used.role, PortRole::Connected(_)) => {
                Target::Connection(holder.to_owned(), key.clone())
            }
            Some(owner) => Target::Process(owner.process),
            None => Target::Holder(holder.to_owned()),
        }
    }
}
