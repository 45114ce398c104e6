//! Which processes are one haproxy: a master with its workers, or daemons that replaced one another.
//!
//! Processes are joined only on evidence. Two that are joined wrongly make the older look
//! superseded, which is the worst this tool can say; two left apart merely have two names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::member::{Member, Role, becomes_daemon};
use super::past::Pasts;
use crate::haproxy::command_line::CommandLine;
use crate::haproxy::listeners::Holding;
use crate::model::{NamespaceId, ProcessId, SocketInode};

/// Processes that are one haproxy, oldest first.
#[derive(Debug, Clone)]
pub struct Service<'a> {
    /// The processes.
    pub members: Vec<Member<'a>>,
}

/// Sorts the members into services.
#[must_use]
pub fn group<'a>(
    members: Vec<Member<'a>>,
    holdings: &BTreeMap<ProcessId, Holding<'_>>,
    pasts: &Pasts,
) -> Vec<Service<'a>> {
    let mut sets = Sets::new(members.len());
    join_relatives(&members, &mut sets);
    join_remembered(&members, pasts, &mut sets);
    join_equal(&members, holdings, &mut sets);
    join_replacements(&members, &mut sets);
    join_leftovers(&members, holdings, &mut sets);
    join_zombies(&members, &mut sets);
    let mut services: BTreeMap<usize, Vec<Member<'a>>> = BTreeMap::new();
    for (index, member) in members.into_iter().enumerate() {
        services.entry(sets.find(index)).or_default().push(member);
    }
    services.into_values().map(|members| Service { members }).collect()
}

/// A master and its workers.
fn join_relatives(members: &[Member<'_>], sets: &mut Sets) {
    let index: BTreeMap<ProcessId, usize> =
        members.iter().enumerate().map(|(i, member)| (member.id(), i)).collect();
    for (i, member) in members.iter().enumerate() {
        if let Some(&master) = member.master.and_then(|master| index.get(&master)) {
            sets.join(i, master);
        }
    }
}

/// What was one haproxy stays one.
fn join_remembered(members: &[Member<'_>], pasts: &Pasts, sets: &mut Sets) {
    join_by(members, sets, |member| remembered(member, pasts));
}

/// The haproxy a process belonged to in the last sample, or the one it replaced since did.
#[must_use]
pub fn remembered<'p>(member: &Member<'_>, pasts: &'p Pasts) -> Option<&'p str> {
    if let Some(past) = pasts.get(&member.id()) {
        return past.haproxy.as_deref();
    }
    let pids = member.replaces().filter(|_| member.role != Role::Master)?;
    let replaced = pasts.iter().rfind(|(id, past)| {
        **id < member.id()
            && past.pid_namespace == member.process.pid_namespace
            && pids.contains(&past.own_pid)
    });
    replaced.and_then(|(_, past)| past.haproxy.as_deref())
}

/// Daemons started with equal arguments in equal surroundings; those in the foreground only
/// if one was started to replace another, or they share a listening socket.
fn join_equal(
    members: &[Member<'_>],
    holdings: &BTreeMap<ProcessId, Holding<'_>>,
    sets: &mut Sets,
) {
    let daemon = |member: &Member<'_>| member.role == Role::Daemon && member.lives();
    let daemons: Vec<(usize, &Member<'_>, Option<Key>)> = members
        .iter()
        .enumerate()
        .filter(|(_, member)| daemon(member))
        .map(|(index, member)| (index, member, Key::of(member)))
        .collect();
    let mut detached: BTreeMap<&Key, usize> = BTreeMap::new();
    for (index, member, key) in &daemons {
        let line = member.line.as_ref();
        let background = line.is_some_and(|line| becomes_daemon(member.process, line));
        if let Some(key) = key.as_ref().filter(|_| background) {
            sets.join(*detached.entry(key).or_insert(*index), *index);
        }
    }
    for (place, (i, older, key)) in daemons.iter().enumerate() {
        for (j, newer, other) in daemons.iter().skip(place + 1) {
            let equal = key.is_some() && key == other;
            if (equal && newer.replaces().is_some())
                || (same_arguments(older, newer) && share_a_listener(older, newer, holdings))
            {
                sets.join(*i, *j);
            }
        }
    }
}

/// A process and those its `-sf` or `-st` names, if they are older HAProxys and alive.
///
/// A master is not asked: it keeps the list of its last re-exec for ever.
fn join_replacements(members: &[Member<'_>], sets: &mut Sets) {
    for (i, newer) in members.iter().enumerate() {
        if newer.role == Role::Master || !newer.lives() {
            continue;
        }
        for (j, older) in members.iter().enumerate() {
            if newer.was_told_to_replace(older.process) {
                sets.join(i, j);
            }
        }
    }
}

/// A daemon that serves no more and whose launch directory a chroot hides belongs to the one
/// serving daemon with the same arguments, if there is just one.
fn join_leftovers(
    members: &[Member<'_>],
    holdings: &BTreeMap<ProcessId, Holding<'_>>,
    sets: &mut Sets,
) {
    let serves = |member: &Member<'_>| holdings.get(&member.id()).and_then(Holding::serves);
    let hidden = |member: &Member<'_>| {
        member.role == Role::Daemon
            && member.lives()
            && member.line.is_some()
            && Key::of(member).is_none()
    };
    for (i, left) in members.iter().enumerate() {
        if !hidden(left) || serves(left) == Some(true) || sets.size(i) > 1 {
            continue;
        }
        let alike = members.iter().enumerate().filter(|(_, other)| {
            other.role == Role::Daemon && serves(other) == Some(true) && same_arguments(left, other)
        });
        let heads: BTreeSet<usize> = alike.map(|(j, _)| sets.find(j)).collect();
        if let (1, Some(&head)) = (heads.len(), heads.first()) {
            sets.join(i, head);
        }
    }
}

/// A zombie nobody remembers and without an HAProxy parent goes to the one service of its cgroup.
fn join_zombies(members: &[Member<'_>], sets: &mut Sets) {
    for (i, zombie) in members.iter().enumerate().filter(|(_, m)| !m.lives()) {
        if sets.size(i) > 1 {
            continue;
        }
        let near = members.iter().enumerate().filter(|(_, other)| {
            other.lives()
                && other.process.cgroup == zombie.process.cgroup
                && (other.process.parent == zombie.process.parent
                    || other.process.id.pid == zombie.process.parent)
        });
        let heads: BTreeSet<usize> = near.map(|(j, _)| sets.find(j)).collect();
        if let (1, Some(&head)) = (heads.len(), heads.first()) {
            sets.join(i, head);
        }
    }
    // What is left are zombies of services that are gone: one set for each cgroup and parent.
    let left: BTreeSet<usize> = (0..members.len()).filter(|&i| sets.size(i) == 1).collect();
    let mut index = 0..;
    join_by(members, sets, |member| {
        let alone = index.next().is_some_and(|i| left.contains(&i)) && !member.lives();
        alone.then(|| (member.process.cgroup.clone(), member.process.parent))
    });
}

fn same_arguments(a: &Member<'_>, b: &Member<'_>) -> bool {
    let (p, q) = (a.process, b.process);
    let same_surroundings = (p.pid_namespace, p.net_namespace, &p.cgroup)
        == (q.pid_namespace, q.net_namespace, &q.cgroup);
    let (a, b) = (a.line.as_ref(), b.line.as_ref());
    same_surroundings && a.map(|line| &line.kept) == b.map(|line| &line.kept)
}

fn share_a_listener(
    a: &Member<'_>,
    b: &Member<'_>,
    holdings: &BTreeMap<ProcessId, Holding<'_>>,
) -> bool {
    let inodes = |member: &Member<'_>| -> BTreeSet<SocketInode> {
        let held = holdings.get(&member.id()).into_iter();
        held.flat_map(|holding| holding.listeners.iter().map(|held| held.socket.inode)).collect()
    };
    !inodes(a).is_disjoint(&inodes(b))
}

/// What generations of one haproxy without a master have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    pid_namespace: Option<NamespaceId>,
    net_namespace: Option<NamespaceId>,
    cgroup: Option<String>,
    arguments: Vec<String>,
    paths: Vec<PathBuf>,
}

impl Key {
    /// `None` where its relative paths could mean anything, because a chroot hides where it
    /// was started.
    fn of(member: &Member<'_>) -> Option<Key> {
        let (process, line) = (member.process, member.line.as_ref()?);
        // Where nothing is known of any directory, equal words are taken for equal places.
        let unread = process.root.is_none().then_some(Path::new(""));
        let launched = line.launch_directory(process);
        let base = launched.as_deref().or(unread);
        let named = line.files.iter().chain(&line.pidfile).chain(&line.directory);
        let paths = named.map(|path| CommandLine::resolve(base, path)).collect::<Option<_>>()?;
        Some(Key {
            pid_namespace: process.pid_namespace,
            net_namespace: process.net_namespace,
            cgroup: process.cgroup.clone(),
            arguments: line.kept.clone(),
            paths,
        })
    }
}

/// Disjoint sets of indices.
struct Sets {
    parent: Vec<usize>,
}

impl Sets {
    fn new(length: usize) -> Sets {
        Sets { parent: (0..length).collect() }
    }

    fn find(&self, mut index: usize) -> usize {
        while let Some(&parent) = self.parent.get(index).filter(|&&parent| parent != index) {
            index = parent;
        }
        index
    }

    /// The smaller index, the older process, stands for the set.
    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        if let Some(slot) = self.parent.get_mut(a.max(b)) {
            *slot = a.min(b);
        }
    }

    fn size(&self, index: usize) -> usize {
        let head = self.find(index);
        (0..self.parent.len()).filter(|&i| self.find(i) == head).count()
    }
}

/// Joins all members with an equal key.
fn join_by<'m, K: Ord>(
    members: &'m [Member<'_>],
    sets: &mut Sets,
    mut key: impl FnMut(&'m Member<'_>) -> Option<K>,
) {
    let mut first = BTreeMap::new();
    for (i, member) in members.iter().enumerate() {
        if let Some(key) = key(member) {
            sets.join(*first.entry(key).or_insert(i), i);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::model::ConnectionState::Established;
    use crate::stage::{Actor, Film, actor};

    const DAEMON: &str = "haproxy -D -f lb.cfg -p lb.pid";
    const FOREGROUND: &str = "haproxy -f /lb.cfg";

    /// How many haproxys the actors make.
    fn services(actors: &[Actor]) -> usize {
        Film::default().settle(1000.0, actors).services.len()
    }

    #[test]
    fn what_is_one_haproxy_and_what_is_not() {
        let listening = |pid: i32, started, line: &str| {
            actor(pid, started, line).tcp(80, u64::from(pid.unsigned_abs()))
        };
        let line = |rest: &str| format!("{DAEMON} {rest}");
        let table: [(&str, Vec<Actor>, usize); 9] = [
            ("equal arguments", vec![listening(10, 1, DAEMON), listening(11, 2, DAEMON)], 1),
            (
                "equal arguments in different directories",
                vec![
                    listening(10, 1, DAEMON).in_directory("/a"),
                    listening(11, 2, DAEMON).in_directory("/b"),
                ],
                2,
            ),
            (
                "in different cgroups",
                vec![
                    listening(10, 1, DAEMON).in_cgroup("/a"),
                    listening(11, 2, DAEMON).in_cgroup("/b"),
                ],
                2,
            ),
            (
                "told to replace one of another cgroup",
                vec![
                    listening(10, 1, DAEMON).in_cgroup("/a"),
                    listening(11, 2, &line("-sf 10")).in_cgroup("/b"),
                ],
                1,
            ),
            (
                "a number that another got since",
                vec![
                    listening(11, 1, &line("-sf 12")).in_directory("/a"),
                    listening(12, 2, DAEMON).in_directory("/b"),
                ],
                2,
            ),
            (
                "in the foreground",
                vec![listening(10, 1, FOREGROUND), listening(11, 2, FOREGROUND)],
                2,
            ),
            (
                "in the foreground, one to replace another",
                vec![listening(10, 1, FOREGROUND), listening(12, 2, "haproxy -f /lb.cfg -sf 11")],
                1,
            ),
            (
                "in the foreground, on one socket",
                vec![actor(10, 1, FOREGROUND).tcp(80, 5), actor(11, 2, FOREGROUND).tcp(80, 5)],
                1,
            ),
            (
                "a chroot hides where both were started",
                vec![listening(10, 1, DAEMON).jailed(), listening(11, 2, DAEMON).jailed()],
                2,
            ),
        ];
        for (what, actors, expected) in table {
            assert_eq!(services(&actors), expected, "{what}");
        }
    }

    #[test]
    fn a_jailed_drain_belongs_to_the_one_that_serves() {
        let draining = actor(10, 1, DAEMON).jailed().connected(9, Established);
        let serving = actor(12, 2, &format!("{DAEMON} -sf 11")).jailed().tcp(80, 1);
        let verdict = Film::default().settle(1000.0, &[draining, serving]);
        assert_eq!(verdict.one().cast(), "10 stale, 12 current");
    }

    #[test]
    fn what_was_one_stays_one() {
        let mut film = Film::default();
        let old = || actor(10, 1, DAEMON).in_cgroup("/a");
        let new = || actor(11, 1001, &format!("{DAEMON} -sf 10")).in_cgroup("/b");
        film.see(1000.0, &[old().tcp(80, 1)]);
        film.see(1002.0, &[old().connected(9, Established), new().tcp(80, 1)]);
        let newest = actor(12, 1003, &format!("{DAEMON} -sf 11")).in_cgroup("/b").tcp(80, 1);
        let verdict = film.see(1004.0, &[old().connected(9, Established), newest]);
        assert_eq!(verdict.one().cast(), "10 stale, 12 current");
    }
}
