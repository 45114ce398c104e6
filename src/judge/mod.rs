//! Judges a sample: which haproxys there are, what is current, and what is wrong.
//!
//! Pure: no clock, no log, no errors, no I/O. Time is a field of the sample; since-when,
//! counters and what is gone live in the [`Memory`] that goes in and comes out.

mod blocked;
mod configs;
pub mod hold;
mod identify;
mod inquiry;
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

use self::blocked::{Claim, Owners};
pub use self::inquiry::{Inquiry, Questions};
use self::memory::HaproxyMemory;
pub use self::memory::Memory;
pub use self::policy::Policy;
pub use self::reloads::Reloads;
use self::rules::Case;
use self::scene::{MOST_ENDPOINTS, PortSockets, Scene};
use self::verdict::{Haproxy, Kind, Origin, PortKey, Verdict};
use crate::haproxy::generations::Generation;
use crate::haproxy::names::Identity;
use crate::haproxy::roles::Role;
use crate::model::{CloserLook, Configuration, Headroom, Protocol, Snapshot};

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
    owners: &Owners<'_>,
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
        udp_ports: Arc::clone(&scene.udp_ports),
        tcp_ports: Arc::clone(&scene.tcp_ports),
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
        ports: scene::ports(ports, &drops.totals),
        protocols_known: [Protocol::Tcp, Protocol::Udp]
            .into_iter()
            .filter(|&protocol| {
                let known = |generation| scene.listeners_known(protocol, generation);
                Generation::ALL.into_iter().all(known)
            })
            .collect(),
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
    owners: &Owners<'_>,
    (now, closer): (&Snapshot, &CloserLook),
) -> (hold::Held, BTreeSet<Kind>) {
    let configuration = before.configuration.as_deref().filter(|c| c.complete);
    let judgement = match configuration {
        Some(configuration) => {
            let (places, tcp_ports) = (&before.places, &before.tcp_ports);
            let declared = places.endpoints(&configuration.ports).take(MOST_ENDPOINTS);
            let unbound = &declared.collect::<Vec<_>>();
            let claim = Claim { name, configuration, places, tcp_ports, unbound, owners, closer };
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
    looks @ (now, _): (&Snapshot, &CloserLook),
    memory: &Memory,
    policy: &Policy,
    owners: &Owners<'_>,
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
        let (held, judged) = judge_gone(name, before, rules, owners, looks);
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
