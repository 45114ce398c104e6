//! A sample in which the haproxys have been told apart: what is worth a closer look, and then the
//! judgement.

use std::collections::{BTreeMap, BTreeSet};

use super::blocked::Owners;
use super::identify::{self, Stranger};
use super::memory::{HaproxyMemory, Memory};
use super::policy::Policy;
use super::scene::{MOST_ENDPOINTS, PortSockets, Scene};
use super::verdict::Verdict;
use super::{add_the_gone, judge_one, sharing};
use crate::haproxy::generations::Generation;
use crate::haproxy::listeners::Holding;
use crate::haproxy::past;
use crate::haproxy::places::Endpoint;
use crate::haproxy::roles;
use crate::model::{CloserLook, NamespaceId, ProcessId, Snapshot};

/// What a sample makes worth a closer look.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Questions {
    /// The living stale processes: what connections do they have?
    pub stale: BTreeSet<ProcessId>,
    /// Ports that are declared and not bound, by network namespace: who uses them? Also those of a
    /// haproxy that is gone, while it is remembered.
    pub unbound: BTreeMap<NamespaceId, BTreeSet<u16>>,
}

/// A sample whose haproxys are known, and not judged yet.
#[derive(Debug)]
pub struct Inquiry<'a> {
    now: &'a Snapshot,
    holdings: &'a BTreeMap<ProcessId, Holding<'a>>,
    memory: &'a Memory,
    policy: &'a Policy,
    scenes: Vec<Scene<'a>>,
    strangers: Vec<Stranger<'a>>,
}

impl<'a> Inquiry<'a> {
    /// Tells the haproxys apart. `holdings`: those of the sample.
    #[must_use]
    pub fn open(
        now: &'a Snapshot,
        holdings: &'a BTreeMap<ProcessId, Holding<'a>>,
        memory: &'a Memory,
        policy: &'a Policy,
    ) -> Inquiry<'a> {
        let (scenes, strangers) = identify::identify(now, holdings, memory, policy);
        Inquiry { now, holdings, memory, policy, scenes, strangers }
    }

    /// What to look at closer before it is judged.
    #[must_use]
    pub fn questions(&self) -> Questions {
        let stale = self.scenes.iter().flat_map(|scene| scene.living(Generation::Stale));
        Questions { stale: stale.map(roles::Member::id).collect(), unbound: self.unbound_ports() }
    }

    fn unbound_ports(&self) -> BTreeMap<NamespaceId, BTreeSet<u16>> {
        let mut wanted: BTreeMap<NamespaceId, BTreeSet<u16>> = BTreeMap::new();
        let mut want = |endpoint: &Endpoint| {
            wanted.entry(endpoint.network).or_default().insert(endpoint.port);
        };
        self.scenes.iter().flat_map(|scene| &scene.unbound).for_each(&mut want);
        for (name, before) in &self.memory.haproxys {
            let alive = self.scenes.iter().any(|scene| scene.name == *name);
            if let (false, Some(configuration)) = (alive, &before.configuration) {
                let declared = before.places.endpoints(&configuration.ports);
                declared.take(MOST_ENDPOINTS).for_each(|endpoint| want(&endpoint));
            }
        }
        wanted
    }

    /// Judges the sample in the light of what is remembered and of what was looked at closer, and
    /// answers what to remember.
    #[must_use]
    pub fn judge(mut self, closer: &'a CloserLook) -> (Verdict, Memory) {
        self.scenes.iter_mut().for_each(|scene| scene.closer = closer);
        let (now, memory) = (self.now, self.memory);
        let owners = Owners::of(&self.scenes, closer);
        let mut verdict = Verdict {
            taken: now.taken,
            haproxys: Vec::new(),
            unreadable: now.unreadable.iter().chain(&closer.unreadable).cloned().collect(),
            collectors: now.collectors.clone(),
        };
        let mut remembered = Memory { awake: true, ..Memory::default() };
        self.judge_living(&owners, &mut verdict, &mut remembered);
        self.remember_processes(&mut remembered);
        let looks = (now, closer);
        add_the_gone(looks, memory, self.policy, &owners, &mut verdict, &mut remembered);
        verdict.haproxys.sort_by(|a, b| a.name.cmp(&b.name));
        (verdict, remembered)
    }

    fn judge_living(&self, owners: &Owners<'_>, verdict: &mut Verdict, remembered: &mut Memory) {
        let ports: Vec<_> = self.scenes.iter().map(|scene| (scene, scene.port_sockets())).collect();
        let sharing = sharing(&ports);
        for (scene, own) in &ports {
            let others: Vec<(&str, &[PortSockets<'_>])> = ports
                .iter()
                .map(|(other, theirs)| (other.name.as_str(), theirs.as_slice()))
                .filter(|(other, _)| *other != scene.name && sharing.contains(other))
                .collect();
            let before: Option<&HaproxyMemory> = self.memory.haproxys.get(&scene.name);
            let first_sample = !self.memory.awake;
            let (haproxy, after) = judge_one(scene, own, &others, owners, before, first_sample);
            verdict.haproxys.push(haproxy);
            remembered.haproxys.insert(scene.name.clone(), after);
        }
    }

    fn remember_processes(&self, remembered: &mut Memory) {
        let scenes = self.scenes.iter();
        let known = scenes.map(|s| (Some(s.name.as_str()), &s.service, &s.generations));
        let strangers = self.strangers.iter();
        let unknown = strangers.map(|(service, generations)| (None, service, generations));
        for (name, service, generations) in known.chain(unknown) {
            for member in &service.members {
                let id = member.id();
                let (holding, past) = (self.holdings.get(&id), self.memory.processes.get(&id));
                let past = past::remember(member, name, holding, generations, past, self.now.taken);
                remembered.processes.insert(id, past);
            }
        }
    }
}
