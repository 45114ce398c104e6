//! What joins processes to one service: a common master, memory, a list of pids, a pidfile, a place.

use std::collections::{BTreeMap, BTreeSet};

use super::candidates::Candidates;
use super::member::{Member, Role};
use super::past::Pasts;
use super::pids::Pids;
use super::profile::Profile;
use super::proof::Proof;
use super::remembered::{Remembered, asked_list};
use super::sets::Sets;
use crate::haproxy::listeners::Holding;
use crate::model::ProcessId;

/// The members on their way into services, by their indices.
pub struct Grouping<'m, 'a, 'n> {
    pub(super) members: &'m [Member<'a>],
    /// Which of them are one service.
    pub sets: Sets<'n>,
    /// What links an older and a newer process: each pair once, in order, by its most certain proof.
    pub links: Vec<((usize, usize), Proof)>,
    /// Processes that a process of another service was told to replace, each with that process.
    pub stopped_by: BTreeMap<usize, usize>,
}

impl<'m, 'a, 'n> Grouping<'m, 'a, 'n> {
    /// Groups the members, the most certain relations first.
    #[must_use]
    pub fn of(
        members: &'m [Member<'a>],
        holdings: &'m BTreeMap<ProcessId, Holding<'m>>,
        pasts: &Pasts,
        remembered: &Remembered<'n>,
    ) -> Grouping<'m, 'a, 'n> {
        let names = members.iter().map(|member| remembered.get(member.id())).collect();
        let (sets, links) = (Sets::new(names), Vec::new());
        let mut grouping = Grouping { members, sets, links, stopped_by: BTreeMap::new() };
        let profiles: Vec<Profile<'_, '_>> =
            members.iter().map(|member| Profile::of(member, holdings)).collect();
        let pids = Pids::of(members);
        grouping.join_relatives();
        grouping.join_remembered(remembered);
        // A list of pids may name processes of several services: its own comes first.
        grouping.join_alike(&profiles, &pids, pasts);
        grouping.join_told(&profiles, &pids);
        grouping.join_leftovers(&profiles, &pids, pasts);
        grouping.join_zombies();
        grouping.links.sort_unstable();
        grouping.links.dedup_by_key(|(pair, _)| *pair);
        grouping
    }

    pub(super) fn link(&mut self, older: usize, newer: usize, proof: Proof) -> bool {
        let joined = self.sets.join(older, newer);
        if joined {
            self.links.push(((older, newer), proof));
        }
        joined
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

    /// Joins the processes for which one service name is remembered.
    fn join_remembered(&mut self, remembered: &Remembered<'n>) {
        self.join_by(|_, member| remembered.get(member.id()));
    }

    /// Joins a process with those that its `-sf` or `-st` names, if they are older, alive, and could be
    /// signalled by it. A process that was seen in another service stays there and counts as stopped by a
    /// neighbour. So does a process with a pidfile and a configuration of its own, where the list also
    /// names the signalling process's own predecessor: `-sf $(pidof haproxy)` names every HAProxy of the
    /// host.
    fn join_told(&mut self, profiles: &[Profile<'_, '_>], pids: &Pids<'_, '_>) {
        let members = self.members.iter().enumerate();
        let told = members.filter(|(_, newer)| newer.lives() && asked_list(newer).is_some());
        for (newer, member) in told {
            let olders = pids.replaced_by(member);
            let home = self.sets.find(newer);
            let (own, others): (Vec<_>, Vec<_>) =
                olders.into_iter().partition(|older| self.sets.find(*older) == home);
            let is_neighbour = |older: usize| {
                let both = profiles.get(older).zip(profiles.get(newer));
                !own.is_empty() && both.is_some_and(|(one, two)| one.is_neighbour_of(two))
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
    fn join_alike(&mut self, profiles: &[Profile<'_, '_>], pids: &Pids<'_, '_>, pasts: &Pasts) {
        let members = self.members;
        let may =
            |index: usize| members.get(index).is_some_and(|m| m.lives() && m.role != Role::Worker);
        let candidates = Candidates::of(profiles, may);
        let born_with = |member: &Member<'_>| pasts.get(&member.id()).and_then(|p| p.born_with);
        let newers = (0..profiles.len()).filter(|newer| may(*newer));
        let pairs = newers.flat_map(|newer| {
            candidates.before(newer).into_iter().map(move |older| (older, newer))
        });
        for (older, newer) in pairs {
            let pair = members.get(older).zip(members.get(newer));
            let Some((before, after)) = pair else { continue };
            let Some((one, two)) = profiles.get(older).zip(profiles.get(newer)) else { continue };
            let changed = match (born_with(before), born_with(after)) {
                (Some(then), Some(later)) => then != later,
                _ => false,
            };
            let is_alive = |pid| pids.is_alive(after, pid);
            if one.is_replaced_by_pidfile(two, is_alive) || one.is_replaced_in_jail(two, is_alive) {
                self.link(older, newer, Proof::Pidfile);
            } else if one.is_replaced_in_place(two, changed) {
                self.link(older, newer, Proof::Place);
            }
        }
    }

    /// Joins each zombie that is still alone with a living process: its parent, else another child of its
    /// parent that is near it, else the near process that was started next, as a launcher's child is, else
    /// any near process. Zombies that remain alone join those of the same parent and cgroup. A process is
    /// near if it runs in the same cgroup and pid namespace, where these are known, and was started by the
    /// same user, or by any user if the zombie was root's.
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

#[cfg(test)]
mod tests {
    use crate::model::ConnectionState::Established;
    use crate::model::Pidfile;
    use crate::stage::{Actor, Film, actor};

    const PLACE: &str = "haproxy -D -f /lb.cfg";
    const USER: u32 = 65534;

    /// The generations of the actors at a first look, one string for each service: `10 stale, 11 current`.
    fn casts(actors: &[Actor]) -> Vec<String> {
        Film::default().settle(1000.0, actors).casts()
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

    /// Twins, with `${PORT}`: 12 replaced 11, and 13 replaced 12, between two samples. When 13 is first seen serving,
    /// 11 still listens, so it is a service for a moment.
    #[test]
    fn what_gave_up_its_listeners_late_joins_the_reload_that_lost_its_predecessor() {
        let text = "listen f\n bind :\"${PORT}\"\n";
        let of = |pid: i32, port: &str, list: &str| {
            let actor = actor(pid, 900, &format!("{PLACE} {list}"));
            actor.configured(text, 50).variable("PORT", port)
        };
        let other = || of(20, "82", "").tcp(82, 2);
        let old = || of(11, "81", "");
        let looks = |list: &str, change: fn(Actor) -> Actor| {
            let mut film = Film::default();
            film.settle(970.0, &[old().tcp(81, 1), other()]);
            let next = || change(of(13, "81", list).tcp(81, 3));
            film.settle(1030.0, &[old().tcp(81, 1), other(), next()]);
            let drains = || old().connected(9, Established);
            let verdict = film.settle(1070.0, &[drains(), other(), next()]);
            let casts = verdict.casts();
            assert_eq!(film.settle(1100.0, &[drains(), other(), next()]).casts(), casts);
            casts
        };
        let apart = ["11 current", "13 current", "20 current"];
        assert_eq!(looks("-sf 12", |next| next), ["11 stale, 13 current", "20 current"]);
        assert_eq!(looks("", |next| next), apart, "an independent start");
        assert_eq!(looks("-sf", |next| next), apart, "a first start by a script that reloads");
        assert_eq!(looks("-sf 12", |next| next.in_cgroup("/other")), apart, "another unit");
        // The next reload comes before the first process has given its listeners up.
        let mut film = Film::default();
        let second = || of(13, "81", "-sf 12");
        film.settle(970.0, &[old().tcp(81, 1)]);
        film.settle(1030.0, &[old().tcp(81, 1), second().tcp(81, 3)]);
        let drains = [old(), second()].map(|actor| actor.connected(9, Established));
        let [old, second] = drains;
        let verdict = film.settle(1070.0, &[old, second, of(14, "81", "-sf 13").tcp(81, 4)]);
        assert_eq!(verdict.casts(), ["11 stale, 13 stale, 14 current"]);
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
