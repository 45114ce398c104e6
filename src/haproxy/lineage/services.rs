//! Which processes are one service: a master with its workers, or daemons that replaced one another.
//!
//! Processes are joined only on evidence. Two that are joined wrongly make the older one look superseded,
//! which is the worst mistake that this tool can make; two that are left apart merely have two names. A
//! process stays with the service in which it was first seen, even if another service signals it.

use std::collections::BTreeMap;

use super::grouping::Grouping;
use super::member::Member;
use super::past::Pasts;
use super::remembered::Remembered;
pub use super::service::Service;
use crate::haproxy::listeners::Holding;
use crate::model::ProcessId;

/// Sorts the members into services.
#[must_use]
pub fn group<'a>(
    members: Vec<Member<'a>>,
    holdings: &BTreeMap<ProcessId, Holding<'_>>,
    pasts: &Pasts,
    remembered: &Remembered<'_>,
) -> Vec<Service<'a>> {
    let Grouping { sets, links, stopped_by, .. } =
        Grouping::of(&members, holdings, pasts, remembered);
    let heads: Vec<usize> = (0..members.len()).map(|index| sets.find(index)).collect();
    let ids: Vec<ProcessId> = members.iter().map(Member::id).collect();
    let mut services: BTreeMap<usize, Service<'a>> = BTreeMap::new();
    for (member, head) in members.into_iter().zip(&heads) {
        services.entry(*head).or_default().members.push(member);
    }
    let mut links_of: BTreeMap<usize, Vec<_>> = BTreeMap::new();
    for ((older, newer), proof) in links {
        if let (Some(&head), Some(&older), Some(&newer)) =
            (heads.get(older), ids.get(older), ids.get(newer))
        {
            links_of.entry(head).or_default().push(((older, newer), proof));
        }
    }
    for (head, links) in links_of {
        services.entry(head).or_default().links = links.into_iter().collect();
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

#[cfg(test)]
mod tests {
    use crate::model::ConnectionState::Established;
    use crate::model::Pidfile;
    use crate::stage::{Actor, Film, actor};

    const DAEMON: &str = "haproxy -D -f lb.cfg -p lb.pid";
    const FOREGROUND: &str = "haproxy -f /lb.cfg";
    const PLACE: &str = "haproxy -D -f /lb.cfg";
    const USER: u32 = 65534;

    /// What the actors are, a service each: `10 stale, 11 current`.
    fn casts(film: &mut Film, actors: &[Actor]) -> Vec<String> {
        film.settle(1000.0, actors).casts()
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
    #[allow(clippy::large_stack_arrays)] // a table of staged hosts
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
                "the second was making its pidfile anew while they were read",
                each(pair(absolute, &bare(absolute)), |actor, name| {
                    actor.change(|process| {
                        let file = Some((1, u64::from(name.as_bytes()[0])));
                        process.pidfile =
                            Some(Pidfile { file, ..Pidfile::unread("/lb.pid".into()) });
                    })
                }),
                ONE,
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

    /// `ip netns exec` makes a mount namespace for each generation.
    #[test]
    fn one_pidfile_and_one_file_seen_from_two_mount_namespaces() {
        let of = |pid: i32, view: u64, port: &str| {
            let text = "listen f\n bind :\"${PORT}\"\n";
            let actor = actor(pid, 100, "haproxy -D -f /lb.cfg -p /lb.pid").configured(text, 50);
            actor.variable("PORT", port).change(|process| {
                process.mount_namespace = Some(crate::model::NamespaceId(view));
                let file = Some((1, 2));
                process.pidfile = Some(Pidfile { file, ..Pidfile::unread("/lb.pid".into()) });
            })
        };
        let drains = || of(10, 7, "81").connected(9, Established);
        check(&[
            ("the first serves no more", [drains(), of(11, 8, "81")], ONE),
            ("both serve", [of(10, 7, "81"), of(11, 8, "81")], TWO),
            ("ports by environment", [drains(), of(11, 8, "82")], &["10 current", "11 current"]),
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
}
