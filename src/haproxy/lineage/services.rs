//! Which processes are one service: a master with its workers, or daemons that replaced one another.
//!
//! Processes are joined only on evidence. Two that are joined wrongly make the older look
//! superseded, which is the worst this tool can say; two left apart merely have two names. A process
//! stays with the service in which it was first seen, whatever another service tells it.

use std::collections::{BTreeMap, BTreeSet};

use super::member::{Member, Role};
use super::past::{Past, Pasts};
use super::profile::Profile;
use super::proof::Proof;
use super::sets::Sets;
use crate::haproxy::environment;
use crate::haproxy::listeners::Holding;
use crate::model::ProcessId;

/// Processes that are one haproxy, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Service<'a> {
    /// The processes.
    pub members: Vec<Member<'a>>,
    /// What shows that a later process (second) was started in the stead of an earlier one (first).
    pub links: BTreeMap<(ProcessId, ProcessId), Proof>,
    /// Processes that one of another service was told to replace, by that one.
    pub stopped_by: BTreeMap<ProcessId, ProcessId>,
}

impl<'a> Service<'a> {
    /// Of processes that nothing links.
    #[must_use]
    pub fn of(members: Vec<Member<'a>>) -> Service<'a> {
        Service { members, ..Service::default() }
    }
}

/// Sorts the members into services.
#[must_use]
pub fn group<'a>(
    members: Vec<Member<'a>>,
    holdings: &BTreeMap<ProcessId, Holding<'_>>,
    pasts: &Pasts,
) -> Vec<Service<'a>> {
    let names = members.iter().map(|member| remembered(member, pasts)).collect();
    let mut grouping = Grouping {
        members: &members,
        sets: Sets::new(names),
        links: BTreeMap::new(),
        stopped_by: BTreeMap::new(),
    };
    grouping.join_relatives();
    grouping.join_remembered(pasts);
    // A list of pids may name processes of several services: its own comes first.
    grouping.join_alike(holdings, pasts);
    grouping.join_told();
    grouping.join_leftovers(holdings);
    grouping.join_zombies();
    let Grouping { sets, links, stopped_by, .. } = grouping;
    let heads: Vec<usize> = (0..members.len()).map(|index| sets.find(index)).collect();
    let ids: Vec<ProcessId> = members.iter().map(Member::id).collect();
    let mut services: BTreeMap<usize, Service<'a>> = BTreeMap::new();
    for (member, head) in members.into_iter().zip(&heads) {
        services.entry(*head).or_default().members.push(member);
    }
    for ((older, newer), proof) in links {
        if let (Some(&head), Some(&older), Some(&newer)) =
            (heads.get(older), ids.get(older), ids.get(newer))
        {
            services.entry(head).or_default().links.insert((older, newer), proof);
        }
    }
    for (stopped, by) in stopped_by {
        if let (Some(&head), Some(&stopped), Some(&by)) =
            (heads.get(stopped), ids.get(stopped), ids.get(by))
        {
            services.entry(head).or_default().stopped_by.insert(stopped, by);
        }
    }
    services.into_values().collect()
}

/// The name of the service a process belonged to in the last sample, or all the processes that it
/// was told to replace did.
#[must_use]
pub fn remembered<'p>(member: &Member<'_>, pasts: &'p Pasts) -> Option<&'p str> {
    if let Some(past) = pasts.get(&member.id()) {
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

/// The members on their way into services.
struct Grouping<'m, 'a, 'n> {
    members: &'m [Member<'a>],
    sets: Sets<'n>,
    /// By the indices of the older and the newer process.
    links: BTreeMap<(usize, usize), Proof>,
    stopped_by: BTreeMap<usize, usize>,
}

impl<'m, 'a> Grouping<'m, 'a, '_> {
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

    /// A process and those its `-sf` or `-st` names, if they are older, alive, and could be signalled
    /// by it. What was seen in another service stays there, and is stopped by a neighbour.
    fn join_told(&mut self) {
        let members = self.members;
        for (older, newer) in self.pairs() {
            let (Some(before), Some(after)) = (members.get(older), members.get(newer)) else {
                continue;
            };
            let told = asked_list(after).is_some() && after.was_told_to_replace(before.process);
            if told && !self.link(older, newer, Proof::Told) {
                self.stopped_by.insert(older, newer);
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

    /// A process that serves no more and was started like the processes of just one service that
    /// does.
    fn join_leftovers(&mut self, holdings: &BTreeMap<ProcessId, Holding<'_>>) {
        let members = self.members;
        let profiles: Vec<Profile<'_, '_>> =
            members.iter().map(|member| Profile::of(member, holdings)).collect();
        let may = |member: &Member<'_>| {
            member.role == Role::Daemon && member.lives() && !member.launching
        };
        for (left, profile) in profiles.iter().enumerate() {
            let is_alone = self.sets.size(left) == 1 && profile.serves == Some(false);
            if !is_alone || !members.get(left).is_some_and(may) {
                continue;
            }
            let later = profiles.iter().enumerate().skip(left + 1);
            let alike: Vec<usize> = later
                .filter(|(at, other)| {
                    members.get(*at).is_some_and(may) && profile.is_left_over_of(other)
                })
                .map(|(at, _)| at)
                .collect();
            let heads: BTreeSet<usize> = alike.iter().map(|&at| self.sets.find(at)).collect();
            if let (1, Some(&first)) = (heads.len(), alike.first()) {
                self.link(left, first, Proof::Place);
            }
        }
    }

    /// A zombie that is not remembered goes to the service of its parent; else to that of the process
    /// in its cgroup that was started next, as a launcher's child is; else zombies of one parent are
    /// one service.
    fn join_zombies(&mut self) {
        let members = self.members;
        for (i, zombie) in members.iter().enumerate().filter(|(_, m)| !m.lives()) {
            if self.sets.size(i) > 1 {
                continue;
            }
            let living = || members.iter().enumerate().filter(|(_, other)| other.lives());
            let parent = living().find(|(_, other)| other.id().pid == zombie.process.parent);
            let near = |other: &Member<'_>| {
                other.process.cgroup == zombie.process.cgroup
                    && other.process.pid_namespace.is_none_or(|namespace| {
                        zombie.process.pid_namespace.is_none_or(|own| own == namespace)
                    })
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
    use crate::model::ConnectionState::Established;
    use crate::stage::{Actor, Film, actor};

    const DAEMON: &str = "haproxy -D -f lb.cfg -p lb.pid";
    const FOREGROUND: &str = "haproxy -f /lb.cfg";
    const PLACE: &str = "haproxy -D -f /lb.cfg";
    const USER: u32 = 65534;

    /// What the actors are, a service each: `10 stale, 11 current`.
    fn casts(film: &mut Film, actors: &[Actor]) -> Vec<String> {
        let verdict = film.settle(1000.0, actors);
        let mut casts: Vec<String> = verdict.services.iter().map(|h| h.cast()).collect();
        casts.sort();
        casts
    }

    /// They serve on ports of their own: the first on 81, the second on 82.
    fn check(table: &[(&str, [Actor; 2], &[&str])]) {
        for (what, actors, expected) in table {
            let (mut actors, mut port) = (actors.clone(), 80);
            for actor in &mut actors {
                port += 1;
                if actor.bound.is_empty() && actor.is_idle() {
                    *actor = actor.clone().tcp(port, u64::from(port));
                }
            }
            assert_eq!(casts(&mut Film::default(), &actors), *expected, "{what}");
        }
    }

    const ONE: &[&str] = &["10 stale, 11 current"];
    const TWO: &[&str] = &["10 current", "11 current"];

    #[test]
    fn one_pidfile() {
        let pair = |older: &str, newer: &str| [actor(10, 100, older), actor(11, 200, newer)];
        let same = || pair(DAEMON, DAEMON);
        let each = |actors: [Actor; 2], change: fn(Actor, &str) -> Actor| {
            let [older, newer] = actors;
            [change(older, "a"), change(newer, "b")]
        };
        let elsewhere = "haproxy -D -f /other.cfg -p /lb.pid";
        let absolute = "haproxy -D -f /lb.cfg -p /lb.pid";
        let by_port = |actor: Actor, port: &str| {
            actor.configured("listen f\n bind :\"${PORT}\"\n", 50).variable("PORT", port)
        };
        let bare = |line: &str| format!("{line} -sf");
        let dead = |line: &str| format!("{line} -sf 9");
        check(&[
            ("and the same configuration", same(), ONE),
            (
                "in different directories",
                each(same(), |actor, name| actor.in_directory(&format!("/{name}"))),
                TWO,
            ),
            ("another configuration", pair(absolute, elsewhere), TWO),
            ("after a bare -sf", pair(absolute, &bare(elsewhere)), ONE),
            ("after a dead -sf", pair(absolute, &dead(elsewhere)), ONE),
            (
                "another configuration, one address",
                [actor(10, 100, absolute).tcp(80, 1), actor(11, 200, elsewhere).tcp(80, 2)],
                ONE,
            ),
            (
                "another configuration, and the first serves no more",
                [actor(10, 100, absolute).connected(9, Established), actor(11, 200, elsewhere)],
                ONE,
            ),
            (
                "ports by environment",
                [by_port(actor(10, 100, absolute), "81"), by_port(actor(11, 200, absolute), "82")],
                TWO,
            ),
            (
                "ports by environment, after a bare -sf",
                [
                    by_port(actor(10, 100, absolute), "81"),
                    by_port(actor(11, 200, &bare(absolute)), "82"),
                ],
                TWO,
            ),
            (
                "another user",
                [actor(10, 100, absolute), actor(11, 200, absolute).of_user(USER)],
                &["10 current", "11 current"],
            ),
            (
                "another mount namespace",
                [
                    actor(10, 100, absolute),
                    actor(11, 200, absolute)
                        .change(|p| p.mount_namespace = Some(crate::model::NamespaceId(7))),
                ],
                TWO,
            ),
            (
                "another session's cgroup",
                each(pair(absolute, &bare(absolute)), |actor, name| {
                    actor.in_cgroup(&format!("/{name}"))
                }),
                ONE,
            ),
            (
                "in the foreground",
                pair("haproxy -db -f /lb.cfg -p /lb.pid", "haproxy -db -f /lb.cfg -p /lb.pid"),
                TWO,
            ),
            (
                "an environment that cannot be read",
                [
                    actor(10, 100, absolute).change(|p| p.environment = None),
                    actor(11, 200, absolute),
                ],
                TWO,
            ),
            (
                "an inherited socket",
                [
                    actor(10, 100, absolute).configured("listen f\n bind fd@3\n", 50),
                    actor(11, 200, absolute).configured("listen f\n bind fd@3\n", 50),
                ],
                TWO,
            ),
        ]);
    }

    #[test]
    fn the_same_place() {
        let text = "listen f\n bind :\"${PORT}\"\n";
        let changed = |actor: Actor| actor.configured("listen f\n bind :81\n", 150);
        let older = || changed(actor(10, 100, PLACE));
        let newer = || changed(actor(11, 200, PLACE));
        let unchanged = |actor: Actor| actor.configured("listen f\n bind :81\n", 50);
        let port = |actor: Actor, port: &str| actor.configured(text, 150).variable("PORT", port);
        check(&[
            ("the file changed in between", [older(), newer()], ONE),
            ("it did not", [unchanged(older()), unchanged(newer())], TWO),
            ("ports by environment", [port(older(), "81"), port(newer(), "82")], TWO),
            ("a variable that is not read", [older().variable("X", "1"), newer()], ONE),
            ("another user", [older(), newer().of_user(USER)], TWO),
            ("another cgroup", [older().in_cgroup("/a"), newer()], TWO),
            ("another root", [older(), newer().change(|p| p.root = Some("/j".into()))], TWO),
            (
                "in the foreground",
                [changed(actor(10, 100, FOREGROUND)), changed(actor(11, 200, FOREGROUND))],
                TWO,
            ),
            (
                "one socket, in the foreground",
                [actor(10, 100, FOREGROUND).tcp(80, 5), actor(11, 200, FOREGROUND).tcp(80, 5)],
                TWO,
            ),
            (
                "in the foreground, and the first serves no more",
                [actor(10, 100, FOREGROUND).connected(9, Established), actor(11, 200, FOREGROUND)],
                ONE,
            ),
        ]);
    }

    #[test]
    fn told_by_one_that_could() {
        let told = |line: &str| actor(11, 200, &format!("{line} -sf 10"));
        let other = "haproxy -D -f /other.cfg";
        check(&[
            ("by its own user", [actor(10, 100, FOREGROUND), told(FOREGROUND)], ONE),
            ("by root", [actor(10, 100, PLACE).of_user(USER), told(other)], ONE),
            ("by another user", [actor(10, 100, PLACE), told(other).of_user(USER)], TWO),
            (
                "by another user, with an environment that says it is of a master",
                [actor(10, 100, PLACE), told("haproxy -W -f /a.cfg").of_user(USER).reload(3)],
                TWO,
            ),
            (
                "by one of root's that has dropped its rights, as root's pidfile shows",
                [
                    actor(10, 100, PLACE),
                    told("haproxy -D -f /lb.cfg -p /run/p").pidfile(&[11]).of_user(99),
                ],
                ONE,
            ),
            (
                "by one that only claims root's pidfile",
                [
                    actor(10, 100, PLACE),
                    told("haproxy -D -f /lb.cfg -p /run/p").pidfile(&[7]).of_user(99),
                ],
                TWO,
            ),
            (
                "by one whose number another process got since",
                [actor(10, 100, PLACE), actor(11, 200, "haproxy -D -f /other.cfg -sf 12")],
                TWO,
            ),
        ]);
        let number_of_a_later_one =
            [actor(11, 1, "haproxy -D -f /a.cfg -sf 12"), actor(12, 2, "haproxy -D -f /b.cfg")];
        assert_eq!(casts(&mut Film::default(), &number_of_a_later_one).len(), 2);
    }

    #[test]
    fn a_jailed_drain_belongs_to_the_one_that_serves() {
        let draining = actor(10, 1, DAEMON).jailed().connected(9, Established);
        let serving = actor(12, 2, &format!("{DAEMON} -sf 11")).jailed().tcp(80, 1);
        let verdict = Film::default().settle(1000.0, &[draining, serving]);
        assert_eq!(verdict.one().cast(), "10 stale, 12 current");
    }

    #[test]
    fn a_jail_hides_where_both_were_started() {
        let line = |list: &str| format!("{DAEMON} {list}");
        let jailed = |pid, started, list: &str, directory: &str| {
            actor(pid, started, &line(list)).jailed().variable("PWD", directory)
        };
        check(&[
            (
                "one lost its predecessor",
                [jailed(10, 1, "", "/a"), jailed(11, 2, "-sf", "/a")],
                ONE,
            ),
            (
                "another shell's directory",
                [jailed(10, 1, "", "/a"), jailed(11, 2, "-sf", "/b")],
                TWO,
            ),
            ("without a list", [jailed(10, 1, "", "/a"), jailed(11, 2, "", "/a")], TWO),
        ]);
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
        let how = verdict.one().processes[0].superseded.unwrap();
        assert_eq!((how.by.pid, how.proof.as_str()), (11, "told"), "as it was seen");
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

    #[test]
    fn what_was_never_reaped_belongs_to_what_was_started_next() {
        let launcher = actor(9, 100, PLACE).child_of(77).dead();
        let verdict = Film::default().settle(1000.0, &[launcher, actor(10, 100, PLACE).tcp(80, 1)]);
        assert_eq!(verdict.one().cast(), "9 stale, 10 current");
    }
}
