//! Counts the reloads of a service, those that landed and those that failed.

use std::collections::BTreeSet;

use super::case::Case;
use super::verdict::Reloads;
use crate::haproxy::environment::{self, ReloadNumber};
use crate::haproxy::lineage::generations::Generation;
use crate::haproxy::lineage::member::{Member, Role};
use crate::model::{ProcessId, UnixSeconds};

/// The reloads of one service, and what it takes to notice the next one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReloadHistory {
    /// The reloads that were seen.
    pub seen: Reloads,
    /// The processes of the generation that was current when it was last known.
    current: BTreeSet<ProcessId>,
    /// The reload that is failing now.
    failing: Option<Failing>,
    /// The reload number up to which a master's reloads are counted.
    counted: Option<(ProcessId, ReloadNumber)>,
    /// The highest reload number of a master that landed.
    pub(super) landed: Option<(ProcessId, ReloadNumber)>,
}

impl ReloadHistory {
    /// Moves its times by as much as the wall clock was set.
    pub fn move_by(&mut self, seconds: f64) {
        let failing = self.failing.as_mut().map(|failing| &mut failing.since);
        for time in failing.into_iter().chain(&mut self.seen.last_timestamp) {
            *time += seconds;
        }
    }

    /// Whether a reload looks as if it failed for the first time in the sample taken `now`. From 3.1 on, a master
    /// that has yet to start its worker looks the same for some milliseconds.
    #[must_use]
    pub fn begins_to_fail(&self, now: UnixSeconds) -> bool {
        self.failing.as_ref().is_some_and(|failing| failing.since >= now)
    }
}

/// A reload number of a master that no worker has yet.
#[derive(Debug, Clone, PartialEq)]
struct Failing {
    master: ProcessId,
    number: ReloadNumber,
    since: UnixSeconds,
    samples: u32,
}

/// The reload number of a master and that of its newest living worker.
#[derive(Debug, Clone)]
pub(super) struct Numbers<'a> {
    pub(super) master: &'a Member<'a>,
    pub(super) tried: ReloadNumber,
    pub(super) landed: ReloadNumber,
    /// The numbers of all living workers that have started.
    workers: Vec<ReloadNumber>,
    pub(super) starting: bool,
}

/// The reload numbers of a service. `None` without a master that has a worker, or if the environment
/// of either cannot be read.
pub(super) fn numbers<'a>(case: &'a Case<'a>) -> Option<Numbers<'a>> {
    let members = || case.service.members.iter().filter(|member| member.lives());
    let master = members().rfind(|member| member.role == Role::Master && !member.launching)?;
    let environment = master.process.environment.as_ref()?;
    let workers: Vec<_> = members().filter(|m| m.master == Some(master.id())).collect();
    let number = |member: &&Member<'_>| {
        member.process.environment.as_ref().and_then(environment::reload_number)
    };
    let starting = |member: &&Member<'_>| case.generations.get(member.id()) == Generation::Starting;
    let started = workers.iter().filter(|member| !starting(member));
    let of_workers: Vec<ReloadNumber> = started.filter_map(number).collect();
    let living = of_workers.iter().copied().max()?;
    // The newest worker may exit before an older one does.
    let before = case.landed.filter(|(of, _)| *of == master.id()).map(|(_, number)| number);
    Some(Numbers {
        master,
        tried: environment::reload_number(environment)?,
        landed: living.max(before.unwrap_or(0)),
        workers: of_workers,
        starting: environment::master_is_loading(environment)
            // One whose reload has failed sleeps. From 3.1 on nothing else tells it from one that has executed itself
            // and has yet to start its worker, which may take seconds on a busy machine.
            || master.process.is_at_work()
            || workers.iter().any(starting),
    })
}

/// Adds the reloads that this sample shows.
#[must_use]
pub fn count(before: Option<&ReloadHistory>, case: &Case<'_>) -> ReloadHistory {
    let now = case.snapshot.taken;
    let mut history = before.cloned().unwrap_or_default();
    let numbers = numbers(case);
    history.seen.failures_known |= numbers.is_some();
    let current = case.serving_ids();
    if is_settled(case, &current, &history) && current.is_disjoint(&history.current) {
        if let Some(since) = reloaded(case, &current, &history.current) {
            if before.is_some() && !is_numbered(case, &current, &history) {
                history.seen.successes += 1;
            }
            history.seen.last_timestamp = Some(since);
        }
        history.current = current;
    }
    if let Some(numbers) = numbers {
        count_numbers(&mut history, numbers, case.generations.up == Some(true), now);
    }
    history
}

/// The current processes serve, as far as can be seen. One whose sockets cannot be read does if all that served before
/// it are gone: HAProxy tells them to stop only once it has bound what it declares.
fn is_settled(case: &Case<'_>, current: &BTreeSet<ProcessId>, history: &ReloadHistory) -> bool {
    let lives = |id: &ProcessId| case.member(*id).is_some_and(Member::lives);
    let launches = |id: &ProcessId| case.member(*id).is_some_and(|member| member.launching);
    let is_alone = || !current.iter().any(launches) && !history.current.iter().any(lives);
    !current.is_empty() && case.generations.up.unwrap_or_else(is_alone)
}

/// The reloads of the serving generation are counted by the numbers of its master.
fn is_numbered(case: &Case<'_>, current: &BTreeSet<ProcessId>, history: &ReloadHistory) -> bool {
    let mut masters = current.iter().filter_map(|id| case.member(*id)?.master);
    history.counted.is_some_and(|(counted, _)| masters.any(|master| master == counted))
}

/// The start of the current generation, if it came by a reload; `None` if the service was started.
fn reloaded(
    case: &Case<'_>,
    current: &BTreeSet<ProcessId>,
    former: &BTreeSet<ProcessId>,
) -> Option<UnixSeconds> {
    let members: Vec<_> = current.iter().filter_map(|id| case.member(*id)).collect();
    let newest = members.iter().max_by_key(|member| member.id())?;
    let worker = newest.role == Role::Worker;
    let by_number = newest.process.environment.as_ref().and_then(environment::reload_number);
    let by_list = newest.replaces().is_some_and(|pids| !pids.is_empty());
    let overlaps = former.iter().any(|id| case.member(*id).is_some_and(Member::lives));
    let reloaded = if worker {
        by_list || by_number.is_some_and(|number| number > 0)
    } else {
        by_list || overlaps
    };
    reloaded.then_some(newest.process.started)
}

/// Counts a master's reloads by their numbers, so that those between two samples count too: every number up
/// to the last one that landed has landed, unless it was seen to fail.
fn count_numbers(
    history: &mut ReloadHistory,
    numbers: Numbers<'_>,
    serves: bool,
    now: UnixSeconds,
) {
    let Numbers { tried, landed, workers, starting, master } = numbers;
    let id = master.id();
    history.landed = Some((id, landed));
    let known = history.counted.filter(|(of, _)| *of == id).map(|(_, number)| number);
    let mut counted = known.unwrap_or(landed);
    let failing = history.failing.take().filter(|failing| failing.master == id);
    if landed > counted {
        let mut gained = landed - counted;
        // The master has gone on to another number, so the former one failed, even if only one
        // sample showed it; unless its worker has come after all, and lives.
        let failed = |number| number > counted && number < landed && !workers.contains(&number);
        if failing.as_ref().is_some_and(|failing| failed(failing.number)) {
            history.seen.failures += 1;
            gained -= 1;
        }
        history.seen.successes += u64::from(gained);
        counted = landed;
    }
    history.counted = Some((id, counted));
    if tried <= landed {
        if !starting {
            history.seen.last_successful = (tried > 0).then_some(true);
        }
        return;
    }
    if starting || !serves {
        history.failing = failing;
        return;
    }
    let mut failing = match failing {
        Some(failing) if failing.number == tried => failing,
        Some(_) => {
            let failed = (tried - 1).saturating_sub(counted);
            history.seen.failures += u64::from(failed);
            history.counted = Some((id, counted.max(tried - 1)));
            Failing { master: id, number: tried, since: now, samples: 0 }
        }
        None => Failing { master: id, number: tried, since: now, samples: 0 },
    };
    failing.samples += 1;
    if failing.samples == 2 {
        let counted = history.counted.map_or(landed, |(_, number)| number);
        history.seen.failures += u64::from(tried.saturating_sub(counted));
        history.counted = Some((id, tried));
        history.seen.last_successful = Some(false);
        history.seen.last_timestamp = Some(failing.since);
    }
    history.failing = Some(failing);
}

#[cfg(test)]
mod tests {
    use crate::model::ConnectionState::Established;
    use crate::stage::{Actor, Film, actor};

    const LINE: &str = "haproxy -W -f /a.cfg";

    fn master(number: u32) -> Actor {
        actor(19, 1, LINE).reload(number)
    }

    fn worker(pid: i32, started: u32, number: u32) -> Actor {
        actor(pid, started, LINE).child_of(19).reload(number)
    }

    #[test]
    fn successes_and_failures_of_a_master_are_counted() {
        let mut film = Film::default();
        let mut see = |taken, actors: &[Actor]| {
            let verdict = film.see(taken, actors);
            let reloads = &verdict.one().reloads;
            (reloads.successes, reloads.failures, reloads.last_successful)
        };
        let first = || worker(20, 2, 0).tcp(80, 1);
        assert_eq!(see(1000.0, &[master(0), first()]), (0, 0, None));
        assert_eq!(see(1001.0, &[master(1), first()]), (0, 0, None));
        assert_eq!(see(1002.0, &[master(1), first()]), (0, 1, Some(false)));
        assert_eq!(see(1003.0, &[master(1), first()]), (0, 1, Some(false)));
        assert_eq!(see(1004.0, &[master(2), first()]), (0, 1, Some(false)));
        assert_eq!(see(1005.0, &[master(3), first()]), (0, 2, Some(false)));
        let third = || worker(23, 1005, 3).tcp(80, 2);
        assert_eq!(see(1006.0, &[master(3), third()]), (1, 2, Some(true)));
        assert_eq!(see(1007.0, &[master(3), third()]), (1, 2, Some(true)));
    }

    /// The sockets of a daemon that came by a reload are out of sight as long as it is there.
    #[test]
    fn a_reload_to_one_that_was_never_seen_listening_is_counted() {
        let line = |list: &str| format!("haproxy -D -f /a.cfg -p /run/p {list}");
        let mut film = Film::default();
        film.settle(1000.0, &[actor(10, 100, &line("")).tcp(80, 1)]);
        let second = actor(11, 1035, &line("-sf 10")).change(|process| process.sockets = None);
        film.see(1036.0, &[second]);
        let verdict = film.see(1040.0, &[actor(13, 1039, &line("-sf 12")).tcp(80, 2)]);
        assert_eq!(verdict.one().reloads.successes, 2);
    }

    /// One sample saw the master after its reload, and not yet the worker, which drains when the next one is taken.
    #[test]
    fn a_reload_whose_worker_came_late_has_not_failed() {
        let first = || worker(20, 2, 0).tcp(80, 1);
        let drain = || worker(21, 1001, 1).connected(9, Established);
        let mut film = Film::default();
        film.settle(1000.0, &[master(0), first()]);
        film.see(1001.0, &[master(1), first()]);
        let verdict = film.see(1002.0, &[master(2), drain(), worker(22, 1002, 2).tcp(80, 1)]);
        let reloads = &verdict.one().reloads;
        assert_eq!((reloads.successes, reloads.failures), (2, 0));
    }

    /// Under load, several looks may show a master of 3.1 or newer that has yet to start the worker of its number.
    #[test]
    fn a_master_at_work_has_not_failed() {
        let first = || worker(20, 2, 0).tcp(80, 1);
        for state in ['R', 'D'] {
            let busy = |number| master(number).change(move |process| process.run_state = state);
            let mut film = Film::default();
            film.settle(1000.0, &[master(0), first()]);
            for (taken, number) in [(1001.0, 1), (1002.0, 1), (1003.0, 2), (1004.0, 3)] {
                let verdict = film.see(taken, &[busy(number), first()]);
                let reloads = &verdict.one().reloads;
                assert_eq!((reloads.successes, reloads.failures), (0, 0), "{state} at {taken}");
                assert!(verdict.one().findings().is_empty(), "{:?}", verdict.one().findings());
            }
            let verdict = film.see(1005.0, &[master(3), worker(23, 1004, 3).tcp(80, 2)]);
            let reloads = &verdict.one().reloads;
            assert_eq!((reloads.successes, reloads.failures), (3, 0), "{state}");
        }
    }

    /// During a daemon's reload a sample may show only the child that has yet to detach, beside a
    /// process that was superseded long ago and drains. That process stays stale.
    #[test]
    fn a_draining_process_stays_stale_while_the_new_daemon_detaches() {
        let mut film = Film::default();
        let line = |sf: &str| format!("haproxy -D -f /a.cfg -p /run/p {sf}");
        let first = || actor(10, 100, &line("-sf 9")).connected(7, Established);
        let second = || actor(11, 900, &line("-sf 10")).tcp(80, 2);
        let child = || actor(13, 1034, &line("-sf 11")).tcp(80, 3);
        film.settle(800.0, &[first().tcp(80, 1)]);
        let verdict = film.settle(1000.0, &[first(), second()]);
        assert_eq!(
            (verdict.one().reloads.successes, &*verdict.one().cast()),
            (1, "10 stale, 11 current")
        );
        let verdict = film.see(1035.0, &[first(), child().change(|p| p.session = 5)]);
        assert_eq!(
            (verdict.one().up, &*verdict.one().cast()),
            (Some(true), "10 stale, 13 starting")
        );
        assert_eq!(verdict.one().reloads.successes, 1);
        let verdict = film.see(1036.0, &[first(), child()]);
        assert_eq!(
            (verdict.one().reloads.successes, &*verdict.one().cast()),
            (2, "10 stale, 13 current")
        );
    }

    #[test]
    fn a_restart_does_not_count_as_a_reload() {
        let mut film = Film::default();
        let daemon =
            |pid, started| actor(pid, started, "haproxy -D -f /a.cfg -p /run/p").tcp(80, 1);
        film.see(1000.0, &[daemon(10, 1)]);
        film.see(1001.0, &[]);
        let verdict = film.see(1002.0, &[daemon(11, 1001)]);
        assert_eq!(verdict.one().name, "p");
        assert_eq!(verdict.one().reloads.successes, 0);
        assert_eq!(verdict.one().reloads.last_timestamp, None);
    }

    #[test]
    fn reloads_between_two_samples_are_counted() {
        let mut film = Film::default();
        film.settle(1000.0, &[master(0), worker(20, 2, 0).tcp(80, 1)]);
        let verdict = film.see(1032.0, &[master(3), worker(23, 1031, 3).tcp(80, 2)]);
        assert_eq!(verdict.one().reloads.successes, 3);
        assert_eq!(
            film.see(1033.0, &[master(3), worker(23, 1031, 3).tcp(80, 2)]).one().reloads.successes,
            3
        );
    }

    #[test]
    fn a_soft_stop_is_no_failed_reload() {
        let drain = || worker(20, 2, 0).connected(9, Established);
        let mut film = Film::default();
        film.settle(1000.0, &[master(1), drain(), worker(21, 900, 1).tcp(80, 1)]);
        let stopped = film.settle(1040.0, &[master(1), drain()]);
        assert_eq!(stopped.one().reloads.failures, 0);
        assert!(stopped.one().findings().is_empty());
        let fresh = Film::default().settle(1040.0, &[master(1), drain()]);
        assert_eq!(fresh.one().reloads.failures, 0);
        assert!(fresh.one().findings().is_empty());
    }

    #[test]
    fn a_second_master_is_a_reload() {
        let mut film = Film::default();
        let old = || master(0);
        film.settle(1000.0, &[old(), worker(20, 2, 0).tcp(80, 1)]);
        let line = format!("{LINE} -sf 19 20");
        let new = || actor(30, 1031, &line);
        let serves = || actor(31, 1031, &line).child_of(30).tcp(80, 2);
        let drain = || worker(20, 2, 0).connected(9, Established);
        film.see(1032.0, &[old(), drain(), new(), serves()]);
        let verdict = film.settle(1050.0, &[old(), drain(), new(), serves()]);
        let verdict = verdict.one();
        assert_eq!(verdict.cast(), "19 stale, 20 stale, 30 current, 31 current");
        assert_eq!(verdict.reloads.successes, 1);
        assert!(verdict.findings().is_empty(), "{:?}", verdict.findings());
        let proofs: Vec<_> =
            verdict.processes.iter().filter_map(|p| Some(p.superseded?.proof.as_str())).collect();
        assert_eq!(proofs, ["master", "told"]);
    }

    #[test]
    fn a_master_instead_of_a_daemon_is_a_reload() {
        let mut film = Film::default();
        let daemon = || actor(10, 1, "haproxy -D -f /a.cfg -p /run/p");
        film.settle(1000.0, &[daemon().tcp(80, 1)]);
        let line = "haproxy -W -f /a.cfg -p /run/p -sf 10";
        let next = [
            daemon().connected(9, Established),
            actor(30, 1031, line),
            actor(31, 1031, line).child_of(30).tcp(80, 2),
        ];
        let verdict = film.see(1032.0, &next);
        assert_eq!(verdict.one().cast(), "10 stale, 30 current, 31 current");
        assert_eq!(verdict.one().reloads.successes, 1);
    }
}
