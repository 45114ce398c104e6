//! Reads which sockets use the ports that a sample asks about, and which programs hold them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::programs;
use crate::model::{
    Details, NamespaceId, PortRole, PortUse, ProcessId, Program, Snapshot, SocketInode,
};
use crate::sample::budget::CpuBudget;
use crate::sample::network::namespaces::Networks;
use crate::sample::network::tables::table_unreadable;
use crate::sample::proc::dir::ProcDir;

/// The share of one processor that reading the tables may take. In between the last answer is used.
const SHARE: f64 = 1.0 / 100.0;
/// The share of one processor that a reading may take while a port or a holder is asked about for
/// the first time.
const FIRST_SHARE: f64 = 1.0 / 20.0;

/// The uses of the ports that were asked about, as they were last read.
#[derive(Debug, Default)]
pub struct PortUses {
    known: BTreeMap<NamespaceId, Answer>,
    table_budget: CpuBudget,
    /// The holders of sockets that no HAProxy was known to hold.
    holders: BTreeMap<SocketInode, BTreeSet<Program>>,
    holder_budget: CpuBudget,
}

#[derive(Debug)]
struct Answer {
    ports: BTreeSet<u16>,
    uses: Vec<PortUse>,
    v6only: bool,
}

impl PortUses {
    /// Adds the sockets that use these ports to the details, with their holders. A namespace that
    /// could not be read is absent there.
    ///
    /// Returns the HAProxy processes that were found to hold a listener which they were not known
    /// to hold.
    pub fn read(
        &mut self,
        procfs: &Path,
        networks: &mut Networks,
        snapshot: &Snapshot,
        ports: &BTreeMap<NamespaceId, BTreeSet<u16>>,
        details: &mut Details,
    ) -> BTreeSet<ProcessId> {
        self.known.retain(|id, _| ports.contains_key(id));
        let answered = ports.iter().all(|(&id, ports)| self.covers(id, ports));
        let share = if answered { SHARE } else { FIRST_SHARE };
        if !ports.is_empty() && self.table_budget.allows(share) {
            let known = &mut self.known;
            self.table_budget.spend(|| ask(known, networks, ports, details));
        }
        for (&id, ports) in ports {
            if let Some(answer) = self.known.get(&id)
                && ports.is_subset(&answer.ports)
            {
                let asked = answer.uses.iter().filter(|used| ports.contains(&used.port));
                details.port_uses.insert(id, asked.cloned().collect());
                if answer.v6only {
                    details.v6only.insert(id);
                }
            }
        }
        self.name_holders(procfs, snapshot, details)
    }

    fn covers(&self, network: NamespaceId, ports: &BTreeSet<u16>) -> bool {
        self.known.get(&network).is_some_and(|answer| ports.is_subset(&answer.ports))
    }

    /// Names the programs that hold those sockets which no HAProxy is known to hold.
    fn name_holders(
        &mut self,
        procfs: &Path,
        snapshot: &Snapshot,
        details: &mut Details,
    ) -> BTreeSet<ProcessId> {
        let held = || snapshot.processes.iter().filter_map(|process| process.sockets.as_ref());
        let uses = details.port_uses.values().flatten();
        let inodes = uses.filter_map(|used| used.inode);
        let strange: BTreeSet<SocketInode> =
            inodes.filter(|inode| !held().any(|held| held.contains(inode))).collect();
        let uses = details.port_uses.values().flatten();
        let listeners = uses.filter(|used| used.role == PortRole::Listening);
        let listening: BTreeSet<SocketInode> = listeners.filter_map(|used| used.inode).collect();
        let PortUses { holders, holder_budget, .. } = self;
        let lives = |program: &Program| ProcDir::open(procfs, program.pid).is_ok();
        holders.retain(|inode, programs| strange.contains(inode) && programs.iter().all(lives));
        // This walks the descriptors of every process, so it is made once for each socket.
        let unnamed = strange.iter().any(|inode| !holders.contains_key(inode));
        if unnamed && holder_budget.allows(FIRST_SHARE) {
            let mut found = holder_budget.spend(|| programs::holders(procfs, &strange)).programs;
            *holders = strange
                .into_iter()
                .map(|inode| (inode, found.remove(&inode).unwrap_or_default()))
                .collect();
        }
        let mut suspects = BTreeSet::new();
        for (&inode, programs) in holders.iter() {
            for program in programs {
                let mut own = snapshot.processes.iter().filter(|own| own.sockets.is_some());
                if let Some(own) = own.find(|own| own.id.pid == program.pid) {
                    details.held.insert((inode, own.id));
                    if listening.contains(&inode) {
                        suspects.insert(own.id);
                    }
                } else {
                    details.programs.entry(inode).or_insert_with(|| program.clone());
                }
            }
        }
        suspects
    }
}

/// Reads the uses of these ports from the tables.
fn ask(
    known: &mut BTreeMap<NamespaceId, Answer>,
    networks: &mut Networks,
    ports: &BTreeMap<NamespaceId, BTreeSet<u16>>,
    details: &mut Details,
) {
    for (id, ports) in ports {
        let Some(network) = networks.get_mut(*id) else { continue };
        match network.table.port_uses(ports) {
            Ok(uses) => {
                let answer = Answer { ports: ports.clone(), uses, v6only: network.v6only() };
                known.insert(*id, answer);
            }
            Err(error) => {
                known.remove(id);
                details.unreadable.push(table_unreadable(network, &error));
            }
        }
    }
}
