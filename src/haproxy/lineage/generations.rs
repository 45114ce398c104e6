//! Decides the generation of each process of a service, and since when the stale ones have been superseded.
//!
//! The current generation is the one that serves, not the one started last. A process is stale only once a later
//! one has served in its place. Holding listeners proves no takeover, because a replacement is handed them first
//! and may then fail to bind the rest: its predecessor must have let go, or it must have held them for long.

use std::collections::BTreeMap;

use super::cohorts::{Cohort, cohorts};
use super::history::History;
use super::member::{Member, Role};
use super::past::Pasts;
use super::proof::Superseded;
use super::services::Service;
use crate::haproxy::environment;
use crate::haproxy::listeners::Holding;
use crate::model::named::named;
use crate::model::time::YOUNG_SECONDS;
use crate::model::{Process, ProcessId, UnixSeconds};

named! {
    /// The position of a process in the order of reloads.
    pub enum Generation {
        /// It serves, or it is a master that no other was told to replace.
        Current = "current",
        /// A later one has served in its place.
        Stale = "stale",
        /// Newer than the current one, and not serving yet.
        Starting = "starting",
        /// Its sockets, or a later process's, could not be read.
        Unknown = "unknown",
    }
}

/// The generations of one service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Generations {
    /// The generation of every process.
    pub of: BTreeMap<ProcessId, Generation>,
    /// How each stale process was superseded.
    pub superseded: BTreeMap<ProcessId, Superseded>,
    /// A current process serves; `None` where that could not be seen.
    pub up: Option<bool>,
    /// The number of generations that are alive.
    pub count: u64,
}

impl Generations {
    /// The generation of a process of this service.
    #[must_use]
    pub fn get(&self, id: ProcessId) -> Generation {
        self.of.get(&id).copied().unwrap_or(Generation::Unknown)
    }
}

/// Classifies the processes of a service.
#[must_use]
pub fn classify(
    service: &Service<'_>,
    holdings: &BTreeMap<ProcessId, Holding<'_>>,
    pasts: &Pasts,
    now: UnixSeconds,
) -> Generations {
    let cohorts = cohorts(service, holdings, pasts, now);
    let current = current_cohort(service, &cohorts);
    let mut generations = Generations {
        up: match current.and_then(|current| cohorts.get(current)) {
            // The old one has let go, and a launcher still holds the listeners of the new one.
            _ if cohorts.iter().any(|cohort| cohort.launches_with_listeners)
                || is_held_by_a_loading_master(service, holdings) =>
            {
                Some(true)
            }
            Some(cohort) => cohort.serves,
            None if cohorts.iter().any(|cohort| cohort.serves.is_none()) => None,
            None => Some(false),
        },
        count: cohorts.iter().filter(|cohort| !cohort.launching).count() as u64,
        ..Generations::default()
    };
    let numbered = cohorts.iter().enumerate();
    let classes: Vec<Generation> =
        numbered.map(|(index, cohort)| generation(index, cohort, current, now)).collect();
    let has_served = |class: &Generation| matches!(class, Generation::Current | Generation::Stale);
    let served: Vec<bool> = classes.iter().map(has_served).collect();
    let history = History::of(service, &cohorts, &served, current, pasts);
    for (index, (cohort, &generation)) in cohorts.iter().zip(&classes).enumerate() {
        for &id in &cohort.ids {
            generations.of.insert(id, generation);
            if generation == Generation::Stale {
                generations.superseded.insert(id, history.superseded(index, id));
            }
        }
    }
    for member in &service.members {
        if !member.lives() {
            generations.of.insert(member.id(), Generation::Stale);
        } else if member.role == Role::Master {
            let superseded = history.superseded_master(member);
            let generation =
                if superseded.is_some() { Generation::Stale } else { Generation::Current };
            generations.of.insert(member.id(), generation);
            generations.superseded.extend(superseded.map(|how| (member.id(), how)));
        }
    }
    generations
}

/// From 2.5 to 3.0 the master binds, signals the old worker to stop, and then forks the new one.
fn is_held_by_a_loading_master(
    service: &Service<'_>,
    holdings: &BTreeMap<ProcessId, Holding<'_>>,
) -> bool {
    service.members.iter().any(|member| {
        let environment = member.process.environment.as_ref();
        let listens = holdings.get(&member.id()).is_some_and(|held| !held.listeners.is_empty());
        member.role == Role::Master
            && listens
            && environment.is_some_and(environment::master_is_loading)
    })
}

/// The cohort that serves: the one the pidfile names, unless a serving one was started to
/// replace it; else the latest that has taken over.
fn current_cohort(service: &Service<'_>, cohorts: &[Cohort]) -> Option<usize> {
    let serving = |cohort: &Cohort| cohort.serves == Some(true);
    let Some(latest) = cohorts.iter().rposition(serving) else {
        if cohorts.iter().any(|cohort| cohort.serves.is_none()) {
            // Without sight of the listeners, only a process that has no rival and had none can be placed.
            let [alone] = cohorts else { return None };
            return (!alone.superseded).then_some(0);
        }
        // None serves: the one that served last stays current, unless it was superseded before.
        return cohorts
            .iter()
            .rposition(|cohort| !cohort.unborn && !cohort.superseded && !cohort.is_stopped);
    };
    let named = cohorts.iter().rposition(|cohort| serving(cohort) && cohort.named);
    let taken_over = (0..=latest).rev().find(|&index| has_taken_over(index, cohorts));
    let current = named
        .filter(|&named| !is_overtaken(service, cohorts, named))
        .or(taken_over)
        .or_else(|| cohorts.iter().position(serving));
    current.or(Some(latest))
}

/// It serves, and every earlier cohort that counts has let go, or it has held on for long.
fn has_taken_over(index: usize, cohorts: &[Cohort]) -> bool {
    let Some(cohort) = cohorts.get(index).filter(|cohort| cohort.serves == Some(true)) else {
        return false;
    };
    let mut earlier = cohorts.iter().take(index);
    cohort.settled || cohort.named || cohort.has_served || !earlier.any(holds_on)
}

/// It still serves and was not superseded. A stranded cohort keeps its listeners for ever and does not
/// count.
fn holds_on(cohort: &Cohort) -> bool {
    cohort.serves == Some(true) && !cohort.superseded
}

/// A later cohort that has taken over was told to replace it.
fn is_overtaken(service: &Service<'_>, cohorts: &[Cohort], named: usize) -> bool {
    let ids = |index: usize| cohorts.get(index).into_iter().flat_map(|cohort| &cohort.ids);
    let members = |index| ids(index).filter_map(|id| service.member(*id));
    let mut old: BTreeMap<i32, Vec<&Process>> = BTreeMap::new();
    for member in members(named) {
        old.entry(member.process.own_pid()).or_default().push(member.process);
    }
    let was_told = |newer: &Member<'_>| {
        let named = newer.replaces().unwrap_or_default().iter().filter_map(|pid| old.get(pid));
        named.flatten().any(|older| newer.could_replace(older))
    };
    let mut later = (named + 1..cohorts.len()).filter(|index| has_taken_over(*index, cohorts));
    later.any(|index| members(index).any(was_told))
}

fn generation(
    index: usize,
    cohort: &Cohort,
    current: Option<usize>,
    now: UnixSeconds,
) -> Generation {
    if cohort.is_stopped {
        return Generation::Stale;
    }
    let Some(current) = current else {
        return match cohort.serves {
            _ if cohort.superseded => Generation::Stale,
            Some(false) if !cohort.has_served => Generation::Starting,
            _ => Generation::Unknown,
        };
    };
    let age = now - cohort.started;
    match cohort.serves {
        _ if index == current => Generation::Current,
        _ if cohort.launching => Generation::Starting,
        // No later one has served in its place, however long it takes to start.
        Some(false) if index > current && !cohort.has_served => Generation::Starting,
        _ if index < current => Generation::Stale,
        None => Generation::Unknown,
        Some(true) if !cohort.has_served && age < YOUNG_SECONDS => Generation::Starting,
        Some(true) if !cohort.has_served && !cohort.settled => Generation::Starting,
        Some(_) => Generation::Stale,
    }
}

#[cfg(test)]
mod tests {
    use crate::model::ConnectionState::Established;
    use crate::stage::{Actor, Film, actor};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";

    fn daemon(pid: i32, started: u32, replaces: &str) -> Actor {
        actor(pid, started, &format!("{LINE} {replaces}"))
    }

    #[test]
    fn one_look_at_daemons() {
        let table: [(&str, Vec<Actor>, &str); 9] = [
            ("alone", vec![daemon(10, 100, "").tcp(80, 1)], "10 current"),
            (
                "an ordinary reload: the old one drains",
                vec![
                    daemon(10, 100, "").connected(9, Established),
                    daemon(11, 200, "-sf 10").tcp(80, 1),
                ],
                "10 stale, 11 current",
            ),
            (
                "two reloads, the one between is gone: no list names the oldest",
                vec![
                    daemon(10, 100, "").connected(9, Established),
                    daemon(12, 300, "-sf 11").tcp(80, 1),
                ],
                "10 stale, 12 current",
            ),
            (
                "never signalled, and on the same socket",
                vec![daemon(10, 100, "").tcp(80, 1), daemon(12, 300, "-sf 11").tcp(80, 1)],
                "10 stale, 12 current",
            ),
            (
                "a replacement that still binds",
                vec![daemon(10, 100, "").tcp(80, 1), daemon(11, 999, "-sf 10").tcp(80, 1)],
                "10 current, 11 starting",
            ),
            (
                "a replacement that still reads its configuration",
                vec![daemon(10, 100, "").tcp(80, 1), daemon(11, 500, "-sf 10")],
                "10 current, 11 starting",
            ),
            (
                "a race: the pidfile decides, not the age",
                vec![
                    daemon(11, 200, "-sf 10").pidfile(&[11]).tcp(80, 1),
                    daemon(12, 201, "-sf 10").pidfile(&[11]).tcp(80, 2),
                ],
                "11 current, 12 stale",
            ),
            (
                "a pidfile that names one that was replaced",
                vec![
                    daemon(10, 100, "").pidfile(&[10]).tcp(80, 1),
                    daemon(11, 200, "-sf 10").pidfile(&[10]).tcp(80, 1),
                ],
                "10 stale, 11 current",
            ),
            (
                "one pidfile names several of one start (nbproc)",
                vec![
                    daemon(10, 100, "").pidfile(&[10, 11]).tcp(80, 1),
                    daemon(11, 100, "").pidfile(&[10, 11]).tcp(80, 1),
                ],
                "10 current, 11 current",
            ),
        ];
        for (what, actors, cast) in table {
            assert_eq!(Film::default().see(1000.0, &actors).one().cast(), cast, "{what}");
        }
    }

    #[test]
    fn what_only_serves_a_unix_socket_is_up() {
        let verdict = Film::default().see(1000.0, &[daemon(10, 100, "").unix(7)]);
        assert_eq!((verdict.one().up, verdict.one().cast().as_str()), (Some(true), "10 current"));
    }

    #[test]
    fn a_failing_reload_pauses_and_the_old_one_stays_current() {
        let mut film = Film::default();
        let old = || daemon(10, 100, "").pidfile(&[10]);
        film.see(1000.0, &[old().tcp(80, 1)]);
        // Paused: the descriptor is there, the table has no listener. The new one got a copy.
        let new = daemon(11, 1000, "-sf 10").pidfile(&[10]).tcp(81, 2);
        let verdict = film.see(1001.0, &[old().holds(1), new]);
        assert_eq!(verdict.one().cast(), "10 current, 11 starting");
        assert_eq!(verdict.one().up, Some(true));
        let verdict = film.see(1002.0, &[old().tcp(80, 1)]);
        assert_eq!(verdict.one().cast(), "10 current");
    }

    #[test]
    fn a_landed_reload_takes_over_as_soon_as_the_old_one_lets_go() {
        let mut film = Film::default();
        film.see(1000.0, &[daemon(10, 100, "").tcp(80, 1)]);
        let new = || daemon(11, 1001, "-sf 10").tcp(80, 1);
        let old = daemon(10, 100, "").connected(9, Established);
        let verdict = film.see(1002.0, &[old, new()]);
        assert_eq!(verdict.one().cast(), "10 stale, 11 current");
        assert_eq!(verdict.one().reloads.successes, 1);
    }

    #[test]
    fn one_that_has_served_is_not_starting_while_its_successor_is_out_of_sight() {
        let mut film = Film::default();
        film.settle(1000.0, &[daemon(10, 100, "").tcp(80, 1)]);
        let old = daemon(10, 100, "").connected(9, Established);
        let verdict = film.see(1040.0, &[old, daemon(11, 1039, "-sf 10").unseen()]);
        assert_eq!(verdict.one().cast(), "10 unknown, 11 unknown");
    }

    #[test]
    fn one_that_was_stranded_before_does_not_delay_the_next() {
        let mut film = Film::default();
        let stranded = || daemon(9, 50, "").tcp(80, 1);
        film.settle(1000.0, &[stranded(), daemon(10, 100, "-sf 8").tcp(80, 1)]);
        let actors = [stranded(), daemon(11, 1031, "-sf 10").tcp(80, 1)];
        assert_eq!(film.see(1032.0, &actors).one().cast(), "9 stale, 11 current");
    }

    #[test]
    fn workers_go_by_what_serves_not_by_lists() {
        let master = |n| actor(1000, 100, "haproxy -sf 1001 -x sockpair@3 -W -f /a").reload(n);
        let worker = |pid, started, n| {
            actor(pid, started, "haproxy -sf 1001 -x sockpair@3 -W -f /a").child_of(1000).reload(n)
        };
        let table: [(&str, Vec<Actor>, &str); 3] = [
            (
                "3.2 after a failed reload: the list names the one that serves",
                vec![master(1), worker(1001, 200, 0).tcp(80, 1)],
                "1000 current, 1001 current",
            ),
            (
                "a drain",
                vec![
                    master(1),
                    worker(1001, 200, 0).connected(9, Established),
                    worker(1002, 300, 1).tcp(80, 1),
                ],
                "1000 current, 1001 stale, 1002 current",
            ),
            (
                "3.1 and later: the worker reads the configuration",
                vec![master(1), worker(1001, 200, 0).tcp(80, 1), worker(1002, 990, 1)],
                "1000 current, 1001 current, 1002 starting",
            ),
        ];
        for (what, actors, cast) in table {
            assert_eq!(Film::default().see(1000.0, &actors).one().cast(), cast, "{what}");
        }
    }

    #[test]
    fn an_older_worker_is_superseded_by_its_master_whatever_the_arguments_name() {
        let line = "haproxy -sf 1001 -W -f /a";
        let actors = [
            actor(1000, 100, line).reload(1),
            actor(1001, 200, "haproxy -W -f /a").child_of(1000).reload(0).connected(9, Established),
            actor(1002, 300, line).child_of(1000).reload(1).tcp(80, 1),
        ];
        let verdict = Film::default().see(1000.0, &actors);
        assert_eq!(verdict.one().cast(), "1000 current, 1001 stale, 1002 current");
        let how = verdict.one().processes[1].superseded.unwrap();
        assert_eq!((how.by.pid, how.proof.as_str()), (1002, "master"));
    }

    #[test]
    fn a_master_that_loads_holds_the_listeners_for_a_moment() {
        let line = "haproxy -sf 1001 -x sockpair@3 -W -f /a";
        let loading = actor(1000, 100, line)
            .variable("HAPROXY_PROCESSES", "|type=m;pid=1;reloads=1|type=w;pid=2")
            .variable("HAPROXY_MWORKER_REEXEC", "1")
            .variable("HAPROXY_STARTUP_VERSION", "2.6.12")
            .tcp(80, 2);
        let old = actor(1001, 200, line).child_of(1000).reload(0).connected(9, Established);
        let verdict = Film::default().see(1000.0, &[loading, old]);
        assert_eq!(verdict.one().up, Some(true));
    }

    #[test]
    fn without_rights_no_process_is_called_stale() {
        let actors = [daemon(10, 100, "").unseen(), daemon(11, 200, "-sf 10").unseen()];
        let verdict = Film::default().see(1000.0, &actors);
        assert_eq!(verdict.one().cast(), "10 unknown, 11 unknown");
        assert_eq!((verdict.one().up, verdict.one().generations), (None, None));
    }
}
