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
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers<'a> {
    pub(super) master: &'a Member<'a>,
    pub(super) tried: ReloadNumber,
    pub(super) landed: ReloadNumber,
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
    Some(Numbers {
        master,
        tried: environment::reload_number(environment)?,
        landed: workers.iter().filter(|member| !starting(member)).filter_map(number).max()?,
        starting: environment::master_is_loading(environment) || workers.iter().any(starting),
    })
}

/// Adds the reloads that this sample shows.
#[must_use]
pub fn count(before: Option<&ReloadHistory>, case: &Case<'_>) -> ReloadHistory {
    let now = case.snapshot.taken;
    let mut history = before.cloned().unwrap_or_default();
    let current: BTreeSet<ProcessId> = case
        .living(Generation::Current)
        .filter(|member| member.role != Role::Master)
        .map(Member::id)
        .collect();
    let settled = case.generations.up == Some(true) && !current.is_empty();
    if settled && current.is_disjoint(&history.current) {
        if let Some(since) = reloaded(case, &current, &history.current) {
            if before.is_some() {
                history.seen.successes += 1;
            }
            history.seen.last_timestamp = Some(since);
        }
        history.current = current;
    }
    let numbers = numbers(case);
    history.seen.failures_known |= numbers.is_some();
    if let Some(numbers) = numbers {
        count_failures(&mut history, numbers, now);
    }
    history
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
    let reloaded = if worker { by_number.is_some_and(|n| n > 0) } else { by_list || overlaps };
    reloaded.then_some(newest.process.started)
}

fn count_failures(history: &mut ReloadHistory, numbers: Numbers<'_>, now: UnixSeconds) {
    let Numbers { tried, landed, starting, master } = numbers;
    if starting {
        return;
    }
    if tried <= landed {
        history.failing = None;
        history.seen.last_successful = (tried > 0).then_some(true);
        return;
    }
    let same = |failing: &Failing| failing.master == master.id() && failing.number == tried;
    let mut failing = match history.failing.take() {
        Some(failing) if same(&failing) => failing,
        former => {
            // The master has gone on to another number, so the former one failed, even if only one
            // sample showed it.
            if former.is_some_and(|f| f.master == master.id() && f.samples == 1) {
                history.seen.failures += 1;
            }
            Failing { master: master.id(), number: tried, since: now, samples: 0 }
        }
    };
    failing.samples += 1;
    if failing.samples == 2 {
        history.seen.failures += 1;
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
}
