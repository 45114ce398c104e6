//! The host that a configuration is judged on, and the services that run there.

use crate::haproxy::lineage::generations::Generation;
use crate::haproxy::lineage::member::Role;
use crate::judge::verdict::Verdict;
use crate::model::{Process, ProcessId, Snapshot, Unreadable};
use crate::sample::{Sampler, Source};

/// A service that has living processes.
#[derive(Debug)]
pub struct LiveService {
    /// Its name.
    pub name: String,
    /// The source of its configuration. `None`: no process shows it.
    pub source: Option<Source>,
    pub(super) processes: Vec<(ProcessId, Role, Generation)>,
}

/// The host as one sample saw it.
#[derive(Debug, Default)]
pub struct Host {
    pub(super) snapshot: Snapshot,
    pub(super) services: Vec<LiveService>,
}

impl Host {
    /// Builds the host from a sample and its verdict.
    pub fn new(snapshot: Snapshot, verdict: &Verdict, sampler: &Sampler) -> Host {
        let mut host = Host { services: Vec::new(), snapshot };
        for haproxy in verdict.services.iter().filter(|haproxy| !haproxy.is_gone()) {
            let processes = haproxy.processes.iter().map(|p| (p.id, p.role, p.generation));
            let mut running = LiveService {
                name: haproxy.name.clone(),
                source: None,
                processes: processes.collect(),
            };
            let mut processes = host.processes(&running).into_iter();
            running.source = processes.find_map(|process| sampler.source(process.id).cloned());
            host.services.push(running);
        }
        host
    }

    /// Every service that lives.
    pub fn all(&self) -> &[LiveService] {
        &self.services
    }

    /// The service of this name.
    pub fn service(&self, name: &str) -> Option<&LiveService> {
        self.services.iter().find(|running| running.name == name)
    }

    /// What the sample could not read.
    pub fn unreadable(&self) -> &[Unreadable] {
        &self.snapshot.unreadable
    }

    /// The living processes of a service: the master first, then the serving ones, then the rest.
    pub fn processes(&self, running: &LiveService) -> Vec<&Process> {
        let mut ranked: Vec<_> = running.processes.iter().collect();
        ranked.sort_by_key(|(id, role, generation)| {
            (*role != Role::Master, *generation != Generation::Current, std::cmp::Reverse(*id))
        });
        let find = |id: ProcessId| self.snapshot.processes.iter().find(|p| p.id == id);
        ranked.into_iter().filter_map(|(id, ..)| find(*id)).filter(|p| !p.is_zombie()).collect()
    }
}
