//! Which pairs of processes can be one service by likeness: only those that have something in common.
//!
//! Every rule of likeness asks for one pidfile, or for the same arguments in the same namespaces. Processes
//! that share neither need not be compared, so a host with many services costs no more than its
//! services. One file, because the tests repeat the plain definition that the index must agree with.

use std::collections::{BTreeSet, HashMap};

use super::profile::{Likeness, Profile};

/// Processes by what they have in common.
pub struct Candidates<'p, 'm, 'a> {
    profiles: &'p [Profile<'m, 'a>],
    /// The processes of each likeness that may be compared, by their indices, ascending.
    alike: HashMap<Likeness<'p>, Vec<usize>>,
}

impl<'p, 'm, 'a> Candidates<'p, 'm, 'a> {
    /// Of these profiles, those that `may` be compared.
    #[must_use]
    pub fn of(
        profiles: &'p [Profile<'m, 'a>],
        may: impl Fn(usize) -> bool,
    ) -> Candidates<'p, 'm, 'a> {
        let mut alike: HashMap<Likeness<'p>, Vec<usize>> = HashMap::new();
        for (index, profile) in profiles.iter().enumerate().filter(|(index, _)| may(*index)) {
            for likeness in profile.likenesses() {
                alike.entry(likeness).or_default().push(index);
            }
        }
        Candidates { profiles, alike }
    }

    /// Those before `index` that have something in common with it, oldest first.
    #[must_use]
    pub fn before(&self, index: usize) -> BTreeSet<usize> {
        self.alike(index).flat_map(|alike| split_at(alike, index).0).copied().collect()
    }

    /// Those after `index` that have something in common with it, oldest first.
    #[must_use]
    pub fn after(&self, index: usize) -> BTreeSet<usize> {
        let others = self.alike(index).flat_map(|alike| split_at(alike, index).1);
        others.filter(|at| **at != index).copied().collect()
    }

    /// The processes of each of its likenesses.
    fn alike(&self, index: usize) -> impl Iterator<Item = &[usize]> {
        let likenesses = self.profiles.get(index).into_iter().flat_map(Profile::likenesses);
        likenesses.filter_map(|likeness| self.alike.get(&likeness).map(Vec::as_slice))
    }
}

/// The indices before `index`, and the rest.
fn split_at(indices: &[usize], index: usize) -> (&[usize], &[usize]) {
    indices.split_at(indices.partition_point(|at| *at < index))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::ops::Range;

    use proptest::prelude::*;

    use crate::haproxy::lineage::grouping::Grouping;
    use crate::haproxy::lineage::member::{Member, Role};
    use crate::haproxy::lineage::past::{Past, Pasts};
    use crate::haproxy::lineage::profile::Profile;
    use crate::haproxy::lineage::proof::{Proof, Superseded};
    use crate::haproxy::lineage::remembered::{Remembered, asked_list};
    use crate::haproxy::lineage::roles;
    use crate::haproxy::listeners::{self, Holding};
    use crate::model::ConnectionState::Established;
    use crate::model::{NamespaceId, Pidfile, ProcessId, Snapshot};
    use crate::stage::{Actor, actor, snapshot};

    const PIDS: Range<i32> = 10..22;

    /// The plain definition: every pair of living members is compared.
    struct Plain<'m, 'a> {
        members: &'m [Member<'a>],
        pasts: &'m Pasts,
        profiles: Vec<Profile<'m, 'a>>,
        heads: Vec<usize>,
        names: Vec<Option<String>>,
        links: BTreeMap<(usize, usize), Proof>,
        stopped_by: BTreeMap<usize, usize>,
    }

    impl<'m, 'a> Plain<'m, 'a> {
        fn of(
            members: &'m [Member<'a>],
            holdings: &'m BTreeMap<ProcessId, Holding<'m>>,
            pasts: &'m Pasts,
        ) -> Plain<'m, 'a> {
            let names: Vec<_> = members.iter().map(|member| remembered(member, pasts)).collect();
            let mut plain = Plain {
                members,
                pasts,
                profiles: members.iter().map(|m| Profile::of(m, holdings)).collect(),
                heads: (0..members.len()).collect(),
                names: names.clone(),
                links: BTreeMap::new(),
                stopped_by: BTreeMap::new(),
            };
            for (i, member) in members.iter().enumerate() {
                let mut parents = members.iter().enumerate().rev();
                let parent = parents.find(|(_, p)| p.id().pid == member.process.parent);
                let Some((at, parent)) = parent else { continue };
                if member.master == Some(parent.id()) || parent.launching {
                    plain.unite(i, at);
                }
            }
            for i in 0..members.len() {
                let first = (0..=i).find(|&at| names[at].is_some() && names[at] == names[i]);
                if let Some(first) = first {
                    plain.join(first, i);
                }
            }
            plain.join_alike();
            plain.join_told();
            plain.join_leftovers();
            plain
        }

        fn join(&mut self, a: usize, b: usize) -> bool {
            let (a, b) = (self.heads[a], self.heads[b]);
            let (one, other) = (self.names[a].clone(), self.names[b].clone());
            if one.is_some() && other.is_some() && one != other {
                return false;
            }
            self.names[a.min(b)] = one.or(other);
            self.merge(a, b);
            true
        }

        fn unite(&mut self, a: usize, b: usize) {
            if !self.join(a, b) {
                self.merge(self.heads[a], self.heads[b]);
            }
        }

        fn merge(&mut self, a: usize, b: usize) {
            for head in &mut self.heads {
                *head = if *head == a.max(b) { a.min(b) } else { *head };
            }
        }

        fn link(&mut self, older: usize, newer: usize, proof: Proof) -> bool {
            let joined = self.join(older, newer);
            if joined {
                let known = self.links.entry((older, newer)).or_insert(proof);
                *known = proof.min(*known);
            }
            joined
        }

        fn pairs(&self) -> Vec<(usize, usize)> {
            let lives = |index: &usize| self.members[*index].lives();
            let newers = (0..self.members.len()).filter(lives);
            newers.flat_map(|newer| (0..newer).filter(lives).map(move |o| (o, newer))).collect()
        }

        fn is_alive(&self, later: &Member<'_>, pid: i32) -> bool {
            self.members.iter().any(|member| {
                member.lives()
                    && member.id() < later.id()
                    && member.process.pid_namespace == later.process.pid_namespace
                    && member.process.own_pid() == pid
            })
        }

        fn join_alike(&mut self) {
            let pasts = self.pasts;
            for (older, newer) in self.pairs() {
                let (before, after) = (&self.members[older], &self.members[newer]);
                if before.role == Role::Worker || after.role == Role::Worker {
                    continue;
                }
                let born_with = |m: &Member<'_>| pasts.get(&m.id()).and_then(|p| p.born_with);
                let changed = match (born_with(before), born_with(after)) {
                    (Some(then), Some(later)) => then != later,
                    _ => false,
                };
                let (one, two) = (&self.profiles[older], &self.profiles[newer]);
                let is_alive = |pid| self.is_alive(after, pid);
                if one.is_replaced_by_pidfile(two, is_alive)
                    || one.is_replaced_in_jail(two, is_alive)
                {
                    self.link(older, newer, Proof::Pidfile);
                } else if one.is_replaced_in_place(two, changed) {
                    self.link(older, newer, Proof::Place);
                }
            }
        }

        fn join_told(&mut self) {
            let mut told: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
            for (older, newer) in self.pairs() {
                let (before, after) = (&self.members[older], &self.members[newer]);
                if asked_list(after).is_some() && after.was_told_to_replace(before.process) {
                    told.entry(newer).or_default().push(older);
                }
            }
            for (newer, olders) in told {
                let home = self.heads[newer];
                let (own, others): (Vec<_>, Vec<_>) =
                    olders.into_iter().partition(|older| self.heads[*older] == home);
                for &older in &own {
                    self.link(older, newer, Proof::Told);
                }
                for older in others {
                    let (one, two) = (&self.profiles[older], &self.profiles[newer]);
                    if !own.is_empty() && one.is_neighbour_of(two)
                        || !self.link(older, newer, Proof::Told)
                    {
                        self.stopped_by.insert(older, newer);
                    }
                }
            }
        }

        fn join_leftovers(&mut self) {
            let may = |index: usize| {
                let member = &self.members[index];
                member.role != Role::Master && member.lives() && !member.launching
            };
            let is_master = |index: usize| {
                self.members[index].role == Role::Master && self.members[index].lives()
            };
            let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
            for index in 0..self.members.len() {
                groups.entry(self.heads[index]).or_default().push(index);
            }
            for group in groups.into_values() {
                let past = |at: usize| self.pasts.get(&self.members[at].id());
                let ended = |at: usize| match self.profiles[at].serves {
                    Some(serves) => !serves,
                    None => past(at).is_some_and(|past| past.superseded.is_some()),
                };
                let has_ended = |at: &usize| is_master(*at) || may(*at) && ended(*at);
                if !group.iter().all(has_ended) {
                    continue;
                }
                let Some(&newest) = group.iter().rfind(|at| may(**at)) else { continue };
                let takes_over = |at: &usize| match self.profiles[*at].serves {
                    Some(serves) => serves && self.members[*at].role != Role::Master,
                    None => may(*at),
                };
                let link = |at: usize| {
                    let (own, two) = (&self.profiles[newest], &self.profiles[at]);
                    let is_alive = |pid| self.is_alive(&self.members[at], pid);
                    let daemons = own.is_daemon() && two.is_daemon();
                    if daemons && own.is_replaced_by_pidfile(two, is_alive) {
                        return Some((at, Proof::Pidfile));
                    }
                    own.is_left_over_of(two).then_some((at, Proof::Place))
                };
                let later = (newest + 1..self.members.len()).filter(takes_over);
                let alike: Vec<(usize, Proof)> = later.filter_map(link).collect();
                let heads: BTreeSet<usize> = alike.iter().map(|(at, _)| self.heads[*at]).collect();
                if let (1, Some(&(first, proof))) = (heads.len(), alike.first())
                    && !self.link(newest, first, proof)
                    && self.began_after(newest, self.heads[first])
                {
                    self.unite(newest, first);
                    let known = self.links.entry((newest, first)).or_insert(proof);
                    *known = proof.min(*known);
                }
            }
        }

        fn began_after(&self, older: usize, head: usize) -> bool {
            let mut later = older + 1..self.members.len();
            let later = later.find(|&at| self.heads[at] == head && self.members[at].lives());
            let (older, later) = (&self.members[older], &self.members[later.unwrap()]);
            let is_alive = |pid: &i32| {
                self.members.iter().any(|member| {
                    member.lives()
                        && member.id() < later.id()
                        && member.process.own_pid() == *pid
                        && member.process.pid_namespace == later.process.pid_namespace
                })
            };
            let list = asked_list(later).unwrap_or_default();
            let had_lost = !list.is_empty() && !list.iter().any(is_alive);
            let past = self.pasts.get(&older.id());
            let held_on = past.is_some_and(|past| {
                past.superseded.is_none()
                    && past.last_held.is_some_and(|last_held| last_held >= later.process.started)
            });
            older.process.cgroup == later.process.cgroup
                && (had_lost || list.is_empty() && !held_on)
        }
    }

    fn remembered(member: &Member<'_>, pasts: &Pasts) -> Option<String> {
        let past = pasts.get(&member.id());
        if let Some(past) = past.filter(|past| member.role != Role::Daemon || past.belongs) {
            return past.service.clone();
        }
        let pids = asked_list(member)?;
        let meant = pasts.iter().filter(|(id, past)| {
            **id < member.id()
                && past.pid_namespace == member.process.pid_namespace
                && pids.contains(&past.own_pid)
                && member.may_signal(past.users)
        });
        let names: BTreeSet<Option<&String>> =
            meant.map(|(_, past)| past.service.as_ref()).collect();
        (names.len() == 1).then(|| names.first().copied().flatten().cloned())?
    }

    /// One of these, the first most often.
    fn one_of<T: Clone + std::fmt::Debug + 'static>(values: Vec<T>) -> BoxedStrategy<T> {
        let first = Just(values[0].clone());
        prop_oneof![2 => first, 1 => prop::sample::select(values)].boxed()
    }

    fn words() -> BoxedStrategy<String> {
        let mode = one_of(vec!["-D", "", "-W", "-D -W"]);
        let files = one_of(vec!["-f /a.cfg", "-f a.cfg", "-f /b.cfg", ""]);
        let pidfile = one_of(vec!["", "-p /run/p", "-p p", "-p /run/q"]);
        let list = prop_oneof![
            2 => Just(String::new()),
            1 => prop::collection::vec(PIDS, 0..4).prop_map(|pids| {
                let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
                format!("-sf {}", pids.join(" "))
            }),
        ];
        let parts = (mode, files, pidfile, one_of(vec!["", "-L peer"]), list);
        parts
            .prop_map(|(mode, files, pidfile, peer, list)| {
                format!("haproxy {mode} {files} {pidfile} {peer} {list}")
            })
            .boxed()
    }

    fn places() -> impl Strategy<Value = Vec<usize>> {
        prop::collection::vec(0..8_usize, 12)
    }

    /// Whatever tells two processes apart; a number of 0 leaves a thing as it is most often.
    fn one_actor(pid: i32) -> impl Strategy<Value = Actor> {
        (words(), 100..120_u32, places(), prop::option::of(1..4_u64)).prop_map(
            move |(line, started, choices, socket)| {
                let mut actor = actor(pid, started, &line);
                let texts = ["listen f\n bind :\"${PORT}\"\n", "listen f\n bind :81\n"];
                let configured = match choices[0] {
                    0..=1 => None,
                    2..=4 => Some((texts[0], 50)),
                    5 => Some((texts[0], 110)),
                    6 => Some((texts[1], 112)),
                    _ => Some(("listen f\n bind fd@3\n", 50)),
                };
                if let Some((text, modified)) = configured {
                    actor = actor.configured(text, modified);
                }
                if choices[1] > 5 {
                    actor = actor.variable("PORT", &choices[1].to_string());
                }
                actor = match choices[2] {
                    6 => actor.of_user(65534),
                    7 => actor.of_user(1000),
                    _ => actor,
                };
                if choices[3] > 5 {
                    actor = actor.in_cgroup("/a");
                }
                actor = match choices[4] {
                    5 => actor.jailed().variable("PWD", "/"),
                    6 => actor.in_directory("/run"),
                    _ => actor,
                };
                actor = actor.change(|process| {
                    if choices[5] > 6 {
                        process.mount_namespace = Some(NamespaceId(7));
                    }
                    if choices[6] > 6 {
                        process.pid_namespace = None;
                    }
                    if choices[7] > 6 {
                        process.environment = None;
                    }
                });
                if choices[8] > 4 {
                    let named = [pid, 10];
                    let file = Some((1, (choices[8] % 2) as u64));
                    let written = actor.pidfile(&named[..choices[8] % 3]);
                    actor = written.change(|process| {
                        process.pidfile =
                            process.pidfile.take().map(|read| Pidfile { file, ..read });
                    });
                }
                actor = match choices[9] {
                    6 => actor.child_of(10),
                    7 => actor.reload(1),
                    _ => actor,
                };
                actor = match socket {
                    Some(inode) => actor.tcp(80 + u16::try_from(inode % 2).unwrap(), inode),
                    None => actor.connected(90, Established),
                };
                match choices[10] {
                    6 => actor.dead(),
                    7 => actor.unseen(),
                    _ => actor,
                }
            },
        )
    }

    fn actors() -> impl Strategy<Value = Vec<Actor>> {
        let all: Vec<_> = PIDS.map(|pid| prop::option::of(one_actor(pid))).collect();
        all.prop_map(|actors| actors.into_iter().flatten().collect())
    }

    /// What is remembered of some of the processes, and of some that have ended.
    fn pasts(snapshot: &Snapshot, choices: &[usize]) -> Pasts {
        let living =
            snapshot.processes.iter().map(|p| (p.id, p.own_pid(), p.pid_namespace, p.users));
        let ended = (8..14).map(|pid| {
            let id = ProcessId { start_ticks: 5000, pid };
            (id, pid, Some(NamespaceId(1)), Some(crate::model::UserIds::all(0)))
        });
        let known = living.chain(ended).zip(choices.iter().cycle()).filter(|(_, c)| **c > 3);
        let past = known.map(|((id, own_pid, pid_namespace, users), choice)| {
            let past = Past {
                service: [None, Some("a"), Some("b")][choice % 3].map(str::to_owned),
                own_pid,
                pid_namespace,
                users,
                belongs: choice % 2 == 0,
                last_held: [None, Some(150.0), Some(900.0)][choice % 3],
                superseded: (choice % 5 == 0).then_some(Superseded {
                    by: id,
                    proof: Proof::Told,
                    since: 900.0,
                }),
                born_with: (*choice > 5).then_some(id.pid.unsigned_abs().into()),
                ..Past::default()
            };
            (id, past)
        });
        past.collect()
    }

    /// A user can start hundreds of processes, each of which looks like a service of its own.
    #[test]
    fn services_that_have_nothing_in_common_are_not_compared() {
        let actors: Vec<Actor> = (0..500)
            .map(|number| {
                let line = format!("haproxy -D -f /{number}.cfg -p /run/{number}");
                actor(1000 + number, 100, &line).of_user(65534)
            })
            .collect();
        let snapshot = snapshot(1000.0, &actors);
        let holdings = listeners::holdings(&snapshot);
        let members = roles::members(&snapshot.processes, &Pasts::new(), |_| false, 1000.0);
        let profiles: Vec<_> = members.iter().map(|m| Profile::of(m, &holdings)).collect();
        let candidates = super::Candidates::of(&profiles, |_| true);
        assert!((0..500).all(|index| candidates.before(index).is_empty()));
        assert!((0..500).all(|index| candidates.after(index).is_empty()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        /// Comparing only what has something in common finds what comparing every pair finds.
        #[test]
        fn the_index_finds_what_comparing_every_pair_finds(
            actors in actors(),
            choices in places(),
            with_pasts in any::<bool>(),
        ) {
            let snapshot = snapshot(1000.0, &actors);
            let pasts = if with_pasts { pasts(&snapshot, &choices) } else { Pasts::new() };
            let holdings = listeners::holdings(&snapshot);
            let listens = |id| {
                holdings.get(&id).is_some_and(|held: &Holding<'_>| !held.listeners.is_empty())
            };
            let members = roles::members(&snapshot.processes, &pasts, listens, 1000.0);
            let known = Remembered::of(&members, &pasts);
            for member in &members {
                let name = remembered(member, &pasts);
                prop_assert_eq!(known.get(member.id()), name.as_deref());
            }
            let plain = Plain::of(&members, &holdings, &pasts);
            let living: Vec<Member<'_>> =
                members.iter().filter(|member| member.lives()).cloned().collect();
            let of_living = Plain::of(&living, &holdings, &pasts);
            // Zombies are joined last and by another rule, so the sets are compared without them.
            let grouping = Grouping::of(&living, &holdings, &pasts, &known);
            let heads: Vec<usize> = (0..living.len()).map(|at| grouping.sets.find(at)).collect();
            prop_assert_eq!(&heads, &of_living.heads);
            let links: BTreeMap<_, _> = grouping.links.iter().copied().collect();
            prop_assert_eq!(&links, &of_living.links);
            prop_assert_eq!(&grouping.stopped_by, &of_living.stopped_by);
            let all = Grouping::of(&members, &holdings, &pasts, &known);
            let links: BTreeMap<_, _> = all.links.iter().copied().collect();
            prop_assert_eq!(&links, &plain.links);
            prop_assert_eq!(&all.stopped_by, &plain.stopped_by);
        }
    }
}
