//! What one judgement leaves for the next: since when things have been wrong, counters, and what was
//! seen before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::case::{Loaded, MOST_ENDPOINTS, MOST_ENDPOINTS_ONCE_GONE};
use super::hold::AnomalyStates;
use super::loaded::loaded_by;
use super::queues::Drops;
use super::reload_count::ReloadHistory;
use crate::haproxy::lineage::generations::{Generation, Generations};
use crate::haproxy::lineage::identity::Identity;
use crate::haproxy::lineage::member::Member;
use crate::haproxy::lineage::past::{Past, Pasts};
use crate::haproxy::listeners::Holding;
use crate::haproxy::places::Places;
use crate::model::time::YOUNG_SECONDS;
use crate::model::{Configuration, NamespaceId, SocketInode, UnixSeconds};
use crate::policy::kind::Kind;

/// Everything that is remembered between samples.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// When the host booted, as the last sample reckoned it; `None` if no sample has been judged before.
    pub(super) booted: Option<UnixSeconds>,
    /// The processes of the last sample.
    pub(super) processes: Pasts,
    /// The services that have not been forgotten yet, by name.
    pub(super) services: BTreeMap<String, ServiceMemory>,
}

impl Memory {
    /// Moves all remembered times by as much as the wall clock was set since the last sample, so that no
    /// grace becomes longer or shorter. `booted` is the boot time as the next sample reckons it.
    pub fn follow_clock(&mut self, booted: UnixSeconds) {
        let Some(known) = &mut self.booted else { return };
        let seconds = booted - std::mem::replace(known, booted);
        if seconds.abs() > 0.0 {
            self.processes.values_mut().for_each(|past| past.move_by(seconds));
            self.services.values_mut().for_each(|service| service.move_by(seconds));
        }
    }

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
    /// A hash of what distinguishes it from other services of its name.
    pub mark: String,
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

    fn move_by(&mut self, seconds: f64) {
        self.first_seen += seconds;
        self.last_seen += seconds;
        self.anomaly_states.values_mut().for_each(|state| state.since += seconds);
        self.reloads.move_by(seconds);
    }

    /// The number of its declared ports that are looked at once it is gone.
    pub fn most_endpoints(&self) -> usize {
        if self.identity.untrusted_starter().is_some() {
            MOST_ENDPOINTS_ONCE_GONE
        } else {
            MOST_ENDPOINTS
        }
    }
}

/// What to remember of a process for the next sample. `service` is the name of its service.
#[must_use]
pub(super) fn remember(
    member: &Member<'_>,
    service: Option<&str>,
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
        service: service.map(str::to_owned).or_else(|| past.and_then(|p| p.service.clone())),
        own_pid: member.process.own_pid(),
        users: member.process.users,
        starter: member.starter,
        pid_namespace: member.process.pid_namespace,
        role: if member.role_is_certain { Some(member.role) } else { past.and_then(|p| p.role) },
        born_with: match past {
            Some(past) => past.born_with,
            // A file that was edited before the first sample is not what the process has read.
            None if age < YOUNG_SECONDS => loaded_by(member).map(|loaded| loaded.fingerprint),
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
        // It stays superseded while it cannot be seen whether it serves.
        superseded: generations.superseded.get(&id).copied().or_else(|| {
            let serves = generations.get(id) == Generation::Current;
            past.filter(|_| !serves).and_then(|past| past.superseded)
        }),
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

#[cfg(test)]
mod tests {
    use crate::model::ConnectionState::Established;
    use crate::stage::{Actor, Film, actor};

    const LINE: &str = "haproxy -W -f /a.cfg -p /run/p";

    /// A stranded worker, its end, and a reload that fails: each with the time of the look.
    fn frames() -> Vec<(f64, Vec<Actor>)> {
        let master = |number: u32| actor(19, 1, LINE).reload(number);
        let worker = |pid, started, number| actor(pid, started, LINE).child_of(19).reload(number);
        let first = || worker(20, 2, 0).tcp(80, 1);
        let drained = || worker(20, 2, 0).connected(9, Established);
        let second = || worker(21, 1001, 1).tcp(80, 2);
        let third = || worker(22, 1030, 2).tcp(80, 3).tcp(81, 4);
        vec![
            (1000.0, vec![master(0), first()]),
            (1005.0, vec![master(1), first(), second()]),
            (1012.0, vec![master(1), first(), second()]),
            (1020.0, vec![master(1), first(), second()]),
            (1031.0, vec![master(2), drained(), second(), third()]),
            (1036.0, vec![master(2), drained(), third()]),
            (1040.0, vec![master(3), drained(), third()]),
            (1041.0, vec![master(3), drained(), third()]),
            (1080.0, vec![master(3), third()]),
            (1120.0, vec![master(3), third()]),
        ]
    }

    /// What each look shows when the clock is set by `set` seconds before the look of number `before`.
    fn shown(set: f64, before: usize) -> Vec<String> {
        let mut film = Film::default();
        let looks = frames().into_iter().enumerate().map(|(number, (taken, actors))| {
            film.clock_set = if number < before { 0.0 } else { set };
            let verdict = film.see(taken, &actors);
            let one = verdict.one();
            let ages: Vec<_> = one
                .anomalies
                .iter()
                .map(|anomaly| (anomaly.kind, anomaly.pending, verdict.taken - anomaly.since))
                .collect();
            let (successes, failures) = (one.reloads.successes, one.reloads.failures);
            format!("{:?} {} {ages:?} {successes} {failures}", one.up, one.cast())
        });
        looks.collect()
    }

    #[test]
    fn a_clock_that_is_set_changes_nothing_but_the_times() {
        let usual = shown(0.0, 0);
        assert!(usual.iter().any(|look| look.contains("PortSplit, false")), "{usual:#?}");
        for set in [-86_400.0, -3600.0, -2.0, 2.0, 3600.0, 86_400.0] {
            for before in 1..frames().len() {
                assert_eq!(shown(set, before), usual, "set by {set} before look {before}");
            }
        }
    }
}
