//! Finds the role of each process: master, worker, daemon, or the launcher that a daemon detaches from.
//!
//! A master was started as one, or has a child that can only be a worker; its workers are its children with its
//! program and arguments. A child of any other HAProxy with the same arguments is a fork that has not executed its
//! program yet (an external check, Lua), and is left out; a child with other arguments is a process of its own.
//!
//! A configuration file counts only where nothing has happened to it since the process was started: what it says now
//! is not what the process was told.

use std::collections::{BTreeMap, BTreeSet};

use super::member::{Member, Role, becomes_daemon, leads_session};
use super::past::Pasts;
use super::starter::starter;
use crate::haproxy::command_line::CommandLine;
use crate::haproxy::environment;
use crate::model::time::YOUNG_SECONDS;
use crate::model::{Process, ProcessId};

/// Up to 3.0 a launcher or a master binds the listeners itself, and forks the process that will hold them
/// at most this much later. A process that was told to have a master and has held listeners for longer is
/// a worker.
const BIND_SECONDS: f64 = 3.0;

/// Gives every process its role. `listens`: it holds a TCP or UDP listener.
#[must_use]
pub fn members<'a>(
    processes: &'a [Process],
    pasts: &Pasts,
    listens: impl Fn(ProcessId) -> bool,
    now: f64,
) -> Vec<Member<'a>> {
    let mut family = Family {
        by_pid: processes.iter().map(|p| (p.id.pid, p)).collect(),
        lines: processes
            .iter()
            .filter_map(|p| Some((p.id, CommandLine::parse(p.arguments.as_ref()?)?)))
            .collect(),
        listening: processes.iter().map(|p| p.id).filter(|&id| listens(id)).collect(),
        masters: BTreeSet::new(),
        pasts,
        now,
    };
    family.masters = processes.iter().filter_map(|process| family.proven_master(process)).collect();
    let mut members: Vec<Member<'a>> =
        processes.iter().filter_map(|process| family.member(process)).collect();
    let masters: BTreeSet<ProcessId> = members.iter().filter_map(|member| member.master).collect();
    let starters: BTreeMap<ProcessId, Option<u32>> =
        members.iter().map(|member| (member.id(), member.starter)).collect();
    for member in &mut members {
        if masters.contains(&member.id()) {
            (member.role, member.role_is_certain) = (Role::Master, true);
        }
        if let Some(starter) = member.master.and_then(|master| starters.get(&master)) {
            member.starter = *starter;
        }
    }
    members
}

/// The processes of a sample, and how they descend from one another.
struct Family<'a, 'p> {
    by_pid: BTreeMap<i32, &'a Process>,
    lines: BTreeMap<ProcessId, CommandLine>,
    listening: BTreeSet<ProcessId>,
    /// The processes with a child that can only be a worker.
    masters: BTreeSet<ProcessId>,
    pasts: &'p Pasts,
    now: f64,
}

impl<'a> Family<'a, '_> {
    /// The process with its role; `None` for a fork that has not executed its program yet.
    fn member(&self, process: &'a Process) -> Option<Member<'a>> {
        let line = self.lines.get(&process.id);
        let parent = self.parent_of(process).filter(|parent| !self.is_launching(parent));
        let past = self.past_role(process);
        let (certain, master) = match parent {
            Some(parent) if self.leads(parent) && self.is_worker_of(process, parent) => {
                (Some(Role::Worker), Some(parent.id))
            }
            Some(parent) if is_fork_of(process, parent) => return None,
            _ => (past, None),
        };
        Some(Member {
            process,
            line: line.cloned(),
            role: certain.unwrap_or_else(|| self.role_without_relatives(process)),
            role_is_certain: certain.is_some(),
            master,
            launching: self.is_launching(process),
            starter: starter(process, self.pasts.get(&process.id)),
        })
    }

    fn parent_of(&self, process: &Process) -> Option<&'a Process> {
        let started = process.id.start_ticks;
        let parent = self.by_pid.get(&process.parent).copied();
        parent.filter(|parent| parent.id.start_ticks <= started && parent.id != process.id)
    }

    fn past_role(&self, process: &Process) -> Option<Role> {
        self.pasts.get(&process.id).and_then(|past| past.role)
    }

    /// The parent of a process that can only be its worker: the parent does not listen, and the process does
    /// or has lived for a while. A fork that is about to execute a program shares its parent's listeners for
    /// a moment.
    fn proven_master(&self, process: &Process) -> Option<ProcessId> {
        let parent = self.parent_of(process).filter(|parent| !self.is_launching(parent))?;
        let listens = |process: &Process| self.listening.contains(&process.id);
        let is_old = self.now - process.started >= YOUNG_SECONDS && process.arguments.is_some();
        let is_worker = !listens(parent) && (listens(process) || is_old);
        (is_worker && self.is_worker_of(process, parent)).then_some(parent.id)
    }

    /// Its command line or the configuration that it loaded asks for a master: the process is a master, or a worker,
    /// which has inherited both. The master's socket (`-S`) alone makes none.
    fn asks_for_master(&self, process: &Process) -> bool {
        self.lines.get(&process.id).is_some_and(|line| line.master_worker)
            || process.loaded_globals().is_some_and(|globals| globals.master_worker)
    }

    /// It may have workers: it was started as a master and is no worker itself.
    fn leads(&self, process: &Process) -> bool {
        match self.past_role(process) {
            Some(role) => role == Role::Master,
            None if process.is_zombie() => false,
            None if self.masters.contains(&process.id) => true,
            // A master that is just being executed has no arguments yet.
            None if process.arguments.is_none() => true,
            None => {
                let parent = self.parent_of(process).filter(|parent| !self.is_launching(parent));
                let is_worker = parent.is_some_and(|parent| {
                    (self.asks_for_master(parent) || self.masters.contains(&parent.id))
                        && self.is_worker_of(process, parent)
                });
                self.asks_for_master(process) && !is_worker
            }
        }
    }

    /// It runs what the master runs, in the master's session. A process without arguments to compare is
    /// taken for a worker.
    fn is_worker_of(&self, process: &Process, master: &Process) -> bool {
        if leads_session(process) {
            return false;
        }
        let (own, masters) = (self.lines.get(&process.id), self.lines.get(&master.id));
        let (Some(own), Some(masters)) = (own, masters) else { return true };
        (&own.files, &own.directory, &own.local_peer)
            == (&masters.files, &masters.directory, &masters.local_peer)
            && own.master_worker == masters.master_worker
    }

    /// It was told to become a daemon and has not detached yet.
    fn is_launching(&self, process: &Process) -> bool {
        let line = self.lines.get(&process.id);
        line.is_some_and(|line| becomes_daemon(process, line))
            && !leads_session(process)
            && self.parent_of(process).is_none()
            && self.past_role(process) != Some(Role::Worker)
            && !(self.asks_for_master(process) && self.has_held_listeners(process))
    }

    /// It holds listeners, and has held them for longer than a launcher or a master takes to hand them on.
    fn has_held_listeners(&self, process: &Process) -> bool {
        let since = match self.pasts.get(&process.id) {
            Some(past) => past.held_since,
            None => Some(process.started),
        };
        self.listening.contains(&process.id)
            && since.is_some_and(|since| self.now - since >= BIND_SECONDS)
    }

    /// The role of a process without relatives: a master before its first worker, an orphaned worker, or a
    /// daemon.
    fn role_without_relatives(&self, process: &Process) -> Role {
        let environment = process.environment.as_ref();
        let of_master = environment.is_some_and(environment::is_of_master);
        let may_ask = || {
            let configuration = process.configuration.as_ref();
            configuration.is_none_or(|files| files.declared.globals.master_worker)
        };
        // Every process that a master or its workers start inherits the environment.
        let asked = self.asks_for_master(process)
            || (of_master && may_ask() && self.parent_of(process).is_none());
        let listens = self.listening.contains(&process.id);
        match (asked, listens) {
            (false, _) => Role::Daemon,
            (true, true) if of_master || self.has_held_listeners(process) => Role::Worker,
            (true, _) => Role::Master,
        }
    }
}

/// It has its parent's very arguments, and has not detached. A zombie has no arguments any more, and
/// counts as a process.
fn is_fork_of(process: &Process, parent: &Process) -> bool {
    process.arguments.is_some() && process.arguments == parent.arguments && !leads_session(process)
}

#[cfg(test)]
mod tests {
    use crate::model::ConnectionState::Established;
    use crate::stage::{Actor, Film, actor};

    const DAEMON: &str = "haproxy -D -f /a.cfg -p /run/p";
    const MASTER: &str = "haproxy -W -f /a.cfg -p /run/p";
    const SIDE: &str = "haproxy -db -f /other.cfg";

    fn cast(actors: &[Actor]) -> Vec<String> {
        let verdict = Film::default().settle(1000.0, actors);
        let view = |p: &crate::judge::verdict::ProcessView| {
            format!("{} {} {}", p.id.pid, p.role.as_str(), p.generation.as_str())
        };
        let services = verdict.services.iter();
        let mut cast: Vec<String> = services
            .map(|h| {
                let up = if h.up == Some(true) { "up" } else { "down" };
                format!("{up} {}", h.processes.iter().map(view).collect::<Vec<_>>().join(", "))
            })
            .collect();
        cast.sort();
        cast
    }

    #[test]
    fn who_is_master_and_who_is_not() {
        let daemon = || actor(10, 1, DAEMON).tcp(80, 1);
        let master = || actor(10, 1, MASTER);
        let worker = || actor(11, 1, MASTER).child_of(10).tcp(80, 1);
        let session_of = |actor: Actor, leader| actor.change(move |p| p.session = leader);
        let table: [(&str, Vec<Actor>, &[&str]); 8] = [
            (
                "a daemon's fork before its exec",
                vec![daemon(), actor(20, 990, DAEMON).child_of(10).tcp(80, 1)],
                &["up 10 daemon current"],
            ),
            (
                "a worker's fork before its exec",
                vec![master(), worker(), actor(20, 990, MASTER).child_of(11).tcp(80, 1)],
                &["up 10 master current, 11 worker current"],
            ),
            (
                "the haproxy of a program section",
                vec![master(), worker(), actor(12, 2, SIDE).child_of(10).tcp(81, 2)],
                &["up 10 master current, 11 worker current", "up 12 daemon current"],
            ),
            (
                "the same after a reload, with the master's environment",
                vec![
                    master().reload(1),
                    worker().reload(1),
                    actor(12, 2, SIDE).child_of(10).tcp(81, 2).reload(1).configured("", 0),
                ],
                &["up 10 master current, 11 worker current", "up 12 daemon current"],
            ),
            (
                "a haproxy that a daemon's script runs",
                vec![daemon(), actor(12, 2, SIDE).child_of(10).tcp(81, 2)],
                &["up 10 daemon current", "up 12 daemon current"],
            ),
            (
                "an orphaned worker of a master in the background",
                vec![session_of(actor(11, 1, "haproxy -W -D -f /a.cfg -p /run/p").tcp(80, 1), 10)],
                &["up 11 worker current"],
            ),
            (
                "a master that has just been executed has no arguments",
                vec![master().change(|p| p.arguments = None), worker()],
                &["up 10 master current, 11 worker current"],
            ),
            (
                "a worker of another master of the same arguments",
                vec![
                    master(),
                    worker().connected(9, Established),
                    actor(20, 5, MASTER),
                    actor(21, 5, MASTER).child_of(20).tcp(80, 2),
                ],
                &[
                    "up 10 master current, 11 worker current",
                    "up 20 master current, 21 worker current",
                ],
            ),
        ];
        for (what, actors, expected) in table {
            assert_eq!(cast(&actors), expected, "{what}");
        }
    }

    /// What a file says after its processes have started does not count.
    #[test]
    fn an_edited_file_changes_no_role() {
        let plain = |pid, started| actor(pid, started, "haproxy -f /a.cfg");
        let daemon = || actor(10, 1, DAEMON).tcp(80, 1);
        let in_session_5 =
            |actor: Actor| actor.configured("global\n daemon\n", 900).change(|p| p.session = 5);
        let table: [(&str, Vec<Actor>, &[&str]); 6] = [
            (
                "a master by its file, from which the line was removed",
                vec![
                    plain(10, 1).configured("", 900),
                    plain(11, 1).configured("", 900).child_of(10).tcp(80, 1),
                ],
                &["up 10 master current, 11 worker current"],
            ),
            (
                "the same with a worker that drains, and a file that is gone",
                vec![plain(10, 1), plain(11, 1).child_of(10).connected(9, Established)],
                &["down 10 master current, 11 worker current"],
            ),
            (
                "a daemon to whose file the line was added",
                vec![daemon().configured("global\n master-worker\n", 900)],
                &["up 10 daemon current"],
            ),
            (
                "a master by its file",
                vec![
                    plain(10, 1).configured("global\n master-worker\n", 0),
                    plain(11, 1).configured("global\n master-worker\n", 0).child_of(10).tcp(80, 1),
                ],
                &["up 10 master current, 11 worker current"],
            ),
            (
                "a master in the foreground to whose file `daemon` was added",
                vec![
                    in_session_5(actor(10, 1, MASTER)),
                    in_session_5(actor(11, 1, MASTER).child_of(10).tcp(80, 1)),
                ],
                &["up 10 master current, 11 worker current"],
            ),
            (
                "a daemon with the socket of a master",
                vec![actor(10, 1, "haproxy -D -S /run/m -f /a.cfg").tcp(80, 1)],
                &["up 10 daemon current"],
            ),
        ];
        for (what, actors, expected) in table {
            assert_eq!(cast(&actors), expected, "{what}");
        }
    }
}
