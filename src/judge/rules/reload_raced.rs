//! Rule `reload_raced`: two reloads ran at once, and both left a listening process.

use std::collections::{BTreeMap, BTreeSet};

use super::explain;
use super::input::RuleInput;
use crate::haproxy::lineage::generations::Generation;
use crate::haproxy::lineage::member::{Member, Role};
use crate::judge::case::Case;
use crate::judge::finding::{Finding, Judgement};
use crate::judge::verdict::Target;
use crate::model::ProcessId;

/// Finds daemons that listen although a later one was told to replace the same process.
pub fn reload_raced(input: &RuleInput<'_>) -> Judgement {
    let case = input.case;
    let racing: Vec<_> = racing(case).into_iter().filter_map(|id| case.member(id)).collect();
    let complete = case.living(Generation::Unknown).next().is_none();
    let Some(newest) = racing.iter().map(|m| m.process.started).reduce(f64::max) else {
        return Judgement::if_known(complete, Vec::new());
    };
    let facts = racing.iter().map(|member| {
        let (pid, generation) = (member.id().pid, case.generations.get(member.id()).as_str());
        let named = explain::list(member.replaces().unwrap_or_default());
        format!("pid {pid} ({generation}) listens and was started with -sf {named}")
    });
    let effect = "clients reach any of them; the next reload will stop only one of them";
    let stale: Vec<_> =
        racing.iter().filter(|m| case.generations.get(m.id()) != Generation::Current).collect();
    let commands: Vec<_> =
        stale.iter().map(|member| format!("kill -USR1 {}", member.id().pid)).collect();
    let finding = Finding {
        target: stale.first().map_or(Target::Service, |member| Target::Process(member.id())),
        since: Some(newest),
        evidence: facts.chain([effect.to_owned()]).collect(),
        advice: commands.join("; ") + "; then let one reload finish before the next begins",
        ..Finding::default()
    };
    Judgement::if_known(complete, vec![finding])
}

/// Living daemons that listen and were told to replace the same process, unless one of them was also
/// told to replace the other.
#[must_use]
pub fn racing(case: &Case<'_>) -> BTreeSet<ProcessId> {
    let listens = |member: &&Member<'_>| {
        member.lives()
            && member.role == Role::Daemon
            && !member.launching
            && case.listeners_of(member.id()).next().is_some()
    };
    let serving: Vec<_> = case.service.members.iter().filter(listens).collect();
    let lists = Lists::of(&serving);
    let mut racing = BTreeSet::new();
    let generations = serving.iter().map(|member| case.generations.get(member.id()));
    let is_current: Vec<bool> = generations.map(|one| one == Generation::Current).collect();
    for (one, (a, a_is_current)) in serving.iter().zip(&is_current).enumerate() {
        let naming = lists.naming(a.process.own_pid());
        for (two, b) in lists.alike_after(one).filter_map(|two| Some((two, serving.get(two)?))) {
            let both_current = *a_is_current && is_current.get(two) == Some(&true);
            let in_sequence = naming.binary_search(&two).is_ok() && b.could_replace(a.process);
            if !both_current && !in_sequence {
                racing.extend([a.id(), b.id()]);
            }
        }
    }
    racing
}

/// Which processes were told to replace which pids. A user can start many processes with long lists, so
/// neither is compared pair by pair.
struct Lists {
    /// The processes whose list names a pid, by their indices, ascending.
    by_pid: BTreeMap<i32, Vec<usize>>,
    /// For each process, the others that were told to replace a process that it was told to replace
    /// too: one bit for each.
    alike: Vec<Vec<u64>>,
}

impl Lists {
    fn of(processes: &[&Member<'_>]) -> Lists {
        let mut by_pid: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
        for (index, member) in processes.iter().enumerate() {
            for pid in member.replaces().unwrap_or_default() {
                let named = by_pid.entry(*pid).or_default();
                if named.last() != Some(&index) {
                    named.push(index);
                }
            }
        }
        let none = vec![0; processes.len().div_ceil(64)];
        let mut alike = vec![none.clone(); processes.len()];
        for group in by_pid.values().filter(|group| group.len() > 1) {
            let mut bits = none.clone();
            for index in group {
                bits.get_mut(index / 64).into_iter().for_each(|word| *word |= 1 << (index % 64));
            }
            for index in group {
                let row = alike.get_mut(*index).into_iter().flatten();
                row.zip(&bits).for_each(|(word, bits)| *word |= bits);
            }
        }
        Lists { by_pid, alike }
    }

    /// The later processes that were told to replace a process that `index` was told to replace too.
    fn alike_after(&self, index: usize) -> impl Iterator<Item = usize> {
        let row = self.alike.get(index).map(Vec::as_slice).unwrap_or_default();
        let has = |at: &usize| row.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1);
        (index + 1..self.alike.len()).filter(move |at| has(at))
    }

    /// The processes whose list names this pid, ascending.
    fn naming(&self, pid: i32) -> &[usize] {
        self.by_pid.get(&pid).map(Vec::as_slice).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use crate::model::ConnectionState::Established;
    use crate::stage::{Actor, Film, actor};

    #[test]
    fn daemons_that_replaced_the_same_process_are_found() {
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
                "empty lists have no process in common",
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
