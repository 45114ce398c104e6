//! Takes samples of the host: the only rooms that read `/proc` and the kernel's socket tables.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::PROC_SUPER_MAGIC;

use crate::haproxy::listeners;
use crate::model::{
    CollectorRun, Configuration, Details, NamespaceId, PortUse, ProcessId, Protocol, Snapshot,
    SocketInode, Unreadable, What,
};
use crate::sample::clock::{Clock, boot_time, now};
use crate::sample::discovery::census::Census;
use crate::sample::discovery::process_cache::ProcessCache;
use crate::sample::discovery::processes::{self, Discovery, Found};
use crate::sample::files::configurations::Configurations;
use crate::sample::files::configurations::Source;
use crate::sample::files::pidfiles;
use crate::sample::headroom;
use crate::sample::network::namespaces::Networks;
use crate::sample::network::tables;
use crate::sample::network::uses::NetworkUses;
use crate::sample::on_demand::connections::Connections;
use crate::sample::on_demand::port_uses::PortUses;
use crate::sample::ownership::wanted::WantedSet;
use crate::sample::ownership::{Outcome, Ownership};
use crate::sample::proc::dir::ProcDir;
use crate::sample::proc::error::ReadError;

/// A sample that a reload has torn is taken again: so often in all, at most,
const ATTEMPTS: usize = 6;
/// and after this time no more than twice.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why no sample can be taken at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory is not a mounted proc file system: check `--path.procfs`.
    #[error("{} is no proc file system{reason}; give the place where one is mounted with --path.procfs", path.display())]
    NoProcfs {
        /// What was given.
        path: PathBuf,
        /// What the system said, if anything.
        reason: String,
    },
}

/// Where the host's pseudo file systems are mounted.
#[derive(Debug, Clone)]
pub struct Paths {
    /// `--path.procfs`.
    pub procfs: PathBuf,
    /// `--path.sysfs`.
    pub sysfs: PathBuf,
}

/// Takes samples, and keeps between them what is costly to open.
#[derive(Debug)]
pub struct Sampler {
    paths: Paths,
    discovery: Discovery,
    clock: Clock,
    networks: Networks,
    network_uses: NetworkUses,
    configurations: Configurations,
    census: Census,
    process_cache: ProcessCache,
    ownership: Ownership,
    connections: Connections,
    port_uses: PortUses,
    /// The HAProxys of the last sample.
    processes: BTreeSet<ProcessId>,
    /// The listeners they held, or may still hold, in the order of their inodes.
    listeners: Vec<SocketInode>,
    /// The TCP listeners of the last sample that no HAProxy held.
    unowned: BTreeSet<SocketInode>,
}

impl Sampler {
    /// Prepares to sample the host whose procfs is given.
    pub fn new(paths: Paths, discovery: Discovery) -> Result<Sampler, Error> {
        let no_procfs = |reason: String| Error::NoProcfs { path: paths.procfs.clone(), reason };
        let stat = rustix::fs::statfs(&paths.procfs).map_err(|e| no_procfs(format!(": {e}")))?;
        if stat.f_type != PROC_SUPER_MAGIC {
            return Err(no_procfs(String::new()));
        }
        let networks = Networks::new(&paths.procfs);
        let ticks_per_second = rustix::param::clock_ticks_per_second();
        let clock = Clock { boot: boot_time(), ticks_per_second };
        Ok(Sampler {
            paths,
            discovery,
            clock,
            networks,
            network_uses: NetworkUses::default(),
            configurations: Configurations::default(),
            census: Census::default(),
            process_cache: ProcessCache::default(),
            ownership: Ownership::default(),
            connections: Connections::default(),
            port_uses: PortUses::default(),
            processes: BTreeSet::new(),
            listeners: Vec::new(),
            unowned: BTreeSet::new(),
        })
    }

    /// Changes what counts as HAProxy, from the next sample on.
    pub fn set_discovery(&mut self, discovery: Discovery) {
        self.discovery = discovery;
        self.census.forget();
    }

    /// Takes one sample; what costs more is not in it, see [`Sampler::details`].
    ///
    /// A reload in the middle of it can hand the listeners to a process that was not there when
    /// the list was made: then nobody would seem to serve, so it is taken again.
    pub fn sample(&mut self) -> Snapshot {
        let begun = Instant::now();
        let mut attempts = 1;
        let (snapshot, held) = loop {
            let unsearched_before = self.ownership.unsearched().clone();
            let (mut snapshot, torn) = self.attempt();
            let held = held_listeners(&snapshot);
            let lost = self.lost_listeners(&snapshot, &held);
            let searched = |lost: &SocketInode| !snapshot.unsearched.contains(lost);
            snapshot.torn = torn || lost.iter().any(searched);
            let is_news = |lost: &SocketInode| !unsearched_before.contains(lost);
            let may_mend = snapshot.torn || lost.iter().any(is_news);
            snapshot.lost = lost.intersection(&snapshot.unsearched).copied().collect();
            let out_of_time = attempts > 1 && begun.elapsed() > PATIENCE;
            if !may_mend || attempts == ATTEMPTS || out_of_time {
                break (snapshot, held);
            }
            attempts += 1;
        };
        self.processes = snapshot.processes.iter().map(|process| process.id).collect();
        self.listeners = held;
        self.look_for_owners(&snapshot);
        self.listeners.extend(&snapshot.lost);
        self.listeners.sort_unstable();
        snapshot
    }

    /// Looks closer at what a sample has shown to be worth it: the connections of the processes
    /// `stale`, and who uses the ports `unbound`.
    pub fn details(
        &mut self,
        snapshot: &Snapshot,
        stale: &BTreeSet<ProcessId>,
        unbound: &BTreeMap<NamespaceId, BTreeSet<u16>>,
    ) -> Details {
        let mut details = Details::none();
        let (procfs, networks) = (&self.paths.procfs, &mut self.networks);
        self.connections.read(procfs, networks, snapshot, stale, &mut details);
        let suspects = self.port_uses.read(procfs, networks, snapshot, unbound, &mut details);
        suspects.into_iter().for_each(|id| self.ownership.suspect(id));
        details
    }

    /// What uses `port` in each network namespace of the last sample.
    pub fn port_uses(&mut self, port: u16) -> Vec<(NamespaceId, io::Result<Vec<PortUse>>)> {
        let ports = BTreeSet::from([port]);
        self.networks.tables().map(|(id, table)| (id, table.port_uses(&ports))).collect()
    }

    /// A new listener that no HAProxy holds may be that of a process which was seen before it
    /// executed HAProxy: the next sample looks at all of them.
    fn look_for_owners(&mut self, snapshot: &Snapshot) {
        let tables = snapshot.networks.values().filter_map(|network| network.bound.as_ref());
        let listening = tables.flatten().filter(|socket| socket.protocol == Protocol::Tcp);
        let unowned: BTreeSet<SocketInode> = listening
            .map(|socket| socket.inode)
            .filter(|inode| self.listeners.binary_search(inode).is_err())
            .collect();
        if unowned.is_subset(&self.unowned) || self.census.review() {
            self.unowned = unowned; // otherwise it is new until it was looked for
        }
    }

    /// Listeners of the last sample that are in the tables, and nobody holds them any more: they were
    /// closed after the tables were read, and who listens since then is not in them; or the search for
    /// who has them now is put off.
    fn lost_listeners(&self, snapshot: &Snapshot, held: &[SocketInode]) -> BTreeSet<SocketInode> {
        let mut living = snapshot.processes.iter().filter(|process| !process.is_zombie());
        let all_seen = living.all(|process| process.sockets.is_some());
        // Otherwise somebody not seen may hold it.
        let is_lost = |inode: &SocketInode| {
            held.binary_search(inode).is_err() && (all_seen || snapshot.unsearched.contains(inode))
        };
        let lost: BTreeSet<SocketInode> = self.listeners.iter().copied().filter(is_lost).collect();
        if lost.is_empty() {
            return lost;
        }
        listed_inodes(snapshot).filter(|inode| lost.contains(inode)).collect()
    }

    /// A sample, and whether HAProxys came or went while it was taken.
    fn attempt(&mut self) -> (Snapshot, bool) {
        let mut snapshot =
            Snapshot { taken: now(), own_network: self.networks.own(), ..Snapshot::default() };
        self.follow_clock();
        let mut found = Vec::new();
        run(&mut snapshot, "processes", |snapshot| {
            let procfs = &self.paths.procfs;
            if let Err(error) = self.census.refresh(procfs) {
                snapshot.unreadable.push(Unreadable {
                    what: What::Process,
                    subject: procfs.display().to_string(),
                    reason: error.to_string(),
                });
                return false;
            }
            let due = self.census.due();
            let discovered = self.census.look(&due, || {
                let (cache, unreadable) = (&mut self.process_cache, &mut snapshot.unreadable);
                processes::discover(procfs, &due, &self.discovery, self.clock, cache, unreadable)
            });
            self.census.put_off(&discovered.others);
            found = discovered.found;
            self.census.keep_looking(found.iter().map(|found| found.process.id.pid));
            let living: BTreeSet<ProcessId> = found.iter().map(|f| f.process.id).collect();
            self.process_cache.retain(|id| living.contains(&id));
            snapshot.parents = processes::parents(procfs, &found);
            snapshot.host = headroom::host_headroom(procfs);
            for found in &found {
                if let Some(name) = found.cgroups.name() {
                    let sysfs = &self.paths.sysfs;
                    snapshot
                        .cgroups
                        .entry(name.to_owned())
                        .or_insert_with(|| found.cgroups.headroom(sysfs));
                }
            }
            true
        });
        let mut torn = false;
        run(&mut snapshot, "config", |snapshot| {
            let unreadable = &mut snapshot.unreadable;
            let outcome = self.configurations.read(&self.paths.procfs, &mut found, unreadable);
            torn = outcome.gone || self.has_overlooked(&found);
            pidfiles::read(&self.paths.procfs, &mut found, unreadable);
            outcome.success
        });
        run(&mut snapshot, "sockets", |snapshot| {
            let listens = |id| self.ownership.listens(id);
            let (taken, unreadable) = (snapshot.taken, &mut snapshot.unreadable);
            let procfs = &self.paths.procfs;
            let paths = self.network_uses.read(procfs, &mut found, listens, taken, unreadable);
            tables::read(&mut self.networks, paths, &mut found, snapshot)
        });
        run(&mut snapshot, "ownership", |snapshot| {
            let wanted = wanted(snapshot, &found);
            let outcomes = self.ownership.read(&mut found, &wanted, snapshot.taken);
            torn |= outcomes.iter().any(|(_, outcome)| matches!(outcome, Outcome::Gone))
                || found.iter().any(is_being_executed)
                || self.has_company();
            snapshot.unsearched.clone_from(self.ownership.unsearched());
            let any_read = outcomes.iter().any(|(_, outcome)| matches!(outcome, Outcome::Read));
            let nobody = outcomes.is_empty();
            for (id, outcome) in outcomes {
                if let Outcome::Failed(error) = outcome {
                    let entry = processes::denied(What::Descriptors, id.pid, "fd", &error);
                    snapshot.unreadable.push(entry);
                }
            }
            nobody || any_read
        });
        snapshot.processes = found.into_iter().map(|found| found.process).collect();
        (snapshot, torn)
    }

    /// An HAProxy of the last sample lives and was not recognised: it is in the middle of execve(2),
    /// or descriptors ran out.
    fn has_overlooked(&self, found: &[Found]) -> bool {
        let seen: BTreeSet<ProcessId> = found.iter().map(|found| found.process.id).collect();
        let mut missing = self.processes.difference(&seen);
        let is_gone = |id| matches!(ProcDir::of(&self.paths.procfs, id), Err(ReadError::Gone));
        missing.any(|&id| !is_gone(id))
    }

    /// There is an HAProxy that was not there when the pids were listed.
    fn has_company(&mut self) -> bool {
        let procfs = &self.paths.procfs;
        let Ok(new) = self.census.refresh(procfs) else { return false };
        let (cache, ignored) = (&mut self.process_cache, &mut Vec::new());
        let company =
            processes::discover(procfs, &new, &self.discovery, self.clock, cache, ignored);
        !company.found.is_empty()
    }

    /// Where the configuration of a process of the last sample is, and how it is understood.
    #[must_use]
    pub fn source(&self, id: ProcessId) -> Option<&Source> {
        self.configurations.source(id)
    }

    /// A set clock moves the boot time; its slewing must not make start times waver.
    fn follow_clock(&mut self) {
        let boot = boot_time();
        if (boot - self.clock.boot).abs() > 0.5 {
            self.clock.boot = boot;
        }
    }
}

/// In the middle of execve(2), as a master is at each reload: it has no arguments yet, and
/// nothing that is read of it belongs together.
fn is_being_executed(found: &Found) -> bool {
    !found.process.is_zombie() && found.process.arguments.is_none()
}

/// The sockets whose holders matter: all that may be listeners.
fn wanted(snapshot: &Snapshot, found: &[Found]) -> WantedSet {
    let mut configurations: Vec<&Arc<Configuration>> =
        found.iter().filter_map(|found| found.process.configuration.as_ref()).collect();
    configurations.dedup_by(|a, b| Arc::ptr_eq(a, b));
    let configured = || configurations.iter().map(|configuration| &***configuration);
    let wanted = snapshot.networks.values().flat_map(|network| {
        let bound = network.bound.iter().flatten();
        let bound = bound.filter(|s| listeners::may_be_one(s, network, configured()));
        let unix = network.unix_listeners.iter().flatten();
        let bound = bound.map(|socket| (socket.inode, socket.cookie));
        bound.chain(unix.map(|&inode| (inode, None)))
    });
    wanted.collect()
}

fn listed_inodes(snapshot: &Snapshot) -> impl Iterator<Item = SocketInode> {
    snapshot.networks.values().flat_map(|network| {
        let bound = network.bound.iter().flatten().map(|socket| socket.inode);
        bound.chain(network.unix_listeners.iter().flatten().copied())
    })
}

/// What HAProxys hold of the sockets that may be listeners.
fn held_listeners(snapshot: &Snapshot) -> Vec<SocketInode> {
    let mut listed: Vec<SocketInode> = listed_inodes(snapshot).collect();
    listed.sort_unstable();
    let held = snapshot.processes.iter().filter_map(|process| process.sockets.as_ref());
    let mut listeners: Vec<SocketInode> = held
        .flat_map(|held| held.iter().copied())
        .filter(|inode| listed.binary_search(inode).is_ok())
        .collect();
    listeners.sort_unstable();
    listeners.dedup();
    listeners
}

fn run(snapshot: &mut Snapshot, collector: &'static str, work: impl FnOnce(&mut Snapshot) -> bool) {
    let start = Instant::now();
    let success = work(snapshot);
    let duration_seconds = start.elapsed().as_secs_f64();
    snapshot.collectors.push(CollectorRun { collector, duration_seconds, success });
}
