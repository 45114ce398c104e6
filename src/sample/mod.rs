//! Takes samples of the host: the only rooms that read `/proc` and the kernel's socket tables.

pub mod config_files;
mod configurations;
mod doorway;
mod host_names;
pub mod kernel;
mod namespaces;
mod network_tables;
mod network_uses;
pub mod own;
mod pidfiles;
mod port_uses;
mod proc_dir;
mod processes;
pub mod programs;
mod sockets;
pub mod surroundings;
pub mod wire;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;

use rustix::fs::PROC_SUPER_MAGIC;
use rustix::time::{ClockId, clock_gettime};

use self::configurations::Configurations;
pub use self::configurations::Source;
use self::namespaces::Networks;
use self::network_tables::table_unreadable;
use self::network_uses::NetworkUses;
use self::proc_dir::{ProcDir, ReadError};
pub use self::processes::Discovery;
use self::processes::{Clock, Found};
use crate::model::{
    CollectorRun, Connection, Process, ProcessId, Program, Snapshot, SocketInode, UnixSeconds,
    Unreadable, What,
};

/// A sample that a reload has torn is taken again, so often at most.
const ATTEMPTS: usize = 6;

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
    /// The listeners HAProxys held in the last sample.
    listeners: BTreeSet<SocketInode>,
    programs: BTreeMap<SocketInode, Option<Program>>,
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
            listeners: BTreeSet::new(),
            programs: BTreeMap::new(),
        })
    }

    /// Changes what counts as HAProxy, from the next sample on.
    pub fn set_discovery(&mut self, discovery: Discovery) {
        self.discovery = discovery;
    }

    /// Takes one sample; connections are not in it, see [`Sampler::read_connections`].
    ///
    /// A reload in the middle of it can hand the listeners to a process that was not there when
    /// the list was made: then nobody would seem to serve, so it is taken again.
    pub fn sample(&mut self) -> Snapshot {
        let (mut snapshot, mut torn) = self.attempt();
        for _ in 1..ATTEMPTS {
            if !torn && !self.has_lost_a_listener(&snapshot) {
                break;
            }
            (snapshot, torn) = self.attempt();
        }
        snapshot.torn = torn || self.has_lost_a_listener(&snapshot);
        self.listeners = held_listeners(&snapshot);
        snapshot
    }

    /// A listener of the last sample is in the tables, and nobody holds it any more: it was closed
    /// after the tables were read, and who listens since then is not in them.
    fn has_lost_a_listener(&self, snapshot: &Snapshot) -> bool {
        let living = || snapshot.processes.iter().filter(|process| !process.is_zombie());
        if living().any(|process| process.sockets.is_none()) {
            return false; // somebody not seen may hold it
        }
        let held = held_listeners(snapshot);
        bound_inodes(snapshot)
            .any(|inode| self.listeners.contains(&inode) && !held.contains(&inode))
    }

    /// A sample, and whether HAProxys came or went while it was taken.
    fn attempt(&mut self) -> (Snapshot, bool) {
        let mut snapshot =
            Snapshot { taken: now(), own_network: self.networks.own(), ..Snapshot::default() };
        self.follow_clock();
        let mut found = Vec::new();
        let mut listed = BTreeSet::new();
        run(&mut snapshot, "processes", |snapshot| {
            let procfs = &self.paths.procfs;
            match processes::pids(procfs) {
                Ok(pids) => listed = pids,
                Err(error) => {
                    snapshot.unreadable.push(Unreadable {
                        what: What::Process,
                        subject: procfs.display().to_string(),
                        reason: error.to_string(),
                    });
                    return false;
                }
            }
            let unreadable = &mut snapshot.unreadable;
            found = processes::discover(procfs, &listed, &self.discovery, self.clock, unreadable);
            snapshot.parents = processes::parents(procfs, &found);
            snapshot.host = kernel::host_headroom(procfs);
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
            torn = outcome.gone;
            pidfiles::read(&self.paths.procfs, &mut found, unreadable);
            outcome.success
        });
        run(&mut snapshot, "sockets", |snapshot| self.read_networks(&mut found, snapshot));
        run(&mut snapshot, "ownership", |snapshot| {
            let mut living = found.iter_mut().filter(|f| !f.process.is_zombie()).peekable();
            let none = living.peek().is_none();
            let outcomes: Vec<Descriptors> =
                living.map(|found| read_descriptors(found, snapshot)).collect();
            torn |= outcomes.contains(&Descriptors::Gone)
                || found.iter().any(is_being_executed)
                || self.has_company(&listed);
            none || outcomes.contains(&Descriptors::Read)
        });
        snapshot.processes = found.into_iter().map(|found| found.process).collect();
        (snapshot, torn)
    }

    /// There is an HAProxy that is not among `listed`.
    fn has_company(&self, listed: &BTreeSet<i32>) -> bool {
        let procfs = &self.paths.procfs;
        let Ok(now) = processes::pids(procfs) else { return false };
        let new: BTreeSet<i32> = now.difference(listed).copied().collect();
        !processes::discover(procfs, &new, &self.discovery, self.clock, &mut Vec::new()).is_empty()
    }

    /// Adds the connections of the processes `of` to a sample: a walk of whole socket tables.
    pub fn read_connections(&mut self, snapshot: &mut Snapshot, of: &BTreeSet<ProcessId>) {
        let asked = || snapshot.processes.iter().filter(|process| of.contains(&process.id));
        let known = |process: &&Process| {
            process.sockets.is_some()
                && process.networks().iter().all(|id| snapshot.networks.contains_key(id))
        };
        let processes: Vec<&Process> = asked().filter(known).collect();
        let mut tables = BTreeMap::new();
        let mut unreadable = Vec::new();
        for id in processes.iter().flat_map(|process| process.networks()) {
            let Entry::Vacant(slot) = tables.entry(id) else { continue };
            let Some(network) = self.networks.get_mut(id) else { continue };
            let inside = processes.iter().filter(|process| process.networks().contains(&id));
            let held = inside.filter_map(|process| process.sockets.as_ref());
            match network.table.connections(&held.flatten().copied().collect()) {
                Ok(table) => drop(slot.insert(table)),
                Err(error) => unreadable.push(table_unreadable(network, &error)),
            }
        }
        let mut found = Vec::new();
        for process in processes {
            let read = |id| tables.get(&id).ok_or(());
            let own: Result<Vec<_>, ()> = process.networks().into_iter().map(read).collect();
            let (Ok(own), Some(held)) = (own, &process.sockets) else { continue };
            let listed: BTreeSet<_> = own.iter().flat_map(|(_, listed)| listed).copied().collect();
            let hidden: BTreeSet<_> = held.difference(&listed).copied().collect();
            let connections = own.iter().flat_map(|(connections, _)| connections);
            let connections = connections.filter(|c| held.contains(&c.inode())).cloned();
            let elsewhere = self.unix_elsewhere(process, &hidden);
            found.push((process.id, connections.chain(elsewhere).collect()));
        }
        snapshot.connections.extend(found);
        snapshot.unreadable.append(&mut unreadable);
    }

    /// Unix streams that are in no table of its namespace: an accepted one is in its client's.
    fn unix_elsewhere(&self, process: &Process, hidden: &BTreeSet<SocketInode>) -> Vec<Connection> {
        if hidden.is_empty() {
            return Vec::new();
        }
        let directory = ProcDir::open(&self.paths.procfs, process.id.pid);
        let protocols = directory.and_then(|directory| directory.socket_protocols(hidden));
        let Ok(protocols) = protocols else { return Vec::new() };
        let streams = protocols.into_iter().filter(|(_, name)| name.starts_with("UNIX"));
        streams.map(|(inode, _)| Connection::Unix { inode, pair: Some(false) }).collect()
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

fn bound_inodes(snapshot: &Snapshot) -> impl Iterator<Item = SocketInode> {
    let tables = snapshot.networks.values().filter_map(|network| network.bound.as_ref());
    tables.flatten().map(|socket| socket.inode)
}

/// What HAProxys hold of the sockets that may be listeners.
fn held_listeners(snapshot: &Snapshot) -> BTreeSet<SocketInode> {
    let held = |inode: &SocketInode| {
        let mut sockets = snapshot.processes.iter().filter_map(|p| p.sockets.as_ref());
        sockets.any(|sockets| sockets.contains(inode))
    };
    bound_inodes(snapshot).filter(held).collect()
}

fn run(snapshot: &mut Snapshot, collector: &'static str, work: impl FnOnce(&mut Snapshot) -> bool) {
    let start = Instant::now();
    let success = work(snapshot);
    let duration_seconds = start.elapsed().as_secs_f64();
    snapshot.collectors.push(CollectorRun { collector, duration_seconds, success });
}

/// How the reading of a process's descriptors ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Descriptors {
    Read,
    Gone,
    Denied,
}

fn read_descriptors(found: &mut Found, snapshot: &mut Snapshot) -> Descriptors {
    match found.directory.sockets() {
        Ok((sockets, count)) => {
            found.process.open_fds = Some(count);
            found.process.sockets = Some(sockets);
            Descriptors::Read
        }
        Err(ReadError::Gone) => Descriptors::Gone,
        Err(error) => {
            let counted = found.directory.fd_count().ok().filter(|&count| count > 0);
            found.process.open_fds = counted;
            let pid = found.process.id.pid;
            let entry = processes::denied(What::Descriptors, pid, "fd", &error);
            snapshot.unreadable.push(entry);
            Descriptors::Denied
        }
    }
}

#[allow(clippy::cast_precision_loss)] // seconds of this era fit
fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn now() -> UnixSeconds {
    seconds(ClockId::Realtime)
}

fn boot_time() -> UnixSeconds {
    now() - seconds(ClockId::Boottime)
}
