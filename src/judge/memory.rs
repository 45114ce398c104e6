//! What one judgement leaves for the next: since when things have been wrong, counters, and what was
//! seen before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::case::{Loaded, MOST_ENDPOINTS, MOST_ENDPOINTS_ONCE_GONE};
use super::hold::AnomalyStates;
use super::queues::Drops;
use super::reload_count::ReloadHistory;
use crate::haproxy::lineage::generations::{Generation, Generations};
use crate::haproxy::lineage::identity::Identity;
use crate::haproxy::lineage::member::{Member, YOUNG_SECONDS};
use crate::haproxy::lineage::past::{Past, Pasts};
use crate::haproxy::listeners::Holding;
use crate::haproxy::places::Places;
use crate::model::{Configuration, NamespaceId, SocketInode, UnixSeconds};
use crate::policy::kind::Kind;

/// Everything that is remembered between samples.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// A sample has been judged before.
    pub(super) awake: bool,
    /// The processes of the last sample.
    pub(super) processes: Pasts,
    /// The services that have not been forgotten yet, by name.
    pub(super) services: BTreeMap<String, ServiceMemory>,
}

impl Memory {
    /// Whether a reload of any service looks as if it failed for the first time in the sample taken `now`.
    #[must_use]
    pub fn begins_to_see_a_failure(&self, now: UnixSeconds) -> bool {
        self.services.values().any(|service| service.reloads.begins_to_fail(now))
    }
}

/// What is remembered of one service.
#[derive(Debug, Clone)]
pub(super) struct ServiceMemory {
    pub identity: Identity,
    /// The users that its processes have run as.
    pub users: BTreeSet<u32>,
    pub first_seen: UnixSeconds,
    pub last_seen: UnixSeconds,
    /// Something of it has been seen serving, or was superseded.
    pub has_served: bool,
    pub anomaly_states: AnomalyStates,
    pub observed: BTreeMap<Kind, u64>,
    pub reloads: ReloadHistory,
    pub drops: Drops,
    /// Its last known configuration, the last complete one if there was one.
    pub configuration: Option<Arc<Configuration>>,
    /// The configuration that its serving processes loaded, if that was seen.
    pub loaded: Option<Loaded>,
    /// The network namespaces in which it binds.
    pub places: Places,
    /// TCP ports on which it has listened: a connection there was accepted.
    pub tcp_ports: Arc<BTreeSet<(NamespaceId, u16)>>,
    /// UDP ports on which it has listened: a connected socket there is QUIC.
    pub udp_ports: Arc<BTreeSet<u16>>,
}

impl ServiceMemory {
    /// Whether the user started it, or it ran as that user.
    pub fn is_of(&self, user: u32) -> bool {
        self.identity.starter.is_none_or(|starter| starter == user) || self.users.contains(&user)
    }

    /// The same memory with its counters at 0, for a service that goes on under another name. The series of
    /// that name are new, and some databases take the first value of a counter for an increase.
    pub fn with_counters_from_zero(&self) -> ServiceMemory {
        let mut memory = self.clone();
        memory.observed.clear();
        (memory.reloads.seen.successes, memory.reloads.seen.failures) = (0, 0);
        memory.drops = memory.drops.with_totals_from_zero();
        memory
    }

    /// The number of its declared ports that are looked at once it is gone.
    pub fn most_endpoints(&self) -> usize {
        if self.identity.chosen_by().is_some() { MOST_ENDPOINTS_ONCE_GONE } else { MOST_ENDPOINTS }
    }
}

/// What to remember of a process for the next sample. `haproxy` is the name of its service.
#[must_use]
pub(super) fn remember(
    member: &Member<'_>,
    haproxy: Option<&str>,
    holding: Option<&Holding<'_>>,
    generations: &Generations,
    past: Option<&Past>,
    now: UnixSeconds,
) -> Past {
    let id = member.id();
    let age = now - member.process.started;
    let configuration = member.process.configuration.as_deref();
    let holds = holding.and_then(Holding::serves) == Some(true);
    let earlier = past.and_then(|past| past.held_since);
    let first_seen_old = past.is_none() && age >= YOUNG_SECONDS;
    let begun = if first_seen_old { member.process.started } else { now };
    Past {
        haproxy: haproxy.map(str::to_owned).or_else(|| past.and_then(|p| p.haproxy.clone())),
        own_pid: member.process.own_pid(),
        users: member.process.users,
        starter: member.starter,
        pid_namespace: member.process.pid_namespace,
        role: if member.role_is_certain { Some(member.role) } else { past.and_then(|p| p.role) },
        born_with: match past {
            Some(past) => past.born_with,
            // A file that was edited before the first sample is not what the process has read.
            None if age < YOUNG_SECONDS => configuration
                .filter(|c| !c.is_newer_than(member.process.started))
                .map(|c| c.fingerprint),
            None => None,
        },
        own_grace_seconds: match configuration {
            Some(configuration) if generations.get(id) == Generation::Current => {
                configuration.declared.globals.grace.map(|grace| grace.as_secs_f64())
            }
            _ => past.and_then(|past| past.own_grace_seconds),
        },
        zombie_since: past
            .and_then(|past| past.zombie_since)
            .or_else(|| member.process.is_zombie().then_some(now)),
        from_birth: past.map_or(age < YOUNG_SECONDS, |past| past.from_birth),
        held_since: earlier.or(holds.then_some(begun)),
        last_held: if holds { Some(now) } else { past.and_then(|past| past.last_held) },
        listeners: listeners(holding, past),
        has_served: past.is_some_and(|past| past.has_served)
            || (holds && generations.get(id) == Generation::Current),
        belongs: past.is_some_and(|past| past.belongs),
        superseded: generations.superseded.get(&id).copied(),
    }
}

/// The listeners that it holds now or, while it holds none, those that it held last.
fn listeners(holding: Option<&Holding<'_>>, past: Option<&Past>) -> Arc<BTreeSet<SocketInode>> {
    let held = || {
        let listeners = holding.iter().flat_map(|holding| &holding.listeners);
        listeners.map(|held| held.socket.inode)
    };
    match past {
        Some(past) if held().next().is_none() || held().eq(past.listeners.iter().copied()) => {
            Arc::clone(&past.listeners)
        }
        _ => Arc::new(held().collect()),
    }
}
