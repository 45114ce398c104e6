//! The pids of the host, listed only when one may have come, and which of them are worth a look.
//!
//! What was seen to be no HAProxy is not looked at again while its directory in procfs is the same
//! one, but while it is young, for it may execute HAProxy yet, and now and then.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::path::Path;

use procfs::FromRead;
use procfs::process::Status;
use rustix::fs::{Dir, Mode, OFlags};

use crate::sample::budget::CpuBudget;
use crate::sample::clock::seconds;
use rustix::time::ClockId;

/// A shell forks, and executes what it was asked for a moment later.
const YOUNG_SECONDS: f64 = 10.0;
/// Others are looked at once in so many seconds, and the pids listed, whatever seems to be.
const REVIEW_SECONDS: f64 = 60.0;
/// A pid is given a moment before its directory can be seen.
const BIRTH_SECONDS: f64 = 1.0;
/// Looking at all of them at once takes this share of a processor at most.
const REVIEW_SHARE: f64 = 1.0 / 100.0;

/// The pids of the last listing, with what is known of them.
#[derive(Debug, Default)]
pub struct Census {
    pids: BTreeMap<i32, Seen>,
    listed: Option<Listing>,
    review_budget: CpuBudget,
    /// The last pid can be had; not known yet.
    tells_last_pid: Option<bool>,
}

#[derive(Debug, Clone, Copy)]
struct Listing {
    at: f64,
    /// The last pid that had been given to anybody, and since when that is so.
    last_pid: Option<(u64, f64)>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Inode of its directory: another process with this pid has another.
    directory: u64,
    /// When it was first seen, or last seen to be HAProxy.
    first: f64,
    next_look: f64,
}

impl Census {
    /// Brings the list of pids up to date, and answers those that are new in it.
    pub fn refresh(&mut self, procfs: &Path) -> rustix::io::Result<Vec<i32>> {
        let at = seconds(ClockId::Monotonic);
        let tells = *self.tells_last_pid.get_or_insert_with(|| is_own_namespace(procfs));
        let given = if tells { last_pid(procfs) } else { None };
        let known = self.listed.and_then(|listed| listed.last_pid);
        let last_pid = given.map(|given| match known {
            Some((pid, since)) if pid == given => (pid, since),
            _ => (given, at),
        });
        if let (Some(listed), Some((pid, since))) = (self.listed, last_pid)
            && known.is_some_and(|(known, _)| known == pid)
            && listed.at - since >= BIRTH_SECONDS
            && at - listed.at < REVIEW_SECONDS
        {
            return Ok(Vec::new());
        }
        // The last pid was read first: who comes while the listing goes on shows the next time.
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
        Ok(new)
    }

    /// The pids to look at now.
    pub fn due(&self) -> Vec<i32> {
        let now = seconds(ClockId::Monotonic);
        let due = |seen: &Seen| seen.next_look <= now || now - seen.first < YOUNG_SECONDS;
        self.pids.iter().filter(|(_, seen)| due(seen)).map(|(&pid, _)| pid).collect()
    }

    /// These are HAProxy's. Should one be misread next, as in the middle of execve(2), it is looked
    /// at again as what is young.
    pub fn keep_looking(&mut self, pids: impl Iterator<Item = i32>) {
        let now = seconds(ClockId::Monotonic);
        for pid in pids {
            if let Some(seen) = self.pids.get_mut(&pid) {
                (seen.first, seen.next_look) = (now, now);
            }
        }
    }

    /// These were looked at and are not HAProxy's.
    pub fn put_off(&mut self, pids: &[i32]) {
        let now = seconds(ClockId::Monotonic);
        for pid in pids {
            let Some(seen) = self.pids.get_mut(pid) else { continue };
            // Not all in the same sample.
            let spread = f64::from(pid % 16) / 16.0;
            seen.next_look = now + REVIEW_SECONDS * (0.5 + spread / 2.0);
        }
    }

    /// All of them are worth a look again, if there was time enough since that was so; answers
    /// whether there was.
    pub fn review(&mut self) -> bool {
        let in_time = self.review_budget.allows(REVIEW_SHARE);
        if in_time {
            self.forget();
        }
        in_time
    }

    /// Whoever was seen may be HAProxy after all.
    pub fn forget(&mut self) {
        for seen in self.pids.values_mut() {
            seen.next_look = 0.0;
        }
    }

    /// Does the looking, and takes note of what it takes if it is at all of them.
    pub fn look<T>(&mut self, due: &[i32], work: impl FnOnce() -> T) -> T {
        if due.len() == self.pids.len() { self.review_budget.spend(work) } else { work() }
    }
}

/// Shows each pid with the inode of its directory.
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

/// This procfs shows the pid namespace of the reader, and no more than that: its own pid is the
/// same there, and has no other number.
fn is_own_namespace(procfs: &Path) -> bool {
    let status = Status::from_file(procfs.join("self/status"));
    let pids = status.ok().and_then(|status| status.nspid).unwrap_or_default();
    pids == [std::process::id().cast_signed()]
}

/// The last pid that was given in the reader's pid namespace: the last field of `/proc/loadavg`.
fn last_pid(procfs: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(procfs.join("loadavg")).ok()?;
    text.split_ascii_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_newcomer_is_new_once_and_due_while_it_is_young() {
        let procfs = Path::new("/proc");
        let mut census = Census::default();
        census.refresh(procfs).unwrap();
        let own = std::process::id().cast_signed();
        assert!(census.due().contains(&own));

        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = child.id().cast_signed();
        assert!(census.refresh(procfs).unwrap().contains(&pid));
        assert!(!census.refresh(procfs).unwrap().contains(&pid));
        census.put_off(&[pid]);
        assert!(census.due().contains(&pid), "it may execute something else yet");
        for seen in census.pids.values_mut() {
            seen.first -= 2.0 * YOUNG_SECONDS;
        }
        assert!(!census.due().contains(&pid));
        census.forget();
        assert!(census.due().contains(&pid));
        census.keep_looking([pid].into_iter());
        census.put_off(&[pid]);
        assert!(census.due().contains(&pid), "it was HAProxy a moment ago");
        for seen in census.pids.values_mut() {
            seen.first -= 2.0 * YOUNG_SECONDS;
        }
        assert!(!census.due().contains(&pid));

        // A directory of another process by that pid.
        census.put_off(&[pid]);
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
    fn a_review_that_is_not_worth_its_cost_is_refused() {
        let mut census = Census::default();
        census.refresh(Path::new("/proc")).unwrap();
        let own = std::process::id().cast_signed();
        assert!(census.review(), "its cost is not known yet");
        census.review_budget.charge(1.0);
        census.put_off(&[own]);
        census.pids.values_mut().for_each(|seen| seen.first -= 2.0 * YOUNG_SECONDS);
        assert!(!census.review() && !census.due().contains(&own));
        census.review_budget.wait(1.0 / REVIEW_SHARE);
        assert!(census.review() && census.due().contains(&own));
    }
}
