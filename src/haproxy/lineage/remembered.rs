//! The names of the services in which the members were seen in earlier samples.

use std::collections::BTreeMap;

use super::member::{Member, Role};
use super::past::{Past, Pasts};
use crate::haproxy::environment;
use crate::model::{NamespaceId, ProcessId};

/// The name of the service to which each member belonged in the last sample, else that of the one service
/// to which all the processes belonged that it was told to replace.
///
/// A daemon of a service that was never seen serving is not bound to its name yet, because the process that
/// serves in its place may be seen only later.
#[derive(Debug, Default)]
pub struct Remembered<'p> {
    names: BTreeMap<ProcessId, &'p str>,
}

impl<'p> Remembered<'p> {
    /// Looks up every member.
    #[must_use]
    pub fn of(members: &[Member<'_>], pasts: &'p Pasts) -> Remembered<'p> {
        let by_pid = ByPid::of(pasts);
        let name = |member: &Member<'_>| Some((member.id(), name(member, pasts, &by_pid)?));
        Remembered { names: members.iter().filter_map(name).collect() }
    }

    /// The name for one of the members.
    #[must_use]
    pub fn get(&self, id: ProcessId) -> Option<&'p str> {
        self.names.get(&id).copied()
    }
}

/// What is remembered of processes, by their pid namespaces and their pids there.
struct ByPid<'p>(BTreeMap<(Option<NamespaceId>, i32), OfOnePid<'p>>);

/// The processes of one pid: after a while it may be another's.
type OfOnePid<'p> = Vec<(ProcessId, &'p Past)>;

impl<'p> ByPid<'p> {
    fn of(pasts: &'p Pasts) -> ByPid<'p> {
        let mut by_pid: BTreeMap<_, OfOnePid<'_>> = BTreeMap::new();
        for (&id, past) in pasts {
            by_pid.entry((past.pid_namespace, past.own_pid)).or_default().push((id, past));
        }
        ByPid(by_pid)
    }
}

fn name<'p>(member: &Member<'_>, pasts: &'p Pasts, by_pid: &ByPid<'p>) -> Option<&'p str> {
    let past = pasts.get(&member.id());
    if let Some(past) = past.filter(|past| member.role != Role::Daemon || past.belongs) {
        return past.service.as_deref();
    }
    let namespace = member.process.pid_namespace;
    let meant = asked_list(member)?.iter().filter_map(|&pid| by_pid.0.get(&(namespace, pid)));
    let meant =
        meant.flatten().filter(|(id, past)| *id < member.id() && member.may_signal(past.users));
    let mut names = meant.map(|(_, past)| past.service.as_deref());
    let name = names.next()?;
    names.all(|other| other == name).then_some(name)?
}

/// The pids that a process was told to replace by the person or program that started it.
///
/// A master that has executed itself anew keeps the list of its last reload for ever.
#[must_use]
pub fn asked_list<'m>(member: &'m Member<'_>) -> Option<&'m [i32]> {
    let executed_anew = member.process.environment.as_ref().is_some_and(environment::is_of_master);
    member.replaces().filter(|_| member.role != Role::Master || !executed_anew)
}
