//! Judges a sample: which haproxys there are, what is current, and what is wrong.
//!
//! Pure: no clock, no log, no errors, no I/O. Time is a field of the sample; since-when,
//! counters and what is gone live in the [`Memory`] that goes in and comes out.

mod blocked;
mod configs;
pub mod hold;
mod identify;
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
use std::sync::Arc;

use self::blocked::{Claim, MOST_ENDPOINTS, Owners};
use self::memory::HaproxyMemory;
pub use self::memory::Memory;
pub use self::policy::Policy;
pub use self::reloads::Reloads;
use self::rules::Case;
use self::scene::{PortSockets, Scene};
use self::verdict::{Haproxy, Kind, Origin, PortKey, Verdict};
use crate::haproxy::generations::Generation;
use crate::haproxy::listeners;
use crate::haproxy::names::Identity;
use crate::haproxy::past;
use crate::haproxy::places::Endpoint;
use crate::haproxy::roles::{self, Role};
use crate::model::{Configuration, Headroom, NamespaceId, ProcessId, Protocol, Snapshot};

/// What a sample makes worth a closer look.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Questions {
    /// The living stale processes: what connections do they have?
    pub stale: BTreeSet<ProcessId>,
    /// Ports that are declared and not bound, by network namespace: who uses them? Also those of a
    /// haproxy that is gone, while it is remembered.
    pub unbound: BTreeMap<NamespaceId, BTreeSet<u16>>,
}

/// What to look at closer before a sample is judged.
#[must_use]
pub fn questions(now: &Snapshot, memory: &Memory, policy: &Policy) -> Questions {
    let holdings = listeners::holdings(now);
    let (scenes, _) = identify::identify(now, &holdings, memory, policy);
    let stale = scenes.iter().flat_map(|scene| scene.living(Generation::Stale));
    Questions {
        stale: stale.map(roles::Member::id).collect(),
        unbound: unbound_ports(&scenes, memory),
    }
}

fn unbound_ports(scenes: &[Scene<'_>], memory: &Memory) -> BTreeMap<NamespaceId, BTreeSet<u16>> {
    let mut wanted: BTreeMap<NamespaceId, BTreeSet<u16>> = BTreeMap::new();
    for scene in scenes {
        let Some(configuration) = &scene.configuration else { continue };
        let current = |id: &ProcessId| scene.generations.get(*id) == Generation::Current;
        let bound = scene.listening().filter(|(id, _)| current(id));
        let bound: BTreeSet<Endpoint> = bound.map(|(_, listening)| listening.endpoint()).collect();
        let declared = scene.places.endpoints(&configuration.ports).take(MOST_ENDPOINTS);
        want(&mut wanted, declared.filter(|endpoint| !bound.contains(endpoint)));
    }
    for (name, before) in &memory.haproxys {
        let alive = scenes.iter().any(|scene| scene.name == *name);
        if let (false, Some(configuration)) = (alive, &before.configuration) {
            want(&mut wanted, before.places.endpoints(&configuration.ports).take(MOST_ENDPOINTS));
        }
    }
    wanted
}

fn want(
    wanted: &mut BTreeMap<NamespaceId, BTreeSet<u16>>,
    endpoints: impl Iterator<Item = Endpoint>,
) {
    for endpoint in endpoints {
        wanted.entry(endpoint.network).or_default().insert(endpoint.port);
    }
}

/// Judges a sample in the light of what is remembered, and answers what to remember.
#[must_use]
pub fn judge(now: &Snapshot, memory: &Memory, policy: &Policy) -> (Verdict, Memory) {
    let holdings = listeners::holdings(now);
    let (scenes, strangers) = identify::identify(now, &holdings, memory, policy);
    let owners = Owners::of(&scenes);
    let ports: Vec<_> = scenes.iter().map(|scene| (scene, scene.port_sockets())).collect();
    let mut verdict = Verdict {
        taken: now.taken,
        haproxys: Vec::new(),
        unreadable: now.unreadable.clone(),
        collectors: now.collectors.clone(),
    };
    let mut remembered = Memory { awake: true, ..Memory::default() };
    let sharing = sharing(&ports);
    for (scene, own) in &ports {
        let others: Vec<(&str, &[PortSockets<'_>])> = ports
            .iter()
            .filter(|(other, _)| other.name != scene.name && sharing.contains(other.name.as_str()))
            .map(|(other, theirs)| (other.name.as_str(), theirs.as_slice()))
            .collect();
        let before = memory.haproxys.get(&scene.name);
        let (haproxy, after) = judge_one(scene, own, &others, &owners, before, !memory.awake);
        verdict.haproxys.push(haproxy);
        remembered.haproxys.insert(scene.name.clone(), after);
    }
    let known = scenes.iter().map(|s| (Some(s.name.as_str()), &s.service, &s.generations));
    let unknown = strangers.iter().map(|(service, generations)| (None, service, generations));
    for (name, service, generations) in known.chain(unknown) {
        for member in &service.members {
            let id = member.id();
            let (holding, past) = (holdings.get(&id), memory.processes.get(&id));
            let past = past::remember(member, name, holding, generations, past, now.taken);
            remembered.processes.insert(id, past);
        }
    }
    add_the_gone(now, memory, policy, &owners, &mut verdict, &mut remembered);
    verdict.haproxys.sort_by(|a, b| a.name.cmp(&b.name));
    (verdict, remembered)
}

/// The haproxys that have a port which another one has too.
fn sharing<'a>(ports: &'a [(&Scene<'_>, Vec<PortSockets<'_>>)]) -> BTreeSet<&'a str> {
    let held = ports
        .iter()
        .flat_map(|(scene, ports)| ports.iter().map(move |port| (&port.key, scene.name.as_str())));
    let mut held: Vec<(&PortKey, &str)> = held.collect();
    held.sort_unstable();
    let pairs = held.iter().zip(held.iter().skip(1));
    let shared = pairs.filter(|((key, name), (next, other))| key == next && name != other);
    shared.flat_map(|((_, name), (_, other))| [*name, *other]).collect()
}

fn judge_one(
    scene: &Scene<'_>,
    ports: &[PortSockets<'_>],
    others: &[(&str, &[PortSockets<'_>])],
    owners: &Owners,
    before: Option<&HaproxyMemory>,
    first_sample: bool,
) -> (Haproxy, HaproxyMemory) {
    let now = scene.snapshot.taken;
    let no_drops = queues::Drops::default();
    let (drops, dropping) = queues::count(before.map_or(&no_drops, |before| &before.drops), ports);
    let case = Case { scene, ports, others, dropping: &dropping, owners };
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
        tcp_ports: scene.tcp_ports.clone(),
        configuration: last_complete(scene, before),
        places: scene.places.clone(),
    };
    let serving = || scene.living(Generation::Current).filter(|m| m.role != Role::Master);
    let known = scene.living(Generation::Unknown).next().is_none();
    let haproxy = Haproxy {
        name: scene.name.clone(),
        origin: scene.origin,
        identity: scene.identity.clone(),
        up: scene.generations.up.filter(|up| *up || !scene.snapshot.torn),
        processes: scene.processes(),
        generations: known.then_some(scene.generations.count),
        generation_start: serving().map(|member| member.process.started).reduce(f64::min),
        configuration: scene.configuration.clone(),
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

/// A dying process may show a configuration in part: the last whole one is worth more.
fn last_complete(scene: &Scene<'_>, before: Option<&HaproxyMemory>) -> Option<Arc<Configuration>> {
    let now = scene.configuration.as_ref();
    let known = before.and_then(|before| before.configuration.as_ref());
    now.filter(|configuration| configuration.complete).or(known).or(now).cloned()
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

/// A haproxy of which nothing lives: every series it always has, at zero. Whether its ports are
/// blocked is not known without its configuration.
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
        configuration: None,
        ports: Vec::new(),
        protocols_known: both.into_iter().collect(),
        drops: BTreeMap::new(),
        anomalies: Vec::new(),
        judged: Kind::ALL.into_iter().filter(|kind| *kind != Kind::PortBlocked).collect(),
        observed: BTreeMap::new(),
        reloads: Reloads::default(),
        headroom: Headroom::default(),
        thresholds: rules.thresholds,
        allowed_ports: both.into_iter().map(|p| (p, rules.allowed_count(p))).collect(),
    }
}

/// A haproxy of which nobody can say whether it lives.
fn unknown(name: &str, rules: &policy::Rules) -> Haproxy {
    Haproxy {
        up: None,
        generations: None,
        protocols_known: BTreeSet::new(),
        judged: BTreeSet::new(),
        ..unseen(name, rules)
    }
}

/// Of a haproxy that is gone only one question is left: whether it could come back.
fn judge_gone(
    name: &str,
    before: &HaproxyMemory,
    rules: &policy::Rules,
    owners: &Owners,
    now: &Snapshot,
) -> (hold::Held, BTreeSet<Kind>) {
    let configuration = before.configuration.as_deref().filter(|c| c.complete);
    let judgement = match configuration {
        Some(configuration) => {
            let (places, bound) = (&before.places, BTreeSet::new());
            let tcp_ports = &before.tcp_ports;
            let claim = Claim { name, configuration, places, tcp_ports, bound, owners };
            blocked::port_blocked(&claim, now)
        }
        None => rules::Judgement::if_known(false, Vec::new()),
    };
    let (findings, known) = rules::sift([(Kind::PortBlocked, judgement)], &rules.ignore);
    let grace = rules.stale_grace_seconds;
    let held = hold::hold(findings, &before.standings, false, grace, now.taken);
    (held, unseen(name, rules).judged.into_iter().chain(known).collect())
}

fn observed(before: &HaproxyMemory, began: &BTreeMap<Kind, u64>) -> BTreeMap<Kind, u64> {
    let mut observed = before.observed.clone();
    for (kind, began) in began {
        *observed.entry(*kind).or_default() += began;
    }
    observed
}

/// Keeps configured haproxys for ever, and discovered ones until they are forgotten.
fn add_the_gone(
    now: &Snapshot,
    memory: &Memory,
    policy: &Policy,
    owners: &Owners,
    verdict: &mut Verdict,
    remembered: &mut Memory,
) {
    let present: BTreeSet<String> = verdict.haproxys.iter().map(|h| h.name.clone()).collect();
    // One that could not be looked at may be what a configured name stands for.
    let hidden = now.processes.iter().any(|p| !p.is_zombie() && p.root.is_none());
    for (name, before) in &memory.haproxys {
        let rules = policy.rules(name);
        let configured = policy.names(name);
        let forgotten = now.taken - before.last_seen > rules.forget_after_seconds;
        if present.contains(name) || (forgotten && !configured) {
            continue;
        }
        let (held, judged) = judge_gone(name, before, rules, owners, now);
        let overlooked = now.torn || (configured && hidden);
        let absent = if overlooked { unknown(name, rules) } else { unseen(name, rules) };
        verdict.haproxys.push(Haproxy {
            anomalies: held.anomalies,
            judged: if overlooked { BTreeSet::new() } else { judged },
            configuration: before.configuration.clone(),
            origin: if configured { Origin::Configured } else { Origin::Discovered },
            identity: before.identity.clone(),
            observed: observed(before, &held.began),
            reloads: before.reloads.clone(),
            drops: before.drops.totals.clone(),
            ..absent
        });
        let kept = HaproxyMemory {
            standings: held.standings,
            observed: observed(before, &held.began),
            ..before.clone()
        };
        remembered.haproxys.insert(name.clone(), kept);
    }
    for configured in &policy.haproxys {
        let name = &configured.name;
        if !present.contains(name) && !memory.haproxys.contains_key(name) {
            let absent = if hidden || now.torn { unknown } else { unseen };
            verdict.haproxys.push(absent(name, &configured.rules));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::policy::{Configured, Match, Rules};
    use crate::stage::{Film, actor};

    fn configured() -> Policy {
        let matching = Match { pidfile: Some("/run/p".into()), ..Match::default() };
        let haproxy = Configured { name: "lb".to_owned(), matching, rules: Rules::default() };
        Policy { haproxys: vec![haproxy], ..Policy::default() }
    }

    #[test]
    fn a_configured_one_that_is_gone_is_down() {
        let verdict = Film::with(configured()).see(1000.0, &[]);
        assert_eq!((verdict.one().name.as_str(), verdict.one().up), ("lb", Some(false)));
    }

    #[test]
    fn one_that_cannot_be_looked_at_may_be_the_configured_one() {
        let hidden = actor(10, 995, "haproxy -D -f a.cfg -p p").unseen();
        let verdict = Film::with(configured()).see(1000.0, &[hidden]);
        let lb = verdict.haproxys.iter().find(|haproxy| haproxy.name == "lb").unwrap();
        assert_eq!((lb.up, lb.generations, lb.judged.len()), (None, None, 0));
        assert_eq!(verdict.haproxys.len(), 2, "it is seen, under a name of its own");
    }

    /// Between the end of the old one and the detaching of the new one there may be nobody to see.
    #[test]
    fn one_that_a_torn_sample_misses_is_not_down() {
        let mut film = Film::default();
        let serving = actor(10, 100, "haproxy -D -f a.cfg -p p").tcp(80, 1);
        assert_eq!(film.settle(1000.0, &[serving]).one().up, Some(true));
        let torn = film.see_torn(1035.0, &[]);
        assert_eq!((torn.one().up, torn.one().judged.len()), (None, 0));
        assert_eq!(film.see(1040.0, &[]).one().up, Some(false));
    }

    #[test]
    fn what_was_known_keeps_its_name_when_rights_are_lost() {
        let mut film = Film::with(configured());
        let seen = actor(10, 1, "haproxy -D -f /a.cfg -p /run/p").pidfile(&[10]).tcp(80, 1);
        film.see(1000.0, std::slice::from_ref(&seen));
        let verdict = film.see(1005.0, &[seen.change(|p| p.pidfile = None).unseen()]);
        assert_eq!((verdict.one().name.as_str(), verdict.one().up), ("lb", None));
    }

    #[test]
    fn what_is_being_executed_keeps_its_name() {
        let mut film = Film::with(configured());
        let master = || actor(10, 1, "haproxy -W -f /a.cfg -p /run/p").pidfile(&[10]);
        let worker = || actor(11, 2, "haproxy -W -f /a.cfg -p /run/p").child_of(10).tcp(80, 1);
        film.see(1000.0, &[master(), worker()]);
        let executing = master().change(|process| {
            process.arguments = None;
            process.pidfile = None;
        });
        let verdict = film.see(1005.0, &[executing, worker()]);
        assert_eq!((verdict.one().name.as_str(), verdict.one().up), ("lb", Some(true)));
    }
}
