//! The host a configuration is judged on: who runs there, and what the kernel says of its ports.

use crate::haproxy::lineage::generations::Generation;
use crate::haproxy::lineage::member::Role;
use crate::judge::verdict::Verdict;
use crate::model::{Process, ProcessId, Snapshot, Unreadable};
use crate::sample::{Sampler, Source};

/// A haproxy of which processes live.
#[derive(Debug)]
pub struct Running {
    /// Its name.
    pub name: String,
    /// Where its configuration is.
    pub source: Option<Source>,
    pub(super) processes: Vec<(ProcessId, Role, Generation)>,
}

/// What was seen of the host.
#[derive(Debug, Default)]
pub struct Host {
    pub(super) snapshot: Snapshot,
    pub(super) haproxys: Vec<Running>,
}

impl Host {
    /// The host of a sample and what it was judged to be.
    pub fn new(snapshot: Snapshot, verdict: &Verdict, sampler: &Sampler) -> Host {
        let mut host = Host { haproxys: Vec::new(), snapshot };
        for haproxy in verdict.services.iter().filter(|haproxy| !haproxy.is_gone()) {
            let processes = haproxy.processes.iter().map(|p| (p.id, p.role, p.generation));
            let mut running = Running {
                name: haproxy.name.clone(),
                source: None,
                processes: processes.collect(),
            };
            let mut speakers = host.processes(&running).into_iter();
            running.source = speakers.find_map(|process| sampler.source(process.id).cloned());
            host.haproxys.push(running);
        }
        host
    }

    /// Every haproxy.
    pub fn all(&self) -> &[Running] {
        &self.haproxys
    }

    /// The haproxy of this name.
    pub fn running(&self, name: &str) -> Option<&Running> {
        self.haproxys.iter().find(|running| running.name == name)
    }

    /// What could not be read of it.
    pub fn unreadable(&self) -> &[Unreadable] {
        &self.snapshot.unreadable
    }

    /// Its living processes: the master first, then what serves, then the rest.
    pub fn processes(&self, running: &Running) -> Vec<&Process> {
        let mut ranked: Vec<_> = running.processes.iter().collect();
        ranked.sort_by_key(|(id, role, generation)| {
            (*role != Role::Master, *generation != Generation::Current, std::cmp::Reverse(*id))
        });
        let find = |id: ProcessId| self.snapshot.processes.iter().find(|p| p.id == id);
        ranked.into_iter().filter_map(|(id, ..)| find(*id)).filter(|p| !p.is_zombie()).collect()
    }
}
