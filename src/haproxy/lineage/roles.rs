//! The part a process plays: master, worker, daemon, or the launcher a daemon detaches from.

use std::collections::{BTreeMap, BTreeSet};

use super::member::{Member, Role, becomes_daemon};
use super::past::Pasts;
use crate::haproxy::command_line::CommandLine;
use crate::haproxy::environment;
use crate::model::{Process, ProcessId};

/// A master needs this long at most before it has its first worker.
const FIRST_LOAD_SECONDS: f64 = 60.0;

/// Gives every process its part. `listens`: it holds a TCP or UDP listener.
#[must_use]
pub fn members<'a>(
    processes: &'a [Process],
    pasts: &Pasts,
    listens: impl Fn(ProcessId) -> bool,
    now: f64,
) -> Vec<Member<'a>> {
    let by_pid: BTreeMap<i32, &Process> = processes.iter().map(|p| (p.id.pid, p)).collect();
    let lines: BTreeMap<ProcessId, CommandLine> = processes
        .iter()
        .filter_map(|p| Some((p.id, CommandLine::parse(p.arguments.as_ref()?)?)))
        .collect();
    let parent_of = |process: &Process| by_pid.get(&process.parent).copied();
    let launching = |process: &Process| {
        let asked = lines.get(&process.id).is_some_and(|line| becomes_daemon(process, line));
        asked && process.session != process.id.pid && parent_of(process).is_none()
    };
    let with_children: BTreeSet<ProcessId> = processes
        .iter()
        .filter_map(parent_of)
        .filter(|parent| !launching(parent))
        .map(|parent| parent.id)
        .collect();
    let judge = |process: &'a Process| {
        let parent = parent_of(process).filter(|parent| !launching(parent));
        let past = pasts.get(&process.id).and_then(|past| past.role);
        let line = lines.get(&process.id).cloned();
        let certain = if with_children.contains(&process.id) {
            Some(Role::Master)
        } else if parent.is_some() {
            Some(Role::Worker)
        } else {
            past
        };
        let uncertain = || alone(process, line.as_ref(), listens(process.id), now);
        Member {
            process,
            role: certain.unwrap_or_else(uncertain),
            role_is_certain: certain.is_some(),
            master: parent.map(|parent| parent.id),
            launching: launching(process),
            line,
        }
    };
    processes.iter().map(judge).collect()
}

/// The part of a process without relatives: a master before its first worker, an orphaned
/// worker, or a daemon.
fn alone(process: &Process, line: Option<&CommandLine>, listens: bool, now: f64) -> Role {
    let environment = process.environment.as_ref();
    let of_master = environment.is_some_and(environment::is_of_master);
    let configured = process.configuration.as_ref().map(|c| c.declared.globals.master_worker);
    let asked = line.is_some_and(|line| line.master_worker || line.master_socket.is_some())
        || configured == Some(true);
    let young = now - process.started < FIRST_LOAD_SECONDS;
    match (of_master || asked, listens) {
        (false, _) => Role::Daemon,
        (true, false) => Role::Master,
        // Up to 3.0 the master itself binds, then forks; it was not forked by one itself.
        (true, true) if young && !of_master => Role::Master,
        (true, true) => Role::Worker,
    }
}
