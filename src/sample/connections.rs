//! The connections of stale processes, at a bounded cost: their descriptors are walked and whole
//! socket tables dumped, so it is done as often as a share of a processor allows, which is in
//! each sample but on hosts with many connections. In between the last reading stands.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::Sampler;
use super::pace::Pace;
use super::proc_dir::{ProcDir, ReadError};
use crate::model::{Connection, NamespaceId, ProcessId, Snapshot, SocketInode};

/// The share of a processor that the reading takes at most.
const SHARE: f64 = 1.0 / 300.0;
/// The same when there is a stale process of which nothing is known yet.
const FIRST_SHARE: f64 = 1.0 / 20.0;

/// The connections as they were last read.
#[derive(Debug, Default)]
pub struct Connections {
    known: BTreeMap<ProcessId, Vec<Connection>>,
    pace: Pace,
}

impl Sampler {
    /// Adds the connections of the processes `of` to a sample.
    ///
    /// While none were read of a process it is absent there.
    pub fn read_connections(&mut self, snapshot: &mut Snapshot, of: &BTreeSet<ProcessId>) {
        self.connections.known.retain(|id, _| of.contains(id));
        let all_known = of.len() == self.connections.known.len();
        let share = if all_known { SHARE } else { FIRST_SHARE };
        if !of.is_empty() && self.connections.pace.allows(share) {
            let mut pace = std::mem::take(&mut self.connections.pace);
            let known = pace.spend(|| self.dump_connections(snapshot, of));
            self.connections = Connections { known, pace };
        }
        snapshot.connections.clone_from(&self.connections.known);
    }

    fn dump_connections(
        &mut self,
        snapshot: &mut Snapshot,
        of: &BTreeSet<ProcessId>,
    ) -> BTreeMap<ProcessId, Vec<Connection>> {
        let mut by_network: BTreeMap<NamespaceId, Vec<Held>> = BTreeMap::new();
        for process in snapshot.processes.iter().filter(|process| of.contains(&process.id)) {
            // One whose descriptors are closed to us has been told of already.
            let (Some(network), Some(_)) = (process.net_namespace, &process.sockets) else {
                continue;
            };
            if let Ok(held) = Held::read(&self.paths.procfs, process.id) {
                by_network.entry(network).or_default().push(held);
            }
        }
        let mut known = BTreeMap::new();
        for (id, processes) in by_network {
            let Some(network) = self.networks.get_mut(id) else { continue };
            let wanted = processes.iter().flat_map(|held| &held.sockets).copied().collect();
            match network.table.connections(&wanted) {
                Ok((connections, listed)) => {
                    let told = |held: Held| (held.id, held.connections(&connections, &listed));
                    known.extend(processes.into_iter().map(told));
                }
                Err(error) => snapshot.unreadable.push(super::table_unreadable(network, &error)),
            }
        }
        known
    }
}

/// A process with every socket it holds.
struct Held {
    id: ProcessId,
    directory: ProcDir,
    sockets: BTreeSet<SocketInode>,
}

impl Held {
    fn read(procfs: &Path, id: ProcessId) -> Result<Held, ReadError> {
        let directory = ProcDir::of(procfs, id)?;
        let sockets = directory.descriptors()?.sockets()?;
        Ok(Held { id, directory, sockets })
    }

    /// Which of the `connections` are its; `listed` are the sockets that stand in any table.
    fn connections(
        &self,
        connections: &[Connection],
        listed: &BTreeSet<SocketInode>,
    ) -> Vec<Connection> {
        let own = connections.iter().filter(|c| self.sockets.contains(&c.inode())).cloned();
        let hidden: BTreeSet<_> = self.sockets.difference(listed).copied().collect();
        own.chain(self.unix_elsewhere(&hidden)).collect()
    }

    /// Unix streams that are in no table of its namespace: an accepted one is in its client's.
    fn unix_elsewhere(&self, hidden: &BTreeSet<SocketInode>) -> Vec<Connection> {
        if hidden.is_empty() {
            return Vec::new();
        }
        let descriptors = self.directory.descriptors();
        let protocols = descriptors.and_then(|descriptors| descriptors.protocols(hidden));
        let Ok(protocols) = protocols else { return Vec::new() };
        let streams = protocols.into_iter().filter(|(_, name)| name.starts_with("UNIX"));
        streams.map(|(inode, _)| Connection::Unix { inode, pair: Some(false) }).collect()
    }
}
