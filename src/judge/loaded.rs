//! What the serving processes have loaded, and whether the configuration on disk is another.

use std::collections::BTreeSet;

use super::case::{Case, Loaded};
use crate::haproxy::lineage::generations::Generation;
use crate::haproxy::lineage::member::{Member, Role, YOUNG_SECONDS};
use crate::haproxy::places::Endpoint;
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
        let mut serving = self.living(Generation::Current).filter(|m| m.role != Role::Master);
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
        let serving = self.living(Generation::Current).filter_map(|m| self.holdings.get(&m.id()));
        let mut listeners = serving.flat_map(|holding| &holding.listeners);
        self.unbound.is_empty() && listeners.all(|one| is_declared(&one.endpoint()))
    }

    /// The configuration that the serving processes loaded, if that was seen.
    #[must_use]
    pub fn loaded_configuration(&self) -> Option<&Configuration> {
        let loaded = self.loaded.as_ref().filter(|loaded| loaded.by == self.serving())?;
        Some(&loaded.configuration)
    }

    /// The loaded configuration to remember for the next sample.
    pub(super) fn now_loaded(&self) -> Option<Loaded> {
        match self.config_has_changed() {
            Some(false) => {
                Some(Loaded { by: self.serving(), configuration: self.configuration.clone()? })
            }
            _ => self.loaded.clone().filter(|loaded| loaded.by == self.serving()),
        }
    }

    /// The processes that serve, without the master.
    fn serving(&self) -> BTreeSet<ProcessId> {
        let current = self.living(Generation::Current);
        current.filter(|member| member.role != Role::Master).map(Member::id).collect()
    }
}
