//! To which user's services a process that came or went can belong.

use std::collections::BTreeMap;

use crate::model::{Process, UserIds};

const ROOT: u32 = 0;

/// The users of the HAProxys of a sample, by their pids.
#[derive(Debug, Default)]
pub struct Movers {
    users: BTreeMap<i32, Option<UserIds>>,
}

impl Movers {
    /// Collects the users of these processes.
    pub fn of<'a>(processes: impl Iterator<Item = &'a Process>) -> Movers {
        Movers { users: processes.map(|process| (process.id.pid, process.users)).collect() }
    }

    /// The user to whose service a process may belong; `None` if it may belong to any service.
    ///
    /// A process of root's may yet drop its rights, so it counts for any service. So does a process whose
    /// parent is an HAProxy that does not run as the same user: it is a worker that has dropped its rights,
    /// and belongs to the service of its master.
    #[must_use]
    pub fn user(&self, process: &Process) -> Option<u32> {
        let users = process.users?;
        let is_same = |ids: &UserIds| *ids == UserIds::all(users.real);
        let of_parent = self.users.get(&process.parent);
        let parent_is_same = of_parent.is_none_or(|parent| parent.as_ref().is_some_and(is_same));
        (users.real != ROOT && is_same(&users) && parent_is_same).then_some(users.real)
    }
}
