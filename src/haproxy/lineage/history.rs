//! How the stale processes of a service were superseded: by which process, and what shows it.

use std::collections::BTreeSet;

use super::cohorts::Cohort;
use super::member::Member;
use super::past::Pasts;
use super::proof::{Proof, Superseded};
use super::services::Service;
use crate::model::{ProcessId, UnixSeconds};

/// The cohorts of a service, and which of them serve or have served.
pub struct History<'h, 'a> {
    /// The service.
    pub service: &'h Service<'a>,
    /// Its cohorts, by age.
    pub cohorts: &'h [Cohort],
    /// Whether each of them serves or has served.
    pub served: &'h [bool],
    /// The one that serves now.
    pub current: Option<usize>,
    /// What earlier samples learned of its processes.
    pub pasts: &'h Pasts,
}

impl<'h, 'a> History<'h, 'a> {
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

    fn member(&self, id: ProcessId) -> Option<&'h Member<'a>> {
        self.service.members.iter().find(|member| member.id() == id)
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
        let later: Vec<ProcessId> =
            self.served_after(index).flat_map(|cohort| cohort.ids.iter().copied()).collect();
        // A worker inherits the arguments of its master, which up to 3.0 name the older workers.
        let master = self.member(id).and_then(|member| member.master);
        let successor = later
            .iter()
            .find(|by| master.is_some() && self.member(**by).is_some_and(|by| by.master == master));
        if let Some(&by) = successor {
            return (by, Proof::Master);
        }
        let linked = |by: &ProcessId| Some((*by, *self.service.links.get(&(id, *by))?));
        let told = |by: &ProcessId| linked(by).filter(|(_, proof)| *proof == Proof::Told);
        if let Some(told) = later.iter().find_map(told) {
            return told;
        }
        if let Some(by) = self.told_master(master) {
            return (by, Proof::Master);
        }
        let inferred = later.iter().find_map(linked).or(remembered);
        inferred.unwrap_or_else(|| self.likeliest(id, &later))
    }

    /// The process that was told to replace this master.
    fn told_master(&self, master: Option<ProcessId>) -> Option<ProcessId> {
        let links = self.service.links.iter();
        let mut told =
            links.filter(|((old, _), proof)| Some(*old) == master && **proof == Proof::Told);
        told.next().map(|((_, by), _)| *by)
    }

    /// The process has no link of its own: it is linked through others, or is younger than the one that
    /// serves.
    fn likeliest(&self, id: ProcessId, later: &[ProcessId]) -> (ProcessId, Proof) {
        let current = self.current.and_then(|current| self.cohorts.get(current)?.ids.first());
        let links = self.service.links.iter();
        let own = links.filter(|((old, new), _)| *old == id || *new == id);
        let proof = own.map(|(_, proof)| *proof).filter(|proof| !proof.is_certain()).min();
        let by = later.first().or(current).copied().unwrap_or(id);
        (by, proof.unwrap_or(Proof::Place))
    }

    /// A master is stale once a process that has served, or its master, was told to replace it.
    #[must_use]
    pub fn superseded_master(&self, master: &Member<'_>) -> Option<Superseded> {
        let past = self.pasts.get(&master.id()).and_then(|past| past.superseded);
        if past.is_some() {
            return past;
        }
        let members = &self.service.members;
        let serving = self.cohorts.iter().zip(self.served).filter(|(_, served)| **served);
        let serving: BTreeSet<ProcessId> =
            serving.flat_map(|(cohort, _)| cohort.ids.iter().copied()).collect();
        let served = |by: ProcessId| {
            let mut of_by = members.iter().filter(|m| m.id() == by || m.master == Some(by));
            of_by.any(|m| serving.contains(&m.id()) && m.master != Some(master.id()))
        };
        let mut told = self
            .service
            .links
            .iter()
            .filter(|((old, _), proof)| *old == master.id() && **proof == Proof::Told);
        let by = told.find_map(|((_, by), _)| served(*by).then_some(*by))?;
        let since = self.member(by).map_or(0.0, |by| by.process.started);
        Some(Superseded { by, proof: Proof::Master, since })
    }
}
