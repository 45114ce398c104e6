//! Takes one sample of the host by running the collectors in order, and notes what may be missing
//! in it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::PROC_SUPER_MAGIC;

use crate::model::{
    CollectorRun, Configuration, Details, NamespaceId, PortUse, ProcessId, Protocol, Snapshot,
    SocketInode, Traffic, Unreadable, What,
};
use crate::sample::clock::{Clock, boot_time, now};
use crate::sample::discovery::by_pidfile::NamedByPidfile;
use crate::sample::discovery::census::Census;
use crate::sample::discovery::process_cache::ProcessCache;
use crate::sample::discovery::processes::{self, Discovery, Found};
use crate::sample::files::configurations::Configurations;
use crate::sample::files::configurations::Source;
use crate::sample::files::pidfiles::{self, Pidfiles};
use crate::sample::headroom;
use crate::sample::last_sample::LastSample;
use crate::sample::movers::Movers;
use crate::sample::network::namespaces::Networks;
use crate::sample::network::tables;
use crate::sample::network::uses::NetworkUses;
use crate::sample::on_demand::connections::Connections;
use crate::sample::on_demand::port_uses::PortUses;
use crate::sample::on_demand::traffic;
use crate::sample::ownership::wanted::WantedSet;
use crate::sample::ownership::{Outcome, Ownership};
use crate::sample::proc::dir::ProcDir;
use crate::sample::proc::error::ReadError;

/// Why no sample can be taken at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory is not a mounted proc file system: check `--path.procfs`.
    #[error("{} is not a proc file system{reason}; name a directory where one is mounted with --path.procfs", path.display())]
    NoProcfs {
        /// The directory that was named.
        path: PathBuf,
        /// The answer of the system, if it refused to look at the directory.
        reason: String,
    },
}

/// Where the host's pseudo file systems are mounted.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The proc file system (`--path.procfs`).
    pub procfs: PathBuf,
    /// The sys file system (`--path.sysfs`).
    pub sysfs: PathBuf,
}

/// Takes samples, and keeps between them what is expensive to find out or to open again.
#[derive(Debug)]
pub struct Sampler {
    paths: Paths,
    discovery: Discovery,
    clock: Clock,
    networks: Networks,
    network_uses: NetworkUses,
    configurations: Configurations,
    pidfiles: Pidfiles,
    named: NamedByPidfile,
    census: Census,
    process_cache: ProcessCache,
    ownership: Ownership,
    connections: Connections,
    port_uses: PortUses,
    /// The last sample that was accepted.
    last: LastSample,
    /// The lost listeners of the last sample, accepted or not.
    lost: BTreeSet<SocketInode>,
    /// The TCP listeners of the last sample that no HAProxy held.
    unowned: BTreeSet<SocketInode>,
}

impl Sampler {
    /// Prepares to take samples of the host to which this procfs belongs.
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
            pidfiles: Pidfiles::default(),
            named: NamedByPidfile::default(),
            census: Census::default(),
            process_cache: ProcessCache::default(),
            ownership: Ownership::default(),
            connections: Connections::default(),
            port_uses: PortUses::default(),
            last: LastSample::default(),
            lost: BTreeSet::new(),
            unowned: BTreeSet::new(),
        })
    }

    /// Changes what counts as HAProxy, from the next sample on.
    pub fn set_discovery(&mut self, discovery: Discovery) {
        self.discovery = discovery;
        self.census.forget();
    }

    /// Takes one sample. Details that cost more are not in it, see [`Sampler::details`].
    ///
    /// What may be missing in it shows by comparison with the last sample that was accepted.
    pub fn sample(&mut self) -> Snapshot {
        self.follow_clock();
        let mut snapshot = Snapshot {
            taken: now(),
            booted: self.clock.boot,
            own_network: self.networks.own(),
            ..Snapshot::default()
        };
        let mut found = Vec::new();
        run(&mut snapshot, "processes", |snapshot| self.find_processes(&mut found, snapshot));
        run(&mut snapshot, "config", |snapshot| self.read_files(&mut found, snapshot));
        run(&mut snapshot, "sockets", |snapshot| self.read_networks(&mut found, snapshot));
        run(&mut snapshot, "ownership", |snapshot| self.read_ownership(&mut found, snapshot));
        snapshot.processes = found.into_iter().map(|found| found.process).collect();
        snapshot.gaps.note_processes(snapshot.processes.iter());
        self.note_lost_listeners(&mut snapshot);
        self.look_for_owners(&snapshot);
        snapshot
    }

    /// Accepts a sample as the one that later samples are compared with.
    pub fn accept(&mut self, sample: &Snapshot) {
        self.last.accept(sample);
    }

    /// Reads the details that a sample has shown to be worth their cost: the connections of the
    /// processes `stale`, and the sockets that use the ports `unbound`.
    pub fn details(
        &mut self,
        snapshot: &Snapshot,
        stale: &BTreeSet<ProcessId>,
        unbound: &BTreeMap<NamespaceId, BTreeSet<u16>>,
    ) -> Details {
        let mut details = Details::default();
        let (procfs, networks) = (&self.paths.procfs, &mut self.networks);
        self.connections.read(procfs, networks, snapshot, stale, &mut details);
        let suspects = self.port_uses.read(procfs, networks, snapshot, unbound, &mut details);
        for id in suspects {
            self.ownership.suspect(id);
        }
        details
    }

    /// What moves on the connections of these processes of a sample.
    pub fn traffic(
        &mut self,
        snapshot: &Snapshot,
        of: &BTreeSet<ProcessId>,
    ) -> BTreeMap<ProcessId, Traffic> {
        traffic::read(&self.paths.procfs, &mut self.networks, snapshot, of)
    }

    /// From now on, reads the connections of stale processes in each sample, whatever that costs.
    pub fn insist_on_connections(&mut self) {
        self.connections.insist();
    }

    /// The sockets that use `port` in each network namespace of the last sample.
    pub fn port_uses(&mut self, port: u16) -> Vec<(NamespaceId, io::Result<Vec<PortUse>>)> {
        let ports = BTreeSet::from([port]);
        self.networks.tables().map(|(id, table)| (id, table.port_uses(&ports))).collect()
    }

    /// Whether an IPv6 socket of this network namespace leaves IPv4 alone unless it asks for both.
    pub fn v6only(&mut self, network: NamespaceId) -> bool {
        self.networks.get_mut(network).is_some_and(|network| network.v6only())
    }

    /// Finds the HAProxy processes; the collector `processes`.
    fn find_processes(&mut self, found: &mut Vec<Found>, snapshot: &mut Snapshot) -> bool {
        let procfs = &self.paths.procfs;
        if let Err(error) = self.census.refresh(procfs) {
            snapshot.gaps.torn = true;
            snapshot.unreadable.push(Unreadable {
                what: What::Process,
                subject: procfs.display().to_string(),
                reason: error.to_string(),
            });
            return false;
        }
        if self.census.hides_some() {
            snapshot.unreadable.push(Unreadable {
                what: What::Process,
                subject: "the processes of other users".to_owned(),
                reason: "this procfs hides them (hidepid); needs root, or CAP_SYS_PTRACE"
                    .to_owned(),
            });
        }
        self.named.refresh(&self.discovery.pidfiles);
        // What pidfiles name comes first: other processes may run the same program.
        let named: BTreeSet<i32> = self.named.pids().collect();
        let rest = self.census.due().into_iter().filter(|pid| !named.contains(pid));
        let due: Vec<i32> = named.iter().copied().chain(rest).collect();
        let discovered = self.census.look(&due, || {
            let (cache, unreadable) = (&mut self.process_cache, &mut snapshot.unreadable);
            let meant = (&self.discovery, &mut self.named);
            processes::discover(procfs, &due, meant, self.clock, cache, unreadable)
        });
        self.census.postpone(&discovered.others);
        snapshot.gaps.unidentified = discovered.unidentified;
        *found = discovered.found;
        self.census.keep_looking(found.iter().map(|found| found.process.id.pid));
        let living: BTreeSet<ProcessId> = found.iter().map(|f| f.process.id).collect();
        self.process_cache.retain(|id| living.contains(&id));
        snapshot.parents = processes::parents(procfs, found);
        snapshot.host = headroom::host_headroom(procfs);
        for found in found {
            if let Some(name) = found.cgroups.name() {
                let headroom = || found.cgroups.headroom(&self.paths.sysfs);
                snapshot.cgroups.entry(name.to_owned()).or_insert_with(headroom);
            }
        }
        true
    }

    /// Reads configurations and pidfiles; the collector `config`.
    fn read_files(&mut self, found: &mut [Found], snapshot: &mut Snapshot) -> bool {
        let (procfs, unreadable) = (&self.paths.procfs, &mut snapshot.unreadable);
        pidfiles::read_named_by_arguments(procfs, &mut self.pidfiles, found, unreadable);
        let outcome = self.configurations.read(procfs, found, unreadable);
        pidfiles::read_named_by_configuration(procfs, &mut self.pidfiles, found, unreadable);
        let overlooked = self.overlooked(found);
        note_movers(snapshot, outcome.gone.into_iter().chain(overlooked));
        outcome.success
    }

    /// Reads the socket tables; the collector `sockets`.
    fn read_networks(&mut self, found: &mut [Found], snapshot: &mut Snapshot) -> bool {
        let listens = |id| self.ownership.listens(id);
        let (procfs, taken) = (&self.paths.procfs, snapshot.taken);
        let unreadable = &mut snapshot.unreadable;
        let paths = self.network_uses.read(procfs, found, listens, taken, unreadable);
        tables::read(&mut self.networks, paths, found, snapshot)
    }

    /// Finds out which process holds which listener; the collector `ownership`.
    fn read_ownership(&mut self, found: &mut [Found], snapshot: &mut Snapshot) -> bool {
        let mut configurations: Vec<&Arc<Configuration>> =
            found.iter().filter_map(|found| found.process.configuration.as_ref()).collect();
        configurations.dedup_by(|a, b| Arc::ptr_eq(a, b));
        let before = self.ownership.wanted();
        let wanted = WantedSet::of(&snapshot.networks, &configurations, before);
        let outcomes = self.ownership.read(found, wanted, snapshot.taken);
        let movers = Movers::of(found.iter().map(|found| &found.process));
        let gone: BTreeSet<ProcessId> = outcomes
            .iter()
            .filter(|(_, outcome)| matches!(outcome, Outcome::Gone))
            .map(|(id, _)| *id)
            .collect();
        let has_moved =
            |found: &&Found| gone.contains(&found.process.id) || is_being_executed(found);
        let newcomers = self.newcomers();
        let moved = found.iter().filter(has_moved).chain(&newcomers);
        note_movers(snapshot, moved.map(|found| movers.user(&found.process)));
        snapshot.gaps.unsearched = self.ownership.unsearched();
        let any_read = outcomes.iter().any(|(_, outcome)| matches!(outcome, Outcome::Read));
        let none_to_read = outcomes.is_empty();
        for (id, outcome) in outcomes {
            if let Outcome::Failed(error) = outcome {
                let entry = processes::denied(What::Descriptors, id.pid, "fd", &error);
                snapshot.unreadable.push(entry);
            }
        }
        none_to_read || any_read
    }

    /// Notes the lost listeners. One that was not lost in the sample before may have been closed
    /// just after the tables were read, which another sample would show.
    fn note_lost_listeners(&mut self, snapshot: &mut Snapshot) {
        let lost = self.last.lost_in(snapshot, self.ownership.wanted());
        let new = || lost.iter().filter(|(inode, _)| !self.lost.contains(inode));
        let of_users = |holders: &BTreeSet<ProcessId>| {
            holders.iter().all(|holder| self.last.user(*holder).is_some())
        };
        snapshot.gaps.newly_lost = new().any(|(_, holders)| !of_users(holders));
        snapshot.gaps.newly_lost_by_users = new().any(|(_, holders)| of_users(holders));
        let holders: BTreeSet<ProcessId> = lost.values().flatten().copied().collect();
        snapshot.gaps.last_users =
            holders.into_iter().filter_map(|id| Some((id, self.last.user(id)?))).collect();
        self.lost = lost.keys().copied().collect();
        snapshot.gaps.lost = lost;
    }

    /// Makes every process of the host due for the next sample if there is a new listener that no HAProxy
    /// holds: its holder may have executed HAProxy since it was last looked at.
    fn look_for_owners(&mut self, snapshot: &Snapshot) {
        let held = snapshot.processes.iter().filter_map(|process| process.sockets.as_ref());
        let mut held: Vec<SocketInode> = held.flat_map(|held| held.iter().copied()).collect();
        held.sort_unstable();
        let tables = snapshot.networks.values().filter_map(|network| network.bound.as_ref());
        let listening = tables.flatten().filter(|socket| socket.protocol == Protocol::Tcp);
        let unowned: BTreeSet<SocketInode> = listening
            .map(|socket| socket.inode)
            .filter(|inode| held.binary_search(inode).is_err())
            .collect();
        if unowned.is_subset(&self.unowned) || self.census.review() {
            self.unowned = unowned; // otherwise it stays new until the budget allows it
        }
    }

    /// The HAProxys of the last sample that live and were not recognised: one in the middle of
    /// execve(2), or any where the exporter ran out of descriptors. Answers the user of each.
    fn overlooked(&self, found: &[Found]) -> Vec<Option<u32>> {
        let is_seen = |id| found.binary_search_by_key(&id, |found| found.process.id).is_ok();
        let is_gone = |id| matches!(ProcDir::of(&self.paths.procfs, id), Err(ReadError::Gone));
        let overlooked = self.last.processes().filter(|&id| !is_seen(id) && !is_gone(id));
        overlooked.map(|id| self.last.user(id)).collect()
    }

    /// The HAProxys that were not there when the pids were listed.
    fn newcomers(&mut self) -> Vec<Found> {
        let procfs = &self.paths.procfs;
        let Ok(new) = self.census.refresh(procfs) else { return Vec::new() };
        let (cache, ignored) = (&mut self.process_cache, &mut Vec::new());
        let meant = (&self.discovery, &mut self.named);
        processes::discover(procfs, &new, meant, self.clock, cache, ignored).found
    }

    /// The files of the configuration of a process of the last sample, and how they are read.
    #[must_use]
    pub fn source(&self, id: ProcessId) -> Option<&Source> {
        self.configurations.source(id)
    }

    /// Follows the wall clock when it is set, but not when it is slewed, so that start times do not
    /// waver.
    fn follow_clock(&mut self) {
        let boot = boot_time();
        if (boot - self.clock.boot).abs() > 0.5 {
            self.clock.boot = boot;
        }
    }
}

/// Notes that processes came or went; of each, the user whose service it may belong to.
fn note_movers(snapshot: &mut Snapshot, users: impl Iterator<Item = Option<u32>>) {
    for user in users {
        match user {
            Some(user) => {
                snapshot.gaps.torn_by.insert(user);
            }
            None => snapshot.gaps.torn = true,
        }
    }
}

/// Whether a process is in the middle of execve(2), as a master is at each reload: it has no
/// arguments yet, and the values that were read of it do not belong together.
fn is_being_executed(found: &Found) -> bool {
    !found.process.is_zombie() && found.process.arguments.is_none()
}

/// Runs one collector and records how long it took and whether it succeeded.
fn run(snapshot: &mut Snapshot, collector: &'static str, work: impl FnOnce(&mut Snapshot) -> bool) {
    let start = Instant::now();
    let success = work(snapshot);
    let duration_seconds = start.elapsed().as_secs_f64();
    snapshot.collectors.push(CollectorRun { collector, duration_seconds, success });
}
