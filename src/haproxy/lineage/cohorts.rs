//! Groups the processes of a service into cohorts, one for each reload, as far as one sample shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::member::{Member, Role};
use super::past::{Past, Pasts};
use super::services::Service;
use crate::haproxy::environment::{self, ReloadNumber};
use crate::haproxy::listeners::Holding;
use crate::model::time::YOUNG_SECONDS;
use crate::model::{Configuration, Process, ProcessId, UnixSeconds};

/// A failing reload pauses the old generation's listeners for up to two seconds
/// (`MAX_START_RETRIES` in `src/haproxy.c`, 10 ms apart): then it holds them, unlisted.
const PAUSE_SECONDS: f64 = 10.0;
/// A process that has held listeners for this long is past its last try to bind.
const SETTLED_SECONDS: f64 = 5.0;
/// A process of this age that was not watched from its birth has served at some time.
const SLOW_START_SECONDS: f64 = 60.0;
/// The section of what a master binds for itself.
const MASTER_SOCKET: &str = "-S";

/// Processes that one reload started.
#[derive(Debug)]
pub struct Cohort {
    /// Its processes.
    pub ids: Vec<ProcessId>,
    /// Start of the first.
    pub started: UnixSeconds,
    /// Whether it holds a listener, paused ones included; `None` if that could not be seen.
    pub serves: Option<bool>,
    /// It has held listeners for so long that it is past its last attempt to bind.
    pub settled: bool,
    /// It has been current at some time.
    pub has_served: bool,
    /// It was superseded in an earlier sample.
    pub superseded: bool,
    /// It has not served yet: it was watched from its start, or is too young to have served unseen.
    pub unborn: bool,
    /// A process of another service was told to replace it, and it no longer serves.
    pub is_stopped: bool,
    /// Its configuration declares nothing that the kernel would show as a listener.
    is_invisible: bool,
    /// Its pidfile names it.
    pub named: bool,
    /// None of its processes has detached yet.
    pub launching: bool,
    /// It holds listeners for the child that will be the service.
    pub launches_with_listeners: bool,
}

impl Cohort {
    fn of(
        member: &Member<'_>,
        holding: Option<&Holding<'_>>,
        past: Option<&Past>,
        now: UnixSeconds,
    ) -> Cohort {
        let process = member.process;
        let holds = holding.and_then(Holding::serves);
        let serves = holds.map(|holds| {
            !member.launching && (holds || past.is_some_and(|past| is_paused(process, past, now)))
        });
        let age = now - process.started;
        // One that is still at its start is running; one that serves sleeps now and then. On a busy machine a start
        // may take this long, and from 3.1 on a new worker holds the listeners of the old one all the time.
        let outlasts = |seconds: f64, least: f64| {
            seconds >= SLOW_START_SECONDS || (seconds >= least && !process.is_at_work())
        };
        let has_served = past.is_some_and(|past| past.has_served);
        let superseded = past.is_some_and(|past| past.superseded.is_some());
        Cohort {
            ids: vec![process.id],
            started: process.started,
            serves,
            settled: match past {
                Some(past) => {
                    past.held_since.is_some_and(|since| outlasts(now - since, SETTLED_SECONDS))
                }
                None => outlasts(age, YOUNG_SECONDS),
            },
            has_served,
            superseded,
            unborn: !has_served
                && !superseded
                && past.map_or(age < SLOW_START_SECONDS, |past| past.from_birth),
            is_stopped: false,
            is_invisible: !member.launching && shows_no_listener(process),
            named: member.role == Role::Daemon && process.is_named_by_its_pidfile(),
            launching: member.launching,
            launches_with_listeners: member.launching && holds == Some(true),
        }
    }

    fn merge(&mut self, other: Cohort) {
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
        self.is_invisible &= other.is_invisible;
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

/// What processes of one generation have in common.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    /// Master and reload number.
    Workers(ProcessId, ReloadNumber),
    /// One pidfile names several daemons (nbproc).
    Named(PathBuf),
    /// A launcher, by its pid, and the child that will be the service.
    Launch(i32),
    Single(ProcessId),
}

/// Groups the living processes, masters excepted, into cohorts, oldest first.
#[must_use]
pub fn cohorts(
    service: &Service<'_>,
    holdings: &BTreeMap<ProcessId, Holding<'_>>,
    pasts: &Pasts,
    now: UnixSeconds,
) -> Vec<Cohort> {
    let mut cohorts: Vec<Cohort> = Vec::new();
    let mut places: BTreeMap<Mark, usize> = BTreeMap::new();
    let launchers = service.members.iter().filter(|member| member.launching);
    let launchers: BTreeSet<i32> = launchers.map(|launcher| launcher.id().pid).collect();
    let serving = service.members.iter().filter(|m| m.lives() && m.role != Role::Master);
    for member in serving {
        let id = member.id();
        let cohort = Cohort::of(member, holdings.get(&id), pasts.get(&id), now);
        let number = member.process.environment.as_ref().and_then(environment::reload_number);
        let mark = match (member.master, number) {
            _ if member.launching => Mark::Launch(id.pid),
            _ if launchers.contains(&member.process.parent) => Mark::Launch(member.process.parent),
            (Some(master), Some(number)) => Mark::Workers(master, number),
            _ => match member.process.pidfile.as_ref().filter(|_| cohort.named) {
                Some(pidfile) => Mark::Named(pidfile.path.clone()),
                None => Mark::Single(id),
            },
        };
        let place = *places.entry(mark).or_insert(cohorts.len());
        match cohorts.get_mut(place) {
            Some(same) => same.merge(cohort),
            None => cohorts.push(cohort),
        }
    }
    serve_unseen(&mut cohorts, now);
    for cohort in &mut cohorts {
        cohort.is_stopped = cohort.serves == Some(false)
            && cohort.ids.iter().all(|id| service.stopped_by.contains_key(id));
    }
    cohorts
}

/// Decides which cohorts serve where the kernel's tables cannot show it, because their configuration
/// declares no listener that is listed there: the newest such cohort that is past its start.
fn serve_unseen(cohorts: &mut [Cohort], now: UnixSeconds) {
    let mut newest = true;
    for cohort in cohorts.iter_mut().rev().filter(|cohort| cohort.is_invisible) {
        if cohort.serves == Some(true) {
            newest = false;
            continue;
        }
        let has_started = cohort.has_served || now - cohort.started >= YOUNG_SECONDS;
        cohort.serves = Some(has_started && newest);
        newest &= !has_started;
    }
}

/// With the configuration that it loaded it holds no listener that the kernel's tables show: none of TCP, of UDP or of
/// unix streams.
fn shows_no_listener(process: &Process) -> bool {
    // New rights of a file change nothing of what was loaded.
    let loaded = |files: &&Configuration| files.complete && !files.is_newer_than(process.started);
    let Some(configuration) = process.configuration.as_deref().filter(loaded) else {
        return false;
    };
    let declared = &configuration.declared;
    let masters = |section: &str| section == MASTER_SOCKET;
    declared.listeners.iter().all(|listener| masters(&listener.section))
        && declared.unix.iter().all(|unix| unix.is_datagram || masters(&unix.section))
        && declared.inherited.is_empty()
        && declared.uncertain.iter().all(|uncertain| uncertain.may_bind.is_empty())
}

#[cfg(test)]
mod tests {
    use crate::stage::{Actor, Film, actor};

    /// On a busy machine a new worker of 3.1 or later holds the listeners of the old one for long before it serves.
    #[test]
    fn a_worker_that_is_still_at_its_start_has_not_taken_over() {
        let line = "haproxy -W -f /a.cfg";
        let master = |number| actor(19, 1, line).reload(number);
        let old = || actor(20, 2, line).child_of(19).tcp(80, 1).reload(0);
        let new = |state| -> Actor {
            let new = actor(21, 1001, line).child_of(19).tcp(80, 1).reload(1);
            new.change(|process| process.run_state = state)
        };
        let mut film = Film::default();
        film.settle(900.0, &[master(0), old()]);
        for taken in [1002.0, 1010.0, 1030.0, 1050.0] {
            let verdict = film.see(taken, &[master(1), old(), new('R')]);
            let cast = "19 current, 20 current, 21 starting";
            assert_eq!(verdict.one().cast(), cast, "at {taken}");
        }
        let verdict = film.see(1051.0, &[master(1), old(), new('S')]);
        assert_eq!(
            verdict.one().cast(),
            "19 current, 20 stale, 21 current",
            "the old one is stranded"
        );
    }

    /// The process holds nothing that the kernel's tables show as a listener.
    #[test]
    fn what_cannot_be_seen_listening_serves_if_its_file_says_so() {
        for (what, text, modified, up) in [
            ("datagrams of a unix socket", "log-forward l\n dgram-bind unix@/run/d\n", 50, true),
            ("nothing at all", "global\n", 50, true),
            ("a stream of a unix socket", "frontend f\n bind unix@/run/s\n", 50, false),
            ("a file that was emptied after the start", "global\n", 900, false),
        ] {
            let process = actor(10, 100, "haproxy -D -f /a.cfg").configured(text, modified);
            let verdict = Film::default().settle(1000.0, &[process]);
            assert_eq!(verdict.one().up, Some(up), "{what}");
        }
    }
}
