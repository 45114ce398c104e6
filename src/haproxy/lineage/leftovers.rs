//! Finds the service of processes that serve no more, where no list of pids tells it: by the pidfile or by the way in
//! which they were started.

use std::collections::{BTreeMap, BTreeSet};

use super::candidates::Candidates;
use super::grouping::Grouping;
use super::member::{Member, Role};
use super::past::{Past, Pasts};
use super::pids::Pids;
use super::profile::Profile;
use super::proof::Proof;
use super::remembered::asked_list;

impl Grouping<'_, '_, '_> {
    /// Joins processes that serve no more with a serving service, if the newest of them was started like the
    /// processes of that service and of no other. A master that was told to stop is joined with its workers.
    ///
    /// Two services that have names already stay apart, unless the serving one began in place of the other.
    pub(super) fn join_leftovers(
        &mut self,
        profiles: &[Profile<'_, '_>],
        pids: &Pids<'_, '_>,
        pasts: &Pasts,
    ) {
        let members = self.members;
        let leftovers = Leftovers { members, profiles, pids, pasts };
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for index in 0..members.len() {
            groups.entry(self.sets.find(index)).or_default().push(index);
        }
        let serving = Candidates::of(profiles, |index| leftovers.may_take_over(index));
        for group in groups.into_values() {
            if !group.iter().all(|index| leftovers.has_ended(*index)) {
                continue;
            }
            let newest = group.into_iter().rfind(|index| leftovers.has_started(*index));
            let Some(newest) = newest else { continue };
            let link = |at: usize| Some((at, leftovers.likeness(newest, at)?));
            let alike: Vec<_> = serving.after(newest).into_iter().filter_map(link).collect();
            let heads: BTreeSet<usize> = alike.iter().map(|(at, _)| self.sets.find(*at)).collect();
            if let (1, Some(&(first, proof))) = (heads.len(), alike.first())
                && !self.link(newest, first, proof)
                && self.began_after(newest, self.sets.find(first), &leftovers)
            {
                self.sets.unite(newest, first);
                self.links.push(((newest, first), proof));
            }
        }
    }

    /// Whether the service of `head` began in place of `older`, as far as its first living process after that one shows.
    fn began_after(&self, older: usize, head: usize, leftovers: &Leftovers<'_, '_>) -> bool {
        let mut later = self.members.iter().enumerate().skip(older + 1);
        let first = later.find(|(at, member)| self.sets.find(*at) == head && member.lives());
        first.is_some_and(|(_, first)| leftovers.came_instead(older, first))
    }
}

/// What is known of processes that may have been left over, by their indices.
struct Leftovers<'m, 'a> {
    members: &'m [Member<'a>],
    profiles: &'m [Profile<'m, 'a>],
    pids: &'m Pids<'m, 'a>,
    pasts: &'m Pasts,
}

impl<'m, 'a> Leftovers<'m, 'a> {
    fn member(&self, index: usize) -> Option<&'m Member<'a>> {
        self.members.get(index).filter(|member| member.lives())
    }

    fn past(&self, index: usize) -> Option<&'m Past> {
        self.pasts.get(&self.member(index)?.id())
    }

    /// Whether it serves; `None` if that could not be seen.
    fn serves(&self, index: usize) -> Option<bool> {
        self.profiles.get(index).and_then(|profile| profile.serves)
    }

    fn is_master(&self, index: usize) -> bool {
        self.member(index).is_some_and(|member| member.role == Role::Master)
    }

    /// It lives, and is neither a master nor a launcher.
    fn has_started(&self, index: usize) -> bool {
        let is_one = |member: &Member<'_>| member.role != Role::Master && !member.launching;
        self.member(index).is_some_and(is_one)
    }

    /// It serves no more, or is a master. One whose sockets cannot be read serves no more if it was superseded.
    fn has_ended(&self, index: usize) -> bool {
        let was_superseded = || self.past(index).is_some_and(|past| past.superseded.is_some());
        let ended = || self.serves(index).map_or_else(was_superseded, |serves| !serves);
        self.is_master(index) || self.has_started(index) && ended()
    }

    /// It may serve in place of another.
    fn may_take_over(&self, index: usize) -> bool {
        let serves = |serves| serves && !self.is_master(index);
        self.serves(index).map_or_else(|| self.has_started(index), serves)
    }

    /// How the older of two processes shows that it belongs to the service of the later one.
    fn likeness(&self, older: usize, later: usize) -> Option<Proof> {
        let (own, two) = (self.profiles.get(older)?, self.profiles.get(later)?);
        let member = self.members.get(later)?;
        let is_alive = |pid| self.pids.is_alive(member, pid);
        if own.is_daemon() && two.is_daemon() && own.is_replaced_by_pidfile(two, is_alive) {
            return Some(Proof::Pidfile);
        }
        own.is_left_over_of(two).then_some(Proof::Place)
    }

    /// Whether the first process of a service came in place of `older`: it runs in the same cgroup, and either every
    /// process that it was told to replace is gone, or it was told to replace none, and was started after `older` had
    /// been superseded or had last been seen with a listener.
    fn came_instead(&self, older: usize, first: &Member<'_>) -> bool {
        let list = asked_list(first).unwrap_or_default();
        let has_lost = !list.is_empty() && !list.iter().any(|&pid| self.pids.is_alive(first, pid));
        let past = self.past(older).filter(|past| past.superseded.is_none());
        let last_held = past.and_then(|past| past.last_held);
        let came_later = last_held.is_none_or(|last_held| last_held < first.process.started);
        let cgroup = self.member(older).map(|member| &member.process.cgroup);
        cgroup == Some(&first.process.cgroup) && (has_lost || list.is_empty() && came_later)
    }
}

#[cfg(test)]
mod tests {
    use crate::model::ConnectionState::Established;
    use crate::model::{NamespaceId, Pidfile};
    use crate::stage::{Actor, Film, actor};

    const PLACE: &str = "haproxy -D -f /lb.cfg";

    /// One of several services from one file, which the port in its environment tells apart.
    fn twin(pid: i32, started: u32, port: &str, list: &str) -> Actor {
        let actor = actor(pid, started, &format!("{PLACE} {list}"));
        actor.configured("listen f\n bind :\"${PORT}\"\n", 50).variable("PORT", port)
    }

    fn unseen(actor: Actor) -> Actor {
        actor.change(|process| process.sockets = None)
    }

    /// One with `${PORT}`, reloaded so often that the one between was never seen.
    #[test]
    fn what_drains_belongs_to_the_only_one_alike_that_serves() {
        let of = |pid, port, list| twin(pid, 100, port, list);
        let drains = |pid, list| of(pid, "81", list).connected(9, Established);
        let actors = [
            drains(10, ""),
            drains(11, "-sf 10"),
            of(20, "82", "").tcp(82, 2),
            of(21, "81", "-sf 19").tcp(81, 1),
        ];
        let table = ["10 stale, 11 stale, 21 current", "20 current"];
        assert_eq!(Film::default().settle(1000.0, &actors).casts(), table);
        // The watching exporter has seen those that drain, and not yet the one that serves.
        let mut film = Film::default();
        let [first, second, other, last] = actors;
        let serving = || second.clone().tcp(81, 3);
        film.settle(900.0, &[first.clone(), serving(), other.clone()]);
        let verdict = film.see(940.0, &[first, second, other, last]);
        assert_eq!(verdict.casts(), table);
        assert!(verdict.services.iter().all(|service| service.up == Some(true)));
    }

    /// A twin is killed and started anew, without a list, while what it had replaced still drains; in one sample, the
    /// sockets of either cannot be read.
    #[test]
    fn what_drains_belongs_to_the_one_alike_that_was_started_anew() {
        let first = || twin(10, 100, "81", "");
        let drains = || first().connected(9, Established);
        let other = || twin(20, 100, "82", "").tcp(82, 2);
        let anew = || twin(12, 1035, "81", "").tcp(81, 4);
        for seen in [[drains(), anew()], [unseen(drains()), anew()], [drains(), unseen(anew())]] {
            let mut film = Film::default();
            film.settle(900.0, &[first().tcp(81, 1), other()]);
            film.settle(1000.0, &[drains(), twin(11, 990, "81", "-sf 10").tcp(81, 3), other()]);
            film.see(1036.0, &[seen.as_slice(), &[other()]].concat());
            let verdict = film.see(1037.0, &[drains(), anew(), other()]);
            assert_eq!(verdict.casts(), ["10 stale, 12 current", "20 current"], "{seen:?}");
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
        assert_eq!(apart.casts(), ["10 current", "12 current"]);
        let one = film.see(1037.0, &[drains(read), anew(read)]);
        assert_eq!(one.casts(), ["10 stale, 12 current"]);
    }

    /// Twins again: 11 served and was replaced by 12, and 12 by 13, between two samples. When 11 is first
    /// seen draining, 13 does not serve yet, so nothing shows that they are one service.
    #[test]
    fn what_was_never_seen_serving_is_bound_to_no_name_yet() {
        let of = |pid, port, list| twin(pid, 990, port, list);
        let other = || of(20, "82", "").tcp(82, 2);
        let drains = || of(11, "81", "-sf 9").connected(9, Established);
        let mut film = Film::default();
        let starting = || of(13, "81", "-sf 12");
        film.see(1000.0, &[drains(), starting(), other()]);
        let actors = || [drains(), starting().tcp(81, 1), other()];
        film.see(1004.0, &actors());
        let verdict = film.see(1006.0, &actors());
        assert_eq!(verdict.casts(), ["11 stale, 13 current", "20 current"]);
        // On a busy machine it may not be known yet which sockets they hold.
        let mut film = Film::default();
        film.see(1000.0, &[unseen(drains()), unseen(starting()), other()]);
        let verdict = film.see(1004.0, &actors());
        assert_eq!(verdict.casts(), ["11 stale, 13 current", "20 current"]);
    }
}
