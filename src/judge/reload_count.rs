//! Rules about reloads, and their count.

use std::collections::BTreeSet;

use super::case::Scene;
use super::rules::{Case, Finding, Judgement};
use super::verdict::Subject;
use crate::haproxy::environment::{self, ReloadNumber};
use crate::haproxy::lineage::generations::Generation;
use crate::haproxy::lineage::member::{Member, Role};
use crate::model::{ProcessId, Signals, UnixSeconds};

/// The reloads of one haproxy, as far as they were seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reloads {
    /// New generations that took over.
    pub successes: u64,
    /// Reload numbers of a master that no worker ever matched.
    pub failures: u64,
    /// Failures can be known: it has a master whose environment can be read.
    pub failures_known: bool,
    /// The last one landed; `None` where that cannot be known, or there was none.
    pub last_successful: Option<bool>,
    /// When it was.
    pub last_timestamp: Option<UnixSeconds>,
    current: BTreeSet<ProcessId>,
    failing: Option<Failing>,
}

/// A reload number without a worker.
#[derive(Debug, Clone, PartialEq)]
struct Failing {
    master: ProcessId,
    number: ReloadNumber,
    since: UnixSeconds,
    samples: u32,
}

/// A master's reload number and the newest living worker's.
#[derive(Debug, Clone, Copy)]
struct Numbers<'a> {
    master: &'a Member<'a>,
    tried: ReloadNumber,
    landed: ReloadNumber,
    starting: bool,
}

/// `None`: there is no master with a worker, or their environment cannot be read.
fn numbers<'a>(scene: &'a Scene<'a>) -> Option<Numbers<'a>> {
    let members = || scene.service.members.iter().filter(|member| member.lives());
    let master = members().rfind(|member| member.role == Role::Master && !member.launching)?;
    let environment = master.process.environment.as_ref()?;
    let workers: Vec<_> = members().filter(|m| m.master == Some(master.id())).collect();
    let number = |member: &&Member<'_>| {
        member.process.environment.as_ref().and_then(environment::reload_number)
    };
    let starting =
        |member: &&Member<'_>| scene.generations.get(member.id()) == Generation::Starting;
    Some(Numbers {
        master,
        tried: environment::reload_number(environment)?,
        landed: workers.iter().filter(|member| !starting(member)).filter_map(number).max()?,
        starting: environment::master_is_loading(environment) || workers.iter().any(starting),
    })
}

/// The last reload did not land, or the master does not take the signal.
pub fn reload_failed(case: &Case<'_>) -> Judgement {
    let scene = case.scene;
    let mut findings = Vec::new();
    let masters = scene.living(Generation::Current).filter(|m| m.role == Role::Master);
    for master in masters {
        let pending = master.process.signals.is_some_and(|s| s.pending & Signals::SIGUSR2 != 0);
        if pending {
            findings.push(Finding {
                subject: Subject::default(),
                instance: "pending".to_owned(),
                evidence: vec![format!(
                    "SIGUSR2 is pending on master {}: reloads are asked for and not begun",
                    master.id().pid
                )],
                advice: format!(
                    "the master hangs: see its state in /proc/{}/status, then restart the service",
                    master.id().pid
                ),
                ..Finding::default()
            });
        }
    }
    let numbers = numbers(scene);
    if let Some(numbers) = numbers.filter(|n| n.tried > n.landed && !n.starting) {
        findings.push(Finding {
            subject: Subject::default(),
            instance: "number".to_owned(),
            evidence: vec![format!(
                "master {} has tried reload {}, and its newest worker is of reload {}: the old \
                 configuration goes on serving",
                numbers.master.id().pid,
                numbers.tried,
                numbers.landed
            )],
            advice: "read why in HAProxy's log, check with haproxy -c -f on the same files, \
                     mend and reload again"
                .to_owned(),
            ..Finding::default()
        });
    }
    Judgement::if_known(numbers.is_some(), findings)
}

/// Live daemons that serve and were told to replace the same process.
#[must_use]
pub fn racing(scene: &Scene<'_>) -> BTreeSet<ProcessId> {
    let serving: Vec<_> = scene
        .service
        .members
        .iter()
        .filter(|member| {
            let holding = scene.holdings.get(&member.id());
            member.lives()
                && member.role == Role::Daemon
                && !member.launching
                && holding.is_some_and(|holding| !holding.listeners.is_empty())
        })
        .collect();
    let mut racing = BTreeSet::new();
    for (index, a) in serving.iter().enumerate() {
        for b in serving.iter().skip(index + 1) {
            let (Some(of_a), Some(of_b)) = (a.replaces(), b.replaces()) else { continue };
            let both_current =
                [a, b].iter().all(|m| scene.generations.get(m.id()) == Generation::Current);
            let in_sequence = b.was_told_to_replace(a.process);
            if of_a.iter().any(|pid| of_b.contains(pid)) && !both_current && !in_sequence {
                racing.extend([a.id(), b.id()]);
            }
        }
    }
    racing
}

/// Two reloads at once left two daemons listening.
pub fn reload_raced(case: &Case<'_>) -> Judgement {
    let scene = case.scene;
    let racing: Vec<_> = racing(scene).into_iter().filter_map(|id| scene.member(id)).collect();
    let complete = scene.living(Generation::Unknown).next().is_none();
    let Some(newest) = racing.iter().map(|m| m.process.started).reduce(f64::max) else {
        return Judgement::if_known(complete, Vec::new());
    };
    let mut evidence: Vec<String> = racing
        .iter()
        .map(|member| {
            let named: Vec<_> =
                member.replaces().unwrap_or_default().iter().map(i32::to_string).collect();
            let generation = scene.generations.get(member.id()).as_str();
            format!(
                "pid {} ({generation}) listens and was started with -sf {}",
                member.id().pid,
                named.join(" ")
            )
        })
        .collect();
    evidence.push("clients reach any of them; the next reload will end only one".to_owned());
    let stale = racing.iter().filter(|m| scene.generations.get(m.id()) != Generation::Current);
    let commands: Vec<_> = stale.map(|member| format!("kill -USR1 {}", member.id().pid)).collect();
    let finding = Finding {
        subject: Subject::default(),
        instance: String::new(),
        since: Some(newest),
        grace_seconds: None,
        evidence,
        advice: format!(
            "{}; then let one reload finish before the next begins",
            commands.join("; ")
        ),
    };
    Judgement::if_known(complete, vec![finding])
}

/// Counts what this sample shows of reloads.
#[must_use]
pub fn count(before: Option<&Reloads>, scene: &Scene<'_>) -> Reloads {
    let now = scene.snapshot.taken;
    let mut reloads = before.cloned().unwrap_or_default();
    let current: BTreeSet<ProcessId> = scene
        .living(Generation::Current)
        .filter(|member| member.role != Role::Master)
        .map(Member::id)
        .collect();
    let settled = scene.generations.up == Some(true) && !current.is_empty();
    if settled && current.is_disjoint(&reloads.current) {
        if let Some(since) = reloaded(scene, &current, &reloads.current) {
            if before.is_some() {
                reloads.successes += 1;
            }
            reloads.last_timestamp = Some(since);
        }
        reloads.current = current;
    }
    let numbers = numbers(scene);
    reloads.failures_known |= numbers.is_some();
    if let Some(numbers) = numbers {
        count_failures(&mut reloads, numbers, now);
    }
    reloads
}

/// When the current generation came by a reload, not by a start: its start.
fn reloaded(
    scene: &Scene<'_>,
    current: &BTreeSet<ProcessId>,
    former: &BTreeSet<ProcessId>,
) -> Option<UnixSeconds> {
    let members: Vec<_> = current.iter().filter_map(|id| scene.member(*id)).collect();
    let newest = members.iter().max_by_key(|member| member.id())?;
    let worker = newest.role == Role::Worker;
    let by_number = newest.process.environment.as_ref().and_then(environment::reload_number);
    let by_list = newest.replaces().is_some_and(|pids| !pids.is_empty());
    let overlaps = former.iter().any(|id| scene.member(*id).is_some_and(Member::lives));
    let reloaded = if worker { by_number.is_some_and(|n| n > 0) } else { by_list || overlaps };
    reloaded.then_some(newest.process.started)
}

fn count_failures(reloads: &mut Reloads, numbers: Numbers<'_>, now: UnixSeconds) {
    let Numbers { tried, landed, starting, master } = numbers;
    if starting {
        return;
    }
    if tried <= landed {
        reloads.failing = None;
        reloads.last_successful = (tried > 0).then_some(true);
        return;
    }
    let same = |failing: &Failing| failing.master == master.id() && failing.number == tried;
    let mut failing = match reloads.failing.take() {
        Some(failing) if same(&failing) => failing,
        former => {
            // A number that was failing and was tried again has failed, seen twice or not.
            if former.is_some_and(|f| f.master == master.id() && f.samples == 1) {
                reloads.failures += 1;
            }
            Failing { master: master.id(), number: tried, since: now, samples: 0 }
        }
    };
    failing.samples += 1;
    if failing.samples == 2 {
        reloads.failures += 1;
        reloads.last_successful = Some(false);
        reloads.last_timestamp = Some(failing.since);
    }
    reloads.failing = Some(failing);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::judge::verdict::{Haproxy, Kind};
    use crate::model::ConnectionState::Established;
    use crate::stage::{Actor, Film, actor};

    const LINE: &str = "haproxy -W -f /a.cfg";

    fn master(number: u32) -> Actor {
        actor(19, 1, LINE).reload(number)
    }

    fn worker(pid: i32, started: u32, number: u32) -> Actor {
        actor(pid, started, LINE).child_of(19).reload(number)
    }

    fn failed(haproxy: &Haproxy) -> bool {
        haproxy.findings().iter().any(|finding| finding == "reload_failed")
    }

    #[test]
    fn reload_failed() {
        let serving = || worker(20, 2, 1).tcp(80, 1);
        let parsing = master(2)
            .variable("HAPROXY_MWORKER_REEXEC", "1")
            .variable("HAPROXY_STARTUP_VERSION", "2.6.12")
            .change(|p| {
                if let Some(environment) = &mut p.environment {
                    Arc::make_mut(&mut environment.0).remove("HAPROXY_MWORKER_WAIT_ONLY");
                }
            });
        let pending = master(1).change(|p| p.signals.get_or_insert_default().pending = 0x800);
        let drain = worker(18, 1, 0).connected(9, Established);
        let table: [(&str, Vec<Actor>, bool); 7] = [
            ("landed", vec![master(1), serving()], false),
            ("never reloaded", vec![master(0), worker(20, 2, 0).tcp(80, 1)], false),
            ("ahead of its worker", vec![master(2), serving()], true),
            ("the worker is starting", vec![master(2), serving(), worker(21, 999, 2)], false),
            ("the master still reads (2.5 to 3.0)", vec![parsing, serving()], false),
            ("the signal waits", vec![pending, serving()], true),
            ("an older worker drains", vec![master(1), drain, serving()], false),
        ];
        for (what, actors, expected) in table {
            let verdict = Film::default().settle(1000.0, &actors);
            assert_eq!(failed(verdict.one()), expected, "{what}");
            assert!(verdict.one().judged(Kind::ReloadFailed), "{what}");
        }
        let daemon = actor(10, 1, "haproxy -D -f /a.cfg").tcp(80, 1);
        let verdict = Film::default().settle(1000.0, &[daemon]);
        assert!(!verdict.one().judged(Kind::ReloadFailed), "nobody can know that of a daemon");
    }

    #[test]
    fn reloads_of_a_master_are_counted() {
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

    /// Of a daemon's reload a sample may see only the child that has yet to detach, beside one that
    /// was superseded long ago and drains: that one is no more current than before.
    #[test]
    fn a_drain_is_not_current_while_nobody_has_detached() {
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
    fn a_restart_is_no_reload() {
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
    fn reload_raced() {
        let daemon = |pid, started, list: &str| {
            actor(pid, started, &format!("haproxy -D -f /a.cfg -p /run/p {list}"))
        };
        let table: [(&str, Vec<Actor>, &[&str]); 5] = [
            (
                "two were told to replace the same",
                vec![daemon(11, 2, "-sf 9").tcp(80, 1), daemon(12, 3, "-sf 9").tcp(80, 2)],
                &["reload_raced"],
            ),
            (
                "one of them drains",
                vec![
                    daemon(11, 2, "-sf 9").connected(5, Established),
                    daemon(12, 3, "-sf 9").tcp(80, 2),
                ],
                &[],
            ),
            (
                "one after the other, a list of all",
                vec![
                    daemon(11, 2, "-sf 9").connected(5, Established),
                    daemon(12, 3, "-sf 9 11").tcp(80, 2),
                ],
                &[],
            ),
            (
                "bare lists share nobody",
                vec![daemon(11, 2, "-sf").tcp(80, 1), daemon(12, 3, "-sf").tcp(80, 1)],
                &["port_stale_listener tcp 80 haproxy stale"],
            ),
            (
                "several of one start (nbproc)",
                vec![
                    daemon(11, 2, "-sf 9").pidfile(&[11, 12]).tcp(80, 1),
                    daemon(12, 2, "-sf 9").pidfile(&[11, 12]).tcp(80, 1),
                ],
                &[],
            ),
        ];
        for (what, actors, expected) in table {
            let verdict = Film::default().settle(1000.0, &actors);
            assert_eq!(verdict.one().findings(), expected, "{what}");
        }
    }
}
