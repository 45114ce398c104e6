//! Finds the service to which processes belong that serve no more, where neither a list nor a pidfile says so.

use std::collections::{BTreeMap, BTreeSet};

use super::candidates::Candidates;
use super::grouping::Grouping;
use super::member::Role;
use super::past::Pasts;
use super::pids::Pids;
use super::profile::Profile;
use super::proof::Proof;
use super::remembered::asked_list;

impl Grouping<'_, '_, '_> {
    /// Joins processes that serve no more with a serving service, if the newest of them was started like the
    /// processes of that service and of no other. A master that was told to stop is joined with its workers.
    ///
    /// Two services that have names already stay apart. The exception is a serving one that began with a reload
    /// whose list named no living process: it got its name while the older process still listened.
    pub(super) fn join_leftovers(
        &mut self,
        profiles: &[Profile<'_, '_>],
        pids: &Pids<'_, '_>,
        pasts: &Pasts,
    ) {
        let members = self.members;
        let was_superseded = |index: usize| {
            let past = members.get(index).and_then(|member| pasts.get(&member.id()));
            past.is_some_and(|past| past.superseded.is_some())
        };
        let is_master =
            |index: usize| members.get(index).is_some_and(|m| m.role == Role::Master && m.lives());
        let may = |index: usize| {
            members.get(index).is_some_and(|m| m.role != Role::Master && m.lives() && !m.launching)
        };
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for index in 0..members.len() {
            groups.entry(self.sets.find(index)).or_default().push(index);
        }
        let has_ended = |index: &usize| {
            let own = profiles.get(*index);
            let ended = |own: &Profile<'_, '_>| match own.serves {
                Some(serves) => !serves,
                None => was_superseded(*index),
            };
            is_master(*index) || may(*index) && own.is_some_and(ended)
        };
        let serves = |index: usize| match profiles.get(index).and_then(|own| own.serves) {
            Some(serves) => serves && members.get(index).is_some_and(|m| m.role != Role::Master),
            None => may(index),
        };
        let serving = Candidates::of(profiles, serves);
        for group in groups.into_values().filter(|group| group.iter().all(has_ended)) {
            let newest = group.iter().rfind(|index| may(**index));
            let Some((&newest, own)) = newest.and_then(|at| Some((at, profiles.get(*at)?))) else {
                continue;
            };
            let link = |at: usize| {
                let (later, two) = members.get(at).zip(profiles.get(at))?;
                let is_alive = |pid| pids.is_alive(later, pid);
                let daemons = own.is_daemon() && two.is_daemon();
                if daemons && own.is_replaced_by_pidfile(two, is_alive) {
                    return Some((at, Proof::Pidfile));
                }
                own.is_left_over_of(two).then_some((at, Proof::Place))
            };
            let later = serving.after(newest).into_iter();
            let alike: Vec<(usize, Proof)> = later.filter_map(link).collect();
            let heads: BTreeSet<usize> = alike.iter().map(|(at, _)| self.sets.find(*at)).collect();
            if let (1, Some(&(first, proof))) = (heads.len(), alike.first())
                && !self.link(newest, first, proof)
                && self.began_after(newest, self.sets.find(first), pids, pasts)
            {
                self.sets.unite(newest, first);
                self.links.push(((newest, first), proof));
            }
        }
    }

    /// Whether the service of `head` began in place of `older`: its first living process after that one runs in the
    /// same cgroup, and either every process that it was told to replace is gone, so that it had lost its
    /// predecessor, or it replaces none and was started after `older` had been superseded or had last been seen with
    /// a listener.
    fn began_after(&self, older: usize, head: usize, pids: &Pids<'_, '_>, pasts: &Pasts) -> bool {
        let mut later = self.members.iter().enumerate().skip(older + 1);
        let first = later.find(|(at, member)| self.sets.find(*at) == head && member.lives());
        self.members.get(older).zip(first).is_some_and(|(older, (_, first))| {
            let list = asked_list(first).unwrap_or_default();
            let had_lost = !list.is_empty() && !list.iter().any(|&pid| pids.is_alive(first, pid));
            let past = pasts.get(&older.id()).filter(|past| past.superseded.is_none());
            let came_later = past
                .and_then(|past| past.last_held)
                .is_none_or(|last_held| last_held < first.process.started);
            older.process.cgroup == first.process.cgroup
                && (had_lost || list.is_empty() && came_later)
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::judge::verdict::{ServiceVerdict, Verdict};
    use crate::model::ConnectionState::Established;
    use crate::model::{NamespaceId, Pidfile};
    use crate::stage::{Actor, Film, actor};

    const PLACE: &str = "haproxy -D -f /lb.cfg";

    fn casts_of(verdict: &Verdict) -> Vec<String> {
        let mut casts: Vec<String> = verdict.services.iter().map(ServiceVerdict::cast).collect();
        casts.sort();
        casts
    }

    /// One with `${PORT}`, reloaded so often that the one between was never seen.
    #[test]
    fn what_drains_belongs_to_the_only_one_alike_that_serves() {
        let text = "listen f\n bind :\"${PORT}\"\n";
        let of = |pid: i32, port: &str, list: &str| {
            let actor = actor(pid, 100, &format!("{PLACE} {list}"));
            actor.configured(text, 50).variable("PORT", port)
        };
        let drains = |pid, list| of(pid, "81", list).connected(9, Established);
        let actors = [
            drains(10, ""),
            drains(11, "-sf 10"),
            of(20, "82", "").tcp(82, 2),
            of(21, "81", "-sf 19").tcp(81, 1),
        ];
        let table = ["10 stale, 11 stale, 21 current", "20 current"];
        assert_eq!(casts_of(&Film::default().settle(1000.0, &actors)), table);
        // The watching exporter has seen those that drain, and not yet the one that serves.
        let mut film = Film::default();
        let [first, second, other, last] = actors;
        let serving = || second.clone().tcp(81, 3);
        film.settle(900.0, &[first.clone(), serving(), other.clone()]);
        let verdict = film.see(940.0, &[first, second, other, last]);
        assert_eq!(casts_of(&verdict), table);
        assert!(verdict.services.iter().all(|service| service.up == Some(true)));
    }

    /// A twin is killed and started anew, without a list, while what it had replaced still drains; in one sample, the
    /// sockets of either cannot be read.
    #[test]
    fn what_drains_belongs_to_the_one_alike_that_was_started_anew() {
        let text = "listen f\n bind :\"${PORT}\"\n";
        let of = |pid: i32, started: u32, port: &str, list: &str| {
            let actor = actor(pid, started, &format!("{PLACE} {list}"));
            actor.configured(text, 50).variable("PORT", port)
        };
        let first = || of(10, 100, "81", "");
        let drains = || first().connected(9, Established);
        let unseen = |actor: Actor| actor.change(|process| process.sockets = None);
        let other = || of(20, 100, "82", "").tcp(82, 2);
        let anew = || of(12, 1035, "81", "").tcp(81, 4);
        for seen in [[drains(), anew()], [unseen(drains()), anew()], [drains(), unseen(anew())]] {
            let mut film = Film::default();
            film.settle(900.0, &[first().tcp(81, 1), other()]);
            film.settle(1000.0, &[drains(), of(11, 990, "81", "-sf 10").tcp(81, 3), other()]);
            film.see(1036.0, &[seen.as_slice(), &[other()]].concat());
            let verdict = film.see(1037.0, &[drains(), anew(), other()]);
            assert_eq!(casts_of(&verdict), ["10 stale, 12 current", "20 current"], "{seen:?}");
        }
    }

    /// `ip netns exec` makes a mount namespace for each process, so that only its pidfile shows that the second belongs
    /// to the service. It was just being made when both were first seen side by side, and both have names since then.
    #[test]
    fn what_drains_belongs_to_the_one_with_its_pidfile_as_soon_as_that_is_read() {
        let of = |pid: i32, started: u32, file| {
            actor(pid, started, "haproxy -D -f /lb.cfg -p /run/lb.pid").change(|process| {
                process.mount_namespace = Some(NamespaceId(pid.unsigned_abs().into()));
                process.pidfile = Some(Pidfile { file, ..Pidfile::unread("/run/lb.pid".into()) });
            })
        };
        let drains = |file| of(10, 100, file).connected(9, Established);
        let anew = |file| of(12, 1035, file).tcp(81, 4);
        let read = Some((1, 2));
        let mut film = Film::default();
        film.settle(900.0, &[of(10, 100, read).tcp(81, 1)]);
        film.settle(1000.0, &[drains(read)]);
        let apart = film.see(1036.0, &[drains(read), anew(None)]);
        assert_eq!(casts_of(&apart), ["10 current", "12 current"]);
        let one = film.see(1037.0, &[drains(read), anew(read)]);
        assert_eq!(casts_of(&one), ["10 stale, 12 current"]);
    }

    /// Twins again: 11 served and was replaced by 12, and 12 by 13, between two samples. When 11 is first
    /// seen draining, 13 does not serve yet, so nothing shows that they are one service.
    #[test]
    fn what_was_never_seen_serving_is_bound_to_no_name_yet() {
        let text = "listen f\n bind :\"${PORT}\"\n";
        let of = |pid: i32, port: &str, list: &str| {
            let actor = actor(pid, 990, &format!("{PLACE} {list}"));
            actor.configured(text, 50).variable("PORT", port)
        };
        let other = || of(20, "82", "").tcp(82, 2);
        let drains = || of(11, "81", "-sf 9").connected(9, Established);
        let mut film = Film::default();
        let starting = || of(13, "81", "-sf 12");
        film.see(1000.0, &[drains(), starting(), other()]);
        let actors = || [drains(), starting().tcp(81, 1), other()];
        film.see(1004.0, &actors());
        let verdict = film.see(1006.0, &actors());
        assert_eq!(casts_of(&verdict), ["11 stale, 13 current", "20 current"]);
        // On a busy machine it may not be known yet which sockets they hold.
        let mut film = Film::default();
        let unseen = |actor: Actor| actor.change(|process| process.sockets = None);
        film.see(1000.0, &[unseen(drains()), unseen(starting()), other()]);
        let verdict = film.see(1004.0, &actors());
        assert_eq!(casts_of(&verdict), ["11 stale, 13 current", "20 current"]);
    }
}
