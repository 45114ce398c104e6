//! Who started each process, as far as one sample shows it.

use std::collections::BTreeMap;

use crate::haproxy::lineage::starter::starter;
use crate::model::{Process, ProcessId};

/// The starter of each process; a worker's is its master's.
#[derive(Debug, Default)]
pub struct Starters(BTreeMap<ProcessId, Option<u32>>);

impl Starters {
    /// Finds the starters of these processes.
    pub fn of<'a>(processes: impl Iterator<Item = &'a Process> + Clone) -> Starters {
        let by_pid: BTreeMap<i32, &Process> =
            processes.clone().map(|process| (process.id.pid, process)).collect();
        let of_one = |process: &Process| {
            let is_same = |parent: &&&Process| parent.executable == process.executable;
            let master = by_pid.get(&process.parent).filter(is_same);
            let own = starter(process, None);
            if own == Some(0) { own } else { master.map_or(own, |m| starter(m, None)) }
        };
        Starters(processes.map(|process| (process.id, of_one(process))).collect())
    }

    /// Every process with its starter.
    pub fn iter(&self) -> impl Iterator<Item = (ProcessId, Option<u32>)> {
        self.0.iter().map(|(id, starter)| (*id, *starter))
    }

    /// A process had another starter when these were seen.
    pub fn changed(&self, id: ProcessId, starter: Option<u32>) -> bool {
        self.0.get(&id).is_some_and(|before| *before != starter)
    }

    /// The starter of a process; `None` if it could not be seen.
    pub fn get(&self, id: ProcessId) -> Option<u32> {
        self.0.get(&id).copied().flatten()
    }
}
