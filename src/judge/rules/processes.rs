//! Rules about processes.

use std::collections::BTreeMap;

use super::explain;
use super::ports::STALE_HOLDER;
use super::{Case, Finding, Judgement};
use crate::haproxy::lineage::generations::Generation;
use crate::haproxy::lineage::member::{Member, Role};
use crate::judge::verdict::{StaleState, Subject};
use crate::model::{PidfileContent, ProcessId};

/// Tells the findings of two processes apart.
#[must_use]
pub fn instance(id: ProcessId) -> String {
    format!("{}:{}", id.pid, id.start_ticks)
}

/// A stale process without listener and connection will not exit.
pub fn process_idle(case: &Case<'_>) -> Judgement {
    let scene = case.scene;
    let mut complete = scene.living(Generation::Unknown).next().is_none();
    let mut findings = Vec::new();
    for member in scene.living(Generation::Stale) {
        match scene.state(member) {
            StaleState::Idle => {}
            StaleState::Unknown => {
                complete = false;
                continue;
            }
            _ => continue,
        }
        let pid = member.id().pid;
        let mut evidence =
            vec![format!("stale pid {pid} has no listener and no connection, and has not exited")];
        evidence.extend(explain::signals(member));
        findings.push(Finding {
            subject: Subject { port: None, holder: STALE_HOLDER.to_owned() },
            instance: instance(member.id()),
            since: None,
            grace_seconds: None,
            evidence,
            advice: match member.process.run_state {
                'T' | 't' => format!("kill -CONT {pid}"),
                _ => format!("nothing is lost by kill -TERM {pid}; if it stays, kill -KILL {pid}"),
            },
        });
    }
    Judgement::if_known(complete, findings)
}

/// Defunct processes, by the parent that does not reap them.
pub fn process_zombie(case: &Case<'_>) -> Judgement {
    let scene = case.scene;
    let mut by_parent: BTreeMap<i32, Vec<&Member<'_>>> = BTreeMap::new();
    for zombie in scene.service.members.iter().filter(|member| !member.lives()) {
        by_parent.entry(zombie.process.parent).or_default().push(zombie);
    }
    let findings = by_parent.into_iter().map(|(parent, zombies)| {
        let name = parent_name(case, parent);
        let pids: Vec<_> = zombies.iter().map(|zombie| zombie.id().pid.to_string()).collect();
        Finding {
            subject: Subject { port: None, holder: name.clone() },
            instance: parent.to_string(),
            since: zombies
                .iter()
                .map(|z| case.scene.pasts.get(&z.id()).and_then(|past| past.zombie_since))
                .map(|since| since.unwrap_or(case.scene.snapshot.taken))
                .reduce(f64::min),
            grace_seconds: None,
            evidence: vec![format!(
                "{name} (pid {parent}) has not reaped {} dead HAProxy process(es): {}",
                pids.len(),
                pids.join(", ")
            )],
            advice: if parent == 1 {
                "run an init that reaps as pid 1 of the container (docker run --init, tini)"
                    .to_owned()
            } else {
                format!("mend or restart {name} (pid {parent}): it must wait for its children")
            },
        }
    });
    Judgement::of(findings.collect())
}

/// A worker whose parent is no HAProxy master.
pub fn process_orphan(case: &Case<'_>) -> Judgement {
    let orphans = case.scene.service.members.iter().filter(|member| {
        member.lives()
            && member.role == Role::Worker
            && member.master.is_none()
            && !member.launching
    });
    let findings = orphans.map(|member| {
        let (pid, parent) = (member.id().pid, member.process.parent);
        let name = parent_name(case, parent);
        let mut evidence = vec![format!("the parent of worker {pid} is {name} (pid {parent})")];
        evidence.extend(explain::signals(member));
        Finding {
            subject: Subject { port: None, holder: name },
            instance: instance(member.id()),
            since: None,
            grace_seconds: None,
            evidence,
            advice: format!(
                "its master is dead and no reload reaches it: start the service anew, then kill -USR1 {pid}"
            ),
        }
    });
    Judgement::of(findings.collect())
}

/// A pidfile that is there and does not name who serves; with a master, the master.
pub fn pidfile_mismatch(case: &Case<'_>) -> Judgement {
    let scene = case.scene;
    if scene.generations.up != Some(true) {
        return Judgement::if_known(scene.generations.up.is_some(), Vec::new());
    }
    let masters: Vec<_> =
        scene.living(Generation::Current).filter(|m| m.role == Role::Master).collect();
    let expected = if masters.is_empty() {
        scene.living(Generation::Current).filter(|m| m.role == Role::Daemon).collect()
    } else {
        masters
    };
    let mut complete = true;
    let mut wrong = Vec::new();
    let mut right = false;
    for member in expected {
        let Some(pidfile) = &member.process.pidfile else { continue };
        let pids = match &pidfile.content {
            PidfileContent::Pids(pids) if !pids.is_empty() => pids,
            PidfileContent::Unreadable => {
                complete = false;
                continue;
            }
            PidfileContent::Pids(_) | PidfileContent::Missing => continue,
        };
        if pids.contains(&member.process.own_pid()) {
            right = true;
            continue;
        }
        let named: Vec<_> = pids.iter().map(i32::to_string).collect();
        let path = pidfile.path.display();
        wrong.push(Finding {
            subject: Subject::default(),
            instance: String::new(),
            since: None,
            grace_seconds: None,
            evidence: vec![format!(
                "{path} names {}, and {} serves",
                named.join(", "),
                member.process.own_pid()
            )],
            advice: format!(
                "the next reload would signal the wrong process: echo {} > {path}",
                member.process.own_pid()
            ),
        });
    }
    wrong.truncate(usize::from(!right));
    Judgement::if_known(complete, wrong)
}

/// The serving process executes a file that was replaced or removed.
pub fn binary_outdated(case: &Case<'_>) -> Judgement {
    let mut complete = case.scene.living(Generation::Unknown).next().is_none();
    let mut findings = Vec::new();
    for member in case.scene.living(Generation::Current) {
        match &member.process.executable {
            None => complete = false,
            Some(executable) if executable.deleted => findings.push(Finding {
                subject: Subject::default(),
                instance: instance(member.id()),
                since: None,
                grace_seconds: None,
                evidence: vec![format!(
                    "{} {} runs {}, which is no longer that file on disk",
                    member.role.as_str(),
                    member.id().pid,
                    executable.path.display()
                )],
                advice: "an upgrade has not been taken up: restart (a master keeps its old code \
                         until it is reloaded, its workers until they are replaced)"
                    .to_owned(),
            }),
            Some(_) => {}
        }
    }
    Judgement::if_known(complete, findings)
}

fn parent_name(case: &Case<'_>, parent: i32) -> String {
    let snapshot = case.scene.snapshot;
    let haproxy = || snapshot.processes.iter().find(|p| p.id.pid == parent).map(|p| p.comm.clone());
    match snapshot.parents.get(&parent).cloned().or_else(haproxy) {
        Some(name) => name,
        None if parent == 0 => "outside the pid namespace".to_owned(),
        None => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::judge::verdict::{Kind, StaleState};
    use crate::model::Connection;
    use crate::model::ConnectionState::{CloseWait, Established};
    use crate::stage::{Actor, Film, actor};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";
    const NEXT: &str = "haproxy -D -f /a.cfg -p /run/p -sf 10";

    fn old() -> Actor {
        actor(10, 1, LINE)
    }

    fn new() -> Actor {
        actor(11, 2, NEXT).tcp(80, 1).udp(443, 2)
    }

    #[test]
    fn process_idle() {
        let pair = |pair| Connection::Unix { inode: 9, pair };
        let quic = |local_port| Connection::Udp { inode: 9, local_port };
        let idle: &[&str] = &["process_idle haproxy stale"];
        let table: [(&str, Actor, StaleState, &[&str]); 9] = [
            ("nothing left", old(), StaleState::Idle, idle),
            ("established", old().connected(9, Established), StaleState::Draining, &[]),
            ("close wait", old().connected(9, CloseWait), StaleState::Draining, &[]),
            ("a unix stream", old().connection(pair(Some(false))), StaleState::Draining, &[]),
            ("the master's pair", old().connection(pair(Some(true))), StaleState::Idle, idle),
            ("a pair or not", old().connection(pair(None)), StaleState::Unknown, &[]),
            ("QUIC", old().connection(quic(443)), StaleState::Draining, &[]),
            ("QUIC on a deleted port", old().connection(quic(444)), StaleState::Draining, &[]),
            ("a resolver", old().connection(quic(40000)), StaleState::Idle, idle),
        ];
        for (what, actor, state, expected) in table {
            let verdict = Film::default().settle(1000.0, &[actor, new()]);
            assert_eq!(verdict.one().processes[0].state, Some(state), "{what}");
            assert_eq!(verdict.one().findings(), expected, "{what}");
            let judged = verdict.one().judged(Kind::ProcessIdle);
            assert_eq!(judged, state != StaleState::Unknown, "{what}");
        }
    }

    #[test]
    fn process_zombie() {
        let zombie = || actor(12, 3, LINE).child_of(77).dead();
        let verdict = Film::default().settle(1000.0, &[zombie(), new().child_of(77)]);
        assert_eq!(verdict.one().findings(), ["process_zombie unknown"]);
        let mut film = Film::default();
        film.see(1000.0, &[new()]);
        // Each reaped soon, but never none: nobody's fault.
        for second in 1u16..40 {
            let passing = actor(100 + i32::from(second), 900, LINE).dead();
            let verdict = film.see(1000.0 + f64::from(second), &[new(), passing]);
            assert!(verdict.haproxys.iter().all(|haproxy| haproxy.findings().is_empty()));
        }
    }

    #[test]
    fn process_orphan() {
        let line = "haproxy -sf 9 -x sockpair@3 -W -f /a.cfg";
        let worker = |parent| actor(20, 2, line).child_of(parent).reload(1).tcp(80, 1);
        let master = actor(19, 1, "haproxy -W -f /a.cfg").reload(1);
        let with_master = Film::default().settle(1000.0, &[master, worker(19)]);
        assert!(with_master.one().findings().is_empty());
        let orphan = Film::default().settle(1000.0, &[worker(1)]);
        assert_eq!(orphan.one().findings(), ["process_orphan init"]);
    }

    #[test]
    fn pidfile_mismatch() {
        let table: [(&str, Actor, bool); 4] = [
            ("right", actor(11, 2, LINE).pidfile(&[11]), false),
            ("wrong", actor(11, 2, LINE).pidfile(&[10]), true),
            ("empty", actor(11, 2, LINE).pidfile(&[]), false),
            (
                "right in its own pid namespace",
                actor(11, 2, LINE).pidfile(&[7]).change(|p| p.namespace_pids = vec![11, 7]),
                false,
            ),
        ];
        for (what, actor, wrong) in table {
            let verdict = Film::default().settle(1000.0, &[actor.tcp(80, 1)]);
            let expected: &[&str] = if wrong { &["pidfile_mismatch"] } else { &[] };
            assert_eq!(verdict.one().findings(), expected, "{what}");
        }
        let line = "haproxy -W -f /a.cfg -p /run/p";
        let master = |pids: &[i32]| actor(19, 1, line).pidfile(pids);
        let worker = || actor(20, 2, line).child_of(19).pidfile(&[19]).tcp(80, 1);
        let right = Film::default().settle(1000.0, &[master(&[19]), worker()]);
        assert!(right.one().findings().is_empty());
        let wrong = Film::default().settle(1000.0, &[master(&[20]), worker()]);
        assert_eq!(wrong.one().findings(), ["pidfile_mismatch"]);
    }

    #[test]
    fn binary_outdated() {
        let outdated = |actor: Actor| {
            actor.change(|p| {
                let executable = p.executable.take();
                p.executable = executable.map(|e| crate::model::Executable { deleted: true, ..e });
            })
        };
        let current = Film::default().settle(1000.0, &[outdated(new())]);
        assert_eq!(current.one().findings(), ["binary_outdated"]);
        let drain = [outdated(old().connected(9, Established)), new()];
        assert!(Film::default().settle(1000.0, &drain).one().findings().is_empty());
        let unseen = Film::default().settle(1000.0, &[new().change(|p| p.executable = None)]);
        assert!(!unseen.one().judged(Kind::BinaryOutdated));
    }
}
