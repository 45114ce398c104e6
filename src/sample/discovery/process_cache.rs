//! Keeps the facts about a process that hardly ever change except by execve(2).

use std::collections::BTreeMap;

use crate::model::time::YOUNG_SECONDS;
use crate::model::{Environment, NamespaceId, ProcessId};
use crate::sample::clock::{REVIEW_SECONDS, seconds};
use crate::sample::proc::cgroups::CgroupPaths;
use rustix::time::ClockId;

/// Where the kernel has put the program, stack, heap, arguments and environment of a process. It
/// changes with each execve(2) (`/proc/PID/stat`, fields 26, 28, 47, 48 and 50).
pub type Layout = [Option<u64>; 5];

/// The facts about a process that hardly ever change while it runs one program.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StableFacts {
    /// `environ`.
    pub environment: Option<Environment>,
    /// `ns/net`.
    pub net_namespace: Option<NamespaceId>,
    /// `ns/pid`.
    pub pid_namespace: Option<NamespaceId>,
    /// `ns/mnt`.
    pub mount_namespace: Option<NamespaceId>,
    /// `ns/uts`.
    pub uts_namespace: Option<NamespaceId>,
    /// `cgroup`.
    pub cgroups: CgroupPaths,
    /// The soft limit on open files in `limits`.
    pub max_fds: Option<u64>,
}

/// The stable facts of each process. They are read again once a minute, because a process can be
/// moved to another cgroup and its limits can be changed.
#[derive(Debug, Default)]
pub struct ProcessCache {
    known: BTreeMap<ProcessId, Reading>,
}

#[derive(Debug)]
struct Reading {
    layout: Layout,
    first: f64,
    last: f64,
    facts: StableFacts,
}

impl ProcessCache {
    /// The facts as they were last read, unless they may have changed.
    #[must_use]
    pub fn get(&self, id: ProcessId, layout: Layout) -> Option<StableFacts> {
        let reading = self.known.get(&id).filter(|reading| reading.layout == layout)?;
        let settled = reading.last - reading.first >= YOUNG_SECONDS;
        let fresh = seconds(ClockId::Monotonic) - reading.last < REVIEW_SECONDS;
        (settled && fresh).then(|| reading.facts.clone())
    }

    /// Keeps facts that were read just now.
    pub fn put(&mut self, id: ProcessId, layout: Layout, facts: StableFacts) {
        let last = seconds(ClockId::Monotonic);
        let before = self.known.get(&id).filter(|reading| reading.layout == layout);
        let first = before.map_or(last, |reading| reading.first);
        self.known.insert(id, Reading { layout, first, last, facts });
    }

    /// Forgets the processes that are not needed.
    pub fn retain(&mut self, needed: impl Fn(ProcessId) -> bool) {
        self.known.retain(|&id, _| needed(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_kept_once_settled_and_until_the_next_execution() {
        let id = ProcessId { start_ticks: 1, pid: 7 };
        let (layout, other) = ([Some(1); 5], [Some(2); 5]);
        let mut kept = ProcessCache::default();
        let facts = StableFacts { max_fds: Some(9), ..StableFacts::default() };
        kept.put(id, layout, facts.clone());
        assert_eq!(kept.get(id, layout), None, "young");
        kept.known.get_mut(&id).unwrap().first -= YOUNG_SECONDS;
        assert_eq!(kept.get(id, layout), Some(facts.clone()));
        assert_eq!(kept.get(id, other), None, "another program");
        kept.put(id, other, facts);
        assert_eq!(kept.get(id, other), None, "young again");
        kept.known.get_mut(&id).unwrap().first -= 2.0 * REVIEW_SECONDS;
        kept.known.get_mut(&id).unwrap().last -= REVIEW_SECONDS;
        assert_eq!(kept.get(id, other), None, "due for a review");
    }
}
