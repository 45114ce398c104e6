//! The host that a configuration is judged on, and the services that run there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::check::changes::BoundPort;
use crate::haproxy::lineage::generations::Generation;
use crate::haproxy::lineage::member::Role;
use crate::haproxy::places::Places;
use crate::judge::verdict::{Port, Verdict};
use crate::model::{
    Configuration, NamespaceId, Process, ProcessId, Protocol, Snapshot, Unreadable,
};
use crate::sample::discovery::root_view::own_pid;
use crate::sample::paths::access::Reader;
use crate::sample::proc::dir::ProcDir;
use crate::sample::{Sampler, Source};

/// A service that has living processes.
#[derive(Debug)]
pub struct LiveService {
    /// Its name.
    pub name: String,
    /// The source of its configuration; `None` if no process shows it.
    pub source: Option<Source>,
    /// Its configuration on disk, as far as it may be shown; `None` if no process shows it.
    pub configuration: Option<Arc<Configuration>>,
    /// What its serving generation listens on.
    pub listens: BTreeSet<BoundPort>,
    /// The protocols of which every listener is known.
    pub protocols_known: BTreeSet<Protocol>,
    pub(super) processes: Vec<(ProcessId, Role, Generation)>,
}

impl LiveService {
    /// The user on whose behalf its files may be shown: the one who started it; `None` if not known.
    pub(super) fn reader(&self) -> Option<&Reader> {
        self.source.as_ref()?.base.reader.as_ref()
    }
}

/// The host as one sample saw it.
#[derive(Debug, Default)]
pub struct Host {
    pub(super) snapshot: Snapshot,
    /// Every service that lives.
    pub(super) services: Vec<LiveService>,
    /// The mount point of its procfs.
    pub(in crate::cmd) procfs: PathBuf,
    /// The mount namespace of this process.
    own_mounts: Option<NamespaceId>,
}

fn listens(ports: &[Port]) -> BTreeSet<BoundPort> {
    let current = ports.iter().filter(|port| port.generation == Generation::Current);
    let bound = current.map(|port| BoundPort {
        protocol: port.key.protocol,
        address: port.key.address,
        port: port.key.port,
        interface: port.key.interface.to_string(),
        netns: port.key.netns.to_string(),
    });
    bound.collect()
}

impl Host {
    /// Builds the host from a sample and its verdict.
    pub fn new(procfs: &Path, snapshot: Snapshot, verdict: &Verdict, sampler: &Sampler) -> Host {
        let own = own_pid(procfs).and_then(|pid| ProcDir::open(procfs, pid).ok());
        let own_mounts = own.and_then(|own| own.namespace("mnt").ok());
        let procfs = procfs.to_owned();
        let mut host = Host { services: Vec::new(), snapshot, procfs, own_mounts };
        for haproxy in verdict.services.iter().filter(|haproxy| !haproxy.is_gone()) {
            let processes = haproxy.processes.iter().map(|p| (p.id, p.role, p.generation));
            let mut running = LiveService {
                name: haproxy.name.clone(),
                source: None,
                configuration: haproxy.configuration.clone(),
                listens: listens(&haproxy.ports),
                protocols_known: haproxy.protocols_known.clone(),
                processes: processes.collect(),
            };
            let mut processes = host.processes(&running).into_iter();
            running.source = processes.find_map(|process| sampler.source(process.id).cloned());
            host.services.push(running);
        }
        host
    }

    /// The service of this name.
    pub fn service(&self, name: &str) -> Option<&LiveService> {
        self.services.iter().find(|running| running.name == name)
    }

    /// The network namespaces that a service binds in, as its processes know them.
    pub fn places(&self, running: &LiveService) -> Places {
        let processes = self.processes(running);
        let known = processes.iter().find(|process| process.net_namespace.is_some());
        let mut places = known.map(|process| Places::of(process)).unwrap_or_default();
        for process in processes {
            places.learn(process);
        }
        places
    }

    /// Whether a service resolves host names as this process does: by the same files, over the same
    /// network.
    pub fn shares_resolver(&self, running: &LiveService) -> bool {
        let processes = self.processes(running);
        self.own_mounts.is_some()
            && processes.iter().all(|process| {
                process.mount_namespace == self.own_mounts
                    && process.net_namespace == self.snapshot.own_network
            })
    }

    /// Whether a process was started where it saw the same files under the same names as this one. HAProxy may have
    /// changed its root since (`chroot`).
    pub fn shares_files(&self, process: &Process) -> bool {
        self.own_mounts.is_some()
            && process.mount_namespace == self.own_mounts
            && (process.root.as_deref() == Some(Path::new("/")) || process.in_own_jail())
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
