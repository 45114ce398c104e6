//! What joins processes to one service: a common master, memory, a list of pids, a pidfile, a place.

use std::collections::{BTreeMap, BTreeSet};

use super::member::{Member, Role};
use super::past::{Past, Pasts};
use super::profile::Profile;
use super::proof::Proof;
use super::sets::Sets;
use crate::haproxy::environment;
use crate::haproxy::listeners::Holding;
use crate::model::ProcessId;

/// The name of the service to which a process belonged in the last sample, or to which all the processes
/// belonged that it was told to replace.
///
/// A daemon of a service in which nothing was ever seen to serve is bound to no name yet: the process that
/// serves in its place may only be seen later.
#[must_use]
pub fn remembered<'p>(member: &Member<'_>, pasts: &'p Pasts) -> Option<&'p str> {
    let past = pasts.get(&member.id());
    if let Some(past) = past.filter(|past| member.role != Role::Daemon || past.belongs) {
        return past.haproxy.as_deref();
    }
    let pids = asked_list(member)?;
    let is_meant = |(id, past): &(&ProcessId, &Past)| {
        **id < member.id()
            && past.pid_namespace == member.process.pid_namespace
            && pids.contains(&past.own_pid)
            && member.may_signal(past.users)
    };
    let mut names = pasts.iter().filter(is_meant).map(|(_, past)| past.haproxy.as_deref());
    let name = names.next()?;
    names.all(|other| other == name).then_some(name)?
}

/// The pids that a process was told to replace by the person or program that started it.
///
/// A master that has executed itself anew keeps the list of its last reload for ever.
fn asked_list<'m>(member: &'m Member<'_>) -> Option<&'m [i32]> {
    let executed_anew = member.process.environment.as_ref().is_some_and(environment::is_of_master);
    member.replaces().filter(|_| member.role != Role::Master || !executed_anew)
}

/// The members on their way into services, by their indices.
pub struct Grouping<'m, 'a, 'n> {
    members: &'m [Member<'a>],
    /// Which of them are one service.
    pub sets: Sets<'n>,
    /// What links an older and a newer process.
    pub links: BTreeMap<(usize, usize), Proof>,
    /// Processes that a process of another service was told to replace, each with that process.
    pub stopped_by: BTreeMap<usize, usize>,
}

impl<'m, 'a, 'n> Grouping<'m, 'a, 'n> {
    /// Groups the members, the most certain relations first.
    #[must_use]
    pub fn of(
        members: &'m [Member<'a>],
        holdings: &BTreeMap<ProcessId, Holding<'_>>,
        pasts: &'n Pasts,
    ) -> Grouping<'m, 'a, 'n> {
        let names = members.iter().map(|member| remembered(member, pasts)).collect();
        let (sets, links) = (Sets::new(names), BTreeMap::new());
        let mut grouping = Grouping { members, sets, links, stopped_by: BTreeMap::new() };
        grouping.join_relatives();
        grouping.join_remembered(pasts);
        // A list of pids may name processes of several services: its own comes first.
        grouping.join_alike(holdings, pasts);
        grouping.join_told(holdings);
        grouping.join_leftovers(holdings);
        grouping.join_zombies();
        grouping
    }

    fn link(&mut self, older: usize, newer: usize, proof: Proof) -> bool {
        let joined = self.sets.join(older, newer);
        if joined {
            let known = self.links.entry((older, newer)).or_insert(proof);
            *known = proof.min(*known);
        }
        joined
    }

    /// Pairs of living members, the older first.
    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<'m, 'a> {
        let members = self.members;
        let living = move |index: &usize| members.get(*index).is_some_and(Member::lives);
        (0..members.len())
            .filter(living)
            .flat_map(move |newer| (0..newer).filter(living).map(move |older| (older, newer)))
    }

    /// A master and its workers; a launcher and the child that will be the service.
    fn join_relatives(&mut self) {
        let index: BTreeMap<i32, usize> =
            self.members.iter().enumerate().map(|(i, member)| (member.id().pid, i)).collect();
        for (i, member) in self.members.iter().enumerate() {
            let parent = index.get(&member.process.parent).copied();
            let Some((at, parent)) = parent.and_then(|p| Some((p, self.members.get(p)?))) else {
                continue;
            };
            if member.master == Some(parent.id()) || parent.launching {
                self.sets.unite(i, at);
            }
        }
    }

    /// What was one haproxy stays one.
    fn join_remembered(&mut self, pasts: &Pasts) {
        self.join_by(|_, member| remembered(member, pasts));
    }

    /// Joins a process with those that its `-sf` or `-st` names, if they are older, alive, and could be
    /// signalled by it. A process that was seen in another service stays there and counts as stopped by a
    /// neighbour. So does a process with a pidfile and a configuration of its own, where the list also
    /// names the signalling process's own predecessor: `-sf $(pidof haproxy)` names every HAProxy of the
    /// host.
    fn join_told(&mut self, holdings: &BTreeMap<ProcessId, Holding<'_>>) {
        let members = self.members;
        let profile = |index: usize| Some(Profile::of(members.get(index)?, holdings));
        let mut told: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (older, newer) in self.pairs() {
            let (Some(before), Some(after)) = (members.get(older), members.get(newer)) else {
                continue;
            };
            if asked_list(after).is_some() && after.was_told_to_replace(before.process) {
                told.entry(newer).or_default().push(older);
            }
        }
        for (newer, olders) in told {
            let home = self.sets.find(newer);
            let (own, others): (Vec<_>, Vec<_>) =
                olders.into_iter().partition(|older| self.sets.find(*older) == home);
            let is_neighbour = |older: usize| {
                let both = profile(older).zip(profile(newer));
                !own.is_empty() && both.is_some_and(|(one, two)| one.is_neighbour_of(&two))
            };
            for &older in &own {
                self.link(older, newer, Proof::Told);
            }
            for older in others {
                if is_neighbour(older) || !self.link(older, newer, Proof::Told) {
                    self.stopped_by.insert(older, newer);
                }
            }
        }
    }

    /// Processes with one pidfile of one starter; daemons started in the same way at the same place.
    fn join_alike(&mut self, holdings: &BTreeMap<ProcessId, Holding<'_>>, pasts: &Pasts) {
        let members = self.members;
        let profiles: Vec<Profile<'_, '_>> =
            members.iter().map(|member| Profile::of(member, holdings)).collect();
        let born_with = |member: &Member<'_>| pasts.get(&member.id()).and_then(|p| p.born_with);
        for (older, newer) in self.pairs() {
            let pair = members.get(older).zip(members.get(newer));
            let Some((before, after)) = pair.filter(|(before, after)| {
                before.role != Role::Worker && after.role != Role::Worker
            }) else {
                continue;
            };
            let Some((one, two)) = profiles.get(older).zip(profiles.get(newer)) else { continue };
            let changed = match (born_with(before), born_with(after)) {
                (Some(then), Some(later)) => then != later,
                _ => false,
            };
            let is_alive = |pid| is_alive(members, after, pid);
            if one.is_replaced_by_pidfile(two, is_alive) || one.is_replaced_in_jail(two, is_alive) {
                self.link(older, newer, Proof::Pidfile);
            } else if one.is_replaced_in_place(two, changed) {
                self.link(older, newer, Proof::Place);
            }
        }
    }

    /// Joins daemons that serve no more with a serving service, if the newest of them was started like the
    /// processes of that service and of no other.
    fn join_leftovers(&mut self, holdings: &BTreeMap<ProcessId, Holding<'_>>) {
        let members = self.members;
        let profiles: Vec<Profile<'_, '_>> =
            members.iter().map(|member| Profile::of(member, holdings)).collect();
        let may = |index: usize| {
            members.get(index).is_some_and(|member| {
                member.role == Role::Daemon && member.lives() && !member.launching
            })
        };
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for index in 0..members.len() {
            groups.entry(self.sets.find(index)).or_default().push(index);
        }
        let has_ended = |index: &usize| {
            may(*index) && profiles.get(*index).is_some_and(|own| own.serves == Some(false))
        };
        for group in groups.into_values().filter(|group| group.iter().all(has_ended)) {
            let Some((&newest, own)) =
                group.last().and_then(|newest| Some((newest, profiles.get(*newest)?)))
            else {
                continue;
            };
            let later = profiles.iter().enumerate().skip(newest + 1);
            let alike: Vec<usize> = later
                .filter(|(at, other)| may(*at) && own.is_left_over_of(other))
                .map(|(at, _)| at)
                .collect();
            let heads: BTreeSet<usize> = alike.iter().map(|&at| self.sets.find(at)).collect();
            if let (1, Some(&first)) = (heads.len(), alike.first()) {
                self.link(newest, first, Proof::Place);
            }
        }
    }

    /// A zombie that is not remembered goes to the service of its parent; else to that of the process near
    /// it that was started next, as a launcher's child is; else zombies of one parent are one service. A
    /// process is near if it runs in the same cgroup, where that is known, and in the same pid namespace,
    /// and was started by the same user, or by any user if the zombie was root's.
    fn join_zombies(&mut self) {
        let members = self.members;
        for (i, zombie) in members.iter().enumerate().filter(|(_, m)| !m.lives()) {
            if self.sets.size(i) > 1 {
                continue;
            }
            let living = || members.iter().enumerate().filter(|(_, other)| other.lives());
            let parent = living().find(|(_, other)| other.id().pid == zombie.process.parent);
            let (cgroup, namespace) = (&zombie.process.cgroup, zombie.process.pid_namespace);
            let near = |other: &Member<'_>| {
                let others = other.process.pid_namespace;
                (cgroup.is_none() || other.process.cgroup == *cgroup)
                    && others.is_none_or(|others| namespace.is_none_or(|own| own == others))
                    && (zombie.starter == Some(0) || zombie.has_starter_of(other))
            };
            let sibling = living()
                .find(|(_, other)| near(other) && other.process.parent == zombie.process.parent);
            let next = living().find(|(_, other)| near(other) && other.id() > zombie.id());
            let any = living().find(|(_, other)| near(other));
            if let Some((home, _)) = parent.or(sibling).or(next).or(any) {
                self.sets.join(i, home);
            }
        }
        let left: BTreeSet<usize> =
            (0..members.len()).filter(|&i| self.sets.size(i) == 1).collect();
        self.join_by(|i, member| {
            let alone = left.contains(&i) && !member.lives();
            alone.then(|| (member.process.cgroup.clone(), member.process.parent))
        });
    }

    /// Joins all members with an equal key.
    fn join_by<K: Ord>(&mut self, key: impl Fn(usize, &'m Member<'a>) -> Option<K>) {
        let mut first = BTreeMap::new();
        for (i, member) in self.members.iter().enumerate() {
            if let Some(key) = key(i, member) {
                self.sets.join(*first.entry(key).or_insert(i), i);
            }
        }
    }
}

/// A living HAProxy, older than `later`, has this pid in the pid namespace of `later`.
fn is_alive(members: &[Member<'_>], later: &Member<'_>, pid: i32) -> bool {
    members.iter().any(|member| {
        member.lives()
            && member.id() < later.id()
            && member.process.pid_namespace == later.process.pid_namespace
            && member.process.own_pid() == pid
    })
}

#[cfg(test)]
mod tests {
    use crate::judge::verdict::ServiceVerdict;
    use crate::model::ConnectionState::Established;
    use crate::model::Pidfile;
    use crate::stage::{Actor, Film, actor};

    const PLACE: &str = "haproxy -D -f /lb.cfg";
    const USER: u32 = 65534;

    /// The generations of the actors at a first look, one string for each service: `10 stale, 11 current`.
    fn casts(actors: &[Actor]) -> Vec<String> {
        let verdict = Film::default().settle(1000.0, actors);
        let mut casts: Vec<String> = verdict.services.iter().map(ServiceVerdict::cast).collect();
        casts.sort();
        casts
    }

    /// `haproxy -f a.cfg -sf $(pidof haproxy)`.
    #[test]
    fn what_a_neighbour_stops_stays_what_it_was() {
        let mut film = Film::default();
        let a = || actor(10, 1, "haproxy -D -f /a.cfg -p /run/a");
        let b = || actor(20, 2, "haproxy -D -f /b.cfg -p /run/b");
        film.settle(970.0, &[a().tcp(80, 1), b().tcp(90, 2)]);
        let next = actor(30, 1003, "haproxy -D -f /a.cfg -p /run/a -sf 10 20").tcp(80, 3);
        let drains = |actor: Actor| actor.connected(9, Established);
        let verdict = film.see(1004.0, &[drains(a()), drains(b()), next]);
        let [first, second] = verdict.services.as_slice() else { panic!("{verdict:#?}") };
        assert_eq!((first.up, first.cast().as_str()), (Some(true), "10 stale, 30 current"));
        assert_eq!((second.up, second.cast().as_str()), (Some(false), "20 stale"));
        let how = second.processes[0].superseded.unwrap();
        assert_eq!((how.by.pid, how.proof.as_str()), (30, "told"));
    }

    /// A fresh look at `haproxy -f a.cfg -sf $(pidof haproxy)`.
    #[test]
    fn a_list_that_names_its_own_predecessor_and_a_neighbour() {
        let named = |actor: Actor, path: &str, pid: i32| {
            actor.pidfile(&[pid]).change(|process| {
                let pidfile = process.pidfile.take();
                process.pidfile = pidfile.map(|file| Pidfile { path: path.into(), ..file });
            })
        };
        let drains = |actor: Actor| actor.connected(9, Established);
        let first = || drains(actor(10, 1, "haproxy -D -f /a.cfg -p /run/a"));
        let other = |line: &str| drains(named(actor(20, 2, line), "/run/b", 20));
        let next = |list: &str| {
            let line = format!("haproxy -D -f /a.cfg -p /run/a -sf {list}");
            named(actor(30, 3, &line), "/run/a", 30).tcp(80, 3)
        };
        let neighbour = "haproxy -D -f /b.cfg -p /run/b";
        let one: &[&str] = &["10 stale, 20 stale, 30 current"];
        let table: [(&str, Vec<Actor>, &[&str]); 4] = [
            (
                "its own pidfile and configuration",
                vec![first(), other(neighbour), next("10 20")],
                &["10 stale, 30 current", "20 stale"],
            ),
            (
                "the same configuration",
                vec![first(), other("haproxy -D -f /a.cfg -p /run/b"), next("10 20")],
                one,
            ),
            (
                "it replaced the neighbour before",
                vec![
                    other(neighbour).change(|p| p.id.start_ticks = 50),
                    drains(actor(10, 1, "haproxy -D -f /a.cfg -p /run/a -sf 20")),
                    next("10 20"),
                ],
                &["20 stale, 10 stale, 30 current"],
            ),
            (
                "nothing in the list is its own: a move to other paths",
                vec![other(neighbour), next("20")],
                &["20 stale, 30 current"],
            ),
        ];
        for (what, actors, expected) in table {
            assert_eq!(casts(&actors), expected, "{what}");
        }
    }

    #[test]
    fn what_was_never_reaped_belongs_to_what_was_started_next() {
        let launcher = || actor(9, 100, PLACE).child_of(77).dead();
        let serving = |pid| actor(pid, 100, PLACE).tcp(80, 1);
        let elsewhere = |pid| actor(pid, 100, "haproxy -D -f /o.cfg").tcp(81, 2).in_cgroup("/o");
        let forgotten = |actor: Actor| actor.change(|process| process.cgroup = None);
        let in_container = |actor: Actor| {
            actor.change(|process| process.pid_namespace = Some(crate::model::NamespaceId(7)))
        };
        let found = ["11 current", "9 stale, 10 current"];
        let table: [(&str, [Actor; 3], &[&str]); 5] = [
            ("in its cgroup", [launcher(), serving(10), elsewhere(11)], &found),
            ("in no known cgroup", [forgotten(launcher()), serving(10), elsewhere(11)], &found),
            (
                "in its cgroup, not the very next",
                [launcher(), elsewhere(10), serving(11)],
                &["10 current", "9 stale, 11 current"],
            ),
            (
                "in its container",
                [in_container(forgotten(launcher())), serving(10), in_container(elsewhere(11))],
                &["10 current", "9 stale, 11 current"],
            ),
            (
                "another user's",
                [forgotten(launcher()).of_user(USER), serving(10), elsewhere(11).of_user(USER)],
                &["10 current", "9 stale, 11 current"],
            ),
        ];
        for (what, actors, expected) in table {
            assert_eq!(casts(&actors), expected, "{what}");
        }
    }
}
