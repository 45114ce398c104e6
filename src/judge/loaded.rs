//! What the serving processes have loaded, and whether the configuration on disk is another.

use std::collections::BTreeSet;

use super::case::{Case, Loaded};
use crate::haproxy::lineage::generations::Generation;
use crate::haproxy::lineage::member::Member;
use crate::haproxy::places::Endpoint;
use crate::model::time::YOUNG_SECONDS;
use crate::model::{Configuration, ProcessId};

impl Case<'_> {
    /// Whether the configuration on disk is another than the one that serves: its content differs
    /// from that at the start of the serving generation or, if that start was not watched, its date is
    /// newer. `None` if that is not known.
    ///
    /// A script that renders the file and then executes HAProxy is as old as the process, and so older than the
    /// file. Where the dates leave that open, the ports decide.
    #[must_use]
    pub fn config_has_changed(&self) -> Option<bool> {
        let configuration = self.configuration.as_ref()?;
        let mut serving = self.serving();
        let first = serving.next()?;
        let changed = |member: &Member<'_>| {
            let started = member.process.started;
            match self.pasts.get(&member.id()).and_then(|past| past.born_with) {
                Some(born_with) => born_with != configuration.fingerprint,
                None if configuration.modified > started + YOUNG_SECONDS => true,
                None => {
                    configuration.is_newer_than(started) && !self.binds_what_is_in(configuration)
                }
            }
        };
        Some(changed(first) || serving.any(changed))
    }

    /// What serves listens on every declared port, and on no other.
    fn binds_what_is_in(&self, configuration: &Configuration) -> bool {
        let is_declared = |endpoint: &Endpoint| {
            self.places.declares(&configuration.ports, endpoint) != Some(false)
        };
        let current = self.living(Generation::Current);
        let mut listeners = current.flat_map(|member| self.listeners_of(member.id()));
        self.unbound.is_empty() && listeners.all(|one| is_declared(&one.endpoint()))
    }

    /// The configuration that the serving processes loaded, if that was seen.
    #[must_use]
    pub fn loaded_configuration(&self) -> Option<&Configuration> {
        let loaded = self.loaded.as_ref().filter(|loaded| loaded.by == self.serving_ids())?;
        Some(&loaded.configuration)
    }

    /// The loaded configuration to remember for the next sample.
    pub(super) fn now_loaded(&self) -> Option<Loaded> {
        match self.config_has_changed() {
            Some(false) => {
                Some(Loaded { by: self.serving_ids(), configuration: self.configuration.clone()? })
            }
            _ => self.loaded.clone().filter(|loaded| loaded.by == self.serving_ids()),
        }
    }

    /// HAProxy's own `grace` that a process has loaded, if that is known.
    pub(super) fn own_grace_seconds(&self, member: &Member<'_>) -> Option<f64> {
        let past = self.pasts.get(&member.id()).and_then(|past| past.own_grace_seconds);
        past.or_else(|| Some(loaded_by(member)?.declared.globals.grace?.as_secs_f64()))
    }

    /// The processes that serve, without the master.
    pub(super) fn serving_ids(&self) -> BTreeSet<ProcessId> {
        self.serving().map(Member::id).collect()
    }
}

/// The configuration that a process has read, if it is still on disk: the file is older than the process.
pub(super) fn loaded_by<'a>(member: &Member<'a>) -> Option<&'a Configuration> {
    let configuration = member.process.configuration.as_deref()?;
    (!configuration.is_newer_than(member.process.started)).then_some(configuration)
}
