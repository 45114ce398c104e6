//! Limits how much is read of the arguments and environments of one user's processes.
//!
//! Arguments and environment are what their user made them: a megabyte of each in hundreds of
//! processes, read with every sample and kept, would leave the exporter without memory.

use std::collections::BTreeMap;

use procfs::process::Stat;

use crate::haproxy::lineage::identity::is_roots_container;
use crate::sample::proc::cgroups::CgroupPaths;
use crate::sample::proc::dir::ProcDir;
use crate::sample::proc::error::ReadError;

const ROOT: u32 = 0;
/// Arguments and environment of this size are usual, and do not count.
const USUAL_BYTES: u64 = 4096;
/// The size that all larger ones of one user may have together: as many short arguments they take some 20
/// MiB and tens of milliseconds of each sample.
const MOST_BYTES: u64 = 1 << 20;

/// What has been read of each user's processes in this sample.
#[derive(Debug, Default)]
pub struct ArgumentAllowance {
    read: BTreeMap<u32, u64>,
}

impl ArgumentAllowance {
    /// Whether the arguments and environment of a process may be read. All of root's may, and those in
    /// containers that root made.
    ///
    /// Their size is what the kernel has noted at execve(2) (`/proc/PID/stat`, fields 48 to 51), which
    /// only root can change.
    pub fn admit(&mut self, directory: &ProcDir, stat: &Stat) -> Result<bool, ReadError> {
        let length = |start: Option<u64>, end: Option<u64>| {
            end.unwrap_or_default().saturating_sub(start.unwrap_or_default())
        };
        let bytes = length(stat.arg_start, stat.arg_end) + length(stat.env_start, stat.env_end);
        if bytes <= USUAL_BYTES {
            return Ok(true);
        }
        let user = directory.status()?.users.real;
        if user == ROOT {
            return Ok(true);
        }
        let cgroups = CgroupPaths::parse(&directory.text("cgroup").unwrap_or_default());
        if cgroups.name().is_some_and(is_roots_container) {
            return Ok(true);
        }
        Ok(self.take(user, bytes))
    }

    fn take(&mut self, user: u32, bytes: u64) -> bool {
        let read = self.read.entry(user).or_default();
        let fits = *read + bytes <= MOST_BYTES;
        *read += if fits { bytes } else { 0 };
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_a_share_of_its_own() {
        let mut allowance = ArgumentAllowance::default();
        let half = MOST_BYTES / 2;
        let taken: Vec<bool> =
            [(1000, half), (1000, half), (1000, 5000), (1001, half), (1001, half + 1)]
                .into_iter()
                .map(|(user, bytes)| allowance.take(user, bytes))
                .collect();
        assert_eq!(taken, [true, true, false, true, false]);
    }
}
