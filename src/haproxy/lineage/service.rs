//! A service: its processes, and what shows that one was started in place of another.

use std::collections::BTreeMap;

use super::member::Member;
use super::proof::Proof;
use crate::model::ProcessId;

/// The processes of one service, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Service<'a> {
    /// The processes.
    pub members: Vec<Member<'a>>,
    /// What shows that a later process (second) was started in place of an earlier one (first).
    pub links: BTreeMap<(ProcessId, ProcessId), Proof>,
    /// Processes that one of another service was told to replace, by that one.
    pub stopped_by: BTreeMap<ProcessId, ProcessId>,
}

impl<'a> Service<'a> {
    /// A service of processes that nothing links.
    #[must_use]
    pub fn of(members: Vec<Member<'a>>) -> Service<'a> {
        Service { members, ..Service::default() }
    }

    /// The process with this identity.
    #[must_use]
    pub fn member(&self, id: ProcessId) -> Option<&Member<'a>> {
        let place = self.members.binary_search_by_key(&id, Member::id).ok()?;
        self.members.get(place)
    }
}
