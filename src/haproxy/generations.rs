//! Which generation each process of a haproxy is, and since when the stale ones are.
//!
//! Current is what serves: not what was started last, and not what somebody's `-sf` spares.
//! A process is stale only when a later one has served in its stead. To hold listeners is not
//! enough for that: a replacement gets them handed over first and may then still fail to bind
//! the rest, so it takes over only when the one before has let go, or it has held on for long.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::environment::{self, ReloadNumber};
use super::listeners::Holding;
use super::past::{Past, Pasts};
use super::roles::{Member, Role};
use super::services::{Service, names};
use crate::model::{Pidfile, PidfileContent, Process, ProcessId, UnixSeconds};

/// A failing reload pauses the old generation's listeners for up to two seconds
/// (`MAX_START_RETRIES` in `src/haproxy.c`, 10 ms apart): then it holds them, unlisted.
const PAUSE_SECONDS: f64 = 10.0;
/// Whoever has held listeners for this long is past its last try to bind.
const SETTLED_SECONDS: f64 = 5.0;
/// What was older than this when first seen has not just got its listeners.
pub const YOUNG_SECONDS: f64 = 10.0;
/// What has not served after this long, and was not watched all the time, once did.
const SLOW_START_SECONDS: f64 = 60.0;

/// Where a process stands in the order of reloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Generation {
    /// It serves, or it is the master.
    Current,
    /// A later one has served in its stead.
    Stale,
    /// Newer than the current one, and not serving yet.
    Starting,
    /// Its sockets, or a later process's, could not be read.
    Unknown,
}

impl Generation {
    /// Every value, in the order of the page.
    pub const ALL: [Generation; 4] =
        [Generation::Current, Generation::Stale, Generation::Starting, Generation::Unknown];

    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Generation::Current => "current",
            Generation::Stale => "stale",
            Generation::Starting => "starting",
            Generation::Unknown => "unknown",
        }
    }
}

/// The generations of one haproxy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Generations {
    /// Every process's.
    pub of: BTreeMap<ProcessId, Generation>,
    /// For stale processes: when the one that superseded them was started.
    pub superseded: BTreeMap<ProcessId, UnixSeconds>,
    /// A current process serves; `None` where that could not be seen.
    pub up: Option<bool>,
    /// How many are alive.
    pub count: u64,
}

impl Generations {
    /// The generation of a process of this haproxy.
    #[must_use]
    pub fn get(&self, id: ProcessId) -> Generation {
        self.of.get(&id).copied().unwrap_or(Generation::Unknown)
    }
}

/// Tells the generations of a service apart.
#[must_use]
pub fn tell(
    service: &Service<'_>,
    holdings: &BTreeMap<ProcessId, Holding<'_>>,
    pasts: &Pasts,
    now: UnixSeconds,
) -> Generations {
    let units = units(service, holdings, pasts, now);
    let current = current_unit(service, &units);
    let mut generations = Generations {
        up: match current.and_then(|current| units.get(current)) {
            // The old one has let go, and the new one has yet to detach from who holds them.
            _ if units.iter().any(|unit| unit.launches_with_listeners) => Some(true),
            Some(unit) => unit.serves,
            None if units.iter().any(|unit| unit.serves.is_none()) => None,
            None => Some(false),
        },
        count: units.iter().filter(|unit| !unit.launching).count() as u64,
        ..Generations::default()
    };
    let told: Vec<Generation> = units
        .iter()
        .enumerate()
        .map(|(index, unit)| generation(index, unit, current, now))
        .collect();
    for (index, (unit, &generation)) in units.iter().zip(&told).enumerate() {
        for &id in &unit.ids {
            generations.of.insert(id, generation);
            if generation == Generation::Stale {
                let since = superseded(index, &units, &told, pasts.get(&id));
                generations.superseded.insert(id, since);
            }
        }
    }
    for member in &service.members {
        if !member.lives() {
            generations.of.insert(member.id(), Generation::Stale);
        } else if member.role == Role::Master {
            generations.of.insert(member.id(), Generation::Current);
        }
    }
    generations
}

/// Processes that came to life by one reload.
#[derive(Debug)]
struct Unit {
    ids: Vec<ProcessId>,
    started: UnixSeconds,
    /// Holds a listener, paused ones included. `None`: could not be seen.
    serves: Option<bool>,
    /// Has held listeners long enough to be past the last try to bind.
    settled: bool,
    /// Has been current at some time.
    has_served: bool,
    /// Was superseded in an earlier sample.
    superseded: bool,
    /// Has yet to serve: watched from its birth on, or too young for more.
    unborn: bool,
    /// Was seen from its birth on.
    watched: bool,
    /// Its pidfile names it.
    named: bool,
    /// Nothing of it has detached yet.
    launching: bool,
    /// It holds listeners for the child that will be the service.
    launches_with_listeners: bool,
}

impl Unit {
    fn of(
        member: &Member<'_>,
        holding: Option<&Holding<'_>>,
        past: Option<&Past>,
        now: UnixSeconds,
    ) -> Unit {
        let process = member.process;
        let holds = holding.map(Holding::serves);
        let serves = holds.map(|holds| {
            !member.launching && (holds || past.is_some_and(|past| is_paused(process, past, now)))
        });
        let age = now - process.started;
        let has_served = past.is_some_and(|past| past.has_served);
        let superseded = past.is_some_and(|past| past.superseded.is_some());
        Unit {
            ids: vec![process.id],
            started: process.started,
            serves,
            settled: match past {
                Some(past) => past.held_since.is_some_and(|since| now - since >= SETTLED_SECONDS),
                None => age >= YOUNG_SECONDS,
            },
            has_served,
            superseded,
            unborn: !has_served
                && !superseded
                && past.map_or(age < SLOW_START_SECONDS, |past| past.from_birth),
            watched: past.is_some_and(|past| past.from_birth),
            named: is_named_by_pidfile(member),
            launching: member.launching,
            launches_with_listeners: member.launching && holds == Some(true),
        }
    }

    fn merge(&mut self, other: Unit) {
        // The service is what the launcher forked, and begins with it.
        if self.launching && !other.launching {
            self.started = other.started;
        }
        self.ids.extend(other.ids);
        self.serves = match (self.serves, other.serves) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        };
        self.settled |= other.settled;
        self.has_served |= other.has_served;
        self.unborn &= other.unborn;
        self.watched &= other.watched;
        self.superseded &= other.superseded;
        self.named |= other.named;
        self.launching &= other.launching;
        self.launches_with_listeners |= other.launches_with_listeners;
    }
}

/// It still holds the descriptors of listeners that were listed a moment ago.
fn is_paused(process: &Process, past: &Past, now: UnixSeconds) -> bool {
    let lately = past.last_held.is_some_and(|held| now - held < PAUSE_SECONDS);
    let held = process.sockets.as_ref();
    lately && held.is_some_and(|held| !held.is_disjoint(&past.listeners))
}

fn is_named_by_pidfile(member: &Member<'_>) -> bool {
    match &member.process.pidfile {
        Some(Pidfile { content: PidfileContent::Pids(pids), .. }) => {
            member.role == Role::Daemon && pids.contains(&member.process.own_pid())
        }
        _ => false,
    }
}

/// What processes of one generation have in common.
#[derive(Debug, PartialEq)]
enum Mark {
    /// Master and reload number.
    Workers(ProcessId, ReloadNumber),
    /// One pidfile names several daemons (nbproc).
    Named(PathBuf),
    /// A launcher, by its pid, and the child that will be the service.
    Launch(i32),
    Single(ProcessId),
}

/// The serving processes by age, in generations.
fn units(
    service: &Service<'_>,
    holdings: &BTreeMap<ProcessId, Holding<'_>>,
    pasts: &Pasts,
    now: UnixSeconds,
) -> Vec<Unit> {
    let mut units: Vec<(Mark, Unit)> = Vec::new();
    let serving = service.members.iter().filter(|m| m.lives() && m.role != Role::Master);
    for member in serving {
        let id = member.id();
        let unit = Unit::of(member, holdings.get(&id), pasts.get(&id), now);
        let number = member.process.environment.as_ref().and_then(environment::reload_number);
        let launchers = || service.members.iter().filter(|member| member.launching);
        let mark = match (member.master, number) {
            _ if member.launching => Mark::Launch(id.pid),
            _ if launchers().any(|launcher| launcher.id().pid == member.process.parent) => {
                Mark::Launch(member.process.parent)
            }
            (Some(master), Some(number)) => Mark::Workers(master, number),
            _ => match member.process.pidfile.as_ref().filter(|_| unit.named) {
                Some(pidfile) => Mark::Named(pidfile.path.clone()),
                None => Mark::Single(id),
            },
        };
        match units.iter_mut().find(|(other, _)| *other == mark) {
            Some((_, same)) => same.merge(unit),
            None => units.push((mark, unit)),
        }
    }
    units.into_iter().map(|(_, unit)| unit).collect()
}

/// The unit that serves: the one the pidfile names, unless a serving one was started to
/// replace it; else the latest that has taken over.
fn current_unit(service: &Service<'_>, units: &[Unit]) -> Option<usize> {
    let serving = |unit: &Unit| unit.serves == Some(true);
    let Some(latest) = units.iter().rposition(serving) else {
        if units.iter().any(|unit| unit.serves.is_none()) {
            // Blind: only a process without a rival can be placed.
            return (units.len() == 1).then_some(0);
        }
        // Nobody serves: what served last is current still, unless it has yet to begin.
        return units.iter().rposition(|unit| !unit.unborn);
    };
    let named = units.iter().rposition(|unit| serving(unit) && unit.named);
    let taken_over = (0..=latest).rev().find(|&index| has_taken_over(index, units));
    let current = named
        .filter(|&named| !is_overtaken(service, units, named))
        .or(taken_over)
        .or_else(|| units.iter().position(serving));
    current.or(Some(latest))
}

/// It serves, and every earlier unit that counts has let go, or it has held on for long.
fn has_taken_over(index: usize, units: &[Unit]) -> bool {
    let Some(unit) = units.get(index).filter(|unit| unit.serves == Some(true)) else {
        return false;
    };
    let mut earlier = units.iter().take(index);
    unit.settled || unit.named || unit.has_served || !earlier.any(holds_on)
}

/// A stranded unit holds on for ever, and nobody waits for it.
fn holds_on(unit: &Unit) -> bool {
    unit.serves == Some(true) && !unit.superseded
}

/// A later unit that has taken over was told to replace it.
fn is_overtaken(service: &Service<'_>, units: &[Unit], named: usize) -> bool {
    let member = |id: &ProcessId| service.members.iter().find(|member| member.id() == *id);
    let old: Vec<_> = units.get(named).into_iter().flat_map(|unit| &unit.ids).collect();
    let later = units.iter().enumerate().skip(named + 1);
    later.filter(|(index, _)| has_taken_over(*index, units)).any(|(_, unit)| {
        unit.ids.iter().filter_map(member).any(|newer| {
            old.iter().filter_map(|id| member(id)).any(|older| names(newer, older.process))
        })
    })
}

fn generation(index: usize, unit: &Unit, current: Option<usize>, now: UnixSeconds) -> Generation {
    let Some(current) = current else {
        let unborn = unit.serves == Some(false);
        return if unborn { Generation::Starting } else { Generation::Unknown };
    };
    let age = now - unit.started;
    match unit.serves {
        _ if index == current => Generation::Current,
        _ if unit.launching => Generation::Starting,
        // Nobody has served in its stead, however long it takes.
        Some(false) if index > current && !unit.has_served => Generation::Starting,
        // Overtaken while it was starting.
        Some(false) if unit.unborn && unit.watched => Generation::Starting,
        _ if index < current => Generation::Stale,
        None => Generation::Unknown,
        Some(true) if !unit.has_served && age < YOUNG_SECONDS => Generation::Starting,
        Some(true) if !unit.has_served && !unit.settled => Generation::Starting,
        Some(_) => Generation::Stale,
    }
}

/// The start of the earliest later unit that has served: the current one, or one that is stale
/// itself, for that is what stale means.
fn superseded(
    index: usize,
    units: &[Unit],
    told: &[Generation],
    past: Option<&Past>,
) -> UnixSeconds {
    let own = units.get(index).map_or(0.0, |unit| unit.started);
    let later = units.iter().zip(told).skip(index + 1);
    let mut served = later
        .filter(|(_, told)| matches!(told, Generation::Current | Generation::Stale))
        .map(|(unit, _)| unit.started);
    let current = || units.iter().zip(told).find(|(_, told)| **told == Generation::Current);
    let overtaken = served.next().or_else(|| current().map(|(unit, _)| unit.started));
    let since = overtaken.unwrap_or(own).max(own);
    let remembered = past.and_then(|past| past.superseded);
    remembered.map_or(since, |remembered| remembered.min(since))
}

/// What to remember of a process for the next sample.
#[must_use]
pub fn remember(
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
    let holds = holding.is_some_and(Holding::serves);
    let earlier = past.and_then(|past| past.held_since);
    let first_seen_old = past.is_none() && age >= YOUNG_SECONDS;
    let begun = if first_seen_old { member.process.started } else { now };
    let listeners: BTreeSet<_> =
        holding.iter().flat_map(|h| h.listeners.iter().map(|socket| socket.inode)).collect();
    Past {
        haproxy: haproxy.map(str::to_owned).or_else(|| past.and_then(|p| p.haproxy.clone())),
        own_pid: member.process.own_pid(),
        pid_namespace: member.process.pid_namespace,
        role: if member.role_is_certain { Some(member.role) } else { past.and_then(|p| p.role) },
        born_with: match past {
            Some(past) => past.born_with,
            None if age < YOUNG_SECONDS => configuration.map(|c| c.fingerprint),
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
        listeners: match past {
            Some(past) if listeners.is_empty() => past.listeners.clone(),
            _ => listeners,
        },
        has_served: past.is_some_and(|past| past.has_served)
            || (holds && generations.get(id) == Generation::Current),
        superseded: generations.superseded.get(&id).copied(),
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
                "two reloads, the one between is gone: nobody names the oldest",
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
                "a race: the pidfile decides, whoever is younger",
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
    fn without_rights_nobody_is_called_stale() {
        let actors = [daemon(10, 100, "").unseen(), daemon(11, 200, "-sf 10").unseen()];
        let verdict = Film::default().see(1000.0, &actors);
        let haproxy = verdict.one();
        assert_eq!(haproxy.cast(), "10 unknown, 11 unknown");
        assert_eq!((haproxy.up, haproxy.generations), (None, None));
    }
}
