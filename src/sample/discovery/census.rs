//! The pids of the host, and which of them must be looked at in this sample.
//!
//! The pids are listed only when a process may have started. A process that is not HAProxy is
//! looked at again while it is young, because it may still execute HAProxy, and then about once a
//! minute, as long as its directory in procfs is the same.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::path::Path;

use rustix::fs::{Dir, Mode, OFlags};

use crate::model::time::YOUNG_SECONDS;
use crate::sample::budget::CpuBudget;
use crate::sample::clock::{REVIEW_SECONDS, seconds};
use crate::sample::proc::dir::ProcDir;
use crate::sample::proc::error::ReadError;
use crate::sample::proc::own::shows_own_pids;
use rustix::time::ClockId;

/// The kernel assigns a pid a moment before the process has a directory in procfs.
const BIRTH_SECONDS: f64 = 1.0;
/// The share of one processor that reviews of all processes may take.
const REVIEW_SHARE: f64 = 1.0 / 100.0;

/// The pids of the last listing, and when each must be looked at.
#[derive(Debug, Default)]
pub struct Census {
    pids: BTreeMap<i32, Seen>,
    listed: Option<Listing>,
    review_budget: CpuBudget,
    /// Whether procfs shows the last pid that was assigned; `None` until that was tried.
    shows_last_pid: Option<bool>,
    /// Procfs hides processes of other users.
    hides_some: bool,
}

#[derive(Debug, Clone, Copy)]
struct Listing {
    at: f64,
    /// The last pid that the kernel had assigned, and when it was first seen to be the last.
    last_pid: Option<(u64, f64)>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    /// The inode of its directory in procfs: a later process with the same pid has another.
    directory: u64,
    /// When the process was first seen, or last seen to be HAProxy.
    first: f64,
    next_look: f64,
}

impl Census {
    /// Brings the list of pids up to date and returns those that are new.
    pub fn refresh(&mut self, procfs: &Path) -> rustix::io::Result<Vec<i32>> {
        let at = seconds(ClockId::Monotonic);
        let shows = *self.shows_last_pid.get_or_insert_with(|| shows_own_pids(procfs));
        let assigned = if shows { last_pid(procfs) } else { None };
        let known = self.listed.and_then(|listed| listed.last_pid);
        let last_pid = assigned.map(|assigned| match known {
            Some((pid, since)) if pid == assigned => (pid, since),
            _ => (assigned, at),
        });
        if let (Some(listed), Some((pid, since))) = (self.listed, last_pid)
            && known.is_some_and(|(known, _)| known == pid)
            && listed.at - since >= BIRTH_SECONDS
            && at - listed.at < REVIEW_SECONDS
        {
            return Ok(Vec::new());
        }
        // The last pid was read first, so a process that starts during the listing shows next time.
        let before = std::mem::take(&mut self.pids);
        let mut new = Vec::new();
        let mut pids = BTreeMap::new();
        for_each_pid(procfs, |pid, directory| {
            let known = before.get(&pid).filter(|seen| seen.directory == directory);
            if known.is_none() {
                new.push(pid);
            }
            let seen = known.copied().unwrap_or(Seen { directory, first: at, next_look: at });
            pids.insert(pid, seen);
        })?;
        self.pids = pids;
        self.listed = Some(Listing { at, last_pid });
        // Every pid namespace has a process 1, which anyone may see where nothing is hidden.
        let first = ProcDir::open(procfs, 1).and_then(|first| first.comm());
        self.hides_some = matches!(first, Err(ReadError::Gone | ReadError::Denied));
        Ok(new)
    }

    /// Whether procfs hides the processes of other users (`hidepid` of proc(5)), so that HAProxys may be missing.
    #[must_use]
    pub fn hides_some(&self) -> bool {
        self.hides_some
    }

    /// The pids that must be looked at now.
    #[must_use]
    pub fn due(&self) -> Vec<i32> {
        let now = seconds(ClockId::Monotonic);
        let due = |seen: &Seen| seen.next_look <= now || now - seen.first < YOUNG_SECONDS;
        self.pids.iter().filter(|(_, seen)| due(seen)).map(|(&pid, _)| pid).collect()
    }

    /// Makes these pids, which are HAProxy's, due in every sample. A process that is misread in the next
    /// sample, in the middle of execve(2), is looked at again like a young one.
    pub fn keep_looking(&mut self, pids: impl Iterator<Item = i32>) {
        let now = seconds(ClockId::Monotonic);
        for pid in pids {
            if let Some(seen) = self.pids.get_mut(&pid) {
                (seen.first, seen.next_look) = (now, now);
            }
        }
    }

    /// Postpones the next look at these pids, which are not HAProxy's.
    pub fn postpone(&mut self, pids: &[i32]) {
        let now = seconds(ClockId::Monotonic);
        for pid in pids {
            let Some(seen) = self.pids.get_mut(pid) else { continue };
            // They are spread, so that not all are due in the same sample.
            let spread = f64::from(pid % 16) / 16.0;
            seen.next_look = now + REVIEW_SECONDS * (0.5 + spread / 2.0);
        }
    }

    /// Makes every pid due, unless that would take more than its share of a processor. Returns
    /// whether it did so.
    pub fn review(&mut self) -> bool {
        let is_affordable = self.review_budget.allows(REVIEW_SHARE);
        if is_affordable {
            self.forget();
        }
        is_affordable
    }

    /// Makes every pid due: what counts as HAProxy has changed.
    pub fn forget(&mut self) {
        for seen in self.pids.values_mut() {
            seen.next_look = 0.0;
        }
    }

    /// Runs the work of looking at the pids that are due, and measures it if those are all pids.
    pub fn look<T>(&mut self, due: &[i32], work: impl FnOnce() -> T) -> T {
        if due.len() == self.pids.len() { self.review_budget.spend(work) } else { work() }
    }
}

/// Calls `each` with every pid and the inode of its directory.
fn for_each_pid(procfs: &Path, mut each: impl FnMut(i32, u64)) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(procfs, flags, Mode::empty())?;
    for entry in Dir::new(directory)? {
        let entry = entry?;
        if let Some(pid) = pid_of(entry.file_name()) {
            each(pid, entry.ino());
        }
    }
    Ok(())
}

fn pid_of(name: &CStr) -> Option<i32> {
    name.to_str().ok()?.parse().ok()
}

/// The last pid that was assigned in the pid namespace of the exporter: the last field of
/// `/proc/loadavg`.
fn last_pid(procfs: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(procfs.join("loadavg")).ok()?;
    text.split_ascii_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_new_process_is_new_once_and_due_while_it_is_young() {
        let procfs = Path::new("/proc");
        let mut census = Census::default();
        census.refresh(procfs).unwrap();
        let own = std::process::id().cast_signed();
        assert!(census.due().contains(&own));

        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = child.id().cast_signed();
        assert!(census.refresh(procfs).unwrap().contains(&pid));
        assert!(!census.refresh(procfs).unwrap().contains(&pid));
        census.postpone(&[pid]);
        assert!(census.due().contains(&pid), "it may still execute another program");
        for seen in census.pids.values_mut() {
            seen.first -= 2.0 * YOUNG_SECONDS;
        }
        assert!(!census.due().contains(&pid));
        census.forget();
        assert!(census.due().contains(&pid));
        census.keep_looking([pid].into_iter());
        census.postpone(&[pid]);
        assert!(census.due().contains(&pid), "it was HAProxy a moment ago");
        for seen in census.pids.values_mut() {
            seen.first -= 2.0 * YOUNG_SECONDS;
        }
        assert!(!census.due().contains(&pid));

        // The directory of a later process with the same pid.
        census.postpone(&[pid]);
        census.pids.get_mut(&pid).unwrap().directory += 1;
        census.listed = None;
        assert!(census.refresh(procfs).unwrap().contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
        census.listed = None;
        census.refresh(procfs).unwrap();
        assert!(!census.pids.contains_key(&pid));
    }

    #[test]
    fn a_review_over_its_budget_is_refused() {
        let mut census = Census::default();
        census.refresh(Path::new("/proc")).unwrap();
        let own = std::process::id().cast_signed();
        assert!(census.review(), "its cost is not known yet");
        census.review_budget.charge(1.0);
        census.postpone(&[own]);
        census.pids.values_mut().for_each(|seen| seen.first -= 2.0 * YOUNG_SECONDS);
        assert!(!census.review() && !census.due().contains(&own));
        census.review_budget.wait(1.0 / REVIEW_SHARE);
        assert!(census.review() && census.due().contains(&own));
    }
}
