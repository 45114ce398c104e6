//! Judges a haproxy of which something lives.

use std::sync::Arc;

use super::case::{self, PortSockets, Scene};
use super::memory::HaproxyMemory;
use super::owners::Owners;
use super::rules::input::Case;
use super::verdict::Haproxy;
use super::{hold, queues, reload_count, rules};
use crate::haproxy::lineage::generations::Generation;
use crate::haproxy::lineage::member::Role;
use crate::model::{Configuration, Headroom, Protocol};

/// `ports`: its own; `others`: by name, those of haproxys that share a port with one.
pub fn judge(
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
    let held = hold::hold(
        findings,
        &judged,
        standings,
        first_sample,
        scene.rules.stale_grace_seconds,
        now,
    );
    let mut observed = before.map(|before| before.observed.clone()).unwrap_or_default();
    for (kind, began) in &held.began {
        *observed.entry(*kind).or_default() += began;
    }
    let reloads = reload_count::count(before.map(|before| &before.reloads), scene);
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
        up: scene.generations.up,
        processes: scene.processes(),
        generations: known.then_some(scene.generations.count),
        generation_start: serving().map(|member| member.process.started).reduce(f64::min),
        configuration: scene.configuration.clone(),
        ports: case::ports(ports, &drops.totals),
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
        reloads: reloads.seen,
        headroom: headroom(scene),
        ..Haproxy::unseen(&scene.name, scene.rules)
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
