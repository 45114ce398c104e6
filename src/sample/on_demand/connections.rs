//! Reads the connections of stale processes. That walks their descriptors and dumps whole socket
//! tables, so it is done only as often as its CPU budget allows: in each sample, except on hosts
//! with many connections. In between the last reading is used.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::model::{Connection, Details, NamespaceId, Process, ProcessId, Snapshot, SocketInode};
use crate::sample::budget::CpuBudget;
use crate::sample::network::namespaces::Networks;
use crate::sample::network::tables::table_unreadable;
use crate::sample::proc::dir::ProcDir;
use crate::sample::proc::error::ReadError;

/// The share of one processor that readings may take.
const SHARE: f64 = 1.0 / 300.0;
/// The share of one processor that a reading may take while the connections of a stale process are
/// not known yet.
const FIRST_SHARE: f64 = 1.0 / 20.0;

/// The connections of stale processes as they were last read.
#[derive(Debug, Default)]
pub struct Connections {
    known: BTreeMap<ProcessId, Vec<Connection>>,
    listed: BTreeMap<ProcessId, Listed>,
    budget: CpuBudget,
    /// Each reading is made anew, whatever it costs.
    insists: bool,
}

impl Connections {
    /// From now on, makes each reading anew.
    pub fn insist(&mut self) {
        self.insists = true;
    }

    /// Adds the connections of these processes to the details. A process whose connections have not
    /// been read is absent there.
    pub fn read(
        &mut self,
        procfs: &Path,
        networks: &mut Networks,
        snapshot: &Snapshot,
        of: &BTreeSet<ProcessId>,
        details: &mut Details,
    ) {
        self.known.retain(|id, _| of.contains(id));
        self.listed.retain(|id, _| of.contains(id));
        let share = if of.len() == self.known.len() { SHARE } else { FIRST_SHARE };
        if !of.is_empty() && (self.insists || self.budget.allows(share)) {
            let Self { known, listed, budget, .. } = self;
            *known = budget.spend(|| dump(procfs, networks, snapshot, of, listed, details));
        }
        details.connections.clone_from(&self.known);
    }
}

/// Walks the processes and dumps the tables of their namespaces.
fn dump(
    procfs: &Path,
    networks: &mut Networks,
    snapshot: &Snapshot,
    of: &BTreeSet<ProcessId>,
    listed: &mut BTreeMap<ProcessId, Listed>,
    details: &mut Details,
) -> BTreeMap<ProcessId, Vec<Connection>> {
    let wanted = snapshot.processes.iter().filter(|process| of.contains(&process.id));
    // A process whose descriptors cannot be read has been reported already.
    let readable = wanted.filter(|process| process.sockets.is_some());
    let processes: Vec<Held> =
        readable.filter_map(|process| Held::read(procfs, process).ok()).collect();
    let mut tables: BTreeMap<NamespaceId, Table> = BTreeMap::new();
    let inhabited: BTreeSet<NamespaceId> =
        processes.iter().flat_map(|held| &held.networks).copied().collect();
    for id in inhabited {
        let Some(network) = networks.get_mut(id) else { continue };
        let inside = processes.iter().filter(|held| held.networks.contains(&id));
        let wanted = inside.flat_map(|held| &held.sockets).copied().collect();
        match network.table.connections(&wanted) {
            Ok(table) => drop(tables.insert(id, table)),
            Err(error) => details.unreadable.push(table_unreadable(network, &error)),
        }
    }
    let connections = |held: Held| {
        Some((held.id, held.connections(&tables, listed.entry(held.id).or_default())?))
    };
    processes.into_iter().filter_map(connections).collect()
}

/// The connections of a network namespace, and the sockets that are in any of its tables.
type Table = (Vec<Connection>, BTreeSet<SocketInode>);

/// The sockets of a process that a table has listed, and the namespace of that table. A socket that
/// its peer has reset leaves the table, although the process still holds it.
type Listed = BTreeMap<SocketInode, NamespaceId>;

/// A process with all sockets that it holds.
struct Held {
    id: ProcessId,
    directory: ProcDir,
    sockets: BTreeSet<SocketInode>,
    /// The namespaces in which they may be: a connection is in the namespace of its listener.
    networks: BTreeSet<NamespaceId>,
}

impl Held {
    fn read(procfs: &Path, process: &Process) -> Result<Held, ReadError> {
        let id = process.id;
        let directory = ProcDir::of(procfs, id)?;
        let sockets = directory.descriptors()?.sockets()?;
        Ok(Held { id, directory, sockets, networks: process.networks() })
    }

    /// The connections that it holds; `None` if a namespace in which it may have some was not read.
    fn connections(
        &self,
        tables: &BTreeMap<NamespaceId, Table>,
        listed: &mut Listed,
    ) -> Option<Vec<Connection>> {
        let mut own = Vec::new();
        for id in &self.networks {
            let (connections, now_listed) = tables.get(id)?;
            let held = connections.iter().filter(|c| self.sockets.contains(&c.inode()));
            own.extend(held.cloned());
            listed.extend(self.sockets.intersection(now_listed).map(|&inode| (inode, *id)));
        }
        listed.retain(|inode, _| self.sockets.contains(inode));
        // What a table listed before and lists no more is closed; what none has listed is elsewhere.
        let read = |inode: &_| listed.get(inode).is_some_and(|id| self.networks.contains(id));
        let hidden = self.sockets.iter().copied().filter(|inode| !read(inode)).collect();
        own.extend(self.elsewhere(&hidden));
        Some(own)
    }

    /// Connections that are in no table of its namespaces: an accepted unix stream is in that of
    /// its client.
    fn elsewhere(&self, hidden: &BTreeSet<SocketInode>) -> Vec<Connection> {
        if hidden.is_empty() {
            return Vec::new();
        }
        let descriptors = self.directory.descriptors();
        let protocols = descriptors.and_then(|descriptors| descriptors.protocols(hidden));
        let protocols = protocols.unwrap_or_default();
        let connection = |&inode: &SocketInode| match protocols.get(&inode) {
            Some(name) if name.starts_with("UNIX") => Connection::Unix { inode, pair: Some(false) },
            _ => Connection::Hidden { inode },
        };
        hidden.iter().map(connection).collect()
    }
}
