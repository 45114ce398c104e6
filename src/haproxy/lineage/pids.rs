//! Which member a pid means in the pid namespace of another one.

use std::collections::BTreeMap;

use super::member::Member;
use crate::model::NamespaceId;

/// The living members by their own pid namespace and their pid there.
pub struct Pids<'m, 'a> {
    members: &'m [Member<'a>],
    /// Their indices, ascending. Where the namespace is not known, several may have one pid.
    living: BTreeMap<(Option<NamespaceId>, i32), Vec<usize>>,
}

impl<'m, 'a> Pids<'m, 'a> {
    /// The index of these members, oldest first.
    #[must_use]
    pub fn of(members: &'m [Member<'a>]) -> Pids<'m, 'a> {
        let mut living: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (index, member) in members.iter().enumerate().filter(|(_, member)| member.lives()) {
            let key = (member.process.pid_namespace, member.process.own_pid());
            living.entry(key).or_default().push(index);
        }
        Pids { members, living }
    }

    /// A living HAProxy, older than `later`, has this pid in the pid namespace of `later`.
    #[must_use]
    pub fn is_alive(&self, later: &Member<'_>, pid: i32) -> bool {
        let mut olders = self.with(later, pid);
        olders.any(|index| self.members.get(index).is_some_and(|older| older.id() < later.id()))
    }

    /// The living members that `newer`, one of the members, was told to replace, oldest first.
    #[must_use]
    pub fn replaced_by(&self, newer: &Member<'_>) -> Vec<usize> {
        let pids = newer.replaces().unwrap_or_default().iter();
        let mut named: Vec<usize> = pids
            .flat_map(|&pid| self.with(newer, pid))
            .filter(|&index| {
                self.members.get(index).is_some_and(|older| newer.could_replace(older.process))
            })
            .collect();
        named.sort_unstable();
        named.dedup();
        named
    }

    fn with(&self, other: &Member<'_>, pid: i32) -> impl Iterator<Item = usize> {
        let found = self.living.get(&(other.process.pid_namespace, pid));
        found.into_iter().flatten().copied()
    }
}
