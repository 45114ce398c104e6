//! How the stale processes of a service were superseded: by which process, and what shows it.

use std::collections::BTreeMap;

use super::cohorts::Cohort;
use super::member::Member;
use super::past::Pasts;
use super::proof::{Proof, Superseded};
use super::services::Service;
use crate::model::{ProcessId, UnixSeconds};

/// The cohorts of a service, and which of them serve or have served.
pub struct History<'h, 'a> {
    service: &'h Service<'a>,
    /// Its cohorts, by age.
    cohorts: &'h [Cohort],
    /// Whether each of them serves or has served.
    served: &'h [bool],
    /// The one that serves now.
    current: Option<usize>,
    /// What earlier samples learned of its processes.
    pasts: &'h Pasts,
    /// The processes of the cohorts that serve or have served, by age, each with its cohort's place.
    serving: Vec<(usize, ProcessId)>,
    /// Where each of them stands in `serving`.
    places: BTreeMap<ProcessId, usize>,
    /// Where the workers of each master stand in `serving`, ascending.
    workers: BTreeMap<ProcessId, Vec<usize>>,
    /// The most certain proof that needs inference, of the links of each process.
    inferred: BTreeMap<ProcessId, Proof>,
}

impl<'h, 'a> History<'h, 'a> {
    /// Gathers it. `served` says of each cohort whether it serves or has served, `current` which one
    /// serves now.
    #[must_use]
    pub fn of(
        service: &'h Service<'a>,
        cohorts: &'h [Cohort],
        served: &'h [bool],
        current: Option<usize>,
        pasts: &'h Pasts,
    ) -> History<'h, 'a> {
        let serving: Vec<(usize, ProcessId)> = cohorts
            .iter()
            .zip(served)
            .enumerate()
            .filter(|(_, (_, served))| **served)
            .flat_map(|(index, (cohort, _))| cohort.ids.iter().map(move |id| (index, *id)))
            .collect();
        let mut workers: BTreeMap<ProcessId, Vec<usize>> = BTreeMap::new();
        for (place, (_, id)) in serving.iter().enumerate() {
            if let Some(master) = service.member(*id).and_then(|member| member.master) {
                workers.entry(master).or_default().push(place);
            }
        }
        let mut inferred: BTreeMap<ProcessId, Proof> = BTreeMap::new();
        for ((old, new), &proof) in service.links.iter().filter(|(_, proof)| !proof.is_certain()) {
            for id in [old, new] {
                let known = inferred.entry(*id).or_insert(proof);
                *known = proof.min(*known);
            }
        }
        let places = serving.iter().enumerate().map(|(place, (_, id))| (*id, place)).collect();
        History { service, cohorts, served, current, pasts, serving, places, workers, inferred }
    }

    /// How a process of the stale cohort at `index` was superseded.
    #[must_use]
    pub fn superseded(&self, index: usize, id: ProcessId) -> Superseded {
        let past = self.pasts.get(&id).and_then(|past| past.superseded);
        let (by, proof) = self.proof(index, id, past);
        Superseded { by, proof, since: self.since(index, past) }
    }

    /// The start of the earliest later cohort that has served: the current one, or one that is stale
    /// itself, for that is what stale means.
    fn since(&self, index: usize, past: Option<Superseded>) -> UnixSeconds {
        let own = self.cohorts.get(index).map_or(0.0, |cohort| cohort.started);
        let served = self.served_after(index).map(|cohort| cohort.started).next();
        let current = self.current.and_then(|current| self.cohorts.get(current));
        let overtaken = served.or_else(|| current.map(|cohort| cohort.started));
        let since = overtaken.unwrap_or(own).max(own);
        past.map_or(since, |past| past.since.min(since))
    }

    /// Later cohorts that serve or have served, by age.
    fn served_after(&self, index: usize) -> impl Iterator<Item = &'h Cohort> {
        let later = self.cohorts.iter().zip(self.served).skip(index + 1);
        later.filter(|(_, served)| **served).map(|(cohort, _)| cohort)
    }

    /// The proof that a process was superseded, the most certain first. A proof that was certain once stays
    /// certain.
    fn proof(&self, index: usize, id: ProcessId, past: Option<Superseded>) -> (ProcessId, Proof) {
        let remembered = past.map(|past| (past.by, past.proof));
        if let Some(certain) = remembered.filter(|(_, proof)| proof.is_certain()) {
            return certain;
        }
        if let Some(&by) = self.service.stopped_by.get(&id) {
            return (by, Proof::Told);
        }
        let first = self.serving.partition_point(|(cohort, _)| *cohort <= index);
        // A worker inherits the arguments of its master, which up to 3.0 name the older workers.
        let master = self.service.member(id).and_then(|member| member.master);
        let workers = master.and_then(|master| self.workers.get(&master));
        let successor = workers.and_then(|workers| workers.iter().find(|place| **place >= first));
        if let Some((_, by)) = successor.and_then(|place| self.serving.get(*place)) {
            return (*by, Proof::Master);
        }
        if let Some(by) = self.first_linked(id, first, |proof| proof == Proof::Told) {
            return by;
        }
        if let Some(by) = self.told_master(master) {
            return (by, Proof::Master);
        }
        let inferred = self.first_linked(id, first, |_| true).or(remembered);
        inferred.unwrap_or_else(|| self.likeliest(id, first))
    }

    /// The links of an older process: each later one, and what links them.
    fn links_of(&self, old: ProcessId) -> impl Iterator<Item = (ProcessId, Proof)> {
        let least = ProcessId { start_ticks: 0, pid: i32::MIN };
        let from = self.service.links.range((old, least)..);
        from.take_while(move |((of, _), _)| *of == old).map(|((_, by), proof)| (*by, *proof))
    }

    /// The first linked process among those that serve or have served, from a place on.
    fn first_linked(
        &self,
        id: ProcessId,
        first: usize,
        counts: impl Fn(Proof) -> bool,
    ) -> Option<(ProcessId, Proof)> {
        let links = self.links_of(id).filter(|(_, proof)| counts(*proof));
        let placed = links.filter_map(|link| Some((*self.places.get(&link.0)?, link)));
        let later = placed.filter(|(place, _)| *place >= first);
        later.min_by_key(|(place, _)| *place).map(|(_, link)| link)
    }

    /// The process that was told to replace this master.
    fn told_master(&self, master: Option<ProcessId>) -> Option<ProcessId> {
        let mut told = self.links_of(master?).filter(|(_, proof)| *proof == Proof::Told);
        told.next().map(|(by, _)| by)
    }

    /// The most plausible successor of a process that has no link of its own, because it is linked through
    /// other processes or is younger than the one that serves.
    fn likeliest(&self, id: ProcessId, first: usize) -> (ProcessId, Proof) {
        let current = self.current.and_then(|current| self.cohorts.get(current)?.ids.first());
        let later = self.serving.get(first).map(|(_, by)| by);
        let by = later.or(current).copied().unwrap_or(id);
        (by, self.inferred.get(&id).copied().unwrap_or(Proof::Place))
    }

    /// The process of another master that serves in place of a worker of this one, to which it is linked. This
    /// master was told to stop.
    fn serves_in_stead_of(&self, master: ProcessId) -> Option<(ProcessId, Proof)> {
        let workers = self.workers.get(&master)?.iter().filter_map(|at| self.serving.get(*at));
        let is_anothers = |by: ProcessId| {
            self.service.member(by).is_some_and(|member| member.master != Some(master))
        };
        let mut links = workers.flat_map(|(_, worker)| self.links_of(*worker));
        links.find(|(by, _)| is_anothers(*by) && self.places.contains_key(by))
    }

    /// A master is stale once a process that has served, or its master, was told to replace it.
    #[must_use]
    pub fn superseded_master(&self, master: &Member<'_>) -> Option<Superseded> {
        let past = self.pasts.get(&master.id()).and_then(|past| past.superseded);
        if past.is_some() {
            return past;
        }
        let serves = |by: ProcessId| self.places.contains_key(&by);
        let has_served = |by: ProcessId| {
            let is_anothers = |member: &Member<'_>| member.master != Some(master.id());
            serves(by) && self.service.member(by).is_some_and(is_anothers)
                || by != master.id() && self.workers.contains_key(&by)
        };
        let mut told = self.links_of(master.id()).filter(|(_, proof)| *proof == Proof::Told);
        let told = told.find(|(by, _)| has_served(*by));
        let (by, _) = told.or_else(|| self.serves_in_stead_of(master.id()))?;
        let since = self.service.member(by).map_or(0.0, |by| by.process.started);
        Some(Superseded { by, proof: Proof::Master, since })
    }
}

#[cfg(test)]
mod tests {
    use crate::model::ConnectionState::Established;
    use crate::stage::{Actor, Film, actor};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";

    /// Its successor was killed, and a sample cannot see the sockets of what it left behind.
    #[test]
    fn one_that_was_superseded_serves_no_more_while_it_is_out_of_sight() {
        let line = |list: &str| format!("{LINE} {list}");
        let unseen = |actor: Actor| actor.change(|process| process.sockets = None);
        let old = || actor(10, 100, LINE).connected(9, Established);
        let mut film = Film::default();
        film.settle(1000.0, &[old(), actor(11, 200, &line("-sf 10")).tcp(80, 1)]);
        let verdict = film.see(1040.0, &[unseen(old())]);
        assert_eq!((verdict.one().cast().as_str(), verdict.one().up), ("10 stale", None));
        let starts = unseen(actor(12, 1041, LINE));
        assert_eq!(film.see(1042.0, &[old(), starts]).one().cast(), "10 stale, 12 unknown");
    }
}
