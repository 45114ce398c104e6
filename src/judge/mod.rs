//! Judges a sample: which haproxys there are, what is current, and what is wrong.
//!
//! Pure: no clock, no log, no errors, no I/O. Time is a field of the sample; since-when,
//! counters and what is gone live in the [`Memory`] that goes in and comes out.

pub mod hold;
pub mod memory;
pub mod policy;
mod ports;
mod processes;
mod queues;
mod reloads;
mod rules;
mod scene;
pub mod verdict;
mod why;

use std::collections::{BTreeMap, BTreeSet};

use self::memory::HaproxyMemory;
pub use self::memory::Memory;
pub use self::policy::Policy;
pub use self::reloads::Reloads;
use self::rules::Case;
use self::scene::{PortSockets, Scene};
use self::verdict::{Haproxy, Kind, Origin, Verdict};
use crate::haproxy::generations::{self, Generation};
use crate::haproxy::listeners::{self, Holding};
use crate::haproxy::names::Identity;
use crate::haproxy::past::Pasts;
use crate::haproxy::roles::{self, Role};
use crate::haproxy::services::{self, Service};
use crate::model::{Headroom, ProcessId, Protocol, Snapshot};

/// The living stale processes of a sample: those whose connections are worth reading.
#[must_use]
pub fn stale(now: &Snapshot, memory: &Memory, policy: &Policy) -> BTreeSet<ProcessId> {
    let holdings = listeners::holdings(now);
    let (scenes, _) = scenes(now, &holdings, memory, policy);
    let stale = scenes.iter().flat_map(|scene| scene.living(Generation::Stale));
    stale.map(roles::Member::id).collect()
}

/// Judges a sample in the light of what is remembered, and answers what to remember.
#[must_use]
pub fn judge(now: &Snapshot, memory: &Memory, policy: &Policy) -> (Verdict, Memory) {
    let holdings = listeners::holdings(now);
    let (scenes, strangers) = scenes(now, &holdings, memory, policy);
    let ports: Vec<_> = scenes.iter().map(|scene| (scene, scene.port_sockets())).collect();
    let mut verdict = Verdict {
        taken: now.taken,
        haproxys: Vec::new(),
        unreadable: now.unreadable.clone(),
        collectors: now.collectors.clone(),
    };
    let mut remembered = Memory { awake: true, ..Memory::default() };
    for (scene, own) in &ports {
        let others: Vec<(&str, &[PortSockets<'_>])> = ports
            .iter()
            .filter(|(other, _)| other.name != scene.name)
            .map(|(other, theirs)| (other.name.as_str(), theirs.as_slice()))
            .collect();
        let before = memory.haproxys.get(&scene.name);
        let (haproxy, after) = judge_one(scene, own, &others, before, !memory.awake);
        verdict.haproxys.push(haproxy);
        remembered.haproxys.insert(scene.name.clone(), after);
    }
    let known = scenes.iter().map(|s| (Some(s.name.as_str()), &s.service, &s.generations));
    let unknown = strangers.iter().map(|(service, generations)| (None, service, generations));
    for (name, service, generations) in known.chain(unknown) {
        for member in &service.members {
            let id = member.id();
            let (holding, past) = (holdings.get(&id), memory.processes.get(&id));
            let past = generations::remember(member, name, holding, generations, past, now.taken);
            remembered.processes.insert(id, past);
        }
    }
    add_the_gone(now, memory, policy, &mut verdict, &mut remembered);
    verdict.haproxys.sort_by(|a, b| a.name.cmp(&b.name));
    (verdict, remembered)
}

/// Groups the processes, tells their generations apart and names what they are.
fn scenes<'a>(
    now: &'a Snapshot,
    holdings: &'a BTreeMap<ProcessId, Holding<'a>>,
    memory: &'a Memory,
    policy: &'a Policy,
) -> (Vec<Scene<'a>>, Vec<Stranger<'a>>) {
    let pasts = &memory.processes;
    let listens =
        |id| holdings.get(&id).is_some_and(|holding: &Holding<'_>| !holding.listeners.is_empty());
    let members = roles::members(&now.processes, pasts, listens, now.taken);
    let mut names = Names::default();
    let mut scenes = Vec::new();
    let mut unnamed = Vec::new();
    let mut strangers = Vec::new();
    for service in services::group(members, holdings, pasts) {
        let generations = generations::tell(&service, holdings, pasts, now.taken);
        let identity = Identity::of(&service, &generations);
        let mut names_before =
            service.members.iter().filter_map(|member| services::remembered(member, pasts));
        let known = names_before
            .find(|name| memory.haproxys.contains_key(*name) && names.free(name))
            .map(str::to_owned);
        let configured = policy.configured(&service, &identity);
        if known.is_none()
            && configured.is_none()
            && !admits(&service, &generations, pasts, now.taken)
        {
            strangers.push((service, generations));
            continue;
        }
        let origin = if configured.is_some() { Origin::Configured } else { Origin::Discovered };
        let name = match (configured, known) {
            (Some(configured), _) if names.free(&configured.name) => Some(configured.name.clone()),
            (None, Some(name)) if !policy.names(&name) => Some(name),
            _ => None,
        };
        let scene = (service, generations, identity, origin);
        match name {
            Some(name) => {
                names.take(&name);
                scenes.push((name, scene));
            }
            None => unnamed.push(scene),
        }
    }
    for (name, scene) in names.give(unnamed, memory, policy) {
        scenes.push((name, scene));
    }
    let scenes = scenes
        .into_iter()
        .map(|(name, (service, generations, identity, origin))| {
            let before = memory.haproxys.get(&name);
            let mut scene = Scene {
                rules: policy.rules(&name),
                udp_ports: before.map(|before| before.udp_ports.clone()).unwrap_or_default(),
                name,
                origin,
                identity,
                service,
                generations,
                snapshot: now,
                holdings,
                pasts,
            };
            let ports = scene.port_sockets();
            let udp = ports.iter().filter(|port| port.key.protocol == Protocol::Udp);
            scene.udp_ports.extend(udp.map(|port| port.key.port));
            scene
        })
        .collect();
    (scenes, strangers)
}

/// Processes that are no haproxy yet.
type Stranger<'a> = (Service<'a>, generations::Generations);

/// A process that is just being started, and may be part of a haproxy that is known, is not a
/// haproxy of its own before it serves or has stayed for a while; nor is a zombie of a run
/// that nobody knew.
fn admits(
    service: &Service<'_>,
    generations: &generations::Generations,
    pasts: &Pasts,
    now: f64,
) -> bool {
    let mut dead = service.members.iter().filter_map(|m| pasts.get(&m.id())?.zombie_since);
    if service.members.iter().all(|member| !member.lives()) {
        return dead.any(|since| now - since >= generations::YOUNG_SECONDS);
    }
    let living = || service.members.iter().filter(|member| member.lives());
    let youngest = living().map(|m| now - m.process.started).fold(f64::INFINITY, f64::min);
    let unseen = living().any(|m| generations.get(m.id()) == Generation::Unknown);
    generations.up == Some(true) || unseen || youngest >= generations::YOUNG_SECONDS
}

type Unnamed<'a> = (Service<'a>, generations::Generations, Identity, Origin);

/// Names in use.
#[derive(Default)]
struct Names {
    taken: BTreeSet<String>,
}

impl Names {
    fn free(&self, name: &str) -> bool {
        !self.taken.contains(name)
    }

    fn take(&mut self, name: &str) {
        self.taken.insert(name.to_owned());
    }

    /// Gives each its preferred name, and those that would share one a hash besides.
    fn give<'a>(
        &mut self,
        unnamed: Vec<Unnamed<'a>>,
        memory: &Memory,
        policy: &Policy,
    ) -> Vec<(String, Unnamed<'a>)> {
        let preferred: Vec<String> = unnamed
            .iter()
            .map(|(service, _, identity, _)| identity.preferred_name(service))
            .collect();
        let mut named = Vec::new();
        for (scene, name) in unnamed.into_iter().zip(&preferred) {
            let rivals = preferred.iter().filter(|other| *other == name).count();
            let hashed = format!("{name}-{}", scene.2.hash(&scene.0));
            let had_rivals = memory.haproxys.contains_key(&hashed);
            let rivalled = rivals > 1 || had_rivals || policy.names(name) || !self.free(name);
            let mut given = if rivalled { hashed } else { name.clone() };
            let mut count = 2;
            let base = given.clone();
            while !self.free(&given) {
                given = format!("{base}-{count}");
                count += 1;
            }
            self.take(&given);
            named.push((given, scene));
        }
        named
    }
}

fn judge_one(
    scene: &Scene<'_>,
    ports: &[PortSockets<'_>],
    others: &[(&str, &[PortSockets<'_>])],
    before: Option<&HaproxyMemory>,
    first_sample: bool,
) -> (Haproxy, HaproxyMemory) {
    let now = scene.snapshot.taken;
    let no_drops = queues::Drops::default();
    let (drops, dropping) = queues::count(before.map_or(&no_drops, |before| &before.drops), ports);
    let case = Case { scene, ports, others, dropping: &dropping };
    let (findings, judged) = rules::judge(&case);
    let nothing = hold::Standings::new();
    let standings = before.map_or(&nothing, |before| &before.standings);
    let held = hold::hold(findings, standings, first_sample, scene.rules.stale_grace_seconds, now);
    let mut observed = before.map(|before| before.observed.clone()).unwrap_or_default();
    for (kind, began) in &held.began {
        *observed.entry(*kind).or_default() += began;
    }
    let reloads = reloads::count(before.map(|before| &before.reloads), scene);
    let memory = HaproxyMemory {
        identity: scene.identity.clone(),
        last_seen: now,
        standings: held.standings,
        observed: observed.clone(),
        reloads: reloads.clone(),
        drops: drops.clone(),
        udp_ports: scene.udp_ports.clone(),
    };
    let serving = || scene.living(Generation::Current).filter(|m| m.role != Role::Master);
    let known = scene.living(Generation::Unknown).next().is_none();
    let haproxy = Haproxy {
        name: scene.name.clone(),
        origin: scene.origin,
        identity: scene.identity.clone(),
        up: scene.generations.up,
        processes: scene.processes(),
        generations: known.then_some(scene.generations.count),
        generation_start: serving().map(|member| member.process.started).reduce(f64::min),
        ports: scene::ports(ports),
        protocols_known: [Protocol::Tcp, Protocol::Udp]
            .into_iter()
            .filter(|&protocol| {
                let known = |generation| scene.listeners_known(protocol, generation);
                Generation::ALL.into_iter().all(known)
            })
            .collect(),
        drops: drops.totals,
        anomalies: held.anomalies,
        judged,
        observed,
        reloads,
        headroom: headroom(scene),
        ..unseen(&scene.name, scene.rules)
    };
    (haproxy, memory)
}

/// The smaller of what the host has left and what each process's cgroup has.
fn headroom(scene: &Scene<'_>) -> Headroom {
    let snapshot = scene.snapshot;
    let cgroups = scene.service.members.iter().filter_map(|m| m.process.cgroup.as_ref());
    let limits: Vec<Headroom> = cgroups
        .filter_map(|cgroup| snapshot.cgroups.get(cgroup).copied())
        .chain([snapshot.host])
        .collect();
    Headroom {
        memory_bytes: limits.iter().filter_map(|limit| limit.memory_bytes).min(),
        pids: limits.iter().filter_map(|limit| limit.pids).min(),
    }
}

/// A haproxy of which nothing lives: every series it always has, at zero.
fn unseen(name: &str, rules: &policy::Rules) -> Haproxy {
    let both = [Protocol::Tcp, Protocol::Udp];
    Haproxy {
        name: name.to_owned(),
        origin: Origin::Configured,
        identity: Identity::default(),
        up: Some(false),
        processes: Vec::new(),
        generations: Some(0),
        generation_start: None,
        ports: Vec::new(),
        protocols_known: both.into_iter().collect(),
        drops: BTreeMap::new(),
        anomalies: Vec::new(),
        judged: Kind::ALL.into_iter().collect(),
        observed: BTreeMap::new(),
        reloads: Reloads::default(),
        headroom: Headroom::default(),
        thresholds: rules.thresholds,
        allowed_ports: both.into_iter().map(|p| (p, rules.allowed_count(p))).collect(),
    }
}

/// Keeps configured haproxys for ever, and discovered ones until they are forgotten.
fn add_the_gone(
    now: &Snapshot,
    memory: &Memory,
    policy: &Policy,
    verdict: &mut Verdict,
    remembered: &mut Memory,
) {
    let present: BTreeSet<String> = verdict.haproxys.iter().map(|h| h.name.clone()).collect();
    for (name, before) in &memory.haproxys {
        let rules = policy.rules(name);
        let configured = policy.names(name);
        let forgotten = now.taken - before.last_seen > rules.forget_after_seconds;
        if present.contains(name) || (forgotten && !configured) {
            continue;
        }
        verdict.haproxys.push(Haproxy {
            origin: if configured { Origin::Configured } else { Origin::Discovered },
            identity: before.identity.clone(),
            observed: before.observed.clone(),
            reloads: before.reloads.clone(),
            drops: before.drops.totals.clone(),
            ..unseen(name, rules)
        });
        let kept = HaproxyMemory { standings: hold::Standings::new(), ..before.clone() };
        remembered.haproxys.insert(name.clone(), kept);
    }
    for configured in &policy.haproxys {
        let name = &configured.name;
        if !present.contains(name) && !memory.haproxys.contains_key(name) {
            verdict.haproxys.push(unseen(name, &configured.rules));
        }
    }
}
