//! What of a process changes with execve(2) and hardly ever otherwise, kept from sample to sample.

use std::collections::BTreeMap;

use crate::model::{Environment, NamespaceId, ProcessId};
use crate::sample::clock::seconds;
use crate::sample::proc::cgroups::CgroupPaths;
use rustix::time::ClockId;

/// A process may enter namespaces and be given limits while it starts.
const YOUNG_SECONDS: f64 = 10.0;
/// Somebody may move it to another cgroup, or change its limits: it is read again so often.
const REVIEW_SECONDS: f64 = 60.0;

/// Where the kernel has put a process's program, stack, heap, arguments and environment: changes
/// with each execve(2) (`/proc/PID/stat`, fields 26, 28, 47, 48 and 50).
pub type Layout = [Option<u64>; 5];

/// The part of a process that lasts.
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

/// What lasts of each process.
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
    /// What is known, unless it may have changed.
    pub fn get(&self, id: ProcessId, layout: Layout) -> Option<StableFacts> {
        let reading = self.known.get(&id).filter(|reading| reading.layout == layout)?;
        let settled = reading.last - reading.first >= YOUNG_SECONDS;
        let fresh = seconds(ClockId::Monotonic) - reading.last < REVIEW_SECONDS;
        (settled && fresh).then(|| reading.facts.clone())
    }

    /// Keeps what was read just now.
    pub fn put(&mut self, id: ProcessId, layout: Layout, facts: StableFacts) {
        let last = seconds(ClockId::Monotonic);
        let before = self.known.get(&id).filter(|reading| reading.layout == layout);
        let first = before.map_or(last, |reading| reading.first);
        self.known.insert(id, Reading { layout, first, last, facts });
    }

    /// Forgets all others.
    pub fn retain(&mut self, needed: impl Fn(ProcessId) -> bool) {
        self.known.retain(|&id, _| needed(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_once_it_has_settled_and_until_it_is_executed_anew() {
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
