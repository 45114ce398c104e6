//! Gathers the state of the host that a configuration's binds would meet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use super::host::Host;
use super::target::Target;
use crate::check::facts::{Facts, Network, Owner, Question, Trial, Use};
use crate::check::{self, binds};
use crate::haproxy::lineage::generations::Generation;
use crate::haproxy::lineage::member::Role;
use crate::model::declared::Declared;
use crate::model::{
    NamespaceId, PortUse, Process, Program, Protocol, SocketInode, Unreadable, What,
};
use crate::sample::on_demand::bind_trial::{self, Location, Surroundings, TrialBind};
use crate::sample::on_demand::programs::{self, Holders};

impl Host {
    /// The state of the host as far as the configuration's ports need it, and what could not be read.
    pub fn facts(&self, target: &Target, declared: &Declared) -> (Facts, Vec<Unreadable>) {
        let mut unseen = Vec::new();
        let ports = check::ports(declared);
        let addresses: BTreeSet<IpAddr> = declared.listeners.iter().map(|l| l.address).collect();
        let addresses = addresses.into_iter().filter(|a| !a.is_unspecified()).collect();
        let mut places: BTreeMap<Option<String>, (Location, String)> = BTreeMap::new();
        match self.home(target) {
            Ok(home) => drop(places.insert(None, home)),
            Err(entry) => unseen.push(entry),
        }
        for name in declared.listeners.iter().filter_map(|l| l.namespace.clone()) {
            let place = self.named_place(target, &name);
            places.insert(Some(name), place);
        }
        let mut seen = BTreeMap::new();
        for (name, (location, label)) in &places {
            match bind_trial::look(location, &ports, &addresses) {
                Ok(surroundings) => {
                    if let Err(error) = &surroundings.uses {
                        unseen.push(sockets_unseen(label, error));
                    }
                    seen.insert(name.clone(), (label.clone(), surroundings));
                }
                Err(error) => unseen.push(sockets_unseen(label, &error)),
            }
        }
        let owners = self.owners(target, &seen);
        let networks = seen
            .into_iter()
            .map(|(name, (label, surroundings))| (name, network(label, surroundings, &owners)));
        let mut facts = Facts { networks: networks.collect(), starter: self.starter(target) };
        if facts.starter == Some(rustix::process::geteuid().as_raw()) {
            ask(&mut facts, declared, &places);
        }
        (facts, unseen)
    }

    /// The network namespace that the target's HAProxy runs in; this process's own if none runs.
    fn home(&self, target: &Target) -> Result<(Location, String), Unreadable> {
        let Some(running) = target.service.as_deref().and_then(|name| self.service(name)) else {
            return Ok((Location::Own, String::new()));
        };
        let processes = self.processes(running);
        let known = |process: &&&Process| process.net_namespace.is_some();
        let Some(process) = processes.iter().find(known) else {
            let pid = processes.first().map_or(0, |process| process.id.pid);
            return Err(Unreadable {
                what: What::Namespace,
                subject: format!("pid {pid}"),
                reason: "net: permission denied; needs CAP_SYS_PTRACE".to_owned(),
            });
        };
        if process.net_namespace == self.snapshot.own_network {
            return Ok((Location::Own, String::new()));
        }
        let label = |id: NamespaceId| {
            let network = self.snapshot.networks.get(&id);
            network.map_or_else(|| id.0.to_string(), |network| network.label.clone())
        };
        let path = self.procfs.join(process.id.pid.to_string()).join("ns/net");
        Ok((Location::At(path), process.net_namespace.map(label).unwrap_or_default()))
    }

    /// The network namespace that the target's HAProxy finds by this name, and its label.
    fn named_place(&self, target: &Target, name: &str) -> (Location, String) {
        let running = target.service.as_deref().and_then(|name| self.service(name));
        let mut known = running.iter().flat_map(|running| self.processes(running));
        let known = known.find_map(|process| *process.other_networks.named.get(name)?);
        let label = known.and_then(|id| self.snapshot.networks.get(&id)).map(|n| n.label.clone());
        let root = running.and_then(|running| running.source.as_ref()).map(|s| &s.base.root);
        (
            Location::named(root.map(PathBuf::as_path), name),
            label.unwrap_or_else(|| name.to_owned()),
        )
    }

    /// The uid that HAProxy is started with: that of its listeners, which it opens before it drops
    /// its rights; else that of its master; this process's own if none runs.
    fn starter(&self, target: &Target) -> Option<u32> {
        let running = target.service.as_deref().and_then(|name| self.service(name));
        let Some(running) = running else { return Some(rustix::process::geteuid().as_raw()) };
        let held: BTreeSet<SocketInode> = running
            .processes
            .iter()
            .filter(|(_, _, generation)| *generation == Generation::Current)
            .filter_map(|(id, ..)| self.snapshot.processes.iter().find(|p| p.id == *id))
            .flat_map(|process| process.sockets.iter().flat_map(|held| held.iter()).copied())
            .collect();
        let bound = self.snapshot.networks.values().flat_map(|n| n.bound.iter().flatten());
        let listening = bound.filter(|s| s.protocol == Protocol::Tcp);
        let uids: BTreeSet<u32> =
            listening.filter(|s| held.contains(&s.inode)).map(|s| s.uid).collect();
        let master = || {
            let (id, ..) = running.processes.iter().find(|(_, role, _)| *role == Role::Master)?;
            self.snapshot.processes.iter().find(|p| p.id == *id)?.users.map(|users| users.effective)
        };
        match (uids.first(), uids.len()) {
            (Some(uid), 1) => Some(*uid),
            _ => master(),
        }
    }

    /// The owner of each socket, from the sample, and by a walk over all processes for the rest.
    fn owners(
        &self,
        target: &Target,
        seen: &BTreeMap<Option<String>, (String, Surroundings)>,
    ) -> Owners {
        let members = self.members(target);
        let mut owners = Owners::default();
        for process in &self.snapshot.processes {
            let Some(owner) = members.get(&process.id.pid) else { continue };
            for &inode in process.sockets.iter().flat_map(|held| held.iter()) {
                owners.claim(inode, owner);
            }
        }
        let uses = seen.values().filter_map(|(_, s)| s.uses.as_ref().ok()).flatten();
        let inodes = uses.filter_map(|used| used.inode);
        let unknown = inodes.filter(|inode| !owners.known.contains_key(inode)).collect();
        let holders = programs::holders(&self.procfs, &unknown);
        for (&inode, programs) in &holders.programs {
            for owner in programs.iter().filter_map(|program| members.get(&program.pid)) {
                owners.claim(inode, owner);
            }
        }
        Owners { others: holders, ..owners }
    }

    /// The processes of all services as the candidate's HAProxy sees them, by pid.
    fn members(&self, target: &Target) -> BTreeMap<i32, Owner> {
        let mut members = BTreeMap::new();
        for running in &self.services {
            let own = target.service.as_ref() == Some(&running.name);
            members.extend(running.processes.iter().map(|(id, _, generation)| {
                let owner = match (own, generation) {
                    (false, _) => Owner::Haproxy(running.name.clone(), id.pid),
                    (true, Generation::Stale) => Owner::Stale(id.pid),
                    (true, _) => Owner::Current(id.pid),
                };
                (id.pid, owner)
            }));
        }
        members
    }
}

/// Orders the holders of one socket by how much they matter to a reload.
fn rank(owner: &Owner) -> u8 {
    match owner {
        Owner::Current(_) => 0,
        Owner::Stale(_) => 1,
        _ => 2,
    }
}

#[derive(Default)]
struct Owners {
    known: BTreeMap<SocketInode, Owner>,
    others: Holders,
}

impl Owners {
    fn claim(&mut self, inode: SocketInode, owner: &Owner) {
        let known = self.known.entry(inode).or_insert_with(|| owner.clone());
        if rank(owner) < rank(known) {
            known.clone_from(owner);
        }
    }

    fn of(&self, socket: &PortUse) -> Owner {
        let Some(inode) = socket.inode else { return Owner::NoProcess };
        if let Some(owner) = self.known.get(&inode) {
            return owner.clone();
        }
        let program: Option<&Program> =
            self.others.programs.get(&inode).and_then(|programs| programs.first());
        match program {
            Some(program) => Owner::Program(program.clone()),
            None if self.others.unseen > 0 => Owner::Unknown,
            None => Owner::Stranger,
        }
    }
}

fn network(label: String, surroundings: Surroundings, owners: &Owners) -> Network {
    let uses = surroundings.uses.ok().map(|uses| {
        let owned = |socket: PortUse| Use { owner: owners.of(&socket), socket };
        uses.into_iter().map(owned).collect()
    });
    let (ephemeral, reserved) =
        surroundings.ephemeral.map(|ports| (ports.range, ports.reserved)).unzip();
    Network {
        label,
        uses,
        ephemeral,
        reserved: reserved.unwrap_or_default(),
        v6only: surroundings.v6only,
        local: surroundings.local,
        trials: BTreeMap::new(),
    }
}

/// Makes the trial binds that settle what the kernel's tables leave open.
fn ask(
    facts: &mut Facts,
    declared: &Declared,
    places: &BTreeMap<Option<String>, (Location, String)>,
) {
    let mut by_place: BTreeMap<Option<String>, Vec<Question>> = BTreeMap::new();
    for question in binds::questions(declared, facts) {
        by_place.entry(question.namespace.clone()).or_default().push(question);
    }
    for (name, questions) in by_place {
        let Some((location, _)) = places.get(&name) else { continue };
        let trials: Vec<TrialBind> = questions
            .iter()
            .map(|question| TrialBind {
                address: question.address,
                port: question.port,
                v6only: question.v6only,
                reuse_port: question.reuse_port,
            })
            .collect();
        let Ok(answers) = bind_trial::try_binds(location, &trials) else { continue };
        let Some(network) = facts.networks.get_mut(&name) else { continue };
        for (question, answer) in questions.iter().zip(answers) {
            if let Some(free) = answer {
                let trial = if free { Trial::Free } else { Trial::InUse };
                network.trials.insert((question.address, question.port), trial);
            }
        }
    }
}

fn sockets_unseen(label: &str, error: &std::io::Error) -> Unreadable {
    let subject = match label {
        "" => "own network namespace".to_owned(),
        label => format!("network namespace {label}"),
    };
    let right = match error.kind() {
        std::io::ErrorKind::PermissionDenied => "; needs CAP_SYS_ADMIN and CAP_SYS_PTRACE",
        _ => "",
    };
    Unreadable { what: What::Sockets, subject, reason: format!("{error}{right}") }
}
